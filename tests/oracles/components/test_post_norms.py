"""Norms after attention and MLP: what is replaced is what is added to the stream."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch

from oracles.components import ComponentOracle, TaskPrompt
from oracles.features import LoadedModel

from .conftest import PROMPTS, Make
from .test_by_hand import REFERENCE, ids_of

NORMS = {
    "mlp": ("post_feedforward_layernorm",),
    "layer": ("post_attention_layernorm", "post_feedforward_layernorm"),
}
"""What adds to the stream, by the names that both families use."""


@torch.no_grad()
def run(loaded: LoadedModel, text: str, hooks: dict[Any, Callable[..., Any]]) -> Any:
    """Last logits of the plain model with hooks at its norms."""
    with ExitStack() as stack:
        for module, hook in hooks.items():
            stack.callback(module.register_forward_hook(hook).remove)
        return loaded.model(torch.tensor([ids_of(loaded, text)])).logits[0, -1]


def added(loaded: LoadedModel, text: str, norms: list[Any]) -> dict[Any, torch.Tensor]:
    """What each norm puts out, (tokens, width)."""
    seen: dict[Any, torch.Tensor] = {}

    def note(module: Any, args: Any, output: torch.Tensor) -> None:
        seen[module] = output[0]

    run(loaded, text, dict.fromkeys(norms, note))
    return seen


def by_hand(
    loaded: LoadedModel, prompt: TaskPrompt, others: dict[Any, torch.Tensor]
) -> float:
    """Logit difference with the output of norms replaced."""

    def hook_of(other: torch.Tensor) -> Callable[..., Any]:
        def replaced(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
            return other.expand_as(output)

        return replaced

    hooks = {norm: hook_of(other) for norm, other in others.items()}
    logits = run(loaded, prompt.text, hooks)
    answer, wrong = (ids_of(loaded, w)[0] for w in (prompt.answer, prompt.wrong))
    return float(logits[answer] - logits[wrong])


@pytest.mark.parametrize("architecture", ["Gemma2ForCausalLM", "Olmo2ForCausalLM"])
@pytest.mark.parametrize("unit", ["mlp", "layer"])
@pytest.mark.parametrize("ablation", ["mean", "resample"])
def test_what_is_added_is_replaced(
    make: Make, architecture: str, unit: str, ablation: str
) -> None:
    loaded = make(architecture)
    reference = REFERENCE if ablation == "mean" else []
    oracle = ComponentOracle(
        loaded,
        PROMPTS,
        unit=unit,
        ablation=ablation,
        reference=reference,
        per_prompt=True,
    )
    blocks = loaded.model.model.layers
    norms = [[getattr(block, name) for name in NORMS[unit]] for block in blocks]
    every = [norm for some in norms for norm in some]
    notes = [added(loaded, text, every) for text in REFERENCE]
    mean = {norm: torch.cat([seen[norm] for seen in notes]).mean(0) for norm in every}
    masks = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)
    values = oracle.evaluate(masks)
    for column, prompt in enumerate(PROMPTS):
        corrupted = added(loaded, prompt.corrupted, every)
        takes = mean if ablation == "mean" else corrupted
        for mask, value in zip(masks, values[:, column], strict=True):
            gone = [
                n
                for some, kept in zip(norms, mask, strict=True)
                if not kept
                for n in some
            ]
            expected = by_hand(loaded, prompt, {norm: takes[norm] for norm in gone})
            assert value == pytest.approx(expected, abs=1e-4)
