"""Chains: players in the order in which a ranking would remove them.

What a chain's first s players do when they are removed is measured at some sizes s, and
read off between them, so that the size at which an output crosses 0 is found in a few
steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from spex.spectrum import Support

FINEST = 16  # a size is known well enough to within this part of it
FARTHEST = 3  # times the largest size measured, that is looked at next
LESS = 0.75  # of what flips already: where a chain is looked at first
FIRST = 4  # of a chain of which nothing is known, so many parts make the first size

Array = NDArray[np.float64]


@dataclass(eq=False)
class Chain:
    """Nested removals: the first s players of an order, for any s.

    A gain here is how far the output is from having flipped: below 0 it has.

    Attributes:
        players: those that it would remove, in that order.
        start: the size that is looked at first.
        gains: by size, what was measured; of size 0, the full input's.
    """

    players: Support
    start: int
    gains: dict[int, float] = field(default_factory=dict)

    def first(self, size: int) -> Support:
        """The first players, increasing."""
        return tuple(sorted(self.players[:size]))

    def crossing(self) -> float:
        """The size from which it flips, about; infinite where it does not, and 0 where
        nothing was measured, so that every chain is looked at."""
        low, high = self._bracket()
        if high is None:
            if not low:
                return 0.0
            fallen = self.gains[0] - self.gains[low]
            return low * self.gains[0] / fallen if fallen > 0 else inf
        return low + (high - low) * _part(self.gains[low], self.gains[high])

    def next_size(self, most: int) -> int | None:
        """The size to look at next, `most` or less; None if it needs none."""
        most = min(most, len(self.players))
        low, high = self._bracket()
        if low >= most:
            return None
        if high is None:
            # the first time, well below what flips already by another chain
            wanted = self.crossing() if low else min(self.start, ceil(LESS * most))
            reach = max(FARTHEST * low, self.start)
            return min(max(ceil(min(wanted, reach)), low + 1), most)
        if high - low <= max(1, high // FINEST):
            return None
        # by turns, as either alone may creep up on the crossing from one side
        middle = self.crossing() if len(self.gains) % 2 else (low + high) / 2
        return min(max(ceil(middle), low + 1), high - 1, most)

    def _bracket(self) -> tuple[int, int | None]:
        """The largest size measured that did not flip below the smallest that did."""
        flipped = [size for size, gain in self.gains.items() if gain < 0]
        high = min(flipped, default=None)
        below = [size for size in self.gains if high is None or size < high]
        return max(below), high


def chain_of(effects: Array, first: Support, start: int | None, intact: float) -> Chain:
    """The players whose removal moves an output across 0, strongest first.

    Args:
        effects: how much removing each player moves it, (n,), in any units.
        first: a set that comes before all others; may be none.
        start: the size that is looked at first; by default a part of the chain.
        intact: how far the full input is from having flipped.
    """
    order = np.argsort(-effects, kind="stable")
    is_first = np.isin(order, list(first))
    players = np.append(order[is_first], order[~is_first & (effects[order] > 0)])
    some = players[: len(effects) - 1].tolist()  # nothing is learned from nobody
    begin = ceil(len(some) / FIRST) if start is None else start
    return Chain(tuple(some), max(begin, 1), {0: intact})


def mixed(effects: Sequence[Array]) -> Array:
    """The sum of what several guesses say, each by its spread over the players, (n,).

    What they agree on comes first; of one that says the same of all there is nothing.
    """
    spreads = [float(each.std()) for each in effects]
    parts = [each / s for each, s in zip(effects, spreads, strict=True) if s > 0]
    return np.sum(parts, axis=0) if parts else np.zeros_like(effects[0])


def _part(above: float, below: float) -> float:
    """Where a line from `above` 0 to `below` crosses it, from 0 to 1."""
    return above / (above - below)
