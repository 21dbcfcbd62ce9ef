"""A conversation as a prompt, written by the model's own chat template."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks
from oracles.errors import InputError, ModelError
from oracles.features.prompts import TextPrompt, part_prompt
from oracles.features.removal import ATTENTION, check_written
from oracles.features.segments import Cut

Message = Mapping[str, Any]
"""{"role": ..., "content": ...}; the content a text, or a `TextPrompt` to ablate."""


@dataclass(frozen=True)
class Turn:
    """One message, and the players in it.

    Attributes:
        message: its content a text.
        prompt: its content, if segments of it are players.
        is_player: whether the whole message is one player.
    """

    message: Message
    prompt: TextPrompt | None = None
    is_player: bool = False

    @property
    def num_players(self) -> int:
        """How many columns of a mask are this message's."""
        return len(self.prompt.segments) if self.prompt else int(self.is_player)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """The players' characters in the content."""
        if self.prompt is not None:
            return self.prompt.places
        text = self.message["content"]
        start = len(text) - len(text.lstrip())
        return ((start, len(text.rstrip())),) * self.is_player


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
        tokenizer: of the model, with its `chat_template`.
        settings: kind of segments and removal, for the description.
        replacement: what a removed turn says; None leaves it out.
        arguments: further arguments of the template, as JSON-ready data.
    """

    turns: tuple[Turn, ...]
    tokenizer: Any
    settings: Mapping[str, Any]
    replacement: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    has_special_tokens: ClassVar[bool] = True

    @property
    def players(self) -> tuple[str, ...]:
        """The segments' characters, or the turns' contents."""
        return tuple(
            turn.message["content"][start:end]
            for turn in self.turns
            for start, end in turn.spans
        )

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """The contents under their roles' names, the spans in that, and the settings.

        `rendered` is a hash of the intact prompt with all control tokens, which
        stands for template, date and whatever else goes into it.
        """
        parts, spans, place = [], [], 0
        for turn in self.turns:
            heading = f"{turn.message['role']}:\n"
            place += len(heading)
            spans += [[start + place, end + place] for start, end in turn.spans]
            parts.append(heading + turn.message["content"])
            place += len(turn.message["content"]) + len("\n\n")
        digest = hashlib.blake2b(self._intact.encode(), digest_size=16).hexdigest()
        return {
            "text": "\n\n".join(parts),
            "spans": spans,
            "messages": [dict(turn.message) for turn in self.turns],
            "template_arguments": dict(self.arguments),
            "rendered": digest,
            **self.settings,
        }

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """The players' characters in the intact prompt as rendered.

        Raises:
            InputError: the template changes a content more than by stripping it.
        """
        marks = [f"\ue000{i}\ue001" for i in range(len(self.turns))]
        marked = self._render(
            [
                {**turn.message, "content": mark} if turn.num_players else turn.message
                for turn, mark in zip(self.turns, marks, strict=True)
            ]
        )
        found: list[tuple[int, int]] = []
        for turn, mark in zip(self.turns, marks, strict=True):
            if not turn.num_players:
                continue
            content, place = turn.message["content"], marked.find(mark)
            marked = marked.replace(mark, "", 1)
            lead = len(content) - len(content.lstrip())
            for shift, words in ((0, content), (lead, content.strip())):
                if place >= 0 and self._intact.startswith(words, place):
                    marked = marked[:place] + words + marked[place:]
                    starts = place - shift
                    found += [(a + starts, b + starts) for a, b in turn.spans]
                    break
            else:
                raise _changed(turn)
        if marked != self._intact:
            raise _changed(self.turns[-1])
        return tuple(found)

    def write_all(self, masks: Masks) -> list[str]:
        """The rendered conversation under every mask.

        Raises:
            InputError: the template refuses what is left.
        """
        return [self._render(messages) for messages in self.write_messages(masks)]

    def write_messages(self, masks: Masks) -> list[list[dict[str, Any]]]:
        """The messages under every mask, for endpoints that apply the template."""
        masks = check_written(self.settings["removal"], masks)
        return [self._messages(mask) for mask in masks]

    def _messages(self, mask: NDArray[np.bool_]) -> list[dict[str, Any]]:
        messages, first = [], 0
        for turn in self.turns:
            kept = mask[first : first + turn.num_players]
            first += turn.num_players
            message = dict(turn.message)
            if turn.prompt is not None:
                message["content"] = turn.prompt.write_all(kept[None])[0]
            elif not kept.all():
                if self.replacement is None:
                    continue
                message["content"] = self.replacement
            messages.append(message)
        return messages

    @cached_property
    def _intact(self) -> str:
        return self._render([dict(turn.message) for turn in self.turns])

    def _render(self, messages: Sequence[Message]) -> str:
        """The messages in the model's own format, ready for its answer.

        An assistant's message at the end is the beginning of that answer.
        """
        is_begun = bool(messages) and messages[-1]["role"] == "assistant"
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


def chat_prompt(
    messages: Sequence[Message],
    tokenizer: Any,
    *,
    ablated: Sequence[int] | None = None,
    segments: Cut = "sentence",
    pinned: Cut = "",
    removal: str = "delete",
    reference: Sequence[str] = (),
    seed: int = 0,
    template_arguments: Mapping[str, Any] | None = None,
) -> ChatPrompt:
    """A conversation of which some messages are ablated and the others pinned.

    A message whose content is a `TextPrompt`, such as `passages_prompt(...)` with a
    question for a suffix, is ablated as that says; if there is one, texts are ablated
    only where `ablated` says so.

    Args:
        messages: {"role": ..., "content": ...} in order. If the last is the
            assistant's, it is the beginning of the answer, which goes on from there.
        tokenizer: of the model, with its chat template.
        ablated: numbers of the messages whose contents are ablated. By default all of
            the user's; with "turn" all but the system's and the last.
        segments: kind of segment inside contents (see `segments.split`), or "turn" for
            whole messages.
        pinned, removal, reference, seed: as of `text_prompt`, for every text that is
            ablated. For turns "delete", which leaves them out, or "replace:TEXT",
            which has them say TEXT, or nothing ("replace:").
        template_arguments: passed on to the template, such as
            {"enable_thinking": False}; a template that writes today's date is steadier
            with the date given, as {"date_string": "26 Jul 2024"} for Llama 3.

    Raises:
        InputError: messages, numbers, segments or a removal that cannot be used; no
            chat template; or the template refuses the messages, all or with any one
            turn removed.
        ModelError: Jinja is missing.
    """
    _check_messages(messages, tokenizer)
    is_whole = segments == "turn"
    chosen = _chosen(messages, ablated, is_whole)
    turns = []
    for i, message in enumerate(messages):
        content = message["content"]
        if i in chosen and not is_whole and isinstance(content, str):
            content = part_prompt(
                content,
                tokenizer,
                segments=segments,
                pinned=pinned,
                removal=removal,
                reference=reference,
                seed=seed,
            )
        turns.append(_turn(message, content, is_player=i in chosen and is_whole))
    prompt = ChatPrompt(
        tuple(turns),
        tokenizer,
        _settings(turns, removal),
        _said_instead(removal) if is_whole else None,
        dict(template_arguments or {}),
    )
    if len(prompt.players) < 2:
        raise InputError(
            f"of the {len(messages)} messages {len(chosen)} are ablated, with "
            f"{len(prompt.players)} players in all, which must be two or more. Name "
            'others in ablated=[...], or use finer segments, such as segments="word".'
        )
    _check_rendering(prompt)
    return prompt


def _check_messages(messages: Sequence[Message], tokenizer: Any) -> None:
    if not messages:
        raise InputError("messages is empty; there is nothing to explain.")
    for number, message in enumerate(messages):
        content = message.get("content")
        if not isinstance(content, str | TextPrompt) or "role" not in message:
            raise InputError(
                f"messages[{number}] is {message!r:.80}; every message is {{'role': "
                "..., 'content': ...}, its content a text or a TextPrompt. Pictures "
                "and other parts are not explained."
            )
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            "this model's tokenizer has no chat template, so it has no format for "
            "messages. Use part_prompt, or set tokenizer.chat_template to the one it "
            "was trained with."
        )


def _chosen(
    messages: Sequence[Message], ablated: Sequence[int] | None, is_whole: bool
) -> set[int]:
    """The messages that are ablated, or that are players if whole ones are."""
    count = len(messages)
    prompts = {
        i for i, m in enumerate(messages) if isinstance(m["content"], TextPrompt)
    }
    if ablated is not None:
        wrong = [i for i in ablated if not -count <= i < count]
        if wrong:
            raise InputError(
                f"ablated={list(ablated)} must be numbers of the {count} messages, "
                "from 0; -1 is the last."
            )
        chosen = {i % count for i in ablated}
    elif prompts:
        chosen = set()
    elif is_whole:
        roles = [message["role"] for message in messages[:-1]]
        chosen = {i for i, role in enumerate(roles) if role != "system"}
    else:
        chosen = {i for i, m in enumerate(messages) if m["role"] == "user"}
    # what says nothing has nothing to remove
    return {i for i in chosen if i in prompts or messages[i]["content"].strip()}


def _turn(message: Message, content: str | TextPrompt, *, is_player: bool) -> Turn:
    if isinstance(content, str):
        return Turn(message, None, is_player)
    everything = np.ones((1, len(content.segments)), dtype=bool)
    return Turn({**message, "content": content.write_all(everything)[0]}, content)


def _settings(turns: Sequence[Turn], removal: str) -> dict[str, Any]:
    """Kind of segments and removal, and each ablated content's own settings."""
    contents = [turn.prompt.description for turn in turns if turn.prompt is not None]
    kinds = ["turn"] * any(turn.is_player for turn in turns)
    kinds += [content["segments"] for content in contents]
    removals = [content["removal"] for content in contents] or [removal]
    return {
        "segments": ", ".join(dict.fromkeys(kinds)),
        "removal": ", ".join(dict.fromkeys(removals)),
        "contents": contents,
    }


def _said_instead(removal: str) -> str | None:
    """What a removed turn says; None leaves it out."""
    if removal in ("delete", ATTENTION):
        return None
    if removal.startswith("replace:"):
        return removal.removeprefix("replace:")
    raise InputError(
        f'removal={removal!r} is not for whole turns. Use "delete", which leaves them '
        'out, "replace:TEXT", which has them say TEXT, or nothing, or "attention".'
    )


def _check_rendering(prompt: ChatPrompt) -> None:
    """Render all, none, and all but each turn, before anything is paid for."""
    count = len(prompt.players)
    masks = [np.ones(count, dtype=bool), np.zeros(count, dtype=bool)]
    is_dropping = prompt.settings["removal"] != ATTENTION
    if is_dropping and any(turn.is_player for turn in prompt.turns):
        masks += list(~np.eye(count, dtype=bool))
    prompt.write_all(np.stack(masks))


def _refused(messages: Sequence[Message], error: Exception) -> InputError:
    roles = ", ".join(str(message["role"]) for message in messages)
    ways = []
    if "system" in roles:
        ways.append("If it knows no system turn, put that text into the user's first.")
    ways.append(
        'If turns must alternate, removal="replace:" keeps removed ones, without words.'
    )
    return InputError(
        f"the model's chat template refuses the turns {roles or '(none left)'}: "
        f"{str(error).strip() or type(error).__name__}. {' '.join(ways)}"
    )


def _changed(turn: Turn) -> InputError:
    return InputError(
        f"the chat template changes the {turn.message['role']}'s message "
        f"{turn.message['content']!r:.60}, so where its segments stand is not known. "
        'Use removal="delete", which needs no places.'
    )
