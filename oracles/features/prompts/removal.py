"""Writing a text with some of its segments removed."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks
from oracles.errors import InputError
from oracles.features.prompts.json_fields import Container, parse_json, without
from oracles.features.prompts.segments import Segment

ATTENTION = "attention"
"""Removal by the model itself, which keeps the text and hides the tokens."""

REMOVALS = ("delete", "mask", "unknown", "pad", "replace:TEXT", "resample", ATTENTION)

Mask = NDArray[np.bool_]
"""Boolean array of shape (n,), True = kept."""


class Filler(Protocol):
    """What is written in place of removed segments."""

    def fill(self, mask: Mask) -> Sequence[str]:
        """One text for each of the n segments; those of kept ones are not used."""


@dataclass(frozen=True)
class Constant:
    """The same text in place of every removed segment."""

    text: str

    def fill(self, mask: Mask) -> Sequence[str]:
        """The text n times."""
        return [self.text] * len(mask)


@dataclass(frozen=True)
class Resampled:
    """A segment of other texts, drawn at random, in place of each removed one.

    The draw depends on the seed and the mask alone: a mask has the same value whenever
    it is asked for, and different masks have independent draws, so that a fit over
    many masks averages over many draws even where each mask has one.

    Attributes:
        pool: what is drawn from, with equal chances.
        seed: another seed is another draw for every mask.
    """

    pool: tuple[str, ...]
    seed: int

    def fill(self, mask: Mask) -> Sequence[str]:
        """A draw for every segment."""
        key = self.seed.to_bytes(8, "little") + np.packbits(mask).tobytes()
        digest = hashlib.blake2b(key, digest_size=16).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        return [self.pool[i] for i in rng.integers(len(self.pool), size=len(mask))]


@dataclass(frozen=True)
class Ablator:
    """A text, its segments, and what stands where one was removed.

    Attributes:
        text: the whole text.
        segments: in order, without overlap.
        filler: gives what is written in place of a removed segment, the white space
            around it kept. With None, a removed segment goes with the white space after
            it, so that what is left reads on: between two kept parts stands what
            followed the first, or where that is nothing (tokens of one word) the first
            white space removed after it; before a pinned part stands what stands there
            in the text; nothing follows the last if the text went on. Removing all
            leaves the empty text.
        pinned: parts that are always kept, in order, without overlap among them or with
            segments.
    """

    text: str
    segments: tuple[Segment, ...]
    filler: Filler | None = None
    pinned: tuple[Segment, ...] = ()

    def write(self, mask: Mask) -> str:
        """The text with the segments where `mask` is False removed.

        >>> ablator = Ablator("Not bad, really.", (Segment(0, 3), Segment(4, 8)))
        >>> ablator.write(np.array([False, True]))
        'bad, really.'
        """
        if self.filler is None:
            return "".join(words for words, _ in self._kept(mask))
        return self._replace(mask, self.filler.fill(mask))

    def write_all(self, masks: Masks) -> list[str]:
        """The text under every mask."""
        return [self.write(mask) for mask in np.asarray(masks)]

    def places(self, mask: Mask) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
        """Kept segments and pinned parts in what is left when others are deleted."""
        segments: list[Segment] = []
        pinned: list[Segment] = []
        place = 0
        for words, player in self._kept(mask):
            part = Segment(place, place + len(words))
            if player is not None:
                (segments if player >= 0 else pinned).append(part)
            place = part.end
        return tuple(segments), tuple(pinned)

    def _replace(self, mask: Mask, fills: Sequence[str]) -> str:
        parts, place = [], 0
        for player in np.flatnonzero(~mask).tolist():
            segment = self.segments[player]
            parts += [self.text[place : segment.start], fills[player]]
            place = segment.end
        return "".join([*parts, self.text[place:]])

    def _kept(self, mask: Mask) -> list[tuple[str, int | None]]:
        """What is written when removed segments are deleted.

        Each part with its number: of a segment, -1 of a pinned part, None of a gap.
        """
        units, players = self._units
        is_kept = np.ones(len(units), dtype=bool)
        is_kept[players >= 0] = mask
        kept = np.flatnonzero(is_kept).tolist()
        parts: list[tuple[str, int | None]] = []
        last = -1
        for i in kept:
            parts.append((self._between(last, i), None))
            parts.append((units[i].of(self.text), int(players[i])))
            last = i
        if kept and last == len(units) - 1:
            parts.append((self._gaps[-1], None))
        return parts

    def _between(self, last: int, unit: int) -> str:
        """The white space before a kept part; `last` is the one kept before it, or -1.

        `_gaps[i]` stands before part i in the text.
        """
        gaps, (units, players) = self._gaps, self._units
        if unit == last + 1:
            return gaps[unit]
        is_pinned = players[unit] < 0
        if last < 0:
            return "" if is_pinned else gaps[0]
        if is_pinned and gaps[unit]:
            return gaps[unit]
        if is_pinned and not self.text[units[unit].start].isalnum():
            return ""  # a mark stays close to the word before it
        return next((gap for gap in gaps[last + 1 : unit + 1] if gap), "")

    @cached_property
    def _units(self) -> tuple[list[Segment], NDArray[np.int64]]:
        """Segments and pinned parts in order; numbers of segments, -1 for pinned."""
        numbered = [(segment, i) for i, segment in enumerate(self.segments)]
        numbered += [(held, -1) for held in self.pinned]
        numbered.sort(key=lambda pair: (pair[0].start, pair[0].end))
        return [unit for unit, _ in numbered], np.array([i for _, i in numbered])

    @cached_property
    def _gaps(self) -> list[str]:
        """What stands before each unit and after the last."""
        units, _ = self._units
        ends = [0, *(unit.end for unit in units)]
        starts = [*(unit.start for unit in units), len(self.text)]
        return [self.text[a:b] for a, b in zip(ends, starts, strict=True)]


@dataclass(frozen=True)
class JsonAblator:
    """A JSON text between two fixed ones, written with fields removed.

    Attributes:
        text: the JSON text.
        segments: the fields that are players, keys included.
        filler: gives the value, a string, that a removed field has; None deletes it
            with its key; see `json_fields`.
        before, after: what stands around it.
    """

    text: str
    segments: tuple[Segment, ...]
    filler: Constant | None = None
    before: str = ""
    after: str = ""

    def write(self, mask: Mask) -> str:
        """The whole with the fields where `mask` is False removed.

        >>> ablator = JsonAblator('{"a": 1, "b": 2}', (Segment(1, 7), Segment(9, 15)))
        >>> ablator.write(np.array([False, True]))
        '{"b": 2}'
        """
        starts = [segment.start for segment in self.segments]
        removed = {starts[i] for i in np.flatnonzero(~mask).tolist()}
        value = (
            None
            if self.filler is None
            else json.dumps(self.filler.text, ensure_ascii=False)
        )
        written = without(self.text, self._tree, removed, value)
        around = self.text[: self._tree.start], self.text[self._tree.end :]
        return "".join([self.before, around[0], written, around[1], self.after])

    @cached_property
    def _tree(self) -> Container:
        return parse_json(self.text)


def make_filler(
    removal: str, tokenizer: Any, pool: Sequence[str] = (), seed: int = 0
) -> Filler | None:
    """What stands in place of removed segments; None to delete them.

    Args:
        removal: "delete"; "mask" for the tokenizer's mask token, or its unknown token
            where it has no mask token; "unknown" or "pad" for those tokens;
            "replace:TEXT" for a neutral TEXT; "resample" for segments of other texts;
            or "attention", which leaves it to the oracle to hide the tokens.
        tokenizer: of the model; for the tokens.
        pool: the segments drawn from; for "resample".
        seed: of the draws, from 0 to 2^64 - 1; for "resample".

    Raises:
        InputError: unknown removal, no such token, nothing to draw from, or no such
            seed.
    """
    if removal in ("delete", ATTENTION):
        return None
    if removal.startswith("replace:"):
        return Constant(removal.removeprefix("replace:"))
    if removal == "resample":
        if not pool:
            raise InputError(
                'removal="resample" draws from a reference set, and there is none. '
                "Give reference=[...], texts like the one explained."
            )
        if not 0 <= seed < 2**64:
            raise InputError(
                f"seed={seed} is not from 0 to 2^64 - 1. Use 0, 1, 2, ... for "
                "different draws."
            )
        return Resampled(tuple(pool), seed)
    if removal not in REMOVALS:
        raise InputError(
            f"removal={removal!r} is not known. Choose from {', '.join(REMOVALS)}."
        )
    return Constant(_token(removal, tokenizer))


def _token(removal: str, tokenizer: Any) -> str:
    if tokenizer is None:
        raise InputError(
            f"removal={removal!r} needs the model's tokenizer. Pass loaded.tokenizer."
        )
    kinds = {"mask": ("mask", "unk"), "unknown": ("unk",), "pad": ("pad",)}[removal]
    for kind in kinds:
        token = getattr(tokenizer, f"{kind}_token")
        if token is not None:
            return str(token)
    lacking = "neither a mask nor an unknown" if removal == "mask" else f"no {removal}"
    raise InputError(
        f'this model\'s tokenizer has {lacking} token. Use removal="delete", or '
        'removal="replace:..." with a neutral word.'
    )


def check_written(removal: str, masks: Masks) -> Masks:
    """Return masks whose prompts are written, as text, by an oracle that can use them.

    Raises:
        InputError: removal by attention, and a mask that keeps some players: then the
            text under it is not what the model should read.
    """
    masks = np.asarray(masks)
    if removal == ATTENTION and (masks.any(axis=1) & ~masks.all(axis=1)).any():
        raise InputError(
            'removal="attention" needs an oracle that hides tokens from the model, '
            'and this one reads the text that is left. Use removal="delete".'
        )
    return masks


def make_ablator(
    text: str, segments: tuple[Segment, ...], removal: str, tokenizer: Any
) -> Ablator:
    """An ablator of a text without pinned parts; see `make_filler`."""
    return Ablator(text, segments, make_filler(removal, tokenizer))
