"""Uniform random masks, nested in their number."""

import numpy as np

from oracles import Masks

ENUMERABLE = 20  # below this many players masks are drawn by number, without repeats


def uniform_masks(num_players: int, count: int, rng: np.random.Generator) -> Masks:
    """`count` distinct uniform random masks after the intact one: (count + 1, n).

    The same generator state and a larger count give the same masks first, so a larger
    budget reuses every ablation already paid for.
    """
    intact = np.ones((1, num_players), dtype=bool)
    if num_players <= ENUMERABLE:
        codes = rng.permutation(2**num_players - 1)[:count, None]
        drawn = (codes >> np.arange(num_players)) & 1 == 1
    else:
        drawn = rng.integers(0, 2, (count, num_players), dtype=np.uint8) == 1
    return np.concatenate([intact, drawn])
