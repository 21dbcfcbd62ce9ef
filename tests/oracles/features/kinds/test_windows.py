"""Contexts longer than the model reads, in windows, against the definition."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import InputError
from oracles.features.pairs import Pair
from oracles.features.prompts.prompt import TextPrompt, text_prompt
from oracles.features.question_answering import QuestionAnsweringOracle
from oracles.testing import OracleContract

from .conftest import LONGEST

QUESTION = "Where does Maria work?"
CONTEXT = " ".join(
    f"Tom lives in {place}. Maria works in Oslo. It was not great, but Lima is far."
    for place in ("Lima", "New York", "Oslo", "the bakery", "Answer")
)
READERS = [
    "BertForQuestionAnswering",
    "RobertaForQuestionAnswering",
    "GPT2ForQuestionAnswering",
]


def prompt(**more: Any) -> TextPrompt:
    return text_prompt(CONTEXT, segments="sentence", **more)


def windows_of(loaded: Any, context: str) -> list[tuple[Any, range]]:
    """Start and end logits of every window, and which tokens of the whole it has."""
    encoded = loaded.tokenizer(QUESTION, context, verbose=False)
    parts = np.array([part == 1 for part in encoded.sequence_ids(0)])
    own = np.flatnonzero(parts)
    room = LONGEST - (len(parts) - len(own))
    step, found = room - min(128, room // 2), []
    starts = [*range(0, len(own) - room, step), max(0, len(own) - room)]
    for start in starts:
        taken = own[start : start + room]
        kept = np.sort(np.concatenate([np.flatnonzero(~parts), taken]))
        inputs = {
            name: torch.tensor([np.array(values)[kept].tolist()])
            for name, values in encoded.items()
            if name != "token_type_ids" or "Bert" in type(loaded.model).__name__
        }
        if "Roberta" in type(loaded.model).__name__:
            inputs.pop("token_type_ids", None)
        with torch.no_grad():
            output = loaded.model(**inputs)
        logits = np.stack(
            [output.start_logits[0].double(), output.end_logits[0].double()]
        )
        found.append((dict(zip(kept.tolist(), logits.T, strict=True)), taken.tolist()))
    return found


def by_definition(loaded: Any, context: str, answer: str) -> tuple[float, ...]:
    """Exps of an answer's logits, of no answer's, and what both are divided by."""
    encoded = loaded.tokenizer(QUESTION, context, verbose=False)
    ids, cls = encoded["input_ids"], loaded.tokenizer.cls_token_id
    null = ids.index(cls) if cls in ids else None
    windows = windows_of(loaded, context)
    spans, at = [], context.find(answer)
    while at >= 0:
        ends = at, at + len(answer) - 1
        spans.append([encoded.char_to_token(0, end, 1) for end in ends])
        at = context.find(answer, at + 1)
    given = sum(
        np.exp(logits[first][0] + logits[last][1])
        for logits, taken in windows
        for first, last in spans
        if first in taken and last in taken
    )
    total = sum(np.exp([logits[i] for i in taken]).sum(0) for logits, taken in windows)
    nothing = 0.0
    if null is not None:
        least = min((logits[null] for logits, _ in windows), key=np.sum)
        total = total + np.exp(least)
        nothing = np.exp(least.sum())
    return given, nothing, total.prod()


@pytest.mark.parametrize("architecture", READERS)
def test_one_softmax_goes_over_all_windows(make: Any, architecture: str) -> None:
    loaded, context = make(architecture), prompt()
    has_null = loaded.tokenizer.cls_token_id is not None
    oracle = QuestionAnsweringOracle(
        context,
        loaded,
        question=QUESTION,
        answers=["Oslo", "New York"] + [""] * has_null,
        value="probability",
        batch_size=3,
    )
    assert oracle.description["windows"] > 1
    masks = np.random.default_rng(0).random((10, len(oracle.players))) < 0.7
    masks[0], masks[1] = True, False
    values = oracle.evaluate(masks)
    for row, text in enumerate(context.write_all(masks)):
        oslo, nothing, total = by_definition(loaded, text, "Oslo")
        york, *_ = by_definition(loaded, text, "New York")
        expected = np.array([oslo, york] + [nothing] * has_null) / total
        assert values[row] == pytest.approx(expected, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("architecture", READERS[:2])
def test_the_models_own_answer_is_found_in_any_window(
    make: Any, architecture: str
) -> None:
    loaded = make(architecture)
    oracle = QuestionAnsweringOracle(
        prompt(), loaded, question=QUESTION, value="probability"
    )
    best = max(
        np.exp(logits[i][0] + logits[j][1])
        for logits, taken in windows_of(loaded, CONTEXT)
        for i in taken
        for j in taken
        if i <= j < i + 30
    )
    _, nothing, total = by_definition(loaded, CONTEXT, "Oslo")
    [answer] = oracle.description["answers"]
    assert (answer == "") == (nothing > best)
    told = oracle.description["prediction_probability"]
    assert told == pytest.approx(max(nothing, best) / total, rel=1e-3)
    values = oracle.evaluate(np.ones((1, len(oracle.players)), bool))
    # byte pairs may begin with a space, which is not the answer's
    assert "Bert" not in architecture or values[0, 0] >= told * (1 - 1e-3)


class TestHiddenInWindows(OracleContract):
    @pytest.fixture(autouse=True)
    def _reader(self, make: Any) -> None:
        self.loaded = make("BertForQuestionAnswering")

    def make_oracle(self) -> QuestionAnsweringOracle:
        hidden = prompt(removal="attention")
        return QuestionAnsweringOracle(
            hidden, self.loaded, question=QUESTION, answers=["Oslo", ""]
        )


def test_an_answer_that_a_border_may_cut_is_refused(make: Any) -> None:
    loaded = make("BertForQuestionAnswering")
    for answer in (CONTEXT, CONTEXT[:250]):
        with pytest.raises(InputError, match=r"windows, and the answer.*shorter"):
            QuestionAnsweringOracle(
                prompt(), loaded, question=QUESTION, answers=[answer]
            )


@settings(max_examples=200, deadline=None)
@given(
    own=st.integers(1, 120),
    before=st.integers(1, 6),
    after=st.integers(0, 3),
    room=st.integers(2, 40),
    overlap=st.integers(1, 40),
    data=st.data(),
)
def test_what_two_windows_may_share_is_whole_in_one(
    own: int, before: int, after: int, room: int, overlap: int, data: Any
) -> None:
    spans: list[tuple[int, int] | None] = [(2 * i, 2 * i + 1) for i in range(own)]
    ids = [*range(-before, 0), *range(own), *range(1000, 1000 + after)]
    hidden = data.draw(st.sets(st.integers(before, before + own - 1)))
    pair = Pair(
        "w " * own,
        ids,
        [0] * len(ids),
        [None] * before + spans + [None] * after,
        frozenset(hidden),
    )
    longest = before + room + after
    windows = pair.windows(longest, overlap, 1)
    assert max(len(window.ids) for window in windows) <= longest
    assert (len(windows) == 1) == (own <= room)
    gone = {pair.ids[i] for i in hidden}
    for window in windows:
        assert window.ids[:before] == ids[:before]
        assert window.ids[len(window.ids) - after :] == ids[len(ids) - after :]
        assert {window.ids[i] for i in window.hidden} == gone & set(window.ids)
        for token, span in zip(window.ids, window.spans, strict=True):
            assert span == (None if token < 0 or token >= 1000 else spans[token])
    shared = min(overlap, room // 2)
    length = data.draw(st.integers(1, min(max(shared, 1), own)))
    first = data.draw(st.integers(0, own - length))
    place = 2 * first, 2 * (first + length) - 1
    [inside, *_] = [window for window in windows if window.holds(*place)]
    found = inside.within(*place)
    assert [inside.ids[i] for i in found] == [*range(first, first + length)]
    assert all(set(range(first, first + length)) <= set(w.ids)
               for w in windows if w.holds(*place))  # fmt: skip
