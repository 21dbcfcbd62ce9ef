"""A conversation that writes itself by the model's own chat template."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks
from oracles.errors import InputError, ModelError
from oracles.features.prompts.prompt import TextPrompt
from oracles.features.prompts.removal import check_written

Message = Mapping[str, Any]
"""{"role": ..., "content": ...}; the content a text, or a `TextPrompt` to ablate."""


@dataclass(frozen=True)
class Turn:
    """One message, and the players in it.

    Attributes:
        message: its content a text, or None where it only calls tools.
        prompt: its content, if segments of it are players.
        group: if the whole message is a player, or one of several in a row that are one
            player together, a number of that player.
    """

    message: Message
    prompt: TextPrompt | None = None
    group: int | None = None

    @property
    def content(self) -> str:
        """What it says; calls of tools may come without words."""
        return self.message.get("content") or ""

    @property
    def is_ablated(self) -> bool:
        """Whether anything of it may be removed."""
        return self.prompt is not None or self.group is not None

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """The characters of the content that are players'."""
        if self.prompt is not None:
            return self.prompt.places
        text = self.content
        start = len(text) - len(text.lstrip())
        return ((start, max(start, len(text.rstrip()))),) * self.is_ablated


@dataclass(frozen=True)
class ChatPrompt:
    """A conversation of which segments or whole turns may be removed.

    Under every mask the messages that are left are rendered again by the model's chat
    template, which strips and adds white space and control tokens as it does in use.
    A person is shown the contents under their roles' names instead; spans refer to
    that text. A message whose segments are all removed stays, empty. A turn that is
    removed whole is left out, as if it had not been said; with `replacement` it stays
    and says that, for templates that insist on turns that alternate.

    Attributes:
        turns: the messages in order.
        settings: kind of segments and removal, for the description.
        tokenizer: of the model, with its `chat_template`; None for endpoints that are
            sent messages.
        replacement: what a removed turn says; None leaves it out.
        arguments: further arguments of the template, as JSON-ready data.
    """

    turns: tuple[Turn, ...]
    settings: Mapping[str, Any]
    tokenizer: Any = None
    replacement: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    has_special_tokens: ClassVar[bool] = True

    @cached_property
    def players(self) -> tuple[str, ...]:
        """The segments' or turns' characters, as a person is shown them."""
        text, spans = self._shown
        return tuple(text[start:end] for start, end in spans)

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """The contents under their roles' names, the spans in that, and the settings.

        `rendered` is a hash of the intact prompt with all control tokens, which
        stands for template, date and whatever else goes into it.
        """
        text, spans = self._shown
        rendered = None
        if self.tokenizer is not None:
            intact = self._intact.encode()
            rendered = hashlib.blake2b(intact, digest_size=16).hexdigest()
        return {
            "text": text,
            "spans": [list(span) for span in spans],
            "messages": [dict(turn.message) for turn in self.turns],
            "template_arguments": dict(self.arguments),
            "rendered": rendered,
            **self.settings,
        }

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """The players' characters in the intact prompt as rendered.

        Raises:
            InputError: the template changes a content more than by stripping it.
        """
        marks = [f"\ue000{i}\ue001" for i in range(len(self.turns))]
        written = self._render(
            [
                {**turn.message, "content": mark} if turn.is_ablated else turn.message
                for turn, mark in zip(self.turns, marks, strict=True)
            ]
        )
        return self._together(self._starts(written, marks))

    def write_all(self, masks: Masks) -> list[str]:
        """The rendered conversation under every mask.

        Raises:
            InputError: no chat template, or it refuses what is left.
        """
        return [self._render(messages) for messages in self.write_messages(masks)]

    def write_messages(self, masks: Masks) -> list[list[dict[str, Any]]]:
        """The messages under every mask, for endpoints that apply the template."""
        masks = check_written(self.settings["removal"], masks)
        return [self._messages(mask) for mask in masks]

    def _starts(self, written: str, marks: Sequence[str]) -> list[int]:
        """Where each content begins in the intact prompt, from one with marks in it."""
        pieces, numbers = [written], []
        for number, (turn, mark) in enumerate(zip(self.turns, marks, strict=True)):
            if turn.is_ablated:
                pieces[-1:] = pieces[-1].split(mark, 1)
                numbers.append(number)
        starts, place = [0] * len(self.turns), len(pieces[0])
        is_same = len(pieces) == len(numbers) + 1 and self._intact.startswith(pieces[0])
        for number, following in zip(numbers, pieces[1:], strict=False):
            content = self.turns[number].content
            lead = len(content) - len(content.lstrip())
            # as it is or stripped: what follows tells which
            for words, cut in ((content, 0), (content.strip(), lead)):
                if self._intact.startswith(words + following, place):
                    starts[number] = place - cut
                    place += len(words + following)
                    break
            else:
                is_same = False
        if not is_same or place != len(self._intact):
            raise InputError(
                "the chat template changes the contents of messages, so where their "
                'segments stand is not known. Use removal="delete", which needs no '
                "places."
            )
        return starts

    def _messages(self, mask: NDArray[np.bool_]) -> list[dict[str, Any]]:
        messages = []
        for turn, (first, last) in zip(self.turns, self._columns, strict=True):
            message, kept = dict(turn.message), mask[first:last]
            if turn.prompt is not None:
                message["content"] = turn.prompt.write_all(kept[None])[0]
            elif not kept.all():
                if self.replacement is None:
                    continue
                message["content"] = self.replacement
            messages.append(message)
        return messages

    @cached_property
    def _columns(self) -> list[tuple[int, int]]:
        """Every turn's columns of a mask."""
        columns: list[tuple[int, int]] = []
        last, group = 0, None
        for turn in self.turns:
            is_same = turn.group is not None and turn.group == group
            first = last - 1 if is_same else last
            last = first + len(turn.spans)
            columns.append((first, last))
            group = turn.group
        return columns

    @cached_property
    def _shown(self) -> tuple[str, tuple[tuple[int, int], ...]]:
        """What a person is shown, and the players' spans in it."""
        parts, starts, place = [], [], 0
        for turn in self.turns:
            heading, content = f"{turn.message['role']}:\n", turn.content
            starts.append(place + len(heading))
            parts.append(heading + content)
            place = starts[-1] + len(content) + len("\n\n")
        return "\n\n".join(parts), self._together(starts)

    def _together(self, starts: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """The players' spans where every turn's content starts there."""
        spans: dict[int, tuple[int, int]] = {}
        for turn, start, columns in zip(self.turns, starts, self._columns, strict=True):
            for column, (a, b) in zip(range(*columns), turn.spans, strict=True):
                first, _ = spans.get(column, (a + start, 0))
                spans[column] = first, b + start
        return tuple(spans[column] for column in sorted(spans))

    @cached_property
    def _intact(self) -> str:
        return self._render([dict(turn.message) for turn in self.turns])

    def _render(self, messages: Sequence[Message]) -> str:
        """The messages in the model's own format, ready for its answer.

        An assistant's message at the end is the beginning of that answer.
        """
        if self.tokenizer is None:
            raise InputError(
                "this conversation was made without a tokenizer, for endpoints that "
                "are sent messages. Pass tokenizer=loaded.tokenizer."
            )
        is_begun = bool(messages) and messages[-1]["role"] == "assistant"
        if is_begun and not (messages[-1].get("content") or "").strip():
            messages, is_begun = messages[:-1], False  # nothing of it is left
        try:
            text = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=not is_begun,
                continue_final_message=is_begun,
                **self.arguments,
            )
        except ImportError as error:
            raise ModelError(
                f"chat templates need Jinja ({error}). Install it with pip install "
                "jinja2."
            ) from error
        except Exception as error:  # a template raises what it likes
            raise _refused(messages, error) from error
        return str(text)


def _refused(messages: Sequence[Message], error: Exception) -> InputError:
    roles = ", ".join(str(message["role"]) for message in messages)
    ways = []
    if "system" in roles:
        ways.append("If it knows no system turn, put that text into the user's first.")
    ways.append(
        'If turns must alternate, segments="exchange" removes a turn with its answer, '
        'and removal="replace:" keeps removed ones, without words.'
    )
    return InputError(
        f"the model's chat template refuses the turns {roles or '(none left)'}: "
        f"{str(error).strip() or type(error).__name__}. {' '.join(ways)}"
    )
