"""From the blend of proxies to a spectrum of few terms: its largest coefficients.

They are not fitted again: the process in the blend is already a regression on the
values (up to `blend.MOST_ROWS` of them) whose prior is the trees' spectrum.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from oracles import Masks
from proxyspex.blend import Array, Blend
from spex.spectrum import Support

SIZES = (25, 50, 100)  # tried below the largest allowed
SLIGHT = 0.002  # of the energy: less is no loss
HARDLY = 0.9  # of the variance left on held-out masks: little is predicted
NUM_GROWN = 50  # terms whose neighbours are looked at
NUM_PLAYERS_GROWN = 10  # players that they are joined with


@dataclass(frozen=True, eq=False)
class Sparse:
    """A spectrum of few terms of values of mean 0 and variance 1.

    Attributes:
        supports: the empty set first.
        coefficients: shape (terms,).
        fold_means: of the folds' coefficients, (terms,).
        held_out: predictions for the rows of the folds, NaN for others, (m,).
        shrinkage: factor of both that held-out masks advise.
    """

    supports: list[Support]
    coefficients: Array
    fold_means: Array
    held_out: Array
    shrinkage: float


def sparsify(
    masks: Masks,
    values: Array,
    blend: Blend,
    num_terms: int,
    max_order: int,
    weights: Array | None = None,
) -> Sparse:
    """The largest terms of the blend: the fewest that predict as well as all allowed.

    Fewer are taken only if they carry nearly all energy, too: held-out errors by
    themselves are too noisy to tell small terms from none.

    Args:
        masks: shape (m, n).
        values: shape (m,), of mean 0 and variance 1.
        blend: fitted to them.
        num_terms: most terms, the empty set included.
        max_order: of the largest support.
        weights: of the rows, (m,), where they are no uniform sample.
    """
    supports = blend.candidates(max_order)
    spectrum, spectra = blend.spectra(masks, supports)
    grown = _neighbours(supports, spectrum, max_order)
    if grown:
        more, more_spectra = blend.spectra(masks, grown)
        supports += grown
        spectrum = np.concatenate([spectrum, more])
        spectra = np.hstack([spectra, more_spectra])
    sizes = [*(size for size in SIZES if size < num_terms), num_terms]
    held_out = _held_out(masks, blend, supports, spectra, sizes)
    rows = np.concatenate([fold.inside for fold in blend.folds])
    errors = ((values[rows] - held_out[:, rows]) ** 2).mean(axis=1)
    order = _largest(spectrum, sizes[-1])
    energy = spectrum[order] ** 2
    energy[0] = 0.0
    lost = np.array([energy[size:].sum() for size in sizes])
    as_good = (errors <= errors[-1]) & (lost <= SLIGHT * energy.sum())
    best = int(np.argmax(as_good))
    chosen = order[: sizes[best]]
    return Sparse(
        [supports[t] for t in chosen],
        spectrum[chosen],
        _fold_means(blend, spectra[:, chosen]),
        held_out[best],
        shrinkage(values, held_out[best], weights),
    )


def shrinkage(values: Array, held_out: Array, weights: Array | None = None) -> float:
    """Factor of predictions that held-out masks advise.

    1, or less where they tell next to nothing: then nearer to the mean, 0.

    Args:
        values: shape (m,), of mean 0.
        held_out: predictions, NaN for rows that were not held out, (m,).
        weights: of the rows, (m,), where they are no uniform sample.
    """
    told = ~np.isnan(held_out)
    weights = np.ones(told.sum()) if weights is None else weights[told]
    values, held_out = values[told], held_out[told]
    if weights @ (values - held_out) ** 2 < HARDLY * (weights @ values**2):
        return 1.0
    size = weights @ held_out**2
    return float(np.clip((weights * values) @ held_out / (size or 1.0), 0, 1))


def _fold_means(blend: Blend, spectra: Array) -> Array:
    """Each fold counts as often as it holds rows out."""
    counts = [len(fold.inside) for fold in blend.folds]
    return np.average(spectra, axis=0, weights=counts)


def _held_out(
    masks: Masks,
    blend: Blend,
    supports: list[Support],
    spectra: Array,
    sizes: list[int],
) -> Array:
    """Each fold's predictions for its rows with its own largest terms, (sizes, m)."""
    held_out = np.full((len(sizes), len(masks)), np.nan)
    for fold, spectrum in zip(blend.folds, spectra, strict=True):
        chosen = _largest(spectrum, sizes[-1])
        chosen_sets = [supports[t] for t in chosen]
        design = blend.basis.characters(masks[fold.inside], chosen_sets)
        parts = design * spectrum[chosen]
        for place, size in enumerate(sizes):
            held_out[place, fold.inside] = parts[:, :size].sum(axis=1)
    return held_out


def _largest(spectrum: Array, count: int) -> NDArray[np.int64]:
    """Places of the largest, the empty set (the first) always among them."""
    size = np.abs(spectrum)
    size[0] = np.inf
    return np.argsort(-size, kind="stable")[:count]


def _neighbours(
    supports: list[Support], coefficients: Array, max_order: int
) -> list[Support]:
    """Largest supports less a player, or with one of the strongest players more."""
    order = np.argsort(-np.abs(coefficients), kind="stable")[:NUM_GROWN]
    strength: dict[int, float] = {}
    for support, coefficient in zip(supports, coefficients, strict=True):
        for player in support:
            strength[player] = strength.get(player, 0.0) + coefficient**2
    strongest = sorted(strength, key=lambda p: (-strength[p], p))[:NUM_PLAYERS_GROWN]
    found: dict[Support, None] = {}
    for place in order:
        support = supports[place]
        found.update(dict.fromkeys(combinations(support, max(0, len(support) - 1))))
        if len(support) < max_order:
            larger = [tuple(sorted({*support, p})) for p in strongest]
            found.update(dict.fromkeys(larger))
    known = set(supports)
    return [support for support in found if support not in known]
