"""The component oracle: what a model does with only some of its parts working."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks, Values, check_masks
from oracles.components.activations import (
    Means,
    Replacement,
    Resampled,
    Zeros,
    intact_logs,
)
from oracles.components.behaviour import BEHAVIOURS
from oracles.components.components import Components, Directions, make_components
from oracles.components.evaluation import Evaluation
from oracles.components.layers import find_layers
from oracles.components.passes import Passes
from oracles.components.prompts import (
    Encoded,
    TaskPrompt,
    encode_prompts,
    encode_texts,
)
from oracles.errors import InputError
from oracles.features.models.loading import LoadedModel
from oracles.features.passes.encoding import checked_choice, fingerprint

TRIED = 8
"""Random masks that are run beside the two ends to see whether anything changes."""

ABLATIONS: Mapping[str, Callable[[Passes, Sequence[Encoded]], Replacement]] = {
    "zero": lambda passes, others: Zeros(),
    "mean": Means,
    "resample": Resampled,
}
"""Name of an ablation -> what makes its replacements."""


class ComponentOracle:
    """A model's behaviour over prompts as a set function of its working components.

    A component that is ablated does not stop the others: its output is replaced, at all
    tokens, in every prompt, and what lies above it reads the replacement. Different
    rows of one forward pass have different components ablated; layers below the lowest
    ablated one are computed once for each prompt. Weights are not touched, and hooks
    stand in the model only while `evaluate` runs. Which attention kernel computes the
    heads does not matter, as they are ablated where they enter the output projection.

    Making one runs the model on the intact prompts, on the reference or corrupted
    prompts, and with 10 masks, to refuse a behaviour that no ablation changes.

    Args:
        loaded: a causal or masked language model, or a sequence classifier.
        prompts: over which the behaviour is measured, at least one.
        unit: what a player is; one of `components.UNITS`.
        layers: whose components are players; all by default.
        groups: of neurons; see `components.make_components`.
        directions: of the residual stream, for the unit "direction".
        behaviour: one of `behaviour.BEHAVIOURS`.
        ablation: "zero"; "mean", over all tokens of the reference, those that the
            tokenizer adds at its ends too; or "resample", the activations of each
            prompt's corrupted form at the same token (interchange, or activation
            patching).
        reference: texts for the ablation "mean"; by default those of the prompts,
            without the answers.
        per_prompt: whether each prompt is an output, in place of their mean.
        batch_size: rows in one forward pass; by default as many as make up 1,024
            tokens on a CPU and 16,384 elsewhere.

    Attributes:
        components: the players, as `components.Component`, in mask order.
        found: what was found in the model, a line for each layer.

    Raises:
        InputError: settings or prompts that cannot be used, or a constant behaviour.
        ModelError: the model's layers or heads cannot be located.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prompts: Sequence[TaskPrompt],
        *,
        unit: str = "head",
        layers: Sequence[int] | None = None,
        groups: int | Sequence[Sequence[tuple[int, int]]] | None = None,
        directions: Directions | None = None,
        behaviour: str = "logit-diff",
        ablation: str = "mean",
        reference: Sequence[str] = (),
        per_prompt: bool = False,
        batch_size: int | None = None,
    ) -> None:
        self._loaded = loaded
        self._behaviour = BEHAVIOURS[
            checked_choice(behaviour, tuple(BEHAVIOURS), "behaviour")
        ]
        checked_choice(ablation, tuple(ABLATIONS), "ablation")
        _check_settings(ablation, reference, batch_size)
        encoded = encode_prompts(loaded, prompts, self._behaviour.needs)
        others = _others(loaded, prompts, encoded, ablation, reference)
        found = find_layers(loaded.model)
        made = make_components(
            found, unit, within=layers, groups=groups, directions=directions
        )
        self.components = made.players
        self.found = tuple(layer.found for layer in found)
        self._is_mean = not per_prompt
        self.players = tuple(component.name for component in self.components)
        self.outputs = (
            (behaviour,)
            if self._is_mean
            else tuple(f"{behaviour} of prompt {i}" for i in range(len(prompts)))
        )
        self.description: Mapping[str, Any] = {
            **described(loaded, made, unit),
            "behaviour": behaviour,
            "ablation": ablation,
            "reference": list(reference),
            "prompts": [asdict(prompt) for prompt in prompts],
            "per_prompt": per_prompt,
        }
        passes = Passes(loaded, found, made.sites)
        replacement = ABLATIONS[ablation](passes, others)
        is_compared = "intact" in self._behaviour.reads
        logs = intact_logs(passes, encoded) if is_compared else []
        self._evaluation = Evaluation(
            passes, made, encoded, self._behaviour, replacement, logs, batch_size
        )
        check_varies(self._evaluation.values, len(self.players), behaviour)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, prompts and settings, not of the batch size."""
        return fingerprint(self.description, self._loaded)

    def evaluate(self, masks: Masks) -> Values:
        """The behaviour with each mask's components working, (m, k).

        Raises:
            InputError: it is not finite under a mask.
        """
        masks = check_masks(masks, len(self.players))
        values = self._evaluation.values(masks)
        return values.mean(axis=1, keepdims=True) if self._is_mean else values


def described(loaded: LoadedModel, made: Components, unit: str) -> dict[str, Any]:
    """Model and players, for an oracle's description."""
    return {
        "kind": "components",
        "model": loaded.name,
        "dtype": str(loaded.model.dtype),
        "unit": unit,
        "components": [asdict(component) for component in made.players],
        "sites": [_identity(site.owner, site.directions) for site in made.sites],
    }


def check_varies(
    measure: Callable[[Masks], Values], num_players: int, behaviour: str
) -> None:
    """Refuse a behaviour that no ablation changes.

    Args:
        measure: from masks (m, n) to values (m, prompts).
        num_players: n.
        behaviour: its name.

    Raises:
        InputError: it is constant.
    """
    masks = np.random.default_rng(0).random((2 + TRIED, num_players)) < 0.5
    masks[0], masks[1] = True, False
    values = measure(masks)
    if np.ptp(values, axis=0).max() <= 1e-6 * max(1.0, np.abs(values).max()):
        raise InputError(
            f"behaviour={behaviour!r} is {values[0].mean():.4g} with everything "
            f"working, with nothing, and under {TRIED} random masks: there is nothing "
            "to explain. Use other prompts, another behaviour, or corrupted prompts "
            "that differ from the intact ones."
        )


def _check_settings(
    ablation: str, reference: Sequence[str], batch_size: int | None
) -> None:
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size={batch_size}: give 1 or more, or leave it out.")
    if reference and ablation != "mean":
        raise InputError(
            f'reference goes with ablation="mean", and ablation={ablation!r}. Leave '
            "it out."
        )


def _others(
    loaded: LoadedModel,
    prompts: Sequence[TaskPrompt],
    encoded: Sequence[Encoded],
    ablation: str,
    reference: Sequence[str],
) -> Sequence[Encoded]:
    """What is run to know what takes an ablated component's place, as tokens."""
    if ablation != "resample":
        return encode_texts(loaded, reference or [prompt.text for prompt in prompts])
    for number, prompt in enumerate(prompts):
        if not prompt.corrupted.strip():
            raise InputError(
                f"prompts[{number}] has no corrupted form, whose activations the "
                'ablation "resample" puts in. Give it, or use ablation="mean".'
            )
    corrupted = encode_prompts(
        loaded, [replace(prompt, text=prompt.corrupted) for prompt in prompts], ()
    )
    for number, (one, other) in enumerate(zip(encoded, corrupted, strict=True)):
        if len(one.ids) != len(other.ids):
            raise InputError(
                f"prompts[{number}] has {len(one.ids)} tokens and its corrupted form "
                f"{len(other.ids)}. Activations are put in token by token: write both "
                "with as many."
            )
    return corrupted


def _identity(owner: NDArray[np.int64], directions: Any) -> str:
    """Hash of which player owns which coordinates."""
    digest = hashlib.blake2b(owner.tobytes(), digest_size=8)
    if directions is not None:
        digest.update(np.ascontiguousarray(directions).tobytes())
    return digest.hexdigest()
