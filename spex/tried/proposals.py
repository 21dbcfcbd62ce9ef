"""Sets of a size that a surrogate proposes, and how much is to be expected of them."""

from collections.abc import Collection
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from oracles import Masks
from spex.search import best_subset
from spex.spectrum import SparseFourier

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

WIDTH = 40
"""Most players on each side that change places: 1,600 sets next to one."""


@dataclass(frozen=True)
class Aim:
    """What is wanted of the sets of a size.

    Attributes:
        size: how many players are kept.
        towards: the value that the output is to be closest to; inf for the largest
            value, -inf for the smallest.
    """

    size: int
    towards: float = inf

    def losses(self, values: Array) -> Array:
        """What is to be small, (m,) for values (m,)."""
        if isfinite(self.towards):
            return np.abs(values - self.towards)
        return np.asarray(-np.sign(self.towards) * values)

    def expected_gains(self, predicted: Array, error: float, least: float) -> Array:
        """By how much sets are better on average than the best so far, (m,).

        The mean of max(0, least - loss) where values are normal (Jones, Schonlau &
        Welch 1998, "Efficient global optimization", eq. 15, of -loss).

        Args:
            predicted: values of sets, (m,), the means.
            error: their standard deviation.
            least: loss of the best so far.
        """
        if not isfinite(self.towards):
            return _excess(least - self.losses(predicted), error)
        off = predicted - self.towards
        # max(0, least - |off|) is a line with three bends
        rise = _excess(off + least, error) - _excess(off, error)
        return rise - (_excess(off, error) - _excess(off - least, error))


def _excess(means: Array, deviation: float) -> Array:
    """Mean of max(0, x) with x normal."""
    if deviation == 0:
        return np.maximum(means, 0)
    z = means / deviation
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return np.asarray(means * ndtr(z) + deviation * density)


@dataclass(frozen=True, eq=False)
class Surrogate:
    """What is known of one output.

    Attributes:
        fourier: its spectrum; k = 1.
        error: standard deviation of what values are away from it.
    """

    fourier: SparseFourier
    error: float

    def __call__(self, masks: Masks) -> Array:
        """Values (m,) of masks (m, n)."""
        return self.fourier(masks)[:, 0]


def proposals(
    surrogate: Surrogate,
    aim: Aim,
    best: Bools | None,
    removable: Collection[int],
    time_limit: float,
) -> Masks:
    """Distinct masks (m, n) of the aim's size, what a search finds first.

    They are the set that the surrogate takes for the best, the players with the largest
    effects on their own, and all in which a kept and a removed player of the best, by
    the surrogate and so far, change places. Towards a value, for which there is no
    exact search, the largest set and all others are improved by such exchanges.

    Args:
        surrogate: of one output.
        aim: what is wanted.
        best: mask of the best so far, (n,); None if there is none.
        removable: players that may be ablated; others are kept.
        time_limit: seconds, about, of the search.
    """
    free = np.isin(np.arange(surrogate.fourier.num_players), list(removable))
    known = [] if best is None else [best]
    first = _searched(surrogate, aim, free, time_limit)
    heads = [first, *_by_effects(surrogate.fourier, aim, free)]
    if isfinite(aim.towards):
        heads = [_climbed(surrogate, aim, mask, free) for mask in heads + known]
        first = heads[int(aim.losses(surrogate(np.array(heads))).argmin())]
    near = [_exchanges(surrogate, aim, mask, free) for mask in [first, *known]]
    masks = np.concatenate([np.array(heads), *near])
    _, places = np.unique(np.packbits(masks, axis=1), axis=0, return_index=True)
    return masks[np.sort(places)]


def _searched(surrogate: Surrogate, aim: Aim, free: Bools, time_limit: float) -> Bools:
    """The largest or the smallest by exact search."""
    found = best_subset(
        surrogate.fourier,
        aim.size,
        largest=aim.towards > -inf,
        removable=np.flatnonzero(free).tolist(),
        time_limit=time_limit,
    )
    return np.isin(np.arange(len(free)), found.kept)


def _climbed(surrogate: Surrogate, aim: Aim, mask: Bools, free: Bools) -> Bools:
    """A mask improved by the best exchange of two players, again and again."""
    for _ in range(len(mask)):
        trial = np.concatenate([mask[None], _exchanges(surrogate, aim, mask, free)])
        best = int(aim.losses(surrogate(trial)).argmin())
        if best == 0:
            break
        mask = trial[best]
    return mask


def _by_effects(fourier: SparseFourier, aim: Aim, free: Bools) -> list[Bools]:
    """The players that alone do most; towards a value also those of either sign."""
    effects = mean_effects(fourier)
    if aim.towards == -inf:
        effects = -effects
    scores = [effects, np.abs(effects)] if isfinite(aim.towards) else [effects]
    masks = []
    for score in scores:
        order = np.argsort(-np.where(free, score, inf), kind="stable")
        masks.append(np.isin(np.arange(len(free)), order[: aim.size]))
    return masks


def mean_effects(fourier: SparseFourier, output: int = 0) -> Array:
    """What keeping each player adds to an output, over uniform masks, (n,)."""
    effects = np.zeros(fourier.num_players)
    for support, row in zip(fourier.supports, fourier.coefficients, strict=True):
        if len(support) == 1:
            effects[support[0]] = -2 * row[output]
    return effects


def _exchanges(surrogate: Surrogate, aim: Aim, mask: Bools, free: Bools) -> Masks:
    """Masks in which a kept and a removed player change places, (m, n).

    Where there are many players only those that are best changed by themselves.
    """
    sides = [np.flatnonzero(mask & free), np.flatnonzero(~mask)]
    for number, players in enumerate(sides):
        if len(players) > WIDTH:
            alone = np.repeat(mask[None], len(players), axis=0)
            alone[np.arange(len(players)), players] ^= True
            order = aim.losses(surrogate(alone)).argsort(kind="stable")
            sides[number] = players[order[:WIDTH]]
    removed, added = sides
    masks = np.repeat(mask[None], len(removed) * len(added), axis=0)
    rows = np.arange(len(masks))
    masks[rows, np.repeat(removed, len(added))] = False
    masks[rows, np.tile(added, len(removed))] = True
    return masks
