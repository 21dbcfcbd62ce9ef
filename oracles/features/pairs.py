"""A pinned text and a text that is ablated, as one sequence of tokens."""

import inspect
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from oracles.base import Masks
from oracles.features.models.loading import LoadedModel
from oracles.features.passes.encoding import (
    HIDDEN,
    TOKEN_BITS,
    check_length,
    intact_and_empty,
    split_marks,
)
from oracles.features.passes.hiding import is_hiding, kept_tokens
from oracles.features.prompts.prompt import Prompt

SECOND = 2  # mark of tokens of the pair's second part; larger ones are free


@dataclass(frozen=True)
class Pair:
    """Tokens of one pair.

    Attributes:
        text: the one that is ablated, as far as it is written.
        ids: token ids, special ones included.
        types: which part a token is of, 0 or 1, as the model is told.
        spans: for each token its characters [start, end) of the ablated text; None for
            tokens of the pinned one and special tokens.
        hidden: tokens of removed segments, where these are hidden and not rewritten.
    """

    text: str
    ids: list[int]
    types: list[int]
    spans: list[tuple[int, int] | None]
    hidden: frozenset[int] = frozenset()

    def within(self, start: int, end: int) -> range:
        """Tokens that have some of the ablated text's characters [start, end)."""
        offset, starts, ends = self._borders
        first, last = bisect_right(ends, start), bisect_left(starts, end)
        return range(offset + first, offset + last)

    @cached_property
    def _borders(self) -> tuple[int, list[int], list[int]]:
        """The ablated text's first token, and where its tokens start and end."""
        own = [span for span in self.spans if span]
        offset = next((i for i, span in enumerate(self.spans) if span), 0)
        return offset, [start for start, _ in own], [end for _, end in own]

    def marked(self, marks: Sequence[int]) -> list[int]:
        """The sequence with further marks, one for each token, multiples of 4."""
        own = [kind * SECOND for kind in self.types]
        for i in self.hidden:
            own[i] |= HIDDEN
        return [
            token | (mark | mine) << TOKEN_BITS
            for token, mark, mine in zip(self.ids, marks, own, strict=True)
        ]


def encode_pairs(
    loaded: LoadedModel,
    pinned: str,
    prompt: Prompt,
    masks: Masks,
    *,
    pinned_first: bool = True,
) -> list[Pair]:
    """A pinned text with the prompt under every mask, as the tokenizer joins them.

    Args:
        loaded: whose tokenizer is used.
        pinned: never ablated.
        prompt: what is ablated.
        masks: shape (m, n).
        pinned_first: whether the pinned text is the pair's first.

    Raises:
        InputError: a pair is longer than the model reads.
    """
    if not is_hiding(prompt):
        return _join(loaded, pinned, prompt.write_all(masks), pinned_first)
    [pair] = _join(loaded, pinned, [intact_and_empty(prompt)[0]], pinned_first)
    own = [i for i, span in enumerate(pair.spans) if span]
    offsets = [span for span in pair.spans if span]
    kept = kept_tokens(offsets, pair.text, prompt.places, masks)
    return [
        replace(
            pair, hidden=frozenset(i for i, k in zip(own, row, strict=True) if not k)
        )
        for row in kept
    ]


def _join(
    loaded: LoadedModel, pinned: str, texts: list[str], is_first: bool
) -> list[Pair]:
    given = [[pinned] * len(texts), texts]
    encoded = loaded.tokenizer(
        *(given if is_first else given[::-1]),
        return_offsets_mapping=True,
        return_token_type_ids=True,
        verbose=False,
    )
    pairs = [_pair(encoded, i, text, int(is_first)) for i, text in enumerate(texts)]
    longest = max(len(pair.ids) for pair in pairs)
    check_length(longest, loaded.max_tokens, "the text with what goes with it")
    return pairs


def _pair(encoded: Any, row: int, text: str, ablated: int) -> Pair:
    parts = encoded.sequence_ids(row)
    offsets = encoded["offset_mapping"][row]
    spans = [
        tuple(span) if part == ablated else None
        for part, span in zip(parts, offsets, strict=True)
    ]
    types = list(encoded["token_type_ids"][row])
    return Pair(text, list(encoded["input_ids"][row]), types, spans)


def model_inputs(
    loaded: LoadedModel, marked: Any, mask: Any
) -> tuple[dict[str, Any], Any]:
    """What the model is called with, of marked sequences (rows, length), and marks."""
    ids, mask, marks = split_marks(marked, mask)
    inputs = {"input_ids": ids, "attention_mask": mask}
    model = loaded.model
    is_taken = "token_type_ids" in inspect.signature(model.forward).parameters
    is_made = "token_type_ids" in loaded.tokenizer.model_input_names
    if is_taken and is_made and getattr(model.config, "type_vocab_size", 2) > 1:
        inputs["token_type_ids"] = (marks & SECOND > 0).long()
    return inputs, marks
