"""Subset search in the table of all subsets, for few players."""

import numpy as np
from numpy.typing import NDArray

from spex.exact import every_mask, walsh_hadamard
from spex.search.goal import Array, Bools, Goal

MOST_TABLED = 18  # players that may be removed: 2^18 values


def best_in_table(goal: Goal, num_removed: int) -> Bools:
    """The mask of the largest gain with so many removed."""
    gains, removed = _table(goal)
    code = int(np.where(removed == num_removed, gains, -np.inf).argmax())
    return code >> np.arange(goal.num_free) & 1 == 1


def fewest_in_table(goal: Goal, gain: float) -> int | None:
    """How few need to be removed for a gain; None if none will do."""
    gains, removed = _table(goal)
    reaches = gains >= gain
    return int(removed[reaches].min()) if reaches.any() else None


def _table(goal: Goal) -> tuple[Array, NDArray[np.int64]]:
    """Gain and number of removed players of all subsets, in binary order."""
    table = np.zeros(2**goal.num_free)
    codes = [sum(1 << i for i in support) for support in goal.supports]
    table[codes] = goal.coefficients
    removed = goal.num_free - every_mask(goal.num_free).sum(axis=1)
    return goal.constant + walsh_hadamard(table), removed
