"""Shapley-type indices with the values measured at the ends put in.

The Shapley interaction index of T weighs the coalition S by

    (-1)^(t - l) / ((n - t + 1) C(n - t, s - l)),   s = |S|, t = |T|, l = |S & T|

(Grabisch & Roubens 1999): each size counts the same, so the few coalitions of no, one,
all but one and all players, the ends, weigh as much as all C(n, n/2) of the middle, to
which the surrogate is fitted. Where an end was measured, its value takes the place of
the surrogate's; those of no and of all players only together, as one alone would shift
all effects by half of what they miss. Shapley values then add up to v(all) - v(none).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles import Masks, Values, averaged
from spex.indices import bernoulli, fourier_weight
from spex.spectrum import SparseFourier, Support

SHAPLEY_TYPE = ("SV", "SII", "k-SII")
MOST_SETS = 20_000  # where there are more, interactions stay the surrogate's

ROUNDING = 1e-12

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ends:
    """Something for every coalition at the ends, NaN where it is not known.

    Attributes:
        none, everyone: of no and of all players, (1, k).
        single, all_but: of one player and of all others, (n, k).
    """

    none: Array
    single: Array
    all_but: Array
    everyone: Array

    @classmethod
    def of(cls, masks: Masks, values: Values) -> "Ends":
        """The means of values (m, k) measured at masks (m, n)."""
        mean = averaged(masks, values)
        means, masks, n = mean.means, masks[mean.first], masks.shape[1]
        sizes = masks.sum(axis=1)

        def filled(size: int, players: Masks) -> Array:
            known = np.full((len(players.T), values.shape[1]), np.nan)
            rows = np.flatnonzero(sizes == size)
            known[players[rows].argmax(axis=1)] = means[rows]
            return known

        everyone = np.ones((len(masks), 1), dtype=bool)
        unknown = np.full((n, values.shape[1]), np.nan)
        return cls(
            filled(0, everyone),
            filled(1, masks) if n > 1 else unknown,
            filled(n - 1, ~masks) if n > 2 else unknown,  # of two, single players
            filled(n, everyone),
        )

    @classmethod
    def predicted(cls, spectrum: SparseFourier) -> "Ends":
        """What a surrogate says there."""
        n, k = spectrum.num_players, spectrum.num_outputs
        sums = np.zeros((2, n, k))  # of the coefficients a player is in
        totals = np.zeros((2, 1, k))
        for support, coefficient in zip(
            spectrum.supports, spectrum.coefficients, strict=True
        ):
            both = np.stack([coefficient, (-1) ** len(support) * coefficient])
            totals[:, 0] += both
            sums[:, list(support)] += both[:, None]
        (none, everyone), (inside, outside) = totals, 2 * sums
        return cls(none, none - inside, everyone - outside, everyone)

    def missed(self, spectrum: SparseFourier) -> "Ends":
        """Measured less predicted; 0 where it is not put in."""
        said = Ends.predicted(spectrum)
        none, everyone = self.none - said.none, self.everyone - said.everyone
        if np.isnan(none + everyone).any():
            none, everyone = np.zeros_like(none), np.zeros_like(everyone)
        return Ends(
            none,
            np.nan_to_num(self.single - said.single),
            np.nan_to_num(self.all_but - said.all_but),
            everyone,
        )

    def is_negligible(self, scale: Array) -> bool:
        """Whether all is 0 to rounding, next to values of that size (k,)."""
        parts = [getattr(self, part.name) for part in fields(self)]
        return all((np.abs(part) <= ROUNDING * scale).all() for part in parts)

    def to_json(self) -> dict[str, list[Any]]:
        """What is known, as JSON-ready [player, values] pairs; see `from_json`."""
        return {
            part.name: [
                [player, row.tolist()]
                for player, row in enumerate(getattr(self, part.name))
                if not np.isnan(row).any()
            ]
            for part in fields(self)
        }

    @classmethod
    def from_json(
        cls, data: Mapping[str, Any], num_players: int, num_outputs: int
    ) -> "Ends":
        """From what `to_json` returned.

        Raises:
            ValueError: it is of other players or outputs, or not finite.
        """
        tables = []
        for name, count in zip(
            ("none", "single", "all_but", "everyone"),
            (1, num_players, num_players, 1),
            strict=True,
        ):
            table = np.full((count, num_outputs), np.nan)
            for player, row in data[name]:
                values = np.array(row, dtype=np.float64)
                if not 0 <= player < count:
                    raise ValueError(f"the ends hold player {player} of {count}")
                if values.shape != (num_outputs,) or not np.isfinite(values).all():
                    raise ValueError(f"the ends hold {row} for {num_outputs} outputs")
                table[player] = values
            tables.append(table)
        return cls(*tables)


def put_in(
    ends: Ends,
    spectrum: SparseFourier,
    name: str,
    order: int,
    index: tuple[list[Support], Array, Array],
    variance: Array,
) -> tuple[list[Support], Array, Array]:
    """An index of the surrogate with the measured ends in the place of its own.

    Args:
        ends: measured, of (k,) values.
        spectrum: the surrogate's.
        name: one of `SHAPLEY_TYPE`.
        order: the largest set.
        index: the surrogate's: sets, values (sets, k), variances (sets, k).
        variance: of one coefficient of the spectrum, (k,).

    Returns:
        The same with the ends, of all sets up to `order`. It is returned as it came if
        the ends change nothing, or if there are more than `MOST_SETS` such sets and
        `order` is 2 or more. A set that no term of the spectrum contains has the
        variance of a coefficient of its own.
    """
    sets, values, variances = index
    n, missed = spectrum.num_players, ends.missed(spectrum)
    sizes = range(1, min(order, n) + 1)
    is_much = order > 1 and sum(comb(n, t) for t in sizes) > MOST_SETS
    if is_much or missed.is_negligible(np.abs(spectrum.coefficients).sum(axis=0)):
        return index
    everything = [s for t in sizes for s in combinations(range(n), t)]
    listed = [*(s for s in sets if not s), *everything]
    place = {players: row for row, players in enumerate(sets)}
    rows = np.array([place.get(players, -1) for players in listed], dtype=np.int64)
    lengths = np.array([len(players) for players in listed], dtype=np.int64)
    found = np.zeros((2, len(listed), values.shape[1]))
    found[:, rows >= 0] = values[rows[rows >= 0]], variances[rows[rows >= 0]]
    for t in np.unique(lengths).tolist():
        same = lengths == t
        players = np.array([s for s in listed if len(s) == t], dtype=np.int64)
        players = players.reshape(len(players), t)
        found[0, same] += _effects(missed, players, name, order)
        own = fourier_weight(name, order, t, t) ** 2 * variance
        found[1, same & (rows < 0)] = own
    return listed, found[0], found[1]


def _effects(missed: Ends, players: NDArray[np.int64], name: str, order: int) -> Array:
    """What the ends add to the index of sets of one size, (sets, t) -> (sets, k)."""
    n, t = len(missed.single), players.shape[1]
    if not t:  # k-SII: by convention v(empty)
        return missed.none
    if name != "k-SII":
        return _shapley(missed, players, t)
    # sum over the sets Q that hold T of Bernoulli(|Q| - t) SII(Q), by their mean
    total = np.zeros((len(players), missed.none.shape[1]))
    for q in range(t, min(order, n) + 1):
        weight = float(bernoulli(q - t)) * comb(n - t, q - t)
        total += weight * _shapley(missed, players, q)
    return total


def _shapley(missed: Ends, players: NDArray[np.int64], size: int) -> Array:
    """Mean Shapley interaction index of the sets of that size that hold players."""
    n, t = len(missed.single), players.shape[1]
    more = (size - t) / max(n - t, 1)  # of the others are in such a set

    def differ(part: Array) -> Array:
        """Mean over the players outside a set, less the sum over those inside."""
        total, own = part.sum(axis=0), part[players].sum(axis=1)
        inside = own + more * (total - own)
        return np.asarray((total - inside) / max(n - size, 1) - inside)

    few = missed.none + differ(missed.single)
    many = missed.everyone + differ(missed.all_but)
    return np.asarray(((-1) ** size * few + many) / (n - size + 1))
