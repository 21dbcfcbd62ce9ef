"""Which masks to ablate: uniform, in pairs, as orthogonal arrays, by size, or biased.

All begin with all players and with none, which Shapley values hang on, and a larger
budget begins with the masks of a smaller one. But in the design for Shapley values, and
where masks keep other than half of the players, each mask by itself is uniform over all
2^n; what differs is how the masks of one design hang together. Masks that hang together
with those learned from are easier to predict than fresh ones: pairs are therefore held
out together, and the R^2 of orthogonal arrays is a little too high (by .01 to .05 where
it was measured).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from math import ceil, log, log2

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from oracles import Masks, distinct_masks
from spex.errors import MethodError
from spex.masks import uniform_masks

ROWS = 64  # of a block drawn at a time
LEAST_STRATUM = 10  # players
UNUSUAL = 4.0  # standard deviations
MOST_DRAWN = 20  # masks for each one wanted, where many are alike

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


def biased_masks(
    num_players: int,
    count: int,
    rng: np.random.Generator,
    keep: float,
    strata: Sequence[int] | None = None,
) -> Masks:
    """Masks that keep each player with probability `keep`.

    Players are drawn one by one, or, with strata, so many in all as in a draw one by
    one, and of every stratum its share of them, rounded up or down at random
    (systematic sampling in an order that is random within each stratum).

    Args:
        num_players: n.
        count: masks after the intact one. Fewer come back where a large part of all
            that are probable is asked for.
        rng: of the draws.
        keep: above 0 and below 1.
        strata: number of each player's stratum, (n,).
    """
    groups = None if strata is None else np.asarray(strata)

    def drawn() -> Iterator[Masks]:
        yield np.zeros((1, num_players), dtype=bool)
        for _ in range(MOST_DRAWN * (1 + count)):
            if groups is None:
                yield rng.random((1, num_players)) < keep
            else:
                yield _stratified(groups, rng.binomial(num_players, keep), rng)

    return _gathered(num_players, count, drawn())


def _stratified(
    strata: NDArray[np.int64], size: int, rng: np.random.Generator
) -> Masks:
    """A mask of that size with each stratum's share, (1, n)."""
    n = len(strata)
    order = np.lexsort([rng.random(n), strata])
    # from random strata's order, so that rounding does not favour a neighbour
    order = np.roll(order, rng.integers(n))
    places = np.floor(np.arange(n + 1) * (size / n) + rng.random())
    mask = np.zeros((1, n), dtype=bool)
    mask[0, order] = np.diff(places) > 0
    return mask


def check_strata(strata: Sequence[int]) -> None:
    """Raise MethodError if a stratum is so small that its players hang together.

    Of two players in a stratum of s the correlation is about -1 / (s - 1).
    """
    numbers, counts = np.unique(strata, return_counts=True)
    if counts.min(initial=LEAST_STRATUM) < LEAST_STRATUM:
        smallest = numbers[counts.argmin()]
        raise MethodError(
            f"stratum {smallest} has {counts.min()} players; in strata of fewer than "
            f"{LEAST_STRATUM} they cannot be told apart. Join small strata."
        )


def size_spread(masks: Masks, keep: float) -> float:
    """How far the sizes of masks (m, n) are spread, next to masks that keep so many.

    In standard deviations from what is expected of these: 0, with a spread of about 1.
    It is of the mean of (|S| - n p)^2 / (n p (1 - p)), with variance 2 / m.
    """
    n = masks.shape[1]
    expected, variance = n * keep, n * keep * (1 - keep)
    spread = ((masks.sum(axis=1) - expected) ** 2 / variance).mean()
    return float((spread - 1) / np.sqrt(2 / len(masks)))


def is_sample(masks: Masks, keep: float) -> bool:
    """Whether the sizes of masks (m, n) are spread as those that keep so many are."""
    return abs(size_spread(masks, keep)) <= UNUSUAL


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


def size_weights(masks: Masks, keep: float = 0.5) -> NDArray[np.float64]:
    """What makes masks (m, n), of some sizes more often, a sample that keeps so many.

    The part of all such masks that are of its size, over that part of those given
    (post-stratification), (m,).
    """
    sizes, n = masks.sum(axis=1), masks.shape[1]
    logs = gammaln(n + 1) - gammaln(sizes + 1) - gammaln(n - sizes + 1)
    logs += sizes * log(keep) + (n - sizes) * log(1 - keep)
    weights: NDArray[np.float64] = np.exp(logs - logs.max())
    return weights / np.bincount(sizes)[sizes]


def _gathered(num_players: int, count: int, parts: Iterator[Masks]) -> Masks:
    """Distinct masks after the intact one, as many as asked for."""
    found = np.ones((1, num_players), dtype=bool)
    while len(found) <= count:
        wanted = count + 1 - len(found)
        more = [*islice(parts, max(1, wanted // ROWS))]
        if not more:
            break
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
