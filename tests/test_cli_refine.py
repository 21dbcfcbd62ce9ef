"""Two levels on the command line: documents, then sentences of those that mattered."""

import json
from pathlib import Path

import pytest

from spex.cli import main

PASSAGES = [
    "Maria works at the bakery. It rained.",
    "The weather was mild. The sky is blue.",
    "Oslo is cold. The bakery is in Oslo.",
]
QUESTION = "Question: In which city does Maria work? Answer:"


@pytest.fixture
def passages(tmp_path: Path) -> Path:
    path = tmp_path / "passages.json"
    path.write_text(json.dumps(PASSAGES))
    return path


def explain(*arguments: object) -> int:
    common = ["--model", "facts", "--suffix", QUESTION, "--target", "Oslo"]
    return main(["explain", *common, "--no-ledger", *map(str, arguments)])


def test_documents_that_matter_are_cut_into_sentences(
    passages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert explain("--passages", passages, "--json", first) == 0
    capsys.readouterr()
    again = ("--passages", passages, "--json", second)
    assert explain(*again, "--refine", first) == 0
    assert "of 3 segments, cutting 0, 2" in capsys.readouterr().err
    found = json.loads(second.read_text())
    assert found["players"] == [
        "Maria works at the bakery.",
        "It rained.",
        "Oslo is cold.",
        "The bakery is in Oslo.",
    ]
    assert explain(*again, "--refine", first, "--finer", "word") == 0
    assert json.loads(second.read_text())["players"][:2] == ["Maria", "works"]


def test_a_result_of_other_segments_is_refused(
    passages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first.json"
    assert explain("--passages", passages, "--json", first) == 0
    text = " ".join(PASSAGES)
    for arguments, message in (
        ([text, "--refine", first], "explains 3 segments that are not the 6"),
        (
            [text, "--refine", first, "--truncate"],
            "--truncate means nothing with --ref",
        ),
        ([text, "--finer", "word"], "--finer means nothing without --refine"),
        (["--passages", passages, "--refine", first, "--json", first], "the same file"),
    ):
        capsys.readouterr()
        assert explain(*arguments) == 1
        assert message in capsys.readouterr().err
