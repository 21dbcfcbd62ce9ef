"""What a feature oracle ablates: a prompt of which some segments may be removed.

Oracles know a prompt by the protocol `Prompt` only: it writes itself out under a mask,
and says what a person is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

from oracles.base import Masks, fingerprint_of
from oracles.errors import InputError
from oracles.features.prompts.graphemes import WITHOUT_SPACES
from oracles.features.prompts.removal import (
    Ablator,
    Constant,
    Filler,
    JsonAblator,
    Resampled,
    check_written,
    make_filler,
)
from oracles.features.prompts.segments import (
    Cut,
    Segment,
    cut,
    name_of,
    pin,
    rest,
    too_few,
)


class Prompt(Protocol):
    """A prompt with n segments that can be removed."""

    @property
    def players(self) -> tuple[str, ...]:
        """The segments' characters, in order."""

    @property
    def description(self) -> Mapping[str, Any]:
        """JSON-ready: `text`, what a person is shown; `spans`, one [start, end) pair of
        its characters for each player; and every setting that changes what is written.
        """

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Each player's [start, end) in the intact prompt as `write_all` writes it.

        For removals that work on tokens: the white space around a player is not in it.
        """

    @property
    def has_special_tokens(self) -> bool:
        """Whether what is written holds the model's control tokens already, as text.

        Then a tokenizer adds none: neither a beginning of text nor anything else.
        """

    def write_all(self, masks: Masks) -> list[str]:
        """The whole prompt under every mask (m, n), what is pinned included."""


@dataclass(frozen=True)
class TextPrompt:
    """A text between a prefix and a suffix that are never ablated.

    What stands between the three in the intact prompt stands there under every mask: a
    space is put there if there is no white space and the scripts on both sides have it.

    Attributes:
        text: the part that is ablated.
        segments: the players, in order, without overlap.
        settings: kind of segments and removal, for the description.
        pinned: parts of the text that are always kept.
        filler: what is written for removed segments; None deletes them.
        prefix, suffix: what is always kept before and after the text.
    """

    text: str
    segments: tuple[Segment, ...]
    settings: Mapping[str, Any]
    pinned: tuple[Segment, ...] = ()
    filler: Filler | None = None
    prefix: str = ""
    suffix: str = ""
    has_special_tokens: ClassVar[bool] = False

    @property
    def players(self) -> tuple[str, ...]:
        """The segments' characters."""
        return tuple(segment.of(self.text) for segment in self.segments)

    @property
    def description(self) -> Mapping[str, Any]:
        """The text, its spans, prefix, suffix, kind of segments and removal."""
        return {
            "text": self.text,
            "spans": [[s.start, s.end] for s in self.segments],
            "pinned": [[s.start, s.end] for s in self.pinned],
            "prefix": self.prefix,
            "suffix": self.suffix,
            **self.settings,
        }

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """The segments' characters in the intact prompt."""
        shift = len(self._before)
        return tuple((s.start + shift, s.end + shift) for s in self.segments)

    def write_all(self, masks: Masks) -> list[str]:
        """The prompt under every mask.

        Raises:
            InputError: removal by attention; see `removal.check_written`.
        """
        masks = check_written(self.settings["removal"], masks)
        return [self._ablator.write(mask) for mask in masks]

    @property
    def is_json(self) -> bool:
        """Whether the text is JSON and its fields are the players."""
        return self.settings.get("segments") == "json"

    @property
    def _before(self) -> str:
        return self.prefix + _joint(self.prefix, self.text)

    @cached_property
    def _ablator(self) -> Ablator | JsonAblator:
        before, after = self._before, _joint(self.text, self.suffix) + self.suffix
        if self.is_json:
            assert self.filler is None or isinstance(self.filler, Constant)
            return JsonAblator(self.text, self.segments, self.filler, before, after)
        whole = before + self.text + after
        held = [moved(s, len(before)) for s in self.pinned]
        held += _held(self.prefix, 0)
        held += _held(self.suffix, len(whole) - len(self.suffix))
        held.sort(key=lambda segment: segment.start)
        segments = tuple(moved(s, len(before)) for s in self.segments)
        return Ablator(whole, segments, self.filler, tuple(held))


def text_prompt(
    text: str,
    tokenizer: Any = None,
    *,
    segments: Cut = "sentence",
    pinned: Cut = "",
    removal: str = "delete",
    reference: Sequence[str] = (),
    seed: int = 0,
    prefix: str = "",
    suffix: str = "",
) -> TextPrompt:
    """A text cut into segments.

    Args:
        text: the part that is ablated.
        tokenizer: of the model; for token segments, and to mask with.
        segments: kind of segment, a pattern, or spans; see `segments.split`.
        pinned: parts of the text that are never ablated: a regular expression or spans;
            see `segments.pin`.
        removal: see `removal.make_filler`.
        reference: texts whose segments replace removed ones, for removal "resample".
        seed: of those draws, 0 or more; see `draws.AveragedOracle` for the mean over
            several.
        prefix, suffix: what is always kept before and after the text.

    Raises:
        InputError: a text, segments, pinned parts, removal, reference or seed that
            cannot be used.

    >>> import numpy as np
    >>> prompt = text_prompt("It rains. I stay.", suffix="Where am I?")
    >>> prompt.write_all(np.array([[False, True]]))
    ['I stay. Where am I?']
    """
    prompt = part_prompt(
        text,
        tokenizer,
        segments=segments,
        pinned=pinned,
        removal=removal,
        reference=reference,
        seed=seed,
    )
    if len(prompt.segments) < 2:
        raise too_few(segments, len(prompt.segments), bool(pinned))
    return replace(prompt, prefix=prefix, suffix=suffix)


def part_prompt(
    text: str,
    tokenizer: Any,
    *,
    segments: Cut,
    pinned: Cut,
    removal: str,
    reference: Sequence[str],
    seed: int,
) -> TextPrompt:
    """A part of a prompt, of which one segment is enough; see `text_prompt`."""
    held = pin(text, pinned)
    players = cut(text, segments, tokenizer, held)
    kind = name_of(segments)
    if kind == "spans" or kind.startswith("regex:"):
        held = rest(text, players)
    pool = () if removal != "resample" else pool_of(reference, segments, tokenizer)
    filler = make_filler(removal, tokenizer, pool, seed)
    settings = {"segments": kind, "removal": removal, **told(filler)}
    return TextPrompt(text, players, settings, held, filler)


def pool_of(reference: Sequence[str], kind: Cut, tokenizer: Any) -> tuple[str, ...]:
    """The segments of reference texts; whole texts where spans are not for them."""
    name = name_of(kind)
    if name == "json":
        raise InputError(
            'removal="resample" is not for JSON fields. Use "delete", or '
            '"replace:TEXT" for a neutral value.'
        )
    texts = [text for text in reference if text.strip()]
    if not isinstance(kind, str) and name == "spans":
        return tuple(text.strip() for text in texts)
    return tuple(
        segment.of(text) for text in texts for segment in cut(text, kind, tokenizer)
    )


def told(filler: Filler | None) -> dict[str, Any]:
    """What a filler writes, for the description."""
    if isinstance(filler, Constant):
        return {"replacement": filler.text}
    if isinstance(filler, Resampled):
        digest = fingerprint_of({"pool": list(filler.pool)})
        return {"pool": len(filler.pool), "pool_digest": digest, "seed": filler.seed}
    return {}


def moved(segment: Segment, shift: int) -> Segment:
    """The segment so many characters further on."""
    return Segment(segment.start + shift, segment.end + shift)


def _held(words: str, start: int) -> list[Segment]:
    """The part of a prefix or suffix that is not white space, as a pinned part.

    White space alone is kept by a pinned part without characters.
    """
    if not words:
        return []
    if not words.strip():
        edge = start if start == 0 else start + len(words)
        return [Segment(edge, edge)]
    lead = len(words) - len(words.lstrip())
    return [Segment(start + lead, start + len(words.rstrip()))]


def _joint(left: str, right: str) -> str:
    """A space between two texts, unless there is white space or no need of it."""
    if not left or not right or left[-1].isspace() or right[0].isspace():
        return ""
    spaceless = WITHOUT_SPACES.match(right) or WITHOUT_SPACES.match(left[-1])
    return "" if spaceless or left[-1] in "。！？、：" else " "
