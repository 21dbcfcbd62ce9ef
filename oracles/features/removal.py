"""Writing a text with some of its segments removed."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from oracles.base import Masks
from oracles.errors import InputError
from oracles.features.segments import Segment

REMOVALS = ("delete", "mask")


@dataclass(frozen=True)
class Ablator:
    """A text, its segments, and what stands where one was removed.

    Attributes:
        text: the whole text.
        segments: in order, without overlap.
        replacement: written in place of a removed segment, the white space around it
            kept. With "", a removed segment goes with the white space after it, so
            that what is left reads on: between two kept segments stands what followed
            the first, or where that is nothing (tokens of one word) the first white
            space removed after it; nothing follows the last if the text went on.
            Removing all leaves the empty text.
    """

    text: str
    segments: tuple[Segment, ...]
    replacement: str = ""

    def write(self, mask: np.ndarray) -> str:
        """The text with the segments where `mask` is False removed.

        >>> ablator = Ablator("Not bad, really.", (Segment(0, 3), Segment(4, 8)))
        >>> ablator.write(np.array([False, True]))
        'bad, really.'
        """
        return self._replace(mask) if self.replacement else self._delete(mask)

    def write_all(self, masks: Masks) -> list[str]:
        """The text under every mask."""
        return [self.write(mask) for mask in masks]

    def _replace(self, mask: np.ndarray) -> str:
        parts = [self.text[: self.segments[0].start]]
        for is_kept, (words, gap) in zip(mask.tolist(), self._pieces, strict=True):
            parts += [words if is_kept else self.replacement, gap]
        return "".join(parts)

    def _delete(self, mask: np.ndarray) -> str:
        if not mask.any():
            return ""
        parts, between = [], self.text[: self.segments[0].start]
        for is_kept, (words, gap) in zip(mask.tolist(), self._pieces, strict=True):
            if is_kept:
                parts += [between, words]
                between = gap
            elif parts and not between:
                between = gap
        return "".join([*parts, between] if mask[-1] else parts)

    @cached_property
    def _pieces(self) -> list[tuple[str, str]]:
        """The characters of each segment, and those between it and the next."""
        ends = [segment.start for segment in self.segments[1:]] + [len(self.text)]
        return [
            (segment.of(self.text), self.text[segment.end : end])
            for segment, end in zip(self.segments, ends, strict=True)
        ]


def make_ablator(
    text: str, segments: tuple[Segment, ...], removal: str, tokenizer: Any
) -> Ablator:
    """An ablator that deletes segments or replaces them by the mask token.

    Args:
        text: the whole text.
        segments: its segments.
        removal: "delete", or "mask" for the tokenizer's mask token, or its unknown
            token where it has no mask token.
        tokenizer: of the model.

    Raises:
        InputError: unknown removal, or no token to mask with.
    """
    if removal not in REMOVALS:
        raise InputError(
            f"removal={removal!r} is not known. Choose from {', '.join(REMOVALS)}."
        )
    if removal == "delete":
        return Ablator(text, segments)
    token = tokenizer.mask_token or tokenizer.unk_token
    if token is None:
        raise InputError(
            "this model's tokenizer has neither a mask nor an unknown token. Use "
            'removal="delete".'
        )
    return Ablator(text, segments, token)
