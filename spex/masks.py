"""Uniform random masks, nested in their number."""

from math import ceil

import numpy as np

from oracles import Masks, distinct_masks

ENUMERABLE = 20  # up to this many players masks are drawn by number, without repeats


def uniform_masks(num_players: int, count: int, rng: np.random.Generator) -> Masks:
    """`count` distinct uniform random masks after the intact one: (count + 1, n).

    The same generator state and a larger count give the same masks first, so a larger
    budget reuses every ablation already paid for.
    """
    intact = np.ones((1, num_players), dtype=bool)
    if num_players <= ENUMERABLE:
        codes = rng.permutation(2**num_players - 1)[:count, None]
        drawn = (codes >> np.arange(num_players)) & 1 == 1
        return np.concatenate([intact, drawn])
    masks = intact
    while len(masks) <= count:
        # four rows fill whole words of the generator, so that what follows does not
        # depend on where a draw ended
        rows = 4 * ceil((count + 1 - len(masks)) / 4)
        drawn = rng.integers(0, 2, (rows, num_players), dtype=np.uint8) == 1
        masks = np.concatenate([masks, drawn])
        masks = masks[distinct_masks(masks)[0]]
    return masks[: count + 1]
