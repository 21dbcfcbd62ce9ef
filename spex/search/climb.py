"""Quick searches: what an exact one has to beat, and what is left if its time is up."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from spex.search.goal import Array, Bools, Goal

MOST_SWAPS = 500


def thinned(goal: Goal, num_removed: int, enough: float = np.inf) -> Bools:
    """Players removed one by one, until so many are or the gain is enough."""
    mask = np.ones(goal.num_free, dtype=bool)
    for _ in range(num_removed):
        if goal.gain(mask) >= enough:
            break
        mask[np.where(mask, _effects(goal, mask), -np.inf).argmax()] = False
    return mask


def filled(goal: Goal, num_kept: int) -> Bools:
    """So many players kept, one by one."""
    mask = np.zeros(goal.num_free, dtype=bool)
    for _ in range(num_kept):
        mask[np.where(mask, -np.inf, _effects(goal, mask)).argmax()] = True
    return mask


def swapped(goal: Goal, mask: Bools) -> Bools:
    """A mask improved for as long as a kept player and a removed one can change places.

    The changes tried are all between two players that share a term, and the best two
    players each on their own: two that share none add their effects.
    """
    if mask.all() or not mask.any():
        return mask
    mask = mask.copy()
    columns = goal.members.T.tocsr()
    for _ in range(MOST_SWAPS):
        terms = goal.terms(mask)
        effects = -2 * (columns @ terms)
        shared = (columns * terms @ goal.members).tocsr()
        kept, removed = shared.nonzero()
        is_swap = mask[kept] & ~mask[removed]
        best_kept = np.where(mask, effects, -np.inf).argmax()
        best_removed = np.where(mask, -np.inf, effects).argmax()
        kept = np.append(kept[is_swap], best_kept)
        removed = np.append(removed[is_swap], best_removed)
        # a term with both keeps its value, but is in both effects
        gains = effects[kept] + effects[removed] + 4 * _entries(shared, kept, removed)
        best = int(gains.argmax())
        if gains[best] <= goal.slack:
            break
        mask[kept[best]], mask[removed[best]] = False, True
    return mask


def _effects(goal: Goal, mask: Bools) -> Array:
    """What changing each player alone adds to the gain."""
    return -2 * (goal.members.T @ goal.terms(mask))


def _entries(
    matrix: sparse.csr_array, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> Array:
    return np.asarray(matrix[rows, columns]).ravel()
