"""An answer's span, wherever the ablated context has it, against the definition."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from oracles import InputError
from oracles.features import LoadedModel
from oracles.features.prompts.prompt import TextPrompt, text_prompt
from oracles.features.question_answering import FLOOR_NATS, QuestionAnsweringOracle
from oracles.testing import OracleContract

CONTEXT = "Maria works in Oslo. Tom lives in Lima. Oslo is far from Lima. It rains."
QUESTION = "Where does Maria work?"
READERS = [
    "BertForQuestionAnswering",
    "DistilBertForQuestionAnswering",
    "RobertaForQuestionAnswering",
    "BartForQuestionAnswering",
    "GPT2ForQuestionAnswering",
]


def prompt(text: str = CONTEXT, segments: str = "sentence", **more: Any) -> TextPrompt:
    return text_prompt(text, segments=segments, **more)


def masks_of(oracle: QuestionAnsweringOracle, count: int = 12) -> np.ndarray:
    masks = np.random.default_rng(0).random((count, len(oracle.players))) < 0.5
    masks[0], masks[1] = True, False
    return masks


def scores(loaded: Any, context: str) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Encoded pair, start and end logits by transformers, -inf off the context."""
    encoded = loaded.tokenizer(QUESTION, context, return_tensors="pt")
    inputs = dict(encoded)
    if "Bert" not in type(loaded.model).__name__ or "Distil" in str(type(loaded.model)):
        inputs.pop("token_type_ids", None)
    with torch.no_grad():
        output = loaded.model(**inputs)
    allowed = [part == 1 for part in encoded.sequence_ids(0)]
    cls = loaded.tokenizer.cls_token_id
    if cls is not None:
        allowed[encoded["input_ids"][0].tolist().index(cls)] = True
    shut = torch.tensor([not a for a in allowed])
    start, end = output.start_logits[0].double(), output.end_logits[0].double()
    both = [logits.masked_fill(shut, -torch.inf) for logits in (start, end)]
    return encoded, both[0], both[1]


def alone(loaded: Any, context: str, answer: str) -> tuple[float, list[float]]:
    """Probability of an answer, and its spans' summed logits."""
    encoded, start, end = scores(loaded, context)
    p_start, p_end = start.softmax(0), end.softmax(0)
    total, logits, at = 0.0, [], context.find(answer)
    while at >= 0:
        first = encoded.char_to_token(0, at, 1)
        last = encoded.char_to_token(0, at + len(answer) - 1, 1)
        total += float(p_start[first] * p_end[last])
        logits.append(float(start[first] + end[last]))
        at = context.find(answer, at + 1)
    return total, logits


def best_span(loaded: Any, context: str) -> str:
    """Of all spans that end where they start or later, and of no answer."""
    encoded, start, end = scores(loaded, context)
    parts = encoded.sequence_ids(0)
    spans = {
        (i, j): float(start[i] + end[j])
        for i in range(len(parts))
        for j in range(i, min(i + 30, len(parts)))
        if parts[i] == parts[j] or i == j
    }
    first, last = max(spans, key=spans.__getitem__)
    if parts[first] is None:
        return ""
    begin = encoded.token_to_chars(0, first).start
    return context[begin : encoded.token_to_chars(0, last).end].strip()


class TestContract(OracleContract):
    @pytest.fixture(autouse=True)
    def _reader(self, make: Any) -> None:
        self.loaded = make("BertForQuestionAnswering")

    def make_oracle(self) -> QuestionAnsweringOracle:
        return QuestionAnsweringOracle(
            prompt(segments="word"), self.loaded, question=QUESTION, answers=["Oslo"]
        )


@pytest.mark.parametrize("architecture", READERS)
def test_it_is_the_sum_over_all_places_of_the_answer(
    make: Any, architecture: str
) -> None:
    loaded, context = make(architecture), prompt()
    assert loaded.task == "question-answering"
    found = {
        value: QuestionAnsweringOracle(
            context,
            loaded,
            question=QUESTION,
            answers=["Oslo", "Lima"],
            value=value,
            batch_size=3,
        )
        for value in ("probability", "log-odds", "log-probability", "logit")
    }
    masks = masks_of(found["logit"])
    values = {name: oracle.evaluate(masks) for name, oracle in found.items()}
    for row, text in enumerate(context.write_all(masks)):
        for column, answer in enumerate(["Oslo", "Lima"]):
            p, logits = alone(loaded, text, answer)
            assert values["probability"][row, column] == pytest.approx(p, abs=1e-5)
            if not logits:
                assert values["log-odds"][row, column] == -FLOOR_NATS
                continue
            assert values["log-odds"][row, column] == pytest.approx(
                np.clip(np.log(p / (1 - p)), -FLOOR_NATS, FLOOR_NATS), abs=1e-4
            )
            assert values["log-probability"][row, column] == pytest.approx(
                np.clip(np.log(p), -FLOOR_NATS, FLOOR_NATS), abs=1e-4
            )
            assert values["logit"][row, column] == pytest.approx(
                np.logaddexp.reduce(logits), abs=1e-4
            )


@pytest.mark.parametrize("architecture", READERS)
def test_the_models_own_answer_is_its_best_span(make: Any, architecture: str) -> None:
    loaded = make(architecture)
    for i in range(5):
        context = CONTEXT[7 * i :]
        oracle = QuestionAnsweringOracle(
            prompt(context), loaded, question=QUESTION, value="probability"
        )
        answer = best_span(loaded, context)
        assert oracle.description["answers"] == [answer]
        told = oracle.description["prediction_probability"]
        intact = oracle.evaluate(np.ones((1, len(oracle.players)), bool))[0, 0]
        # byte pairs may begin with a space, which is not the answer's; the same words
        # may stand elsewhere, too
        assert "Bert" not in architecture or intact >= told - 1e-6


def test_no_answer_is_an_answer(make: Any) -> None:
    loaded = make("BertForQuestionAnswering")
    oracle = QuestionAnsweringOracle(
        prompt(), loaded, question=QUESTION, answers=[""], value="probability"
    )
    assert oracle.outputs == ("probability of no answer",)
    values = oracle.evaluate(masks_of(oracle))
    assert values[1, 0] == pytest.approx(1.0)  # no context at all
    assert 0 < values[0, 0] < 1


@pytest.fixture
def bare(make: Any) -> LoadedModel:
    """A reader whose tokenizer has no first token."""
    reader = make("GPT2ForQuestionAnswering")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=reader.tokenizer.backend_tokenizer,
        pad_token="<pad>",
        model_max_length=96,
    )
    return LoadedModel(reader.model, tokenizer, "bare", reader.task)


def test_no_answer_needs_a_token(bare: LoadedModel) -> None:
    with pytest.raises(InputError, match="no token for it"):
        QuestionAnsweringOracle(prompt(), bare, question=QUESTION, answers=[""])


def test_an_empty_context_without_a_token_for_no_answer_has_values(
    bare: LoadedModel,
) -> None:
    masks = np.array([[False] * 4, [True] * 4])
    for value in ("logit", "log-odds", "probability"):
        oracle = QuestionAnsweringOracle(
            prompt(),
            bare,
            question=QUESTION,
            answers=["Oslo"],
            value=value,
            batch_size=2,
        )
        together, apart = oracle.evaluate(masks), oracle.evaluate(masks[:1])
        assert np.isfinite(together).all()
        assert together[0] == pytest.approx(apart[0], abs=1e-5)


def test_an_answer_is_a_whole_word_where_it_is_one(make: Any) -> None:
    loaded = make("RobertaForQuestionAnswering")
    text = "Tom is in town. The inn is old."

    def values(answer: str) -> np.ndarray:
        oracle = QuestionAnsweringOracle(
            prompt(text),
            loaded,
            question=QUESTION,
            answers=[answer],
            value="probability",
        )
        return oracle.evaluate(np.array([[True, False], [False, True]]))[:, 0]

    assert values("in")[0] > 0
    assert values("in")[1] == 0  # only within a word
    assert values("nn")[1] > 0  # which it never is


def test_batches_of_any_size_and_order_give_the_same_values(make: Any) -> None:
    for architecture in READERS[:3]:
        found = []
        for size in (1, 5, 64):
            oracle = QuestionAnsweringOracle(
                prompt(segments="word"),
                make(architecture),
                question=QUESTION,
                answers=["Oslo", ""],
                batch_size=size,
            )
            found.append(oracle.evaluate(masks_of(oracle, 20)))
        assert np.allclose(found[0], found[1], atol=1e-4)
        assert np.allclose(found[0], found[2], atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"question": " "}, "question is empty"),
        ({"answers": ["Paris"]}, "not in the context"),
        ({"value": "margin"}, "log-odds, log-probability, probability, logit"),
        ({"question": "Where? " * 40}, r"has \d+ tokens and this model reads 96"),
        ({"answers": ["Oslo"] * 15}, "takes 14"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    make: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        QuestionAnsweringOracle(
            prompt(),
            make("BertForQuestionAnswering"),
            **({"question": QUESTION} | settings),
        )


def test_another_question_answer_or_value_is_another_fingerprint(make: Any) -> None:
    loaded = make("BertForQuestionAnswering")
    base = {"question": QUESTION, "answers": ["Oslo"]}
    changes: list[dict[str, Any]] = [
        {},
        {"question": "Where?"},
        {"answers": ["Lima"]},
        {"answers": ["Oslo", "Lima"]},
        {"value": "logit"},
    ]
    prints = [
        QuestionAnsweringOracle(prompt(), loaded, **(base | change)).fingerprint
        for change in changes
    ]
    assert len(set(prints)) == len(changes)
    same = QuestionAnsweringOracle(prompt(), loaded, **base, batch_size=2)
    assert same.fingerprint == prints[0]
