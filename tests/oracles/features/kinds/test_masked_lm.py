"""The word at the mask, against the whole table of logits, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from oracles import InputError
from oracles.features import LoadedModel
from oracles.features.masked_lm import MaskedLMOracle
from oracles.features.prompts.prompt import TextPrompt, text_prompt
from oracles.testing import OracleContract

REVIEW = "The plot is not good, but the acting saves it."
MODELS = ["BertForMaskedLM", "DistilBertForMaskedLM", "RobertaForMaskedLM"]


def prompt(loaded: LoadedModel, ask: str = "It was {}.", **more: Any) -> TextPrompt:
    suffix = ask.format(loaded.tokenizer.mask_token)
    settings = {"segments": "word", "suffix": suffix} | more
    return text_prompt(REVIEW, loaded.tokenizer, **settings)


def masks_of(oracle: MaskedLMOracle, count: int = 12) -> np.ndarray:
    masks = np.random.default_rng(0).random((count, len(oracle.players))) < 0.5
    masks[0], masks[1] = True, False
    return masks


def logits_at_mask(loaded: LoadedModel, text: str, which: int = 0) -> torch.Tensor:
    """From the whole table, one text at a time."""
    ids = loaded.tokenizer(text)["input_ids"]
    places = [i for i, t in enumerate(ids) if t == loaded.tokenizer.mask_token_id]
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([ids])).logits
    assert logits.shape[1] == len(ids)
    return logits[0, places[which]].double()


def token(loaded: LoadedModel, word: str) -> int:
    """RoBERTa's form of a word has the space in front."""
    tokenizer = loaded.tokenizer
    known = tokenizer.get_vocab()
    return int(known["Ġ" + word] if "Ġ" + word in known else known[word])


class TestContract(OracleContract):
    @pytest.fixture(autouse=True)
    def _model(self, make: Any) -> None:
        self.loaded = make("RobertaForMaskedLM")

    def make_oracle(self) -> MaskedLMOracle:
        return MaskedLMOracle(prompt(self.loaded), self.loaded, words=["it"])


@pytest.mark.parametrize("architecture", MODELS)
def test_a_words_value_is_its_share_of_the_vocabulary(
    make: Any, architecture: str
) -> None:
    loaded = make(architecture)
    assert loaded.task == "masked-lm"
    asked = prompt(loaded)
    found = {
        value: MaskedLMOracle(asked, loaded, words=["it", "the"], value=value)
        for value in ("log-odds", "log-probability", "probability", "logit")
    }
    masks = masks_of(found["logit"])
    values = {name: oracle.evaluate(masks) for name, oracle in found.items()}
    for row, text in enumerate(asked.write_all(masks)):
        logits = logits_at_mask(loaded, text)
        for column, word in enumerate(["it", "the"]):
            own = token(loaded, word)
            p = float(logits.softmax(0)[own])
            assert values["logit"][row, column] == pytest.approx(
                float(logits[own]), abs=1e-4
            )
            assert values["probability"][row, column] == pytest.approx(p, abs=1e-5)
            assert values["log-probability"][row, column] == pytest.approx(
                np.log(p), abs=1e-4
            )
            assert values["log-odds"][row, column] == pytest.approx(
                np.log(p / (1 - p)), abs=1e-4
            )


def test_label_words_are_compared_with_one_another_only(make: Any) -> None:
    loaded = make("BertForMaskedLM")
    asked, words = prompt(loaded), ["it", "the", "is"]
    oracle = MaskedLMOracle(asked, loaded, choices=words[:2])
    three = MaskedLMOracle(asked, loaded, choices=words)
    masks = masks_of(oracle)
    ids = [token(loaded, word) for word in words]
    for row, text in enumerate(asked.write_all(masks)):
        logits = logits_at_mask(loaded, text)[ids]
        difference = float(logits[0] - logits[1])
        assert oracle.evaluate(masks[row : row + 1])[0] == pytest.approx(
            [difference, -difference], abs=1e-4
        )
        p = logits.softmax(0)
        assert three.evaluate(masks[row : row + 1])[0] == pytest.approx(
            (p / (1 - p)).log().numpy(), abs=1e-4
        )
    intact = logits_at_mask(loaded, asked.write_all(masks[:1])[0])[ids]
    assert three.description["prediction"] == words[int(intact.argmax())]
    told = three.description["prediction_probability"]
    assert told == pytest.approx(float(intact.softmax(0).max()), abs=1e-5)
    assert three.outputs[0] == "log-odds of 'it' among the choices"
    margin = MaskedLMOracle(asked, loaded, choices=words, value="margin")
    top, second = intact.sort(descending=True).values[:2].tolist()
    assert margin.evaluate(masks[:1]).max() == pytest.approx(top - second, abs=1e-4)


def test_the_default_word_is_the_models_own(make: Any) -> None:
    loaded = make("BertForMaskedLM")
    oracle = MaskedLMOracle(prompt(loaded), loaded, value="probability")
    logits = logits_at_mask(loaded, prompt(loaded).write_all(np.ones((1, 10), bool))[0])
    assert oracle.evaluate(np.ones((1, 10), bool))[0, 0] == pytest.approx(
        float(logits.softmax(0).max()), abs=1e-5
    )
    other = MaskedLMOracle(prompt(loaded), loaded, words=["it"])
    for told in (oracle.description, other.description):
        assert told["prediction"] == loaded.tokenizer.decode([int(logits.argmax())])
        assert told["prediction_probability"] == pytest.approx(
            float(logits.softmax(0).max()), abs=1e-5
        )


@pytest.mark.parametrize("where", ["prefix", "suffix"])
def test_where_removal_writes_masks_the_one_asked_for_is_found(
    make: Any, where: str
) -> None:
    loaded = make("BertForMaskedLM")
    ask = "It was [MASK]. "
    asked = prompt(
        loaded, removal="mask", **({"suffix": "", "prefix": ""} | {where: ask})
    )
    oracle = MaskedLMOracle(asked, loaded, words=["it"], value="logit")
    masks = masks_of(oracle)
    which = -1 if where == "suffix" else 0
    expected = [
        float(logits_at_mask(loaded, text, which)[token(loaded, "it")])
        for text in asked.write_all(masks)
    ]
    assert oracle.evaluate(masks)[:, 0] == pytest.approx(expected, abs=1e-4)


def test_only_the_masks_logits_are_made_and_the_model_is_left_as_it_was(
    make: Any,
) -> None:
    for architecture in MODELS:
        loaded = make(architecture)
        sizes: list[int] = []
        handle = loaded.model.register_forward_hook(
            lambda module, inputs, output, sizes=sizes: sizes.append(
                output.logits.shape[1]
            )
        )
        oracle = MaskedLMOracle(prompt(loaded), loaded, words=["it"])
        oracle.evaluate(masks_of(oracle))
        handle.remove()
        assert set(sizes) == {1}
        assert not loaded.model.base_model._forward_hooks


def test_batches_of_any_size_give_the_same_values(make: Any) -> None:
    loaded = make("RobertaForMaskedLM")
    found = []
    for size in (1, 5, None):
        oracle = MaskedLMOracle(
            prompt(loaded), loaded, words=["it", "the"], batch_size=size
        )
        found.append(oracle.evaluate(masks_of(oracle, 20)))
    assert np.allclose(found[0], found[1], atol=1e-4)
    assert np.allclose(found[0], found[2], atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"words": ["unbelievable"]}, "not one token of this model.*'u', '##n'"),
        ({"words": ["☃"]}, "not one token"),
        ({"words": ["it"], "choices": ["the", "is"]}, "one of the two"),
        ({"choices": ["the"]}, "two or more different"),
        ({"choices": ["the", "the"]}, "two or more different"),
        ({"choices": ["it", "the"], "value": "logit"}, "log-odds, margin, probability"),
        ({"value": "margin"}, "log-odds, log-probability, probability, logit"),
    ],
)
def test_words_that_cannot_be_asked_for_are_refused(
    make: Any, settings: dict[str, Any], message: str
) -> None:
    loaded = make("BertForMaskedLM")
    with pytest.raises(InputError, match=message):
        MaskedLMOracle(prompt(loaded), loaded, **settings)


def test_a_prompt_keeps_one_mask(make: Any) -> None:
    loaded = make("BertForMaskedLM")
    for ask, message in [("It was", "0 mask"), ("{0} was {0}", "2 mask")]:
        with pytest.raises(InputError, match=message):
            MaskedLMOracle(prompt(loaded, ask), loaded)
    ablated = text_prompt("It was [MASK]. Really.", segments="sentence")
    with pytest.raises(InputError, match="ablated"):
        MaskedLMOracle(ablated, loaded)
    long = text_prompt(REVIEW * 9, segments="word", suffix="It was [MASK].")
    with pytest.raises(InputError, match=r"has \d+ tokens and this model reads 96"):
        MaskedLMOracle(long, loaded)


def test_a_tokenizer_without_a_mask_token_is_refused(make: Any) -> None:
    loaded = make("BertForMaskedLM")
    bare = transformers.PreTrainedTokenizerFast(
        tokenizer_object=loaded.tokenizer.backend_tokenizer, model_max_length=96
    )
    with pytest.raises(InputError, match="no mask token"):
        MaskedLMOracle(
            prompt(loaded), LoadedModel(loaded.model, bare, "bare", loaded.task)
        )


def test_other_words_choices_or_values_are_other_fingerprints(make: Any) -> None:
    loaded = make("BertForMaskedLM")
    changes: list[dict[str, Any]] = [
        {},
        {"words": ["the"]},
        {"words": [], "choices": ["it", "the"]},
        {"value": "logit"},
        {"words": ["it", "the"]},
    ]
    prints = [
        MaskedLMOracle(
            prompt(loaded), loaded, **({"words": ["it"]} | change)
        ).fingerprint
        for change in changes
    ]
    assert len(set(prints)) == len(changes)
    same = MaskedLMOracle(prompt(loaded), loaded, words=["it"], batch_size=2)
    assert same.fingerprint == prints[0]
