"""Classifiers of two texts, of which one is ablated, as their tokenizer joins them."""

from typing import Any

import numpy as np
import pytest
import torch

from oracles import InputError
from oracles.features import ClassifierOracle, LoadedModel, text_oracle
from oracles.features.prompts.prompt import text_prompt
from oracles.testing import OracleContract

PASSAGE = "Maria works in Oslo. Tom lives in Lima. It rains."
QUERY = "Where does Maria work?"
MODELS = [
    "BertForSequenceClassification",
    "DistilBertForSequenceClassification",
    "RobertaForSequenceClassification",
]


def logits(loaded: LoadedModel, *pair: str) -> np.ndarray:
    # in lists: a second text that is empty would else be no second text
    encoded = loaded.tokenizer(*([text] for text in pair), return_tensors="pt")
    if "DistilBert" in type(loaded.model).__name__:
        encoded.pop("token_type_ids")
    with torch.no_grad():
        return loaded.model(**encoded).logits[0].numpy()


class TestContract(OracleContract):
    @pytest.fixture(autouse=True)
    def _model(self, make: Any) -> None:
        self.loaded = make("BertForSequenceClassification")

    def make_oracle(self) -> ClassifierOracle:
        prompt = text_prompt(PASSAGE, segments="word")
        return ClassifierOracle(prompt, self.loaded, first=QUERY)


@pytest.mark.parametrize("architecture", MODELS)
def test_either_text_of_a_pair_is_ablated(make: Any, architecture: str) -> None:
    loaded, prompt = make(architecture), text_prompt(PASSAGE)
    masks = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    texts = prompt.write_all(masks)
    settings: dict[str, Any] = {"target": "all", "value": "logit"}
    before = ClassifierOracle(prompt, loaded, first=QUERY, **settings)
    after = ClassifierOracle(prompt, loaded, second=QUERY, **settings)
    single = ClassifierOracle(prompt, loaded, **settings)
    for found, pairs in (
        (before.evaluate(masks), [(QUERY, text) for text in texts]),
        (after.evaluate(masks), [(text, QUERY) for text in texts]),
        (single.evaluate(masks), [(text,) for text in texts]),
    ):
        expected = np.stack([logits(loaded, *pair) for pair in pairs])
        assert found == pytest.approx(expected, abs=1e-4)
    prints = {oracle.fingerprint for oracle in (before, after, single)}
    assert len(prints) == 3


def test_the_types_of_tokens_matter(make: Any) -> None:
    """Or the test above would not see that they are given."""
    loaded = make("BertForSequenceClassification")
    encoded = loaded.tokenizer(QUERY, PASSAGE, return_tensors="pt")
    with torch.no_grad():
        told = loaded.model(**encoded).logits
        encoded["token_type_ids"].zero_()
        untold = loaded.model(**encoded).logits
    assert (told - untold).abs().max() > 0.01


def test_a_reranker_is_asked_a_question(make: Any) -> None:
    loaded = make("BertForSequenceClassification")
    oracle = text_oracle(PASSAGE, loaded.name, question=QUERY)
    assert oracle.description["first"] == QUERY
    with pytest.raises(InputError, match="first and second"):
        ClassifierOracle(text_prompt(PASSAGE), loaded, first=QUERY, second=QUERY)
    with pytest.raises(InputError, match=r"has \d+ tokens and this model reads 96"):
        ClassifierOracle(text_prompt(PASSAGE), loaded, first=QUERY * 30)
