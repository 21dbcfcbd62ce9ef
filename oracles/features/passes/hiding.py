"""Removal by attention: hidden tokens stay where they are, and no other sees them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks
from oracles.features.prompts.prompt import Prompt
from oracles.features.prompts.removal import ATTENTION


def is_hiding(prompt: Prompt) -> bool:
    """Whether removed segments are hidden from attention."""
    return prompt.description.get("removal") == ATTENTION


def kept_tokens(
    offsets: Sequence[tuple[int, int]],
    text: str,
    places: Sequence[tuple[int, int]],
    masks: Masks,
) -> NDArray[np.bool_]:
    """Which tokens of the intact prompt are seen under every mask, (m, tokens).

    A token is hidden if all players that it has characters of are removed. White space
    goes with the player before it, as it does when segments are deleted. What belongs
    to no player, special tokens with it, is always seen.

    Args:
        offsets: each token's [start, end) in the text; (0, 0) for special tokens, and
            [i, i) with i > 0 where a tokenizer shows none of a token's white space.
        text: the intact prompt.
        places: each player's [start, end) in it.
        masks: shape (m, n).
    """
    pinned = len(places)
    owner = np.full(len(text), -1)
    for player, (start, end) in enumerate(places):
        owner[start:end] = player
    is_space = np.array([character.isspace() for character in text], dtype=bool)
    for i in np.flatnonzero(is_space & (owner < 0)):
        owner[i] = owner[i - 1] if i else -1
    owner[owner < 0] = pinned
    owns = np.zeros((len(places) + 1, len(offsets)), dtype=np.float32)
    for token, (start, end) in enumerate(offsets):
        if 0 < start == end:
            start -= 1
        words = [i for i in range(start, end) if not is_space[i]]
        owners = owner[words or slice(start, end)]
        owns[owners if len(owners) else [pinned], token] = 1
    always = np.ones((len(masks), 1), dtype=np.float32)
    return np.hstack([masks.astype(np.float32), always]) @ owns > 0
