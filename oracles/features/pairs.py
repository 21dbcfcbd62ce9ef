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
    without_tail,
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
        part: characters [start, end) of the text that the tokens hold; None for all.
    """

    text: str
    ids: list[int]
    types: list[int]
    spans: list[tuple[int, int] | None]
    hidden: frozenset[int] = frozenset()
    part: tuple[int, int] | None = None

    def holds(self, start: int, end: int) -> bool:
        """Whether the ablated text's characters [start, end) are all in its part."""
        return self.part is None or (self.part[0] <= start and end <= self.part[1])

    def windows(self, longest: int, overlap: int, least: int) -> "list[Pair]":
        """The pair, or if it has more tokens pairs of parts of the ablated text.

        Each has the pinned text and all special tokens.

        Args:
            longest: tokens in a window.
            overlap: most tokens that a window shares with the next one; it shares at
                most half of those it has room for.
            least: tokens of the ablated text that it must have room for.

        Raises:
            InputError: the pinned text leaves no room.
        """
        if len(self.ids) <= longest:
            return [self]
        own = [i for i, span in enumerate(self.spans) if span]
        fixed = len(self.ids) - len(own)
        check_length(fixed + least, longest, "what is not ablated, and an answer,")
        room = longest - fixed
        step = room - min(overlap, room // 2)
        last = len(own) - room
        return [
            self._window(own[0] + i, own[0] + i + room, own[0], own[-1] + 1)
            for i in [*range(0, last, step), last]
        ]

    def _window(self, start: int, end: int, first: int, after: int) -> "Pair":
        """The pair without its own tokens [first, after) but [start, end)."""

        def cut(values: list[Any]) -> list[Any]:
            return values[:first] + values[start:end] + values[after:]

        shown = self.spans[start], self.spans[end - 1]
        begins = shown[0][0] if shown[0] and start > first else 0
        ends = shown[1][1] if shown[1] and end < after else len(self.text)
        return Pair(
            self.text,
            cut(self.ids),
            cut(self.types),
            cut(self.spans),
            frozenset(i - start + first for i in self.hidden if start <= i < end),
            (begins, ends),
        )

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
        """The sequence with further marks, one for each token, multiples of 4.

        Without hidden tokens at its end; see `encoding.without_tail`.
        """
        own = [kind * SECOND for kind in self.types]
        for i in self.hidden:
            own[i] |= HIDDEN
        return without_tail(
            [
                token | (mark | mine) << TOKEN_BITS
                for token, mark, mine in zip(self.ids, marks, own, strict=True)
            ]
        )


def encode_pairs(
    loaded: LoadedModel,
    pinned: str,
    prompt: Prompt,
    masks: Masks,
    *,
    pinned_first: bool = True,
    is_long: bool = False,
) -> list[Pair]:
    """A pinned text with the prompt under every mask, as the tokenizer joins them.

    Args:
        loaded: whose tokenizer is used.
        pinned: never ablated.
        prompt: what is ablated.
        masks: shape (m, n).
        pinned_first: whether the pinned text is the pair's first.
        is_long: whether pairs may be longer than the model reads, for `Pair.windows`.

    Raises:
        InputError: a pair is longer than the model reads.
    """
    is_hidden = is_hiding(prompt)
    texts = [intact_and_empty(prompt)[0]] if is_hidden else prompt.write_all(masks)
    pairs = _join(loaded, pinned, texts, pinned_first)
    longest = max(len(pair.ids) for pair in pairs)
    if not is_long:
        check_length(longest, loaded.max_tokens, "the text with what goes with it")
    if not is_hidden:
        return pairs
    [pair] = pairs
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
    return [_pair(encoded, i, text, int(is_first)) for i, text in enumerate(texts)]


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
