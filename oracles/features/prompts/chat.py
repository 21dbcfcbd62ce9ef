"""A conversation as a prompt, of which segments, turns or exchanges are ablated."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from oracles.errors import InputError
from oracles.features.prompts.prompt import TextPrompt, part_prompt
from oracles.features.prompts.removal import ATTENTION
from oracles.features.prompts.segments import Cut
from oracles.features.prompts.turns import ChatPrompt, Message, Turn

WHOLE = ("turn", "exchange")
"""Kinds of players that are whole messages."""


def chat_prompt(
    messages: Sequence[Message],
    tokenizer: Any = None,
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
        messages: {"role": ..., "content": ...} in order, and what else the template
            reads, such as "tool_calls". If the last is the assistant's, it is the
            beginning of the answer, which goes on from there: its content, as a
            `text_prompt`, may be a reasoning trace whose steps are ablated.
        tokenizer: of the model, with its chat template; none for a remote endpoint that
            is sent messages.
        ablated: numbers of the messages whose contents are ablated. By default all of
            the user's; of whole ones all but the system's and what comes last, which
            is the question.
        segments: kind of segment inside contents (see `segments.split`); "turn" for
            whole messages; or "exchange" for messages of the user's with the answers to
            them, such as examples given in turns.
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
    chosen = _chosen(messages, ablated, segments)
    groups = _groups(messages, chosen, segments) if segments in WHOLE else {}
    turns = []
    for i, message in enumerate(messages):
        content = message.get("content")
        if i in chosen and i not in groups and isinstance(content, str):
            content = part_prompt(
                content,
                tokenizer,
                segments=segments,
                pinned=pinned,
                removal=removal,
                reference=reference,
                seed=seed,
            )
        turns.append(_turn(message, content, groups.get(i)))
    prompt = ChatPrompt(
        tuple(turns),
        _settings(turns, segments, removal),
        tokenizer,
        _said_instead(removal) if groups else None,
        dict(template_arguments or {}),
    )
    if len(prompt.players) < 2:
        raise InputError(
            f"of the {len(messages)} messages {len(chosen)} are ablated, with "
            f"{len(prompt.players)} players in all, which must be two or more. Name "
            'others in ablated=[...], or use finer segments, such as segments="word".'
        )
    if tokenizer is not None:
        _check_rendering(prompt)
    return prompt


def _check_messages(messages: Sequence[Message], tokenizer: Any) -> None:
    if not messages:
        raise InputError("messages is empty; there is nothing to explain.")
    for number, message in enumerate(messages):
        content = message.get("content")
        is_call = content is None and message.get("tool_calls")
        is_text = isinstance(content, str | TextPrompt) or is_call
        if not is_text or "role" not in message:
            raise InputError(
                f"messages[{number}] is {message!r:.80}; every message is {{'role': "
                "..., 'content': ...}, its content a text or a TextPrompt. Pictures "
                "and other parts are not explained."
            )
    if tokenizer is not None and not tokenizer.chat_template:
        raise InputError(
            "this model's tokenizer has no chat template, so it has no format for "
            "messages. Use text_prompt, or set tokenizer.chat_template to the one it "
            "was trained with."
        )


def _chosen(
    messages: Sequence[Message], ablated: Sequence[int] | None, segments: Cut
) -> set[int]:
    """The messages that are ablated, or that are players if whole ones are."""
    count, roles = len(messages), [message["role"] for message in messages]
    prompts = {
        i for i, m in enumerate(messages) if isinstance(m.get("content"), TextPrompt)
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
    elif segments in WHOLE:
        asked = [i for i, role in enumerate(roles) if role == "user"]
        end = asked[-1] if asked and segments == "exchange" else count - 1
        chosen = {i for i in range(end) if roles[i] != "system"}
    else:
        chosen = {i for i, role in enumerate(roles) if role == "user"}
    # what says nothing has nothing to remove
    return {
        i for i in chosen if i in prompts or (messages[i].get("content") or "").strip()
    }


def _groups(
    messages: Sequence[Message], chosen: set[int], segments: Cut
) -> dict[int, int]:
    """Of every message that is a player, or part of one, that player's number."""
    if segments == "turn":
        return {i: i for i in chosen if isinstance(messages[i]["content"], str)}
    groups, first = {}, 0
    for i, message in enumerate(messages):
        if message["role"] in ("user", "system"):
            first = i
        groups[i] = first
    wanted = {groups[i] for i in chosen}
    return {i: first for i, first in groups.items() if first in wanted}


def _turn(
    message: Message, content: str | TextPrompt | None, group: int | None
) -> Turn:
    if not isinstance(content, TextPrompt):
        return Turn(message, None, group)
    everything = np.ones((1, len(content.segments)), dtype=bool)
    whole = {**message, "content": content.write_all(everything)[0]}
    return Turn(whole, content) if group is None else Turn(whole, None, group)


def _settings(turns: Sequence[Turn], segments: Cut, removal: str) -> dict[str, Any]:
    """Kind of segments and removal, and each ablated content's own settings."""
    contents = [turn.prompt.description for turn in turns if turn.prompt is not None]
    groups = [turn.group for turn in turns]
    kinds = [str(segments)] * any(group is not None for group in groups)
    kinds += [content["segments"] for content in contents]
    removals = [content["removal"] for content in contents]
    removals += [removal] * (not contents or any(g is not None for g in groups))
    return {
        "segments": ", ".join(dict.fromkeys(kinds)),
        "removal": ", ".join(dict.fromkeys(removals)),
        "contents": contents,
        "groups": groups,
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
    if is_dropping and any(turn.group is not None for turn in prompt.turns):
        masks += list(~np.eye(count, dtype=bool))
    prompt.write_all(np.stack(masks))
