"""`spex explain --endpoint`, over a real socket."""

import json
from pathlib import Path
from typing import Any

import pytest

from spex.cli import main

from .cache_server import split

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


@pytest.mark.parametrize("api", ["completions", "chat", "sampled"])
def test_what_was_spent_is_said_afterwards(
    api: str, server: Any, prompt: Any, tmp_path: Path, capsys: Any
) -> None:
    arguments = ["--api", api, "--target", "Oslo", "--prices", "1000000", "0"]
    arguments += ["--draws", "3"] if api == "sampled" else []
    assert run(arguments, server, prompt, tmp_path) == 0
    said = capsys.readouterr().err.splitlines()
    requests = server.requests()
    tokens = sum(map(counted, requests))
    [sent] = [line for line in said if "sent" in line]
    assert sent.startswith(f"spex: sent {len(requests)} requests, {tokens:,} prompt")
    assert f"price {tokens:.2g}" in sent
    assert any("standard error" in line for line in said) == (api == "sampled")
    assert run([*arguments, "--quiet"], server, prompt, tmp_path) == 0
    assert not capsys.readouterr().err


def counted(request: dict) -> int:
    """Tokens of a request's prompt, as the server counts them."""
    body = request["body"]
    messages = "".join(message["content"] for message in body.get("messages", []))
    return len(split(body.get("prompt", messages)))


def test_what_was_spent_is_said_of_a_run_that_failed(
    server: Any, prompt: Any, tmp_path: Path, capsys: Any
) -> None:
    server.set(always={"kind": "status", "status": 401}, after=20)
    assert run(["--api", "chat", "--target", "Oslo"], server, prompt, tmp_path) == 1
    said = capsys.readouterr().err
    assert f"spex: sent {len(server.requests())} requests" in said
    assert "pays only for the rest" in said


def test_a_cap_below_what_is_needed_stops_before_anything_is_paid(
    server: Any, prompt: Any, tmp_path: Path, capsys: Any
) -> None:
    arguments = ["--api", "chat", "--target", "Oslo", "--max-requests", "10"]
    assert run(arguments, server, prompt, tmp_path) == 1
    assert "max_requests" in capsys.readouterr().err
    assert len(server.requests()) <= 1  # the intact prompt


def test_the_cost_is_said_before_the_first_request(
    server: Any, prompt: Any, tmp_path: Path, capsys: Any
) -> None:
    server.set(always={"kind": "status", "status": 401})
    prices = ["--prices", "1", "2"]
    for api, said in (
        (["completions", "--against", "Lima", "--target", "Oslo"], "128 requests"),
        (["chat"], "64 requests"),
        (["sampled", "--draws", "3", "--max-answer-tokens", "10"], "1,920 answer"),
    ):
        assert run([*prices, "--api", *api], server, prompt, tmp_path) == 1
        lines = capsys.readouterr().err.splitlines()
        assert said in lines[0]
        assert "price" in lines[0]
        assert "refused access" in lines[-1]
        assert len(lines) == 2


def test_what_is_said_beforehand_is_what_a_server_with_that_many_tokens_would_take(
    server: Any, prompt: Any, tmp_path: Path, capsys: Any
) -> None:
    assert run(["--api", "chat", "--target", "Oslo"], server, prompt, tmp_path) == 0
    first, second = capsys.readouterr().err.splitlines()[:2]
    assert first.startswith("spex: 64 requests, about")
    assert second.startswith("spex: 64 requests, about")
    assert "as the server counts" in second


def test_what_an_endpoint_is_sent_can_be_set(
    server: Any, prompt: Any, tmp_path: Path
) -> None:
    arguments = ["--api", "sampled", "--target", "Oslo", "--temperature", "0.3"]
    arguments += ["--extra", "top_p=0.9"]
    arguments += ["--extra", "reasoning_effort=low"]
    arguments += ["--extra", "max_tokens=null", "--extra", "max_completion_tokens=8"]
    assert run(arguments, server, prompt, tmp_path) == 0
    for request in server.requests():
        body = request["body"]
        assert body["temperature"] == 0.3
        assert "max_tokens" not in body
        assert body["max_completion_tokens"] == 8
        assert body["top_p"] == 0.9
        assert body["reasoning_effort"] == "low"


def test_a_slow_server_is_given_the_time_that_is_asked_for(
    server: Any, prompt: Any, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("oracles.remote.session.FIRST_WAIT_SECONDS", 0.01)
    server.set(delay=0.5)
    assert run(["--api", "chat", "--timeout", "0.1"], server, prompt, tmp_path) == 1
    assert "within 0.1 seconds" in capsys.readouterr().err


def test_removed_sentences_are_resampled_from_a_file(
    server: Any, prompt: Any, tmp_path: Path, capsys: Any
) -> None:
    file = tmp_path / "others.json"
    others = ["It is late.", "All is well.", "They left early."]
    file.write_text(json.dumps(others))
    arguments = ["--api", "chat", "--target", "Oslo", "--removal", "resample"]
    assert run([*arguments, "--reference", str(file)], server, prompt, tmp_path) == 0
    sent = [request["body"]["messages"][0]["content"] for request in server.requests()]
    assert all(sum(text.count(other) for other in others) <= 6 for text in sent)
    assert min(text.count(".") for text in sent) == 6  # as many sentences as before
    assert any(other in text for text in sent for other in others)
    capsys.readouterr()
    assert run(arguments, server, prompt, tmp_path) == 1
    assert "with --reference" in capsys.readouterr().err


def test_what_mattered_is_cut_further_over_an_endpoint_too(
    server: Any, prompt: Any, tmp_path: Path, capsys: Any
) -> None:
    arguments = ["--api", "chat", "--target", "Oslo"]
    assert run(arguments, server, prompt, tmp_path) == 0
    first = (tmp_path / "found.json").rename(tmp_path / "first.json")
    arguments += ["--refine", str(first), "--finer", "word"]
    assert run(arguments, server, prompt, tmp_path) == 0
    assert "of 6 segments, cutting" in capsys.readouterr().err
    found = json.loads((tmp_path / "found.json").read_text())["players"]
    assert "Oslo." in found
    assert set(found) <= set(prompt.text.split())


def test_options_of_an_endpoint_mean_nothing_without_one(capsys: Any) -> None:
    for arguments in (
        ["--prices", "1", "2"],
        ["--draws", "1"],
        ["--api", "chat"],
        ["--temperature", "0"],
        ["--extra", "top_p=1"],
        ["--max-requests", "10000"],
    ):
        assert main(["explain", "It is good. It is bad.", *arguments]) == 1
        said = capsys.readouterr().err
        assert f"{arguments[0]} means nothing without --endpoint" in said


def test_options_that_mean_nothing_over_an_endpoint_are_refused(
    server: Any, prompt: Any, tmp_path: Path, capsys: Any
) -> None:
    for arguments, message in (
        (["--api", "chat", "--per-token"], "--per-token means nothing with --api chat"),
        (["--api", "sampled", "--against", "Lima"], "--against means nothing"),
        (["--truncate"], "--truncate means nothing with --endpoint"),
        (["--quantize", "8bit"], "--quantize means nothing with --endpoint"),
        (["--draws", "2"], "--draws means nothing with --api chat"),
        (["--api", "completions", "--draws", "2"], "--draws means nothing with --api"),
        (["--temperature", "0"], "--temperature means nothing with --api chat"),
        (["--api", "completions", "--chat"], "--chat and --api completions do not go"),
        (["--reference", "f"], "--reference means nothing without --removal resample"),
        (["--extra", "top_p"], "top_p is no KEY=VALUE"),
    ):
        assert run(arguments, server, prompt, tmp_path) == 1
        assert message in capsys.readouterr().err
    assert not server.requests()
