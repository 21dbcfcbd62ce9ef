"""What a feature oracle ablates: a prompt of which some segments may be removed.

Oracles know a prompt by the protocol `Prompt` only: it writes itself out under a mask,
and says what a person is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np

from oracles.base import Masks, fingerprint_of
from oracles.errors import InputError
from oracles.features.graphemes import WITHOUT_SPACES
from oracles.features.removal import (
    Ablator,
    Constant,
    Filler,
    JsonAblator,
    Resampled,
    make_filler,
)
from oracles.features.segments import Cut, Segment, cut, name_of, pin, rest, split


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
        """The prompt under every mask."""
        return [self._ablator.write(mask) for mask in np.asarray(masks)]

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
        held = [_moved(s, len(before)) for s in self.pinned]
        held += _held(self.prefix, 0)
        held += _held(self.suffix, len(whole) - len(self.suffix))
        held.sort(key=lambda segment: segment.start)
        segments = tuple(_moved(s, len(before)) for s in self.segments)
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
    max_tokens: int | None = None,
) -> TextPrompt:
    """A text cut into segments.

    Args:
        text: the part that is ablated.
        tokenizer: of the model; for token segments, to mask with, and for `max_tokens`.
        segments: kind of segment, a pattern, or spans; see `segments.split`.
        pinned: parts of the text that are never ablated: a regular expression or spans;
            see `segments.pin`.
        removal: see `removal.make_filler`.
        reference: texts whose segments replace removed ones, for removal "resample".
        seed: of those draws; see `draws.AveragedOracle` for the mean over several.
        prefix, suffix: what is always kept before and after the text.
        max_tokens: if given, the text ends after the last segment with which the intact
            prompt has at most so many tokens, special ones included; the description
            says under `truncated` how many segments are left of how many.

    Raises:
        InputError: a text, segments, pinned parts, removal or reference that cannot be
            used, or less than two segments left.

    >>> import numpy as np
    >>> prompt = text_prompt("It rains. I stay.", suffix="Where am I?")
    >>> prompt.write_all(np.array([[False, True]]))
    ['I stay. Where am I?']
    """
    held = pin(text, pinned)
    players = split(text, segments, tokenizer, held)
    kind = name_of(segments)
    if kind == "spans" or kind.startswith("regex:"):
        held = rest(text, players)
    pool = [] if removal != "resample" else _pool(reference, segments, tokenizer)
    filler = make_filler(removal, tokenizer, pool, seed)
    settings = {"segments": kind, "removal": removal, **_told(filler)}
    prompt = TextPrompt(text, players, settings, held, filler, prefix, suffix)
    return prompt if max_tokens is None else _fitting(prompt, tokenizer, max_tokens)


def passages_prompt(
    passages: Sequence[str],
    tokenizer: Any = None,
    *,
    kind: str = "document",
    separator: str = "\n\n",
    removal: str = "delete",
    reference: Sequence[str] = (),
    seed: int = 0,
    prefix: str = "",
    suffix: str = "",
    max_tokens: int | None = None,
) -> TextPrompt:
    """Retrieved documents, few-shot examples or other texts, each one player.

    Args:
        passages: the texts, in the order in which the model reads them.
        tokenizer: of the model; to mask with, and for `max_tokens`.
        kind: what they are called in reports.
        separator: what stands between two of them; goes with the one before it.
        removal, seed, prefix, suffix, max_tokens: as of `text_prompt`.
        reference: whole texts that replace removed ones, for removal "resample".

    Raises:
        InputError: fewer than two passages, an empty one, or a removal that cannot be
            used.
    """
    if isinstance(passages, str):
        raise InputError(
            "passages is a single text. Give a list of texts, or cut it: "
            'text_prompt(text, segments="document").'
        )
    for number, passage in enumerate(passages):
        if not passage.strip():
            raise InputError(
                f"passages[{number}] is empty. Leave it out: a passage without words "
                "changes nothing by its absence."
            )
    if len(passages) < 2:
        raise InputError(
            f"there is {len(passages)} passage, and one has nothing to act together "
            "with. Give more, or cut it by sentences: text_prompt(text)."
        )
    spans, place = [], 0
    for passage in passages:
        spans.append((place, place + len(passage)))
        place += len(passage) + len(separator)
    text = separator.join(passages)
    prompt = text_prompt(
        text,
        tokenizer,
        segments=spans,
        removal=removal,
        reference=reference,
        seed=seed,
        prefix=prefix,
        suffix=suffix,
    )
    # what is outside these spans is separators, which are not kept for themselves
    settings = {**prompt.settings, "segments": kind}
    prompt = replace(prompt, pinned=(), settings=settings)
    return prompt if max_tokens is None else _fitting(prompt, tokenizer, max_tokens)


def refine(
    prompt: TextPrompt,
    players: Sequence[int],
    tokenizer: Any = None,
    *,
    segments: str = "sentence",
    is_dropping_others: bool = False,
) -> TextPrompt:
    """The players that mattered, cut further: the second of two levels.

    By default the others are pinned: the intact prompt is the same, so its answer is
    too, and what is explained is the part that the chosen ones play in it. Dropping
    them makes shorter, cheaper prompts, and explains the answer to those; then look
    whether it is still the same answer.

    Args:
        prompt: of the first level, such as documents.
        players: the numbers of those to cut, from an explanation of the first level.
        tokenizer: of the model; only for "token" segments.
        segments: kind of the finer segments; see `segments.split`.
        is_dropping_others: leave the others out instead of pinning them.

    Raises:
        InputError: a number that is no player's, JSON fields, or fewer than two
            segments in all.
    """
    chosen = _chosen(prompt, players)
    mask = np.zeros(len(prompt.segments), dtype=bool)
    mask[chosen] = True
    text, parents, held = prompt.text, dict(enumerate(prompt.segments)), prompt.pinned
    if is_dropping_others:
        ablator = Ablator(text, prompt.segments, None, prompt.pinned)
        text, parents = ablator.write(mask), ablator.places(mask)
        held = ablator.pinned_places(mask)
    finer: list[Segment] = []
    for player in chosen:
        inside = cut(parents[player].of(text), segments, tokenizer)
        finer += [_moved(segment, parents[player].start) for segment in inside]
    if len(finer) < 2:
        raise InputError(
            f"players {chosen} have one {segments} in all, and one segment has nothing "
            "to act together with. Choose more players, or finer segments."
        )
    if not is_dropping_others:
        others = [s for i, s in enumerate(prompt.segments) if not mask[i]]
        held = tuple(sorted([*held, *others], key=lambda segment: segment.start))
    filler = prompt.filler
    if isinstance(filler, Resampled):
        filler = Resampled(tuple(_pool(filler.pool, segments, tokenizer)), filler.seed)
    levels = {"segments": segments, "within": prompt.settings["segments"]}
    settings = {**prompt.settings, **levels, **_told(filler)}
    return replace(
        prompt,
        text=text,
        segments=tuple(finer),
        settings=settings,
        pinned=held,
        filler=filler,
    )


def _chosen(prompt: TextPrompt, players: Sequence[int]) -> list[int]:
    chosen, count = sorted({int(player) for player in players}), len(prompt.segments)
    if prompt.is_json:
        raise InputError(
            "JSON fields are not cut further: what is left would not be JSON. Explain "
            "a long field's text by itself."
        )
    wrong = [player for player in chosen if not 0 <= player < count]
    if wrong or not chosen:
        raise InputError(
            f"players={list(players)} must be numbers from 0 to {count - 1}, at least "
            "one: the players of an interaction are `explanation.top(5)[0].players`."
        )
    return chosen


def _pool(reference: Sequence[str], kind: Cut, tokenizer: Any) -> list[str]:
    """The segments of reference texts; whole texts where spans are not for them."""
    name = name_of(kind)
    if name == "json":
        raise InputError(
            'removal="resample" is not for JSON fields. Use "delete", or '
            '"replace:TEXT" for a neutral value.'
        )
    texts = [text for text in reference if text.strip()]
    if not isinstance(kind, str) and name == "spans":
        return [text.strip() for text in texts]
    return [
        segment.of(text) for text in texts for segment in cut(text, kind, tokenizer)
    ]


def _told(filler: Filler | None) -> dict[str, Any]:
    """What a filler writes, for the description."""
    if isinstance(filler, Constant):
        return {"replacement": filler.text}
    if isinstance(filler, Resampled):
        digest = fingerprint_of({"pool": list(filler.pool)})
        return {"pool": len(filler.pool), "pool_digest": digest, "seed": filler.seed}
    return {}


def _fitting(prompt: TextPrompt, tokenizer: Any, max_tokens: int) -> TextPrompt:
    """The prompt without the last segments, as few as make it fit."""
    if prompt.is_json or tokenizer is None:
        raise InputError(
            "max_tokens needs the model's tokenizer, and does not go with JSON, which "
            "cannot be cut. Pass loaded.tokenizer, or leave max_tokens out."
        )

    def cut_after(count: int) -> TextPrompt:
        segments = prompt.segments[:count]
        end = segments[-1].end if segments else 0
        held = tuple(s for s in prompt.pinned if s.end <= end)
        total = len(prompt.segments)
        settings = {**prompt.settings, "truncated": [count, total]}
        return replace(
            prompt,
            text=prompt.text[:end],
            segments=segments,
            pinned=held,
            settings=settings,
        )

    def size(shorter: TextPrompt) -> int:
        everything = np.ones((1, len(shorter.segments)), dtype=bool)
        return len(tokenizer(shorter.write_all(everything)[0], verbose=False).input_ids)

    if (tokens := size(prompt)) <= max_tokens:
        return prompt
    low, high = 0, len(prompt.segments)  # low fits or is nothing, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high) if size(cut_after(middle)) <= max_tokens else (low, middle)
        )
    if low < 2:
        raise InputError(
            f"the prompt has {tokens} tokens, and with max_tokens={max_tokens} fewer "
            "than two segments are left. Use finer segments, or a longer context."
        )
    return cut_after(low)


def _moved(segment: Segment, shift: int) -> Segment:
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
