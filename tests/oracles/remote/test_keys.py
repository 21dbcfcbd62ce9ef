"""The key is sent to the server and stands nowhere else."""

import logging
import traceback
from pathlib import Path

import numpy as np
import pytest

import spex
from oracles import InputError, Ledger, OracleError, StoppedRun, run
from oracles.features.prompts.prompt import TextPrompt, text_prompt
from oracles.remote import (
    Endpoint,
    RemoteError,
    chat_oracle,
    completions_oracle,
    sampled_oracle,
)

from .conftest import KEY, Server

BEGINNING = KEY[:10]
ECHOING = {"error": {"message": f"Incorrect key: {KEY}, that is {BEGINNING}***."}}
FAULTS = [
    {"kind": "drop"},
    {"kind": "garbage"},
    {"kind": "stall", "seconds": 2},
    *(
        {"kind": "status", "status": status, "body": ECHOING}
        for status in (400, 401, 403, 404, 429, 500)
    ),
]


def all_texts(error: BaseException | None) -> list[str]:
    """What an exception and those chained to it say, show and hold."""
    if error is None:
        return []
    assert not hasattr(error, "request")
    shown = [str(error), repr(error), repr(error.args), repr(vars(error))]
    shown += traceback.format_exception(error)
    return shown + all_texts(error.__cause__) + all_texts(error.__context__)


def test_the_key_is_sent(server: Server, prompt: TextPrompt) -> None:
    chat_oracle(prompt, server.endpoint())
    assert {request["key"] for request in server.requests()} == {f"Bearer {KEY}"}


def test_without_a_key_none_is_sent(
    server: Server, prompt: TextPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANOTHER_KEY", "sk-another")
    chat_oracle(prompt, server.endpoint(key_variable="ANOTHER_KEY"))
    chat_oracle(prompt, server.endpoint(key_variable="NOT_SET"))
    keys = [request["key"] for request in server.requests()]
    assert keys == ["Bearer sk-another", None]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.get('status', f['kind'])}")
def test_no_failure_tells_the_key(
    server: Server,
    prompt: TextPrompt,
    fault: dict,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    timeout = 0.7 if fault["kind"] == "stall" else 60
    endpoint = server.endpoint(max_retries=0, timeout_seconds=timeout)
    oracle = completions_oracle(prompt, endpoint, continuation="Oslo")
    server.set(always=fault)
    with pytest.raises(RemoteError) as direct:
        oracle.evaluate(np.ones((1, 6), bool))
    with pytest.raises(StoppedRun) as stopped:
        run(oracle, np.ones((1, 6), bool))
    with pytest.raises(RemoteError) as probing:
        completions_oracle(prompt, endpoint)
    caught = (direct, stopped, probing)
    shown = [text for one in caught for text in all_texts(one.value)]
    written = [*shown, caplog.text, *capfd.readouterr()]
    assert KEY not in "\n".join(written)
    if fault.get("status") in (401, 403):
        assert BEGINNING not in "\n".join(written)
    assert caplog.text  # the HTTP library did log


def test_nothing_that_is_kept_holds_the_key(
    server: Server, prompt: TextPrompt, tmp_path: Path
) -> None:
    endpoint = server.endpoint()
    oracle = completions_oracle(prompt, endpoint, continuation="Oslo")
    path = tmp_path / "explanation.json"
    with Ledger(tmp_path / "ledger") as ledger:
        explanation = spex.explain(oracle, budget=64, ledger=ledger)
        kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    explanation.save(path)
    explanation.to_html(tmp_path / "report.html")
    kept += path.read_bytes() + (tmp_path / "report.html").read_bytes()
    told = [repr(endpoint), repr(oracle), oracle.fingerprint, repr(oracle.description)]
    told += [repr(vars(oracle)), repr(vars(oracle._client)), repr(oracle.account)]
    assert len(kept) > 10_000
    assert KEY.encode() not in kept
    assert KEY not in "\n".join(told)


def test_a_key_in_the_prompt_or_settings_is_refused(
    server: Server, prompt: TextPrompt
) -> None:
    leaking = text_prompt(f"My key is {KEY}. Keep it.", suffix="Answer:")
    for case in (
        lambda: sampled_oracle(leaking, server.endpoint(), answer="yes"),
        lambda: chat_oracle(leaking, server.endpoint()),
        lambda: completions_oracle(leaking, server.endpoint()),
        lambda: sampled_oracle(
            prompt, server.endpoint(extra={"auth": KEY}), answer="yes"
        ),
    ):
        with pytest.raises(InputError, match="OPENAI_API_KEY") as caught:
            case()
        assert KEY not in "\n".join(all_texts(caught.value))
    assert server.requests() == []


@pytest.mark.parametrize("key", ["sk-\x01", "sk-é", "a\nb"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(
    server: Server, prompt: TextPrompt, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(OracleError, match="characters that no key has") as caught:
        chat_oracle(prompt, server.endpoint())
    assert key not in "\n".join(all_texts(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@example.org/v1",
        "https://example.org/v1?key=hunter2",
        "https://example.org/v1#hunter2",
    ],
)
def test_a_url_with_a_secret_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(InputError, match=r"example\.org holds") as caught:
        Endpoint(model="m", base_url=url)
    assert "hunter2" not in "\n".join(all_texts(caught.value))
