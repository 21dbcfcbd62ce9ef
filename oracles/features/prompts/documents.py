"""Prompts over several texts, and a second level inside those that mattered."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.errors import InputError
from oracles.features.prompts.prompt import (
    TextPrompt,
    moved,
    pool_of,
    text_prompt,
    told,
)
from oracles.features.prompts.removal import Ablator, Resampled
from oracles.features.prompts.segments import Segment, cut


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
) -> TextPrompt:
    """Retrieved documents, few-shot examples or other texts, each one player.

    Args:
        passages: the texts, in the order in which the model reads them.
        tokenizer: of the model; to mask with.
        kind: what they are called in the description.
        separator: what stands between two of them, and between them and a prefix or
            suffix without white space there; goes with the passage before it.
        removal, seed, prefix, suffix: as of `text_prompt`.
        reference: whole texts that replace removed ones, for removal "resample".

    Raises:
        InputError: fewer than two passages, an empty one, or a removal that cannot be
            used.

    >>> import numpy as np
    >>> prompt = passages_prompt(["It rains.", "It is May."], suffix="Is it warm?")
    >>> prompt.write_all(np.array([[False, True]]))
    ['It is May.\\n\\nIs it warm?']
    """
    _check_passages(passages)
    spans, place = [], 0
    for passage in passages:
        spans.append((place, place + len(passage)))
        place += len(passage) + len(separator)
    if prefix and not prefix[-1].isspace():
        prefix += separator
    if suffix and not suffix[0].isspace():
        suffix = separator + suffix
    prompt = text_prompt(
        separator.join(passages),
        tokenizer,
        segments=spans,
        removal=removal,
        reference=reference,
        seed=seed,
        prefix=prefix,
        suffix=suffix,
    )
    # what is outside these spans is separators, which are not kept for themselves
    return replace(prompt, pinned=(), settings={**prompt.settings, "segments": kind})


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
    the others makes shorter, cheaper prompts, but explains the answer to those: look
    whether it is still the same.

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
    mask = _chosen(prompt, players)
    level = _without_others(prompt, mask) if is_dropping_others else prompt
    chosen = np.arange(mask.sum()) if is_dropping_others else np.flatnonzero(mask)
    finer: list[Segment] = []
    for player in chosen.tolist():
        parent = level.segments[player]
        inside = cut(parent.of(level.text), segments, tokenizer)
        finer += [moved(segment, parent.start) for segment in inside]
    if len(finer) < 2:
        raise InputError(
            f"players={list(players)} have one {segments} in all, and one segment has "
            "nothing to act together with. Choose more players, or finer segments."
        )
    others = [s for i, s in enumerate(level.segments) if i not in set(chosen.tolist())]
    held = sorted([*level.pinned, *others], key=lambda segment: segment.start)
    filler = level.filler
    if isinstance(filler, Resampled):
        filler = Resampled(pool_of(filler.pool, segments, tokenizer), filler.seed)
    return replace(
        level,
        segments=tuple(finer),
        settings={**_levels(prompt.settings, segments), **told(filler)},
        pinned=tuple(held),
        filler=filler,
    )


def _levels(settings: Mapping[str, Any], segments: str) -> dict[str, Any]:
    return {**settings, "segments": segments, "within": settings["segments"]}


def _without_others(prompt: TextPrompt, mask: NDArray[np.bool_]) -> TextPrompt:
    """The prompt with the players where `mask` is False deleted for good."""
    ablator = Ablator(prompt.text, prompt.segments, None, prompt.pinned)
    segments, pinned = ablator.places(mask)
    return replace(prompt, text=ablator.write(mask), segments=segments, pinned=pinned)


def _check_passages(passages: Sequence[str]) -> None:
    if isinstance(passages, str):
        raise InputError(
            "passages is a single text. Give a list of texts, or cut it: "
            'text_prompt(text, segments="document").'
        )
    for number, passage in enumerate(passages):
        if not passage.strip():
            raise InputError(
                f"passages[{number}] is empty. Leave it out: its absence changes "
                "nothing."
            )
    if len(passages) < 2:
        raise InputError(
            f"passages has {len(passages)} text, and one has nothing to act together "
            "with. Give more, or cut it by sentences: text_prompt(text)."
        )


def _chosen(prompt: TextPrompt, players: Sequence[int]) -> NDArray[np.bool_]:
    """Which of the prompt's players are meant."""
    if prompt.is_json:
        raise InputError(
            "JSON fields are not cut further: what is left would not be JSON. Explain "
            "a long field's text by itself."
        )
    count = len(prompt.segments)
    if not players or not all(0 <= player < count for player in players):
        raise InputError(
            f"players={list(players)} must be numbers from 0 to {count - 1}, at least "
            "one; those of an interaction are `explanation.top(5)[0].players`."
        )
    mask = np.zeros(count, dtype=bool)
    mask[list(players)] = True
    return mask
