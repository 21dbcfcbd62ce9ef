"""What a feature oracle ablates: a prompt of which some segments may be removed.

Oracles know a prompt by the protocol `Prompt` only: it writes itself out under a mask,
and says what a person is shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np

from oracles.base import Masks
from oracles.features.removal import Ablator, make_ablator
from oracles.features.segments import split


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

    Attributes:
        ablator: writes the text.
        prefix: what comes before it.
        suffix: what comes after it. What stands between the two in the intact prompt
            stands there under every mask.
        settings: kind of segments and removal, for the description.
    """

    ablator: Ablator
    settings: Mapping[str, Any]
    prefix: str = ""
    suffix: str = ""
    has_special_tokens: ClassVar[bool] = False

    @property
    def players(self) -> tuple[str, ...]:
        """The segments' characters."""
        return tuple(s.of(self.ablator.text) for s in self.ablator.segments)

    @property
    def description(self) -> Mapping[str, Any]:
        """The text, its spans, prefix, suffix, kind of segments and removal."""
        return {
            "text": self.ablator.text,
            "spans": [[s.start, s.end] for s in self.ablator.segments],
            "prefix": self.prefix,
            "suffix": self.suffix,
            **self.settings,
        }

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """The segments' characters in the intact prompt."""
        shift = len(self.prefix)
        return tuple((s.start + shift, s.end + shift) for s in self.ablator.segments)

    def write_all(self, masks: Masks) -> list[str]:
        """The prompt under every mask."""
        return [self._around(self.ablator.write(mask)) for mask in np.asarray(masks)]

    def _around(self, text: str) -> str:
        if text and self.suffix:
            text = text.rstrip() + self._joint
        return self.prefix + (text + self.suffix if text else self.suffix.lstrip())

    @cached_property
    def _joint(self) -> str:
        """White space between text and suffix: the text's own, or a space if none."""
        text = self.ablator.text
        own = text[len(text.rstrip()) :]
        return own or " " * (not self.suffix[:1].isspace())


def text_prompt(
    text: str,
    tokenizer: Any = None,
    *,
    segments: str = "sentence",
    removal: str = "delete",
    prefix: str = "",
    suffix: str = "",
) -> TextPrompt:
    """A text cut into segments.

    Args:
        text: the part that is ablated.
        tokenizer: of the model; for token segments, and to mask with.
        segments: kind of segment; see `segments.split`.
        removal: see `removal.make_ablator`.
        prefix, suffix: what is always kept before and after it.

    Raises:
        InputError: a text, segments or removal that cannot be used.
    """
    cut = split(text, segments, tokenizer)
    ablator = make_ablator(text, cut, removal, tokenizer)
    settings = {"segments": segments, "removal": removal}
    return TextPrompt(ablator, settings, prefix, suffix)
