"""Interaction indices in closed form from a sparse Fourier spectrum.

Every index here is linear in v and depends on sets only through their sizes, so each
is one table of weights W:

    I(T) = sum over S containing T of  W[|T|, |S|] F(S)

The Moebius coefficients are m(R) = (-2)^|R| sum_{S >= R} F(S) (Butler et al. 2025,
App. A.1). An index I(T) = sum_{R >= T} u(|T|, |R|) m(R) therefore has

    W[t, s] = sum_{r=t}^{s} C(s-t, r-t) u(t, r) (-2)^r

which is computed in exact fractions: the alternating sum cancels badly in floats.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from spex.errors import InteractionIndexError
from spex.spectrum import SparseFourier, Support

Weight = Callable[[int, int, int], Fraction]
"""u(t, r, order): weight of a Moebius coefficient of size r in I(T), |T| = t."""


@dataclass(frozen=True)
class InteractionIndex:
    """One interaction index.

    Attributes:
        name: the field's name for it.
        weight: u(t, r, order).
        source: where its formula stands.
        max_order: the largest order it is defined for; None if any.
        has_empty_set: whether I(empty) belongs to it, so that its terms add up to v.
    """

    name: str
    weight: Weight
    source: str
    max_order: int | None = None
    has_empty_set: bool = False


def _moebius(t: int, r: int, order: int) -> Fraction:
    return Fraction(t == r)


def _sii(t: int, r: int, order: int) -> Fraction:
    return Fraction(1, r - t + 1)


def _bii(t: int, r: int, order: int) -> Fraction:
    return Fraction(1, 2 ** (r - t))


def _k_sii(t: int, r: int, order: int) -> Fraction:
    if t == 0:  # by convention v(empty), so that the terms add up to v
        return Fraction(r == 0)
    # sum over the sets Q between T and R of Bernoulli(|Q| - t) SII weight(|Q|, r)
    return sum(
        (
            comb(r - t, q - t) * bernoulli(q - t) * _sii(q, r, order)
            for q in range(t, min(r, order) + 1)
        ),
        Fraction(0),
    )


def _stii(t: int, r: int, order: int) -> Fraction:
    return Fraction(1, comb(r, order)) if t == order else Fraction(t == r)


def _fsii(t: int, r: int, order: int) -> Fraction:
    if r <= order:
        return Fraction(t == r)
    sign = (-1) ** (order - t)
    tail = Fraction(comb(r - 1, order), comb(r + order - 1, order + t))
    return sign * Fraction(t, order + t) * comb(order, t) * tail


def _fbii(t: int, r: int, order: int) -> Fraction:
    if r <= order:
        return Fraction(t == r)
    sign = (-1) ** (order - t)
    return sign * Fraction(comb(r - t - 1, order - t), 2 ** (r - t))


INDICES = {
    index.name: index
    for index in (
        InteractionIndex("Moebius", _moebius, "Harsanyi 1963", None, True),
        InteractionIndex("SV", _sii, "Shapley 1953", 1),
        InteractionIndex("BV", _bii, "Banzhaf 1965", 1),
        InteractionIndex("SII", _sii, "Grabisch & Roubens 1999"),
        InteractionIndex("BII", _bii, "Grabisch & Roubens 1999"),
        InteractionIndex("k-SII", _k_sii, "Bord & von Luxburg 2023", None, True),
        InteractionIndex("STII", _stii, "Dhamdhere et al. 2020", None, True),
        InteractionIndex("FSII", _fsii, "Tsai et al. 2023, eq. 16", None, True),
        InteractionIndex("FBII", _fbii, "Tsai et al. 2023, eq. 13", None, True),
    )
}
"""Name -> interaction index. "Fourier" needs none: it is the spectrum itself."""


@lru_cache(maxsize=64)
def bernoulli(q: int) -> Fraction:
    """The Bernoulli number B_q, with B_1 = -1/2."""
    if q == 0:
        return Fraction(1)
    terms = (comb(q + 1, j) * bernoulli(j) for j in range(q))
    return -sum(terms, Fraction(0)) / (q + 1)


@lru_cache(maxsize=4096)
def fourier_weight(name: str, order: int, t: int, s: int) -> float:
    """W[t, s] of the index `name` of the given order."""
    weight = INDICES[name].weight
    return float(
        sum(
            (
                comb(s - t, r - t) * weight(t, r, order) * (-2) ** r
                for r in range(t, s + 1)
            ),
            Fraction(0),
        )
    )


def find_index(name: str, order: int) -> InteractionIndex:
    """The index of that name, if it is defined for that order.

    Raises:
        InteractionIndexError: unknown name, or order out of its range.
    """
    if name not in INDICES:
        known = ", ".join(["Fourier", *INDICES])
        raise InteractionIndexError(
            f"index={name!r} is not known. Choose from {known}."
        )
    index = INDICES[name]
    highest = index.max_order
    if order < 1 or (highest is not None and order > highest):
        allowed = "1 or more" if highest is None else f"{highest}"
        raise InteractionIndexError(
            f"order={order} is not defined for {name}; its order is {allowed}."
        )
    return index


def convert(
    spectrum: SparseFourier,
    name: str,
    order: int,
    variances: NDArray[np.float64] | None = None,
) -> tuple[list[Support], NDArray[np.float64], NDArray[np.float64]]:
    """An index of every set up to `order` that some support contains.

    Sets that no support contains have the value 0 and are left out: the work and the
    result are proportional to the spectrum, never to C(n, order).

    Args:
        spectrum: F.
        name: a key of `INDICES`.
        order: the largest |T|, and the order parameter of order-dependent indices.
        variances: shape (terms, k), of the coefficients; zero if omitted.

    Returns:
        The sets T, by size and then by index; values (sets, k); variances (sets, k),
        treating coefficients as independent.

    Raises:
        InteractionIndexError: unknown name, or order out of its range.
    """
    index = find_index(name, order)
    sizes = range(0 if index.has_empty_set else 1, order + 1)
    return sum_over_supersets(
        spectrum.supports,
        spectrum.coefficients,
        variances,
        lambda t, s: fourier_weight(name, order, t, s),
        sizes,
    )


def sum_over_supersets(
    supports: Sequence[Support],
    coefficients: NDArray[np.float64],
    variances: NDArray[np.float64] | None,
    weight: Callable[[int, int], float],
    sizes: Iterable[int],
) -> tuple[list[Support], NDArray[np.float64], NDArray[np.float64]]:
    """sum over S containing T of weight(|T|, |S|) F(S), for all T inside some S.

    Args:
        supports: the sets S, distinct.
        coefficients: shape (terms, k).
        variances: shape (terms, k), of the coefficients; zero if omitted.
        weight: weight(t, s).
        sizes: of the sets T that are wanted.

    Returns:
        The sets T, by size and then by index; sums (sets, k); their variances (sets,
        k), treating coefficients as independent.
    """
    if variances is None:
        variances = np.zeros_like(coefficients)
    moments = np.concatenate([coefficients, variances], axis=1)
    sets: list[Support] = []
    tables = [np.zeros((0, moments.shape[1]))]
    for t in sizes:
        members, table = _sums_of_size(supports, moments, weight, t)
        sets += members
        tables.append(table)
    sums, spreads = np.hsplit(np.concatenate(tables), 2)
    return sets, sums, spreads


def _sums_of_size(
    supports: Sequence[Support],
    moments: NDArray[np.float64],
    weight: Callable[[int, int], float],
    t: int,
) -> tuple[list[Support], NDArray[np.float64]]:
    """Sums and their variances for all |T| = t: sets and a (sets, 2k) table."""
    k = moments.shape[1] // 2
    subsets: list[NDArray[np.int64]] = []
    weighted: list[NDArray[np.float64]] = []
    lengths = np.array([len(support) for support in supports])
    for s in range(t, lengths.max(initial=0) + 1):
        rows = np.flatnonzero(lengths == s).tolist()
        factor = weight(t, s)
        if not len(rows) or factor == 0:
            continue
        players = np.array([supports[r] for r in rows]).reshape(len(rows), s)
        positions = np.array([*combinations(range(s), t)], dtype=int)
        positions = positions.reshape(comb(s, t), t)
        subsets.append(players[:, positions].reshape(len(rows) * comb(s, t), t))
        scale = np.repeat([factor, factor**2], k)
        weighted.append(np.repeat(moments[rows] * scale, len(positions), axis=0))
    if not subsets:
        return [], np.zeros((0, 2 * k))
    members, inverse = np.unique(np.concatenate(subsets), axis=0, return_inverse=True)
    table = np.zeros((len(members), 2 * k))
    np.add.at(table, inverse.ravel(), np.concatenate(weighted))
    return [tuple(row) for row in members.tolist()], table
