"""What max_requests holds for, and which requests are spared."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from oracles import InputError, Ledger, run
from oracles.features import AveragedOracle
from oracles.features.prompts.prompt import TextPrompt, text_prompt
from oracles.remote import RemoteOracle, chat_oracle, sampled_oracle

from .conftest import QUESTION, STORY, Server

ALL = np.array([[i >> j & 1 for j in range(6)] for i in range(64)], dtype=bool)


def words(server: Server, **limits: object) -> tuple[TextPrompt, RemoteOracle]:
    """Twelve equal words, so that 4,096 masks write 13 different prompts."""
    prompt = text_prompt(" ".join(["no"] * 12), segments="word", suffix="Answer:")
    return prompt, sampled_oracle(prompt, server.endpoint(**limits), answer="no")


def many_masks() -> np.ndarray:
    masks = np.unique(np.random.default_rng(0).random((600, 12)) < 0.5, axis=0)
    return np.random.default_rng(1).permutation(masks)


def test_oracles_of_one_endpoint_share_its_requests(
    server: Server, prompt: TextPrompt
) -> None:
    endpoint = server.endpoint(max_requests=8)
    first = chat_oracle(prompt, endpoint, answer="Oslo")
    first.evaluate(ALL[-4:])
    second = chat_oracle(prompt, endpoint, answer="Lima")
    with pytest.raises(InputError, match=r"3 requests.*max_requests=8.*2 left"):
        second.evaluate(ALL[-3:])
    second.evaluate(ALL[-2:])
    with pytest.raises(InputError, match="max_requests=8 have been sent"):
        chat_oracle(prompt, endpoint, answer="is")
    assert len(server.requests()) == 8
    assert (first.spent().requests, second.spent().requests) == (5, 3)
    assert second.account["requests"] == 3


def test_another_endpoint_counts_anew_and_so_does_a_copy(
    server: Server, prompt: TextPrompt
) -> None:
    endpoint = server.endpoint(max_requests=1)
    chat_oracle(prompt, endpoint, answer="Oslo")
    for other in (
        replace(endpoint),
        copy.deepcopy(endpoint),
        pickle.loads(pickle.dumps(endpoint)),
    ):
        assert other == endpoint
        chat_oracle(prompt, other, answer="Oslo")
        with pytest.raises(InputError, match="max_requests=1"):
            chat_oracle(prompt, other, answer="Oslo")


def test_equal_prompts_of_a_whole_run_are_asked_about_once(server: Server) -> None:
    prompt, oracle = words(server)
    masks = many_masks()
    server.set()
    values = run(oracle, masks).values[:, 0]
    written = prompt.write_all(masks)
    assert len(server.requests()) == len(set(written)) < len(masks) / 20
    for text in set(written):
        rows = [row for row, other in enumerate(written) if other == text]
        assert len(set(values[rows])) == 1


def test_a_run_is_affordable_by_the_prompts_that_differ(server: Server) -> None:
    prompt, _ = words(server)
    masks = many_masks()
    distinct = len(set(prompt.write_all(masks)))
    _, just = words(server, max_requests=distinct + 1)
    assert run(just, masks).paid == len(masks)
    _, lacking = words(server, max_requests=distinct)
    with pytest.raises(InputError, match=f"takes {distinct} requests"):
        run(lacking, masks)


def test_what_was_answered_counts_as_paid_and_what_the_ledger_has_too(
    server: Server, prompt: TextPrompt, tmp_path: object
) -> None:
    endpoint = server.endpoint(max_requests=65)
    oracle = chat_oracle(prompt, endpoint, answer="Oslo")
    oracle.evaluate(ALL[:30])
    with Ledger(f"{tmp_path}/l") as ledger:
        whole = run(oracle, ALL, ledger=ledger)
        assert len(server.requests()) == 65
        other = chat_oracle(prompt, server.endpoint(max_requests=1), answer="Oslo")
        again = run(other, ALL, ledger=ledger)
    assert np.array_equal(whole.values, again.values)


def test_draws_that_write_the_same_prompt_are_paid_for_once(server: Server) -> None:
    """The intact prompt and all that lacks nothing drawn is the same in every draw."""
    reference = ["It is late. All is well. They left early."]
    prompts = [
        text_prompt(
            STORY, suffix=QUESTION, removal="resample", reference=reference, seed=seed
        )
        for seed in range(4)
    ]
    masks = ~np.eye(6, dtype=bool)
    masks[0] = True
    needed = {p.write_all(masks)[row] for p in prompts for row in range(6)}
    endpoint = server.endpoint(max_requests=len(needed) + 1)
    oracle = AveragedOracle(
        lambda prompt: chat_oracle(prompt, endpoint, answer="is"), prompts
    )
    assert run(oracle, masks).paid == 6
    assert len(needed) < 24
    assert len(server.requests()) == len(needed) + 1
