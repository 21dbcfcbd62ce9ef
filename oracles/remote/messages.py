"""Prompts as the messages of a chat."""

import json
from typing import Any, Protocol, runtime_checkable

from oracles.base import Masks
from oracles.features.prompts.prompt import Prompt


@runtime_checkable
class WritesMessages(Protocol):
    """A prompt that is a chat: it writes itself as messages too."""

    def write_messages(self, masks: Masks) -> list[list[dict[str, str]]]:
        """Messages {"role", "content"} in order, under every mask (m, n)."""


def write_chats(prompt: Prompt, masks: Masks) -> list[str]:
    """The messages under every mask as JSON; other prompts are one of the user's."""
    if isinstance(prompt, WritesMessages):
        chats = prompt.write_messages(masks)
    else:
        written = prompt.write_all(masks)
        chats = [[{"role": "user", "content": text}] for text in written]
    return [json.dumps(chat, ensure_ascii=False) for chat in chats]


def read_chat(written: str) -> list[dict[str, Any]]:
    """The messages again."""
    return json.loads(written)
