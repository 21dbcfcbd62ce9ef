"""Which masks to ablate: uniform, in pairs, as orthogonal arrays, or by size.

All begin with all players and with none, which Shapley values hang on, and a larger
budget begins with the masks of a smaller one. But in the design for Shapley values,
each mask by itself is uniform over all 2^n; what differs is how the masks of one design
hang together. Masks that hang together with
those learned from are easier to predict than fresh ones: pairs are therefore held out
together, and the R^2 of orthogonal arrays is a little too high (by .01 to .05 where it
was measured).
"""

from collections.abc import Callable, Iterator, Sequence
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from oracles import Masks, distinct_masks
from spex.masks import uniform_masks

ROWS = 64  # of a block drawn at a time
UNUSUAL = 4.0  # standard deviations

Design = Callable[[int, int, np.random.Generator], Masks]
"""(players, masks after the intact one, generator) -> masks (count + 1, n)."""


def independent_masks(num_players: int, count: int, rng: np.random.Generator) -> Masks:
    """Uniform masks, each by itself."""
    drawn = uniform_masks(num_players, count, rng)[1:]
    ends = np.array([[True], [False]]).repeat(num_players, axis=1)
    return np.concatenate([ends, drawn[drawn.any(axis=1)]])[: count + 1]


def paired_masks(num_players: int, count: int, rng: np.random.Generator) -> Masks:
    """Every mask next to its complement, which tells odd from even orders."""

    def pairs() -> Iterator[Masks]:
        yield np.zeros((1, num_players), dtype=bool)  # the intact one's
        while True:
            drawn = rng.integers(0, 2, (1, num_players), dtype=np.uint8) == 1
            yield np.concatenate([drawn, ~drawn])

    return _gathered(num_players, count, pairs())


def is_uniform(masks: Masks) -> bool:
    """Whether the sizes of masks (m, n) are spread as a uniform sample's are.

    The mean of (2 |S| - n)^2 / n is 1 for these, with a variance of at most 2 / m.
    """
    n = masks.shape[1]
    spread = ((2.0 * masks.sum(axis=1) - n) ** 2 / n).mean()
    return bool(abs(spread - 1) <= UNUSUAL * np.sqrt(2 / len(masks)))


def orthogonal_masks(num_players: int, count: int, rng: np.random.Generator) -> Masks:
    """Randomly shifted Reed-Muller codes RM(1, k), players at random positions.

    Within a block of 2^(k + 1) masks, 2^k >= n, any three players take all 8 patterns
    equally often (strength 3; Hedayat, Sloane & Stufken 1999, section 5.8), so that
    effects of order one are told apart from each other and from pairs exactly.
    """
    bits = max(1, ceil(log2(num_players)))
    block = 2 ** (bits + 1)
    order = rng.permutation(block)

    def shifted() -> Iterator[Masks]:
        yield np.zeros((1, num_players), dtype=bool)
        while True:
            places = rng.permutation(2**bits)[:num_players]
            shift = rng.integers(0, 2, num_players, dtype=np.uint8)
            for start in range(0, block, ROWS):
                words = order[start : start + ROWS]
                overlap = np.bitwise_count(words[:, None] >> 1 & places)
                yield (overlap + (words[:, None] & 1) + shift) & 1 == 1

    return _gathered(num_players, count, shifted())


def shapley_masks(num_players: int, count: int, rng: np.random.Generator) -> Masks:
    """Masks of every size equally often, in pairs, as Shapley values weigh them.

    A third are of one player, and of all but one, until all are there, which takes 6 n
    masks: together they count for as much as all masks of a size in the middle (Musco &
    Witter 2025 sample sizes equally often, too).
    """

    def pair(players: Sequence[int]) -> Masks:
        row = np.zeros((1, num_players), dtype=bool)
        row[0, players] = True
        return np.concatenate([row, ~row])

    def of_any_size() -> Masks:
        size = rng.integers(1, max(2, num_players))
        return pair(rng.permutation(num_players)[:size].tolist())

    def pairs() -> Iterator[Masks]:
        yield np.zeros((1, num_players), dtype=bool)  # the intact one's
        for player in rng.permutation(num_players).tolist():
            yield pair([player])
            yield of_any_size()
            yield of_any_size()
        while True:
            yield of_any_size()

    return _gathered(num_players, count, pairs())


def size_weights(masks: Masks) -> NDArray[np.float64]:
    """What makes masks (m, n), of some sizes more often, a uniform sample, (m,).

    The part of all masks that are of its size, over that part of those given
    (post-stratification).
    """
    sizes, n = masks.sum(axis=1), masks.shape[1]
    logs = gammaln(n + 1) - gammaln(sizes + 1) - gammaln(n - sizes + 1)
    weights: NDArray[np.float64] = np.exp(logs - logs.max())
    return weights / np.bincount(sizes)[sizes]


def _gathered(num_players: int, count: int, parts: Iterator[Masks]) -> Masks:
    """Distinct masks after the intact one, as many as asked for."""
    found = np.ones((1, num_players), dtype=bool)
    while len(found) <= count:
        wanted = count + 1 - len(found)
        more = [next(parts) for _ in range(max(1, wanted // ROWS))]
        found = np.concatenate([found, *more])
        found = found[distinct_masks(found)[0]]
    return found[: count + 1]


DESIGNS: dict[str, Design] = {
    "uniform": independent_masks,
    "paired": paired_masks,
    "orthogonal": orthogonal_masks,
    "shapley": shapley_masks,
}
"""By name. Uniform is the default: see the benchmarks' log."""
