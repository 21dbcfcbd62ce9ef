"""What is left out of the first and of the last layer, and that it is left out."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from oracles.components import ComponentOracle, TaskPrompt
from oracles.components.layers import find_layers

from .conftest import PROMPTS, Make

WRITERS = [
    "GPT2LMHeadModel",
    "LlamaForCausalLM",
    "GPTNeoXForCausalLM",
    "OPTForCausalLM",
]
READERS = ["BertForSequenceClassification", "DistilBertForSequenceClassification"]


def tokens_through(modules: list[Any], counts: Counter[int]) -> list[Any]:
    """Hooks that count the tokens that go through modules."""

    def hook_of(number: int) -> Any:
        def count(module: Any, args: Any, output: Any) -> None:
            counts[number] += args[0].shape[:-1].numel()

        return count

    return [m.register_forward_hook(hook_of(i)) for i, m in enumerate(modules)]


@pytest.mark.parametrize("architecture", WRITERS + READERS)
@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_only_what_differs_is_computed(
    make: Make, architecture: str, ablation: str
) -> None:
    loaded = make(architecture)
    is_reader = architecture in READERS
    prompts = [TaskPrompt(p.text, "LABEL_1") if is_reader else p for p in PROMPTS]
    oracle = ComponentOracle(loaded, prompts, behaviour="margin", ablation=ablation)
    masks = np.random.default_rng(0).random((20, len(oracle.players))) < 0.5
    masks[:, 0] = False  # all passes begin in the lowest layer
    expected = oracle.evaluate(masks)
    first, *_, last = find_layers(loaded.model)
    counts: Counter[int] = Counter()
    hooks = tokens_through([first.before[0], last.down, last.projection], counts)
    values = oracle.evaluate(masks)
    for hook in hooks:
        hook.remove()
    rows = len(masks) * len(prompts)
    # queries of the lowest layer are known, and one token of each row is read
    assert counts == {1: rows, 2: rows}
    assert np.array_equal(values, expected)


def test_every_token_that_is_read_goes_through(make: Make) -> None:
    loaded = make("GPT2LMHeadModel")
    texts = [TaskPrompt(p.text) for p in PROMPTS]
    oracle = ComponentOracle(loaded, texts, behaviour="loss")
    *_, last = find_layers(loaded.model)
    counts: Counter[int] = Counter()
    [hook] = tokens_through([last.down], counts)
    oracle.evaluate(np.zeros((4, len(oracle.players)), dtype=bool))
    hook.remove()
    lengths = [len(loaded.tokenizer(p.text)["input_ids"]) for p in texts]
    assert counts[0] >= 4 * sum(length - 1 for length in lengths)
