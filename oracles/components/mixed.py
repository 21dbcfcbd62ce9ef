"""The mixed oracle: which segments of a prompt act through which components."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks, Values, check_masks, distinct_masks
from oracles.components.activations import (
    Means,
    Replacement,
    Resampled,
    Zeros,
    intact_logs,
)
from oracles.components.behaviour import BEHAVIOURS
from oracles.components.components import Directions, make_components
from oracles.components.evaluation import Evaluation
from oracles.components.layers import find_layers
from oracles.components.oracle import ABLATIONS, check_varies, described
from oracles.components.passes import Passes
from oracles.components.prompts import (
    Encoded,
    TaskPrompt,
    encode_prompts,
    encode_texts,
)
from oracles.errors import InputError
from oracles.features.answers.continuations import encoder_of
from oracles.features.models.loading import LoadedModel
from oracles.features.passes.encoding import (
    check_length,
    checked_choice,
    encode,
    fingerprint,
    intact_and_empty,
)
from oracles.features.prompts.prompt import TextPrompt

TOGETHER = 64  # masks, where every one's corrupted prompt has activations of its own


class MixedOracle:
    """A prompt's segments and a model's components as players of one game.

    The players are the segments, then the components. Under a mask the prompt is
    written without the segments that are not kept, and the model reads it with the
    components that are not kept ablated; see `ComponentOracle`. The answer has the
    tokens it has after the intact prompt. That a segment acts through a component, so
    that it matters only where this works, shows as an interaction of the two.

    The prompt is one, and so is the output: another prompt's segments are other
    players. Make an oracle for each.

    Args:
        loaded: a causal or masked language model, or a sequence classifier.
        prompt: text with segments, as `oracles.features.text_prompt` makes it.
        answer: what should follow it, or stand at the mask; or a class. The behaviour
            "kl" needs none, and compares the distributions at all its tokens, or what
            follows the prompt if there are none.
        wrong: what the answer is compared with by the logit difference.
        unit, layers, groups, directions: of components; see `ComponentOracle`.
        behaviour: one of `behaviour.BEHAVIOURS`; "kl" is from the intact prompt.
        ablation: of components: "zero"; "mean", over all tokens of the reference; or
            "resample", the activations at the same token of the corrupted prompt,
            written without the same segments; see `ComponentOracle`.
        corrupted: for the ablation "resample": the prompt with what matters changed, of
            as many segments, each of as many tokens.
        reference: texts for the ablation "mean"; the intact prompt by default, without
            the answer.
        batch_size: rows in one forward pass; see `ComponentOracle`.

    Attributes:
        components: the players after the segments, in mask order.
        found: what was found in the model, a line for each layer.

    Raises:
        InputError: settings or a prompt that cannot be used, or a constant behaviour.
        ModelError: the model's layers or heads cannot be located.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prompt: TextPrompt,
        *,
        answer: str = "",
        wrong: str = "",
        corrupted: TextPrompt | None = None,
        unit: str = "head",
        layers: Sequence[int] | None = None,
        groups: int | Sequence[Sequence[tuple[int, int]]] | None = None,
        directions: Directions | None = None,
        behaviour: str = "logit-diff",
        ablation: str = "mean",
        reference: Sequence[str] = (),
        batch_size: int | None = None,
    ) -> None:
        checked_choice(behaviour, tuple(BEHAVIOURS), "behaviour")
        checked_choice(ablation, tuple(ABLATIONS), "ablation")
        _check_settings(prompt, corrupted, ablation, reference)
        self._loaded, self._prompt, self._batch_size = loaded, prompt, batch_size
        self._corrupted = corrupted
        self._behaviour = BEHAVIOURS[behaviour]
        self._text, _ = intact_and_empty(prompt)
        task = TaskPrompt(self._text, answer, wrong)
        own = self._behaviour.needs
        needs = tuple({*own, "answer"}) if own else ()  # a text alone is no answer here
        [self._intact] = encode_prompts(loaded, [task], needs)
        found = find_layers(loaded.model)
        self._made = make_components(
            found, unit, within=layers, groups=groups, directions=directions
        )
        self._passes = Passes(loaded, found, self._made.sites)
        self._replacement = self._replaced(ablation, reference)
        is_compared = "intact" in self._behaviour.reads
        self._logs = intact_logs(self._passes, [self._intact]) if is_compared else []
        self.components = self._made.players
        self.found = tuple(layer.found for layer in found)
        self.players = (*prompt.players, *(one.name for one in self.components))
        self.outputs = (behaviour,)
        self.description: dict[str, Any] = {
            **prompt.description,
            **described(loaded, self._made, unit),
            "behaviour": behaviour,
            "ablation": ablation,
            "reference": list(reference),
            "answer": answer,
            "wrong": wrong,
        }
        if corrupted is not None:
            self.description |= {"corrupted": dict(corrupted.description)}
        check_varies(self.evaluate, len(self.players), behaviour)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, prompt and settings, not of the batch size."""
        return fingerprint(self.description, self._loaded)

    def evaluate(self, masks: Masks) -> Values:
        """The behaviour with each mask's segments and components, (m, 1)."""
        masks = check_masks(masks, len(self.players))
        size = len(masks) if self._corrupted is None else TOGETHER
        parts = [masks[i : i + size] for i in range(0, len(masks), max(1, size))]
        return np.concatenate([np.empty(0), *map(self._measured, parts)])[:, None]

    def _measured(self, masks: Masks) -> NDArray[np.float64]:
        """Values (m,) of masks that are run together."""
        count = len(self._prompt.players)
        segments, components = masks[:, :count], masks[:, count:]
        first, place = distinct_masks(segments)
        encoded = self._encoded(self._prompt.write_all(segments[first]))
        evaluation = Evaluation(
            self._passes,
            self._made,
            encoded,
            self._behaviour,
            self._replacement or self._resampled(segments[first], encoded),
            self._logs * len(encoded),
            self._batch_size,
        )
        return evaluation.values_of_pairs(components, np.arange(len(masks)), place)

    def _replaced(self, ablation: str, reference: Sequence[str]) -> Replacement | None:
        """What is the same under every mask; None for the ablation "resample"."""
        if ablation == "zero":
            return Zeros()
        if ablation == "mean":
            others = encode_texts(self._loaded, reference or [self._text])
            return Means(self._passes, others)
        alone = np.eye(len(self._prompt.players), dtype=bool)
        masks = np.concatenate([alone, ~alone])
        self._corrupt(masks, self._encoded(self._prompt.write_all(masks)))
        return None

    def _resampled(self, segments: Masks, encoded: Sequence[Encoded]) -> Resampled:
        """Activations of the corrupted prompt without the same segments."""
        return Resampled(self._passes, self._corrupt(segments, encoded))

    def _corrupt(self, segments: Masks, encoded: Sequence[Encoded]) -> list[Encoded]:
        """The corrupted form of each prompt, token by token.

        Raises:
            InputError: one has not as many tokens.
        """
        assert self._corrupted is not None
        others = self._encoded(self._corrupted.write_all(segments))
        for kept, one, other in zip(segments, encoded, others, strict=True):
            if len(one.ids) != len(other.ids):
                names = zip(self._prompt.players, kept.tolist(), strict=True)
                words = " ".join(name for name, is_kept in names if is_kept)
                raise InputError(
                    f"with the segments {words!r} alone the prompt has "
                    f"{len(one.ids)} tokens and its corrupted form {len(other.ids)}. "
                    "Activations are put in token by token: write every segment of "
                    "both with as many."
                )
        return others

    def _encoded(self, texts: Sequence[str]) -> list[Encoded]:
        """Prompts as tokens, asked for the intact one's answer."""
        loaded, targets, wrong = self._loaded, self._intact.targets, self._intact.wrong
        if loaded.task == "causal-lm":
            encoder = encoder_of(loaded.tokenizer, self._text, is_rendered=False)
            found = []
            for ids in encoder.prompts(texts):
                last = len(ids) - 1
                places = tuple(range(last, last + len(self._intact.places)))
                found.append(Encoded((*ids, *targets[:-1]), places, targets, wrong))
                check_length(len(found[-1].ids), loaded.max_tokens)
            return found
        return [
            Encoded(tuple(ids), self._places(ids), targets, wrong)
            for ids in encode(loaded, texts)
        ]

    def _places(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Where the mask is; nowhere for a classifier."""
        if self._loaded.task == "text-classifier":
            return ()
        mask = self._loaded.tokenizer.mask_token_id
        found = tuple(i for i, token in enumerate(ids) if token == mask)
        if len(found) != 1:
            raise InputError(
                "the mask is in a segment that is removed. Write it in the prompt's "
                "prefix or suffix, or pin it."
            )
        return found


def _check_settings(
    prompt: Any, corrupted: TextPrompt | None, ablation: str, reference: Sequence[str]
) -> None:
    """Refuse a prompt that is not one, and settings of another ablation."""
    if isinstance(prompt, str | Sequence):
        raise InputError(
            "prompt must be one text cut into segments, as text_prompt makes it. "
            "Another prompt's segments are other players: make an oracle for each."
        )
    if reference and ablation != "mean":
        raise InputError(
            f'reference goes with ablation="mean", and ablation={ablation!r}. Leave '
            "it out."
        )
    if (corrupted is not None) != (ablation == "resample"):
        given = "none is given" if corrupted is None else "one is given"
        raise InputError(
            f'the ablation "resample" needs a corrupted prompt and no other takes one; '
            f"ablation={ablation!r}, and {given}."
        )
    counts = [len(one.players) for one in (prompt, corrupted) if one is not None]
    if len(set(counts)) > 1:
        raise InputError(
            f"the prompt has {counts[0]} segments and its corrupted form {counts[1]}. "
            "Each is removed from both: cut both into as many."
        )
