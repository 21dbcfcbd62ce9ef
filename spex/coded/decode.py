"""Decoding: from the values of a coded design to candidate supports.

For every group, a Walsh-Hadamard transform over l gives bins U[p, j] for each delay p.
A bin that holds one coefficient F(k) has U[p, j] = F(k) (-1)^<d_p, k>, so the signs of
U[p] / U[0] are the syndrome of k. Bins that hold several, or noise, are decoded to a
list (Chase's second algorithm: all patterns of few flips among the least reliable
signs), of which the support that explains most of the bin is kept. What is found is
subtracted from every group and the rest decoded again (peeling).

Deviations from Kang et al. 2025: all bins and flip patterns are decoded at once; the
k outputs vote on each sign together; the purest bins are peeled first, by a threshold
that falls as peeling stalls, in place of a fixed one.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from oracles import Values
from spex.coded.design import CodedPlan
from spex.exact import walsh_hadamard
from spex.spectrum import Support

CHASE_DEPTH = 10  # least reliable signs that may be flipped, up to two at a time
PURITY = (0.98, 0.9, 0.75, 0.6, 0.45)  # part of a bin's energy, falling as it stalls
MAX_ROUNDS = 60
ROUNDING = 1e-13  # of the largest value: bins smaller than this are empty


@dataclass(frozen=True, eq=False)
class _Found:
    """One accepted support per bin: its bits, and its coefficients (k,)."""

    bits: NDArray[np.bool_]
    coefficients: NDArray[np.float64]
    purity: NDArray[np.float64]


def decode(plan: CodedPlan, values: Values) -> dict[Support, NDArray[np.float64]]:
    """Candidate supports but the empty one, with first estimates, each (k,).

    Outputs are centred and scaled first, so that each has one vote and an offset of
    the values does not drown the rest.
    """
    centred, scale = values - values.mean(axis=0), values.std(axis=0)
    rounding = ROUNDING * np.abs(values).max(axis=0)
    scale = np.where(scale <= rounding, 1.0, scale)  # constant outputs have no vote
    bins = _bins(plan, centred / scale)  # (C, P, 2^b, k)
    empty = float(((rounding / scale) ** 2).sum()) * bins.shape[1]
    estimates: dict[Support, NDArray[np.float64]] = {}
    level = 0
    for _ in range(MAX_ROUNDS):
        found = _decode_groups(plan, bins, empty, PURITY[level])
        if not len(found.bits):
            level += 1
            if level == len(PURITY):
                break
            continue
        found = _purest(found)
        _peel(plan, bins, found)
        for bits, coefficient in zip(found.bits, found.coefficients, strict=True):
            support = tuple(np.flatnonzero(bits).tolist())
            signed = (-1.0) ** plan.offset[bits].sum() * coefficient * scale
            estimates[support] = estimates.get(support, 0.0) + signed
    estimates.pop((), None)  # what centring left of the mean
    return estimates


def _bins(plan: CodedPlan, values: Values) -> NDArray[np.float64]:
    shape = plan.shape
    table = values[plan.coded].reshape(
        shape.num_groups, shape.num_delays, 2**shape.b, -1
    )
    by_pattern = np.moveaxis(table, 2, 0)
    return np.moveaxis(walsh_hadamard(by_pattern) / 2**shape.b, 0, 2).copy()


def _decode_groups(
    plan: CodedPlan, bins: NDArray[np.float64], empty: float, purity: float
) -> _Found:
    """Supports accepted in any bin of any group."""
    parts = [
        _decode_group(plan, hashes, group, empty, purity)
        for hashes, group in zip(plan.hashes, bins, strict=True)
    ]
    return _Found(
        np.concatenate([part.bits for part in parts]),
        np.concatenate([part.coefficients for part in parts]),
        np.concatenate([part.purity for part in parts]),
    )


def _decode_group(
    plan: CodedPlan,
    hashes: NDArray[np.int64],
    group: NDArray[np.float64],
    empty: float,
    purity: float,
) -> _Found:
    """The best support of each bin j of one group (P, 2^b, k), where pure enough."""
    energy = (group**2).sum(axis=(0, 2))
    occupied = np.flatnonzero(energy > empty)
    held = group[:, occupied]
    votes = (held[1:] * held[0]).sum(axis=2).T  # (bins, q t)
    syndromes, owner = _chase_list(votes)
    bits, is_decoded = plan.shape.code.decode(syndromes)
    in_bin = _bin_numbers(bits, hashes) == occupied[owner]
    kept = np.flatnonzero(is_decoded & in_bin)
    bits, owner = bits[kept], owner[kept]
    signs = _delay_signs(plan, bits)  # (words, P)
    coefficients = np.einsum("wp,pwk->wk", signs, held[:, owner]) / signs.shape[1]
    explained = signs.shape[1] * (coefficients**2).sum(axis=1) / energy[occupied[owner]]
    best = _best_per_bin(owner, explained)
    best = best[explained[best] >= purity]
    return _Found(bits[best], coefficients[best], explained[best])


def _chase_list(
    votes: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Syndromes to try for every bin, and the bin each belongs to."""
    num_bins, num_checks = votes.shape
    depth = min(CHASE_DEPTH, num_checks)
    flips = [c for size in range(3) for c in combinations(range(depth), size)]
    weakest = np.argsort(np.abs(votes), axis=1)[:, :depth]
    hard = (votes < 0).astype(np.int64)
    tried = np.repeat(hard[:, None], len(flips), axis=1)
    rows = np.arange(num_bins)
    for number, flip in enumerate(flips):
        for position in flip:
            tried[rows, number, weakest[:, position]] ^= 1
    return tried.reshape(-1, num_checks), np.repeat(rows, len(flips))


def _bin_numbers(
    bits: NDArray[np.bool_], hashes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """j = M^T k as an integer."""
    return (bits @ hashes % 2) @ (1 << np.arange(hashes.shape[1]))


def _delay_signs(plan: CodedPlan, bits: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(-1)^<d_p, k> for the zero delay and every check: (words, P)."""
    parities = bits @ plan.shape.code.checks.T % 2
    signs = 1.0 - 2.0 * np.pad(parities, ((0, 0), (1, 0)))
    return signs.astype(np.float64)


def _best_per_bin(
    owner: NDArray[np.int64], explained: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Of the words of each bin, the one that explains most."""
    order = np.lexsort((-explained, owner))
    _, first = np.unique(owner[order], return_index=True)
    return order[first]


def _purest(found: _Found) -> _Found:
    """Of the bins that hold the same support, the one it explains most of."""
    packed = np.packbits(found.bits, axis=1)
    _, inverse = np.unique(packed, axis=0, return_inverse=True)
    best = _best_per_bin(inverse.ravel(), found.purity)
    return _Found(found.bits[best], found.coefficients[best], found.purity[best])


def _peel(plan: CodedPlan, bins: NDArray[np.float64], found: _Found) -> None:
    """Subtract what was found from its bin in every group, in place."""
    signs = _delay_signs(plan, found.bits)
    waves = np.einsum("wp,wk->pwk", signs, found.coefficients)
    for hashes, group in zip(plan.hashes, bins, strict=True):
        numbers = _bin_numbers(found.bits, hashes)
        for wave, delay in zip(waves, group, strict=True):
            np.subtract.at(delay, numbers, wave)
