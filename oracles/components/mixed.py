"""The mixed oracle: which segments of a prompt act through which components."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from oracles.base import Masks, Values, check_masks, distinct_masks
from oracles.components.activations import Means, Replacement, Zeros
from oracles.components.behaviour import BEHAVIOURS
from oracles.components.components import Directions, make_components
from oracles.components.evaluation import Evaluation
from oracles.components.layers import find_layers
from oracles.components.oracle import check_varies, described
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

MIXED_ABLATIONS = ("zero", "mean")
MIXED_BEHAVIOURS = tuple(
    name for name, one in BEHAVIOURS.items() if "intact" not in one.reads
)


class MixedOracle:
    """A prompt's segments and a model's components as players of one game.

    The players are the segments, then the components. Under a mask the prompt is
    written without the segments that are not kept, and the model reads it with the
    components that are not kept ablated; see `ComponentOracle`. The answer has the
    tokens it has after the intact prompt. That a segment acts through a component, so
    that it matters only where this works, shows as an interaction of the two.

    Args:
        loaded: a causal or masked language model, or a sequence classifier.
        prompt: text with segments, as `oracles.features.text_prompt` makes it.
        answer: what should follow it, or stand at the mask; or a class.
        wrong: what the answer is compared with by the logit difference.
        unit, layers, groups, directions: of components; see `ComponentOracle`.
        behaviour: one of `MIXED_BEHAVIOURS`.
        ablation: of components: "mean", over all tokens of the reference, or "zero";
            see `ComponentOracle`.
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
        answer: str,
        wrong: str = "",
        unit: str = "head",
        layers: Sequence[int] | None = None,
        groups: int | Sequence[Sequence[tuple[int, int]]] | None = None,
        directions: Directions | None = None,
        behaviour: str = "logit-diff",
        ablation: str = "mean",
        reference: Sequence[str] = (),
        batch_size: int | None = None,
    ) -> None:
        checked_choice(behaviour, MIXED_BEHAVIOURS, "behaviour")
        checked_choice(ablation, MIXED_ABLATIONS, "ablation")
        self._loaded, self._prompt, self._batch_size = loaded, prompt, batch_size
        self._behaviour = BEHAVIOURS[behaviour]
        self._text, _ = intact_and_empty(prompt)
        task = TaskPrompt(self._text, answer, wrong)
        needs = {*self._behaviour.needs, "answer"}
        [self._intact] = encode_prompts(loaded, [task], sorted(needs))
        found = find_layers(loaded.model)
        self._made = make_components(
            found, unit, within=layers, groups=groups, directions=directions
        )
        self._passes = Passes(loaded, found, self._made.sites)
        self._replacement = self._replaced(ablation, reference)
        self.components = self._made.players
        self.found = tuple(layer.found for layer in found)
        self.players = (*prompt.players, *(one.name for one in self.components))
        self.outputs = (behaviour,)
        self.description: Mapping[str, Any] = {
            **prompt.description,
            **described(loaded, self._made, unit),
            "behaviour": behaviour,
            "ablation": ablation,
            "reference": list(reference),
            "answer": answer,
            "wrong": wrong,
        }
        check_varies(self.evaluate, len(self.players), behaviour)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, prompt and settings, not of the batch size."""
        return fingerprint(self.description, self._loaded)

    def evaluate(self, masks: Masks) -> Values:
        """The behaviour with each mask's segments and components, (m, 1)."""
        masks = check_masks(masks, len(self.players))
        count = len(self._prompt.players)
        segments, components = masks[:, :count], masks[:, count:]
        first, place = distinct_masks(segments)
        evaluation = Evaluation(
            self._passes,
            self._made,
            self._encoded(self._prompt.write_all(segments[first])),
            self._behaviour,
            self._replacement,
            self._batch_size,
        )
        rows = np.arange(len(masks))
        return evaluation.values_of_pairs(components, rows, place)[:, None]

    def _replaced(self, ablation: str, reference: Sequence[str]) -> Replacement:
        if ablation == "zero":
            if reference:
                raise InputError(
                    'reference goes with ablation="mean", and ablation="zero". Leave '
                    "it out."
                )
            return Zeros()
        others = encode_texts(self._loaded, reference or [self._text])
        return Means(self._passes, others)

    def _encoded(self, texts: Sequence[str]) -> list[Encoded]:
        """Prompts as tokens, asked for the intact one's answer."""
        loaded, targets, wrong = self._loaded, self._intact.targets, self._intact.wrong
        if loaded.task == "causal-lm":
            encoder = encoder_of(loaded.tokenizer, self._text, is_rendered=False)
            found = []
            for ids in encoder.prompts(texts):
                last = len(ids) - 1
                places = tuple(range(last, last + len(targets)))
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
