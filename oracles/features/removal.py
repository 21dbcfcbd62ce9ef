"""Writing a text with some of its segments removed."""

from dataclasses import dataclass
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
        replacement: written in place of a removed segment; with "", the white space
            after the segment goes too, and at the end of the text that before it.
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
        parts = [self.text[: self.segments[0].start]]
        ends = [segment.start for segment in self.segments[1:]] + [len(self.text)]
        for segment, is_kept, end in zip(self.segments, mask, ends, strict=True):
            gap = self.text[segment.end : end]
            if is_kept:
                parts += [segment.of(self.text), gap]
            elif self.replacement:
                parts += [self.replacement, gap]
            else:
                parts.append(gap.lstrip())
        written = "".join(parts)
        return written if mask.all() or self.replacement else written.rstrip()

    def write_all(self, masks: Masks) -> list[str]:
        """The text under every mask."""
        return [self.write(mask) for mask in masks]


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
