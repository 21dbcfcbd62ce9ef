"""`spex explain --endpoint`, over a real socket."""

import json
from pathlib import Path
from typing import Any

import pytest

from spex.cli import main

SECRET = "sk-a-secret-that-must-not-be-written"


def run(arguments: list[str], server: Any, prompt: Any, folder: Path) -> int:
    return main(
        [
            "explain", prompt.text, "--suffix", prompt.suffix, "--segments", "sentence",
            "--endpoint", server.url, "--model", "cache", "--budget", "64",
            "--ledger", str(folder / "paid.sqlite"),
            "--json", str(folder / "found.json"), *arguments,
        ]
    )  # fmt: skip


@pytest.mark.parametrize("api", ["completions", "chat", "sampled"])
def test_a_remote_model_is_explained_and_the_cost_is_said_first(
    api: str, server: Any, prompt: Any, tmp_path: Path, capsys: Any
) -> None:
    arguments = ["--api", api, "--target", "Oslo", "--prices", "1", "2"]
    assert run(arguments, server, prompt, tmp_path) == 0
    said = capsys.readouterr()
    assert "64 requests, about" in said.err
    assert "price" in said.err
    saved = (tmp_path / "found.json").read_text()
    assert len(json.loads(saved)["players"]) == 6
    for path in tmp_path.iterdir():
        assert SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in said.out + said.err


def test_a_cap_below_what_is_needed_stops_before_anything_is_paid(
    server: Any, prompt: Any, tmp_path: Path, capsys: Any
) -> None:
    arguments = ["--api", "chat", "--target", "Oslo", "--max-requests", "10"]
    assert run(arguments, server, prompt, tmp_path) == 1
    assert "max_requests" in capsys.readouterr().err
    assert len(server.requests()) <= 1  # the intact prompt


def test_options_that_mean_nothing_over_an_endpoint_are_refused(
    server: Any, prompt: Any, tmp_path: Path, capsys: Any
) -> None:
    for arguments, message in (
        (["--api", "chat", "--per-token"], "--per-token means nothing with --api chat"),
        (["--api", "sampled", "--against", "Lima"], "--against means nothing"),
        (["--truncate"], "--truncate means nothing with --endpoint"),
    ):
        assert run(arguments, server, prompt, tmp_path) == 1
        assert message in capsys.readouterr().err
    assert not server.requests()
