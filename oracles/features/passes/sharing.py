"""Which token sequences can start where another has already been computed.

Ablations of one prompt begin alike: with what is pinned in front, and with the first
segments that several masks keep. What a causal model computes of a prefix serves every
sequence that begins with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHORTEST_SHARED = 8  # tokens; fewer are not worth a pass that waits for another


@dataclass(frozen=True)
class Sharing:
    """Who takes the start of whom.

    Attributes:
        donors: for each sequence the one whose first tokens it shares, or -1.
        shared: how many tokens those are; 0 without a donor.
        levels: sequences that can run together, after all levels before them.
    """

    donors: list[int]
    shared: list[int]
    levels: list[list[int]]

    def lent(self) -> list[int]:
        """How many first tokens of each sequence others take."""
        lent = [0] * len(self.donors)
        for donor, shared in zip(self.donors, self.shared, strict=True):
            if donor >= 0:
                lent[donor] = max(lent[donor], shared)
        return lent


def nothing_shared(count: int) -> Sharing:
    """Every sequence on its own."""
    return Sharing([-1] * count, [0] * count, [list(range(count))])


def share_prefixes(
    sequences: Sequence[NDArray[np.int64]], shareable: Sequence[int]
) -> Sharing:
    """A sharing under which no common prefix is computed twice.

    Neighbours in lexicographic order are joined into groups, those with the longest
    common prefix first. Of two groups that meet, the smaller takes its start from the
    larger, so that there are at most 1 + log2(m) levels.

    Args:
        sequences: m distinct sequences, in lexicographic order.
        shareable: how many first tokens of each may come from another.

    >>> tokens = np.arange(30)
    >>> plan = share_prefixes([tokens, np.append(tokens[:20], 7)], [29, 20])
    >>> plan.donors, plan.shared, plan.levels
    ([1, -1], [20, 0], [[1], [0]])
    """
    count = len(sequences)
    common = [0] + [
        common_prefix(sequences[i - 1], sequences[i]) for i in range(1, count)
    ]
    donors, shared = [-1] * count, [0] * count
    group, size = list(range(count)), [1] * count

    def find(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for i in sorted(range(1, count), key=lambda i: -common[i]):
        taker, giver = sorted((find(i - 1), find(i)), key=lambda root: size[root])
        tokens = min(common[i], shareable[taker])
        if tokens >= SHORTEST_SHARED:
            donors[taker], shared[taker] = giver, tokens
            group[taker] = giver
            size[giver] += size[taker]
    return Sharing(donors, shared, _levels(donors))


def common_prefix(first: NDArray[np.int64], second: NDArray[np.int64]) -> int:
    """How many first elements two arrays have in common."""
    shorter = min(len(first), len(second))
    differ = first[:shorter] != second[:shorter]
    return int(differ.argmax()) if differ.any() else shorter


def _levels(donors: Sequence[int]) -> list[list[int]]:
    depth: dict[int, int] = {-1: -1}

    def depth_of(i: int) -> int:
        if i not in depth:
            depth[i] = depth_of(donors[i]) + 1
        return depth[i]

    levels: list[list[int]] = []
    for i in range(len(donors)):
        while len(levels) <= depth_of(i):
            levels.append([])
        levels[depth_of(i)].append(i)
    return levels
