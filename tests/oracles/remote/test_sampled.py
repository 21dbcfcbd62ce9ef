"""Sampled answers: those without a text, and what the numbers are called."""

import numpy as np
import pytest

from oracles import StoppedRun, run
from oracles.features.prompts.prompt import TextPrompt
from oracles.remote import RemoteError, sampled_oracle
from oracles.remote.similarity import MEASURES

from .conftest import Server


def without_text(reason: str | None, content: str | None = None) -> dict:
    """A server's answer as of a model that only reasoned, or was filtered."""
    message = {"role": "assistant", "content": content, "reasoning_content": "Hm."}
    choice = {"message": message, "finish_reason": reason}
    return {"kind": "status", "status": 200, "body": {"choices": [choice]}}


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("answer", [None, "Oslo"])
@pytest.mark.parametrize(
    ("reason", "content", "message"),
    [
        ("length", None, "allow more with max_answer_tokens"),
        ("length", "", "allow more with max_answer_tokens"),
        ("content_filter", None, "filtered it"),
        ("tool_calls", None, "called a tool"),
        ("stop", None, "finish_reason stop"),
        (None, None, "has no text"),
    ],
)
def test_a_server_that_answers_without_text_is_found_out_by_the_first_request(
    server: Server,
    prompt: TextPrompt,
    draws: int,
    answer: str | None,
    reason: str | None,
    content: str | None,
    message: str,
) -> None:
    server.set(always=without_text(reason, content))
    with pytest.raises(RemoteError, match=message):
        sampled_oracle(prompt, server.endpoint(), answer=answer, draws=draws)
    assert len(server.requests()) == 1


def test_an_answer_without_text_in_a_run_ends_it_and_is_no_zero(
    server: Server, prompt: TextPrompt
) -> None:
    oracle = sampled_oracle(prompt, server.endpoint(concurrency=1), answer="Oslo")
    masks = ~np.eye(6, dtype=bool)
    server.set(always=without_text("length"), after=4)
    with pytest.raises(StoppedRun, match=r"max_answer_tokens.*after 4 of 6"):
        run(oracle, masks)


def test_a_few_answers_without_text_are_left_out_and_no_zeros(
    server: Server, prompt: TextPrompt
) -> None:
    oracle = sampled_oracle(prompt, server.endpoint(concurrency=1), answer="Oslo")
    masks = np.array([[i >> j & 1 for j in range(6)] for i in range(64)], dtype=bool)
    server.set(faults=[without_text("content_filter")] * 2)
    found = run(oracle, masks, most_unanswered=0.1)
    assert found.unanswered.tolist() == [0, 1]
    assert "2 of 64" in found.statement
    assert "filtered" in found.statement
    assert np.isfinite(found.values[2:]).all()
    assert len(server.requests()) == 64
    again = run(oracle, masks)
    assert len(server.requests()) == 66  # what was answered is not asked again
    assert np.array_equal(again.values[2:], found.values[2:])


def test_many_answers_without_text_end_a_run_soon(
    server: Server, prompt: TextPrompt
) -> None:
    oracle = sampled_oracle(prompt, server.endpoint(concurrency=1), answer="Oslo")
    masks = np.array([[i >> j & 1 for j in range(6)] for i in range(64)], dtype=bool)
    server.set(always=without_text("length"))
    with pytest.raises(StoppedRun, match="max_answer_tokens"):
        run(oracle, masks, most_unanswered=0.5)
    assert len(server.requests()) < 20


def test_an_empty_answer_that_the_model_ended_itself_is_an_answer(
    server: Server, prompt: TextPrompt
) -> None:
    oracle = sampled_oracle(prompt, server.endpoint(), answer="Oslo")
    server.set(always=without_text("stop", ""))
    assert oracle.evaluate(np.ones((1, 6), bool)) == 0


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("rouge-l", "rouge-l of the answer with 'Oslo'"),
        ("token-f1", "token-f1 of the answer with 'Oslo'"),
        ("equals", "share of answers that are 'Oslo'"),
        ("contains", "share of answers with 'Oslo'"),
    ],
)
def test_a_value_is_called_what_it_is(
    server: Server, prompt: TextPrompt, value: str, name: str
) -> None:
    oracle = sampled_oracle(prompt, server.endpoint(), answer="Oslo", value=value)
    assert oracle.outputs == (name,)


def test_every_measure_has_a_name(server: Server, prompt: TextPrompt) -> None:
    endpoint = server.endpoint()
    names = {
        sampled_oracle(prompt, endpoint, answer="Oslo", value=value).outputs
        for value in MEASURES
    }
    assert len(names) == len(MEASURES)
