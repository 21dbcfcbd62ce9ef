"""A causal language model's continuation as a set function of the prompt's segments."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks, Values, fingerprint_of
from oracles.errors import InputError
from oracles.features.answers.continuations import Continuation, encoder_of
from oracles.features.answers.targets import (
    among,
    check_together,
    checked_value,
    scaled,
)
from oracles.features.models.loading import LoadedModel
from oracles.features.passes.causal_pass import Scored, check_positions, last_logits
from oracles.features.passes.generation import end_tokens
from oracles.features.passes.hiding import is_hiding, kept_tokens
from oracles.features.passes.prefix_cache import CachedModel
from oracles.features.prompts.prompt import Prompt

ANSWER_TOKENS = 16  # longest answer taken from the model itself
TOLD_ONLY = ("prediction", "prediction_probability", "model")
"""Of the description: what does not change any value."""

_Tokens = tuple[tuple[int, ...], tuple[int, ...] | None]
"""Token ids, and their positions unless these are 0, 1, 2, ..."""


class CausalOracle:
    """How likely a continuation is when some of the prompt's segments are removed.

    White space between prompt and continuation counts as the continuation's; a space
    is put there if there is none and the prompt ends in a word or a mark; the
    description says under `scored` what was scored. A continuation that is given, such
    as an answer produced elsewhere, is scored as it is; only without one has making the
    oracle the model answer the intact prompt, up to 16 forward passes.

    In front of a prompt stands what the model's tokenizer itself puts before a text: a
    beginning token, several, or none. A prompt that begins with it, as one rendered
    elsewhere does, gets no second one; one of no tokens is a beginning token.

    Args:
        prompt: what is ablated; see `prompts.text_prompt`. With removal "attention"
            tokens of removed segments are hidden, and the others keep their positions.
        loaded: a causal language model.
        continuation: what is scored; by default the model's own greedy answer to the
            intact prompt, up to a line's end or 16 tokens.
        alternative: if given, the value is the log-odds between the two, log
            p(continuation) - log p(alternative).
        choices: if given, in place of a continuation: one output for each of two or
            more answers, whose probabilities are made to sum to one.
        per_token: one output for each token of the continuation given those before it,
            in place of one for the whole; log-probabilities sum to the whole's.
        value: "log-probability" in nats, summed over tokens, the default, as effects on
            it add up and it does not saturate for unlikely answers; "log-odds", log p /
            (1 - p), for likely ones; or "probability". With an alternative only
            "log-odds". With choices "log-odds" of each against all others together, the
            default, "margin", log p minus that of the best other, or "probability".
        batch_size: prompts in one forward pass; by default as many as fit a number of
            tokens.

    Raises:
        InputError: a continuation, choices or value that cannot be used, a prompt
            longer than the model's context, or a model that cannot hide tokens.
    """

    def __init__(
        self,
        prompt: Prompt,
        loaded: LoadedModel,
        *,
        continuation: str | None = None,
        alternative: str | None = None,
        choices: Sequence[str] = (),
        per_token: bool = False,
        value: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        check_together(continuation, alternative, choices, per_token)
        self._value = checked_value(value, alternative, choices)
        self._prompt, self._loaded = prompt, loaded
        self._has_choices, self._per_token = bool(choices), per_token
        self._model = CachedModel(loaded.model, batch_size)
        self.players = prompt.players
        self._intact, nothing = prompt.write_all(_all_and_none(len(self.players)))
        self._encoder = encoder_of(
            loaded.tokenizer, nothing, is_rendered=prompt.has_special_tokens
        )
        [ids] = self._encoder.prompts([self._intact])
        self._length = len(ids)
        self._check_length(len(ids) + 1)
        if is_hiding(prompt):
            check_positions(loaded.model, ids)
        told: dict[str, Any] = {}
        given = [w for w in (continuation, alternative, *choices) if w is not None]
        self._scored = [self._encoder.continuation(self._intact, w) for w in given]
        if continuation is None and not choices:
            answer, told = self._greedy(ids)
            self._scored.insert(0, answer)
        self._check_length(len(ids) + max(len(one.tokens) for one in self._scored))
        self.outputs = self._names()
        self.description: Mapping[str, Any] = self._describe(told)

    def _describe(self, told: Mapping[str, Any]) -> dict[str, Any]:
        named = [one.text.strip() for one in self._scored]
        is_compared = len(named) == 2 and not self._has_choices
        return {
            "kind": "causal-lm",
            "model": self._loaded.name,
            "dtype": str(self._loaded.model.dtype),
            **self._prompt.description,
            "value": self._value,
            "per_token": self._per_token,
            "continuation": None if self._has_choices else named[0],
            "alternative": named[1] if is_compared else None,
            "choices": named if self._has_choices else [],
            "scored": [one.text for one in self._scored],
            **told,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, prompt and settings, not of the batch size."""
        settings = {k: v for k, v in self.description.items() if k not in TOLD_ONLY}
        tokens = [list(one.tokens) for one in self._scored]
        identity = {"tokens": tokens, "weights": self._loaded.digest}
        return fingerprint_of({**settings, **identity})

    def evaluate(self, masks: Masks) -> Values:
        """The values under every mask, (m, k)."""
        logs = self._token_logs(masks)
        if self._per_token:
            return scaled(logs[0], self._value)
        whole = np.stack([steps.sum(axis=1) for steps in logs], axis=1)
        if self._has_choices:
            return among(whole, self._value)
        if len(self._scored) == 2:
            return whole[:, :1] - whole[:, 1:]
        return scaled(whole, self._value)

    def _token_logs(self, masks: Masks) -> list[NDArray[np.float64]]:
        """Of every continuation log p(token | prompt, tokens before), (m, tokens).

        What is scored is read off one pass where it differs in the last token only, as
        single-token answers do.
        """
        prompts = self._prompts(masks)
        heads: dict[tuple[int, ...], list[int]] = {}
        for one in self._scored:
            lasts = heads.setdefault(one.tokens[:-1], [])
            if one.tokens[-1] not in lasts:
                lasts.append(one.tokens[-1])
        asked = [
            self._asked(prompt, head, lasts)
            for head, lasts in heads.items()
            for prompt in prompts
        ]
        rows = self._model.log_probabilities(asked)
        found = {
            head: np.stack(rows[i * len(prompts) : (i + 1) * len(prompts)])
            for i, head in enumerate(heads)
        }
        logs = []
        for one in self._scored:
            head, last = one.tokens[:-1], one.tokens[-1]
            column = len(head) + heads[head].index(last)
            logs.append(found[head][:, [*range(len(head)), column]])
        return logs

    def _prompts(self, masks: Masks) -> list[_Tokens]:
        """Every mask's prompt: its tokens, and their positions if some are hidden."""
        encoder = self._encoder
        if not is_hiding(self._prompt):
            texts = self._prompt.write_all(masks)
            return [(ids, None) for ids in encoder.prompts(texts)]
        ids, offsets = encoder.intact(self._intact)
        kept = kept_tokens(offsets, self._intact, self._prompt.places, masks)
        places = [tuple(np.flatnonzero(row).tolist()) for row in kept]
        return [
            (tuple(ids[i] for i in row), row) if row else (encoder.empty, (0,))
            for row in places
        ]

    def _asked(
        self, prompt: _Tokens, head: tuple[int, ...], lasts: Sequence[int]
    ) -> Scored:
        """A prompt with what is scored after it, where it follows the intact prompt."""
        ids, places = prompt
        if places is not None:
            places = (*places, *range(self._length, self._length + len(head)))
        return Scored((*ids, *head), len(ids) - 1, tuple(lasts), places)

    def _greedy(self, ids: Sequence[int]) -> tuple[Continuation, dict[str, Any]]:
        """The model's own answer to the intact prompt, and how sure it is of it."""
        import torch

        model, ends = self._loaded.model, end_tokens(self._loaded)
        answer: list[int] = []
        total = 0.0
        room = self._loaded.max_tokens - len(ids)
        while len(answer) < min(ANSWER_TOKENS, room):
            with torch.inference_mode():
                logits = last_logits(model, [*ids, *answer])
            best = logits.float().log_softmax(dim=-1).max(dim=-1)
            token = int(best.indices)
            words = self._encoder.answer(self._intact, [*answer, token]).text
            if token in ends or "\n" in words.lstrip():
                break
            answer.append(token)
            total += float(best.values)
        found = _not_empty(self._encoder.answer(self._intact, answer))
        probability = math.exp(total)
        words = found.text.strip()
        return found, {"prediction": words, "prediction_probability": probability}

    def _names(self) -> tuple[str, ...]:
        named = [one.text.strip() for one in self._scored]
        if self._has_choices:
            return tuple(
                f"{self._value} of {name!r} among the choices" for name in named
            )
        if self._per_token:
            pieces, count = self._scored[0].pieces, len(self._scored[0].tokens)
            return tuple(
                f"{self._value} of {piece!r}, token {i} of {count}"
                for i, piece in enumerate(pieces, start=1)
            )
        against = f" against {named[1]!r}" if len(named) == 2 else ""
        return (f"{self._value} of {named[0]!r}{against}",)

    def _check_length(self, tokens: int) -> None:
        allowed = self._loaded.max_tokens
        if tokens > allowed:
            raise InputError(
                f"prompt and continuation have {tokens} tokens and this model reads "
                f"{allowed}. Shorten the prompt, or use a model with a longer "
                "context; it is never cut silently."
            )


def _all_and_none(num_players: int) -> Masks:
    return np.array([[True] * num_players, [False] * num_players])


def _not_empty(answer: Continuation) -> Continuation:
    if not answer.text.strip():
        raise InputError(
            "the model itself answers nothing to the intact prompt. Name the words "
            "whose probability should be explained as the target."
        )
    return answer
