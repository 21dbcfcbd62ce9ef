"""Removal by attention: hidden tokens stay where they are, and no other sees them."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.base import Masks
from oracles.features.prompts import Prompt
from oracles.features.removal import ATTENTION

MARK_BITS = 32  # below a mark: the token id


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
        offsets: each token's [start, end) in the text; (0, 0) for special tokens.
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
        words = [i for i in range(start, end) if not is_space[i]]
        owners = owner[words or slice(start, end)]
        owns[owners if len(owners) else [pinned], token] = 1
    always = np.ones((len(masks), 1), dtype=np.float32)
    return np.hstack([masks.astype(np.float32), always]) @ owns > 0


@dataclass(frozen=True)
class HiddenText:
    """A text of which tokens are hidden from an encoder.

    Models that are told positions read the tokens that are seen, as if the others were
    there; others read them all, with holes in the attention mask.

    Attributes:
        ids: tokens of the intact text.
        is_told_positions: whether the model is.
    """

    ids: Sequence[int]
    is_told_positions: bool

    def sequences(self, kept: NDArray[np.bool_]) -> list[list[int]]:
        """The tokens under every row of `kept` (m, tokens), with a mark on each.

        The mark is the token's position, or 1 if it is hidden.
        """
        ids = np.array(self.ids, dtype=np.int64)
        if self.is_told_positions:
            marked = ids | np.arange(len(ids)) << MARK_BITS
            return [marked[row].tolist() for row in kept]
        return [(ids | (~row).astype(np.int64) << MARK_BITS).tolist() for row in kept]

    def inputs(self, marked: Any, mask: Any) -> dict[str, Any]:
        """Arguments of the model's forward pass for a batch of marked sequences."""
        ids, marks = marked & (2**MARK_BITS - 1), marked >> MARK_BITS
        if self.is_told_positions:
            return {"input_ids": ids, "attention_mask": mask, "position_ids": marks}
        return {"input_ids": ids, "attention_mask": mask * (1 - marks)}


def hide(model: Any, ids: Sequence[int]) -> HiddenText:
    """How tokens of a text are hidden from a model that gives `logits` for each text.

    Both ways are tried on the text with every other token hidden.
    """
    import torch

    kept = np.arange(len(ids))[None] % 2 == (len(ids) - 1) % 2
    kept[:, 0] = True
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return HiddenText(ids, is_told_positions=False)
    found: list[Any] = []
    for way in (HiddenText(ids, True), HiddenText(ids, False)):
        marked = torch.tensor(way.sequences(kept), device=model.device)
        with torch.inference_mode():
            inputs = way.inputs(marked, torch.ones_like(marked))
            found.append(model(**inputs).logits.float().cpu())
    near = torch.finfo(model.dtype).eps ** 0.5
    return HiddenText(ids, torch.allclose(found[0], found[1], near, near))
