"""What is left out of the first and of the last layer, and that it is left out."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from oracles.components import ComponentOracle, Directions, TaskPrompt
from oracles.components.layers import find_layers

from .conftest import PROMPTS, WORDS, Make
from .test_families import FAMILIES

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


def long_prompts(task: str, count: int) -> list[TaskPrompt]:
    """Of fifty words each."""
    rng = np.random.default_rng(3)
    end = " [MASK]" if task == "masked-lm" else ""
    answers = ("1", "0") if task == "text-classifier" else ("mat", "dog")
    texts = [" ".join(rng.choice(WORDS, 50)) + end for _ in range(count)]
    return [TaskPrompt(text, *answers) for text in texts]


def alike_below(layers: Sequence[int], kinds: Sequence[int], rows: int) -> np.ndarray:
    """Masks of which each layer's part is one of so many, (rows, players)."""
    rng = np.random.default_rng(4)
    masks = np.empty((rows, len(layers)), dtype=bool)
    for layer, count in zip(sorted(set(layers)), kinds, strict=False):
        own = np.flatnonzero(np.array(layers) == layer)
        some = rng.random((count, len(own))) < 0.5
        masks[:, own] = some[rng.integers(count, size=rows)]
    masks[:, 0] = False  # all begin in the lowest layer
    return masks


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("unit", ["head", "layer"])
def test_rows_alike_in_low_layers_are_one_there(
    make: Make, architecture: str, unit: str
) -> None:
    loaded = make(architecture)
    prompts = long_prompts(loaded.task, 2)
    settings: dict[str, Any] = {"unit": unit, "ablation": "resample"}
    prompts = [
        TaskPrompt(**{**vars(p), "corrupted": o.text})
        for p, o in zip(prompts, prompts[::-1], strict=True)
    ]
    together = ComponentOracle(loaded, prompts, **settings)
    alone = ComponentOracle(loaded, prompts, **settings, batch_size=1)
    layers = [one.layer for one in together.components]
    masks = alike_below(layers, [2, 3, 20], rows=20)
    counts: Counter[int] = Counter()
    low, middle, _ = find_layers(loaded.model)
    together.evaluate(masks[:1])  # what is known of intact prompts
    hooks = tokens_through([low.down, middle.down], counts)
    values = together.evaluate(masks)
    for hook in hooks:
        hook.remove()
    all_tokens = len(masks) * 100
    # each of few kinds may be in a batch for every thread
    assert 0 < counts[0] < all_tokens / 2
    assert 0 < counts[1] < all_tokens
    np.testing.assert_allclose(values, alone.evaluate(masks), rtol=1e-4, atol=1e-4)


def test_rows_alike_in_low_layers_with_directions_and_long_answers(make: Make) -> None:
    loaded = make("GPT2LMHeadModel")
    prompts = [TaskPrompt(p.text, "mat dog ran") for p in long_prompts("causal-lm", 2)]
    matrix = np.random.default_rng(0).standard_normal((4, 24))
    for settings in (
        {"unit": "direction", "directions": Directions(0, matrix)},
        {"unit": "neuron", "groups": 3},
        {"unit": "head+mlp"},
    ):
        both = [
            ComponentOracle(
                loaded, prompts, behaviour="kl", batch_size=size, **settings
            )
            for size in (None, 1)
        ]
        layers = [one.layer for one in both[0].components]
        masks = alike_below(layers, [2, 2, 20], rows=20)
        whole, single = (oracle.evaluate(masks) for oracle in both)
        np.testing.assert_allclose(whole, single, rtol=1e-4, atol=1e-5)
