"""How the command line loads a model, and what it draws replacements from."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from oracles.features import load_model, text_oracle
from spex.cli import main

REVIEW = "The plot is bad, the acting is good."


def explained(folder: Path, *arguments: str) -> dict:
    found = folder / "found.json"
    common = ["--budget", "128", "--no-ledger", "--quiet", "--json", str(found)]
    assert main(["explain", REVIEW, *common, *arguments]) == 0
    return json.loads(found.read_text())


@pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate not installed"
)
def test_a_device_map_changes_no_value(tmp_path: Path) -> None:
    plain, spread = explained(tmp_path), explained(tmp_path, "--device-map", "cpu")
    assert plain["fourier"] == spread["fourier"]


@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is not None, reason="it is installed"
)
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_quantised_loading_says_what_it_lacks(
    bits: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", REVIEW, "--quantize", bits, "--no-ledger"]) == 1
    said = capsys.readouterr().err
    assert "bitsandbytes" in said or "accelerate" in said  # whichever it lacks first


def test_words_are_resampled_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "others.jsonl"
    file.write_text('"It was a long day."\n{"text": "Nobody came to see us."}\n')
    drawn = explained(tmp_path, "--removal", "resample", "--reference", str(file))
    assert drawn["fourier"] != explained(tmp_path)["fourier"]


def test_a_model_that_is_loaded_is_the_model_of_that_name() -> None:
    loaded = load_model("sentiment")
    masks = np.random.default_rng(0).random((16, 8)) < 0.5
    values = [
        text_oracle(REVIEW, model).evaluate(masks) for model in ("sentiment", loaded)
    ]
    assert np.array_equal(*values)
