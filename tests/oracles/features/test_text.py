"""Text oracles against plain forward passes, one text at a time."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from oracles import InputError, ModelError
from oracles.features import CausalOracle, ClassifierOracle, load_model, text_oracle
from oracles.features.prompts.prompt import text_prompt
from oracles.testing import OracleContract

REVIEW = "The plot is not good, but the acting saves it."
STORY = "Maria works at the bakery. The bakery is in Oslo. Tom is in Lima."
QUESTION = "In which city? Answer:"


def some_masks(num_players: int, count: int = 20) -> np.ndarray:
    masks = np.random.default_rng(0).random((count, num_players)) < 0.6
    masks[0], masks[1] = True, False
    return masks


def kept_words(mask: np.ndarray) -> str:
    words = REVIEW.split()
    return " ".join(w for w, is_kept in zip(words, mask, strict=True) if is_kept)


class TestClassifierOracle(OracleContract):
    @pytest.fixture(autouse=True)
    def _model(self, classifier: str) -> None:
        self.path = classifier

    def make_oracle(self) -> ClassifierOracle:
        prompt = text_prompt(REVIEW, segments="word")
        return ClassifierOracle(prompt, load_model(self.path), batch_size=5)


class TestCausalOracle(OracleContract):
    @pytest.fixture(autouse=True)
    def _model(self, causal: str) -> None:
        self.path = causal

    def make_oracle(self) -> CausalOracle:
        prompt = text_prompt(STORY, segments="word", suffix=QUESTION)
        loaded = load_model(self.path)
        return CausalOracle(prompt, loaded, continuation="Oslo", batch_size=5)


def reference_logits(path: str, text: str) -> np.ndarray:
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path)
    ids = tokenizer(text)["input_ids"] or [tokenizer.pad_token_id]
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double().numpy()


@pytest.mark.parametrize("value", ["logit", "log-odds", "probability"])
def test_a_classifiers_values_are_those_of_single_texts(
    classifier: str, value: str
) -> None:
    oracle = text_oracle(REVIEW, classifier, target="all", value=value)
    masks = some_masks(len(oracle.players))[[0, *range(2, 20)]]
    found = oracle.evaluate(masks)
    for mask, row in zip(masks, found, strict=True):
        logits = reference_logits(classifier, kept_words(mask))
        p = np.exp(logits) / np.exp(logits).sum()
        expected = {"logit": logits, "log-odds": np.log(p / (1 - p)), "probability": p}
        assert np.allclose(row, expected[value], atol=1e-4)


def test_a_target_is_a_name_a_number_or_what_is_predicted(classifier: str) -> None:
    everything = text_oracle(REVIEW, classifier, target="all")
    assert everything.outputs == tuple(
        f"log-odds of {name}" for name in ("bad", "fair", "good")
    )
    masks = some_masks(len(everything.players))
    values = everything.evaluate(masks)
    for number, name in enumerate(["bad", "fair", "good"]):
        by_name = text_oracle(REVIEW, classifier, target=name.upper())
        by_number = text_oracle(REVIEW, classifier, target=str(number))
        assert np.allclose(by_name.evaluate(masks), values[:, [number]])
        assert by_name.fingerprint == by_number.fingerprint
    predicted = text_oracle(REVIEW, classifier)
    assert predicted.description["targets"] == [predicted.description["prediction"]]
    assert np.allclose(predicted.evaluate(masks[:1])[0, 0], values[0].max())


def reference_log_probability(path: str, prompt: str, words: str) -> float:
    """All logits of the whole sequence, no batch, no padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(path)
    start = tokenizer(prompt)["input_ids"] or [tokenizer.bos_token_id]
    tail = tokenizer(words)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([[*start, *tail]])).logits[0].double()
    steps = logits.log_softmax(-1)[len(start) - 1 : -1]
    return float(sum(steps[i, token] for i, token in enumerate(tail)))


def causal_prompt(mask: np.ndarray) -> str:
    sentences = [
        "Maria works at the bakery.",
        "The bakery is in Oslo.",
        "Tom is in Lima.",
    ]
    kept = [s for s, is_kept in zip(sentences, mask, strict=True) if is_kept]
    return " ".join([*kept, QUESTION])


def test_a_continuations_value_is_that_of_single_prompts(causal: str) -> None:
    words = "Oslo bakery"
    oracle = text_oracle(STORY, causal, suffix=QUESTION, target=words)
    masks = some_masks(3, 8)
    expected = [
        reference_log_probability(causal, causal_prompt(mask), " " + words)
        for mask in masks
    ]
    assert np.allclose(oracle.evaluate(masks)[:, 0], expected, atol=1e-4)


def test_the_values_of_a_continuation_agree_with_each_other(causal: str) -> None:
    def values(**settings: Any) -> np.ndarray:
        oracle = text_oracle(STORY, causal, suffix=QUESTION, **settings)
        return oracle.evaluate(some_masks(3, 8))[:, 0]

    oslo, lima = values(target="Oslo"), values(target="Lima")
    p = np.exp(oslo)
    assert np.allclose(values(target="Oslo", value="probability"), p)
    assert np.allclose(values(target="Oslo", value="log-odds"), np.log(p / (1 - p)))
    assert np.allclose(values(target="Oslo", against="Lima"), oslo - lima)


def test_white_space_at_the_border_is_the_continuations(causal: str) -> None:
    def value(suffix: str, target: str) -> float:
        oracle = text_oracle(STORY, causal, suffix=suffix, target=target)
        return float(oracle.evaluate(np.ones((1, 3), bool))[0, 0])

    plain = value(QUESTION, "Oslo")
    assert value(QUESTION + " ", "Oslo") == pytest.approx(plain, abs=1e-6)
    assert value(QUESTION, " Oslo") == pytest.approx(plain, abs=1e-6)


def test_the_default_continuation_is_the_models_greedy_answer(causal: str) -> None:
    oracle = text_oracle(STORY, causal, suffix=QUESTION)
    answer = oracle.description["continuation"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(causal)
    model = transformers.AutoModelForCausalLM.from_pretrained(causal)
    ids = tokenizer(f"{STORY} {QUESTION}")["input_ids"]
    with torch.no_grad():
        first = int(model(torch.tensor([ids])).logits[0, -1].argmax())
    assert tokenizer.decode([first]).strip() in answer
    assert answer == oracle.description["prediction"]


def test_another_text_setting_or_weight_is_another_fingerprint(
    classifier: str, tmp_path: Path
) -> None:
    plain = text_oracle(REVIEW, classifier)
    others = [
        text_oracle(REVIEW + "!", classifier),
        text_oracle(REVIEW, classifier, segments="token"),
        text_oracle(REVIEW, classifier, removal="mask"),
        text_oracle(REVIEW, classifier, value="logit"),
        text_oracle(REVIEW, classifier, target="all"),
    ]
    loaded = load_model(classifier)
    prompt = text_prompt(REVIEW, segments="word")
    same = ClassifierOracle(prompt, loaded, batch_size=3)
    assert same.fingerprint == plain.fingerprint
    with torch.no_grad():
        loaded.model.classifier.weight[0, 0] += 1e-3
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    others.append(text_oracle(REVIEW, str(tmp_path)))
    prints = {plain.fingerprint, *(oracle.fingerprint for oracle in others)}
    assert len(prints) == 1 + len(others)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "superb"}, "Its classes are bad, fair, good"),
        ({"target": "3"}, "classes"),
        ({"value": "entropy"}, "log-odds, logit, margin, probability"),
        ({"segments": "verse"}, "Choose from word"),
        ({"removal": "blur"}, "delete, mask"),
        ({"suffix": "?"}, "causal"),
        ({"against": "bad"}, "causal"),
    ],
)
def test_settings_a_classifier_cannot_use_are_refused(
    classifier: str, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        text_oracle(REVIEW, classifier, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "  "}, "continuation is empty"),
        ({"value": "logit"}, "log-probability, log-odds, probability"),
        ({"against": "Lima", "value": "probability"}, "alternative"),
        ({"suffix": "so " * 400}, "reads 128"),
    ],
)
def test_settings_a_causal_model_cannot_use_are_refused(
    causal: str, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        text_oracle(STORY, causal, **settings)


def test_a_text_longer_than_the_model_reads_is_never_cut(classifier: str) -> None:
    with pytest.raises(InputError, match="reads 128"):
        text_oracle("good " * 300, classifier)
    with pytest.raises(InputError, match="empty"):
        text_oracle("   ", "no/such-model")


def test_what_is_not_a_model_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"without a config\.json"):
        load_model(str(tmp_path))
    with pytest.raises(ModelError, match="not a folder"):
        load_model(str(tmp_path / "missing"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="sentiment"):
        load_model(str(tmp_path))
    (tmp_path / "config.json").write_text("not json")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(tmp_path))


def test_a_head_without_an_oracle_is_refused(tmp_path: Path, classifier: str) -> None:
    config = transformers.AutoConfig.from_pretrained(classifier)
    transformers.BertForTokenClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"BertForTokenClassification.*ForCausalLM"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    "surroundings",
    [
        {"HF_HUB_OFFLINE": "1"},
        {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"},
    ],
)
def test_an_unreachable_hub_names_the_embedded_model(
    surroundings: dict[str, str], tmp_path: Path
) -> None:
    """In its own process: the hub's address is read when its library is imported."""
    code = (
        "from oracles import ModelError; from oracles.features import load_model\n"
        "try: load_model('some-lab/a-model')\n"
        "except ModelError as error: print(error)"
    )
    environment = os.environ | surroundings | {"HF_HOME": str(tmp_path)}
    said = subprocess.check_output(
        [sys.executable, "-c", code], env=environment, text=True, timeout=120
    )
    assert "some-lab/a-model" in said
    assert 'model="sentiment"' in said
