"""One output: blended proxies, and the largest terms of their spectrum."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oracles import Masks, Values, check_masks
from proxyspex.blend import MAD, Blend, blend
from proxyspex.parts import Parts, grown
from proxyspex.sparse import Sparse, shrinkage, sparsify
from proxyspex.trees import Boosting
from spex.basis import Basis
from spex.spectrum import Support

CONSTANT = 1e-12  # values that vary by less than this part are constant
WILD = 10.0  # robust standard deviations from which a value is taken for an accident
FEW_WILD, WILD_PART = 2, 0.005  # if no more than so many, or this part, are
CHUNK = 1024  # masks predicted at a time


@dataclass(frozen=True)
class Wanted:
    """What to look for: see `ProxySpex`; the basis is that of all spectra."""

    num_terms: int
    max_order: int
    boosting: Boosting
    basis: Basis
    is_unbiased: bool


@dataclass(frozen=True, eq=False)
class Fit:
    """One output: terms, held-out predictions of them and of the blend, the blend, and
    what its predictions are multiplied by and shifted to."""

    masks: Masks
    terms: dict[Support, float]
    held_out: NDArray[np.float64]
    full_held_out: NDArray[np.float64]
    blend: Blend | None
    shift: float
    scale: float

    @classmethod
    def constant(cls, masks: Masks, value: float, num_rows: int) -> "Fit":
        flat = np.full(num_rows, value)
        return cls(masks, {(): value}, flat, flat, None, value, 1.0)

    def predict(self, masks: Masks) -> NDArray[np.float64]:
        """The full surrogate (l,)."""
        if self.blend is None:
            return np.full(len(masks), self.shift)
        return self.scale * self.blend.predict(self.masks, masks) + self.shift


def fit_output(
    masks: Masks,
    values: NDArray[np.float64],
    parts: Parts,
    wanted: Wanted,
    rng: np.random.Generator,
) -> Fit:
    """Fit the proxies to values (m,) of masks (m, n), and keep the largest terms."""
    if values.std() <= CONSTANT * np.abs(values).max():
        return Fit.constant(masks, float(values.mean()), len(values))
    tamed = _tamed(values)
    shift, scale = float(tamed.mean()), float(tamed.std())
    standard = (tamed - shift) / scale
    folds = grown(masks, standard, parts, wanted.boosting, wanted.basis, rng)
    singles = None if parts.singles is None else parts.singles[-1]
    mixed = blend(masks, standard, folds, singles, wanted.basis, rng)
    sparse = sparsify(
        masks, standard, mixed, wanted.num_terms, wanted.max_order, parts.weights
    )
    coefficients = sparse.shrinkage * sparse.coefficients
    held_out = sparse.shrinkage * sparse.held_out
    if wanted.is_unbiased:
        coefficients, held_out = _corrected(masks, standard, mixed, sparse)
    terms = dict(zip(sparse.supports, (scale * coefficients).tolist(), strict=True))
    terms[()] += shift
    drawn_in = scale * shrinkage(standard, mixed.held_out, parts.weights)
    full_held_out = drawn_in * mixed.held_out + shift
    return Fit(
        masks, terms, scale * held_out + shift, full_held_out, mixed, shift, drawn_in
    )


@dataclass(frozen=True, eq=False)
class FullSurrogate:
    """All terms of the blend, of every output."""

    fits: list[Fit]

    def __call__(self, masks: Masks) -> Values:
        """Values (l, k) for masks (l, n).

        Raises:
            MaskError: masks are not boolean (l, n).
        """
        masks = check_masks(masks, self.fits[0].masks.shape[1])
        values = np.empty((len(masks), len(self.fits)))
        for start in range(0, len(masks), CHUNK):
            rows = slice(start, start + CHUNK)
            for output, fit in enumerate(self.fits):
                values[rows, output] = fit.predict(masks[rows])
        return values


def _corrected(
    masks: Masks, values: NDArray[np.float64], mixed: Blend, sparse: Sparse
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients with what held-out errors say is missing, and held-out predictions,
    each fold's corrected by what the other folds miss."""
    design = mixed.basis.characters(masks, sparse.supports)
    missing = design * (values - mixed.held_out)[:, None]
    rows = np.concatenate([fold.inside for fold in mixed.folds])
    held_out = sparse.held_out.copy()
    for fold in mixed.folds:
        others = missing[np.setdiff1d(rows, fold.inside)].mean(axis=0)
        held_out[fold.inside] += design[fold.inside] @ others
    return sparse.fold_means + missing[rows].mean(axis=0), held_out


def _tamed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of which a few far outliers are drawn to where outliers begin."""
    middle = np.median(values)
    far = WILD * MAD * float(np.median(np.abs(values - middle)))
    wild = np.abs(values - middle) > far
    if not far or wild.sum() > max(FEW_WILD, WILD_PART * len(values)):
        return values
    return np.clip(values, middle - far, middle + far)
