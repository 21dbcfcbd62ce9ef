"""The command line, run as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oracles.embedded import EMBEDDED_MODELS
from spex.cli import main

REVIEW = "The plot is not good and the jokes are hardly funny, but the acting saves it."


def spex(
    *arguments: str, folder: Path, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "COLUMNS": "80",
    }
    return subprocess.run(
        [sys.executable, "-m", "spex", *arguments],
        input=given,
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def explained(folder: Path) -> subprocess.CompletedProcess[str]:
    return spex(
        "explain", REVIEW, "--budget", "200", "--out", "r.html", "--json", "r.json",
        folder=folder,
    )  # fmt: skip


def test_explain_prints_writes_and_succeeds(
    folder: Path, explained: subprocess.CompletedProcess[str]
) -> None:
    assert explained.returncode == 0, explained.stderr
    said = explained.stdout
    for part in ("hardly", "90% interval", "200 ablations", "R²", "proxyspex"):
        assert part in said
    assert str(folder / "r.html") in said.replace("\n", "")
    assert max(map(len, said.splitlines())) <= max(80, len(str(folder)) + 20)
    result = json.loads((folder / "r.json").read_text())
    assert result["provenance"]["spent"] == 200
    assert result["provenance"]["subject"]["text"] == REVIEW


def test_the_same_again_is_free(
    folder: Path, explained: subprocess.CompletedProcess[str]
) -> None:
    assert explained.returncode == 0
    again = spex("explain", REVIEW, "--budget", "200", "--json", "-", folder=folder)
    provenance = json.loads(again.stdout)["provenance"]
    assert (provenance["spent"], provenance["paid"]) == (200, 0)


def test_going_on_pays_for_the_difference(
    folder: Path, explained: subprocess.CompletedProcess[str]
) -> None:
    assert explained.returncode == 0
    more = spex("explain", REVIEW, "--earlier", "r.json", "--json", "-", folder=folder)
    provenance = json.loads(more.stdout)["provenance"]
    assert (provenance["spent"], provenance["paid"]) == (400, 200)
    other = spex("explain", "Another text.", "--earlier", "r.json", folder=folder)
    assert other.returncode == 1
    assert "another oracle" in other.stderr


def test_a_plan_tells_what_a_budget_buys_without_a_model(folder: Path) -> None:
    told = spex("plan", "100", "--budget", "2000", folder=folder)
    assert told.returncode == 0, told.stderr
    for part in ("auto takes proxyspex", "16 + 16 + 8", "36", "2031"):
        assert part in told.stdout
    assert spex("plan", "0", folder=folder).returncode == 1


def test_report_shows_a_saved_result_without_a_model(
    folder: Path, explained: subprocess.CompletedProcess[str]
) -> None:
    assert explained.returncode == 0
    code = (
        "import sys; from spex.cli import main\n"
        "code = main(['report', 'r.json', '--index', 'FSII', '--out', 'again.html'])\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert "FSII" in shown.stdout
    assert "hardly" in (folder / "again.html").read_text()


def test_text_from_a_file_or_standard_input(folder: Path) -> None:
    (folder / "review.txt").write_text(REVIEW)
    common = ("--budget", "100", "--json", "-", "--quiet")
    from_file = spex("explain", "--file", "review.txt", *common, folder=folder)
    from_input = spex("explain", *common, folder=folder, given=REVIEW)
    one, other = json.loads(from_file.stdout), json.loads(from_input.stdout)
    assert one["fourier"] == other["fourier"]
    assert from_file.stderr == ""


def test_quiet_writes_files_and_says_nothing_else(folder: Path) -> None:
    done = spex(
        "explain", REVIEW, "--budget", "60", "--quiet", "--json", "q.json",
        folder=folder,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (folder / "q.json").exists()


def test_below_the_asked_faithfulness_is_exit_code_3(folder: Path) -> None:
    done = spex("explain", REVIEW, "--budget", "60", "--fail-under", "1", folder=folder)
    assert done.returncode == 3


def test_a_causal_model_answers_for_its_sentences(folder: Path) -> None:
    story = (
        "Maria works at the bakery. The weather was mild that spring. The bakery is in "
        "Oslo. Tom works at the school. The school is in Lima."
    )
    done = spex(
        "explain", story, "--model", "facts", "--json", "-",
        "--suffix", "Question: In which city does Maria work? Answer:",
        "--target", "Oslo", "--against", "Lima",
        folder=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["provenance"]["method"] == "exact"
    assert len(result["players"]) == 5


PASSAGES = [
    "Maria works at the bakery.", "The weather was mild that spring.",
    "The bakery is in Oslo.", "Tom works at the school.", "The school is in Lima.",
]  # fmt: skip
ASKED = [
    "--model", "facts", "--suffix", "Question: In which city does Maria work? Answer:"
]  # fmt: skip


@pytest.mark.parametrize(
    "written",
    [json.dumps(PASSAGES), "\n".join(json.dumps({"text": p}) for p in PASSAGES)],
)
def test_passages_and_a_multiple_choice(written: str, folder: Path) -> None:
    (folder / "passages.json").write_text(written)
    choices = ["--choice", "Oslo", "--choice", "Lima", "--choice", "unknown"]
    done = spex(
        "explain", "--passages", "passages.json", *ASKED, *choices, "--json", "-",
        folder=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["players"] == PASSAGES
    assert len(result["outputs"]) == 3
    supports = result["fourier"]["supports"]
    sizes = [abs(row[0]) for row in result["fourier"]["coefficients"]]
    strongest = sorted(zip(sizes, supports, strict=True), reverse=True)[:4]
    assert {tuple(s) for _, s in strongest} == {(), (0,), (2,), (0, 2)}


def test_every_token_from_the_same_ablations(folder: Path) -> None:
    done = spex(
        "explain", " ".join(PASSAGES), *ASKED, "--target", "Oslo in the north",
        "--per-token", "--pin", "The weather[^.]*[.]", "--removal", "attention",
        "--json", "-", folder=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(result["players"]) == 4
    assert len(result["outputs"]) >= 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", ""], "empty"),
        (["explain", "one"], "single word"),
        (["explain", REVIEW, "--budget", "7"], "budget=7"),
        (["explain", REVIEW, "--target", "superb"], "negative, positive"),
        (["explain", REVIEW, "--method", "magic"], "proxyspex"),
        (["explain", REVIEW, "--model", "./missing"], "sentiment"),
        (
            ["explain", f"{REVIEW} {REVIEW}", "--model", "facts", "--target", " "],
            "continuation is empty",
        ),
        (["explain", REVIEW, "--out", "missing/r.html"], "missing"),
        (["explain", REVIEW, "--json", "."], "is a folder"),
        (["explain", REVIEW, "--ledger", "notes.txt"], "cannot be used as a ledger"),
        (["explain", "--file", "missing.txt"], "missing.txt"),
        (["explain", REVIEW, "--file", "review.txt"], "both given"),
        (["explain", REVIEW, "--passages", "notes.txt"], "both given"),
        (["explain", "--passages", "notes.txt", "--model", "facts"], "is not JSON"),
        (["explain", "--messages", "notes.txt", "--chat"], "--chat means nothing"),
        (["explain", REVIEW, "--choice", "a", "--choice", "b"], "choices"),
        (["explain", REVIEW, "--prefix", "Read this:"], "prefix"),
        (["explain", REVIEW, "--top", "0"], "--top 0"),
        (["explain", REVIEW, "--seed", "-1"], "seed=-1"),
        (["explain", REVIEW, "--out", "same", "--json", "same"], "same file"),
        (["explain", "--file", "review.txt", "--out", "review.txt"], "same file"),
        (["explain", "caf\udce9 is not a good name"], "UTF-8"),
        (["report", "missing.json"], "cannot be read"),
        (["report", "notes.txt"], "is not JSON"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str],
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    (folder / "notes.txt").write_text("my notes " * 500)
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.startswith("spex: error: ")
    assert said.out == ""


@pytest.mark.parametrize(
    "arguments", [[], ["explian"], ["explain", "--index", "X"], ["explain", "--budget"]]
)
def test_misuse_is_exit_code_2(arguments: list[str], folder: Path) -> None:
    done = spex(*arguments, folder=folder)
    assert done.returncode == 2
    assert "usage" in done.stderr


def heed_interrupts() -> None:
    """What a shell started in the background ignores, its children ignore as well."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_run_says_what_was_kept_and_goes_on(folder: Path) -> None:
    """Ctrl-C (SIGINT) in the middle; the same command then pays only for the rest."""
    text = " ".join([REVIEW] * 4)
    command = [
        sys.executable, "-m", "spex", "explain", text, "--budget", "3000",
        "--ledger", "stopped.sqlite", "--json", "stopped.json", "--quiet",
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    ledger = folder / "stopped.sqlite-wal"
    while not ledger.exists() or ledger.stat().st_size < 60_000:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "are kept in stopped.sqlite" in said
    kept = int(said.split("; ")[1].split()[0])
    assert 0 < kept < 3000
    subprocess.run(command, cwd=folder, check=True)
    result = json.loads((folder / "stopped.json").read_text())
    assert result["provenance"]["paid"] == 3000 - kept


def test_every_command_is_in_the_readme() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for command in (
        "spex explain",
        "spex report",
        "spex demo",
        "spex plan",
        "make demo",
        "make test",
    ):
        assert command in readme


def test_the_embedded_models_are_complete() -> None:
    for folder in EMBEDDED_MODELS.values():
        names = {path.name for path in folder.iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
        assert "licence" in (folder / "README.md").read_text().lower()
        assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6
