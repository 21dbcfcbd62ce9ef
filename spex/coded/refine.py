"""Regression on decoded and low-order supports, chosen on held-out uniform masks.

Decoding alone misses what its bins cannot resolve; a linear fit would then do better.
So the regression's candidates are what was decoded, with its subsets, and all supports
of low order that the ablations can carry; the prior says how much each is believed:

    variance(S) = decay^|S|, scaled to the values' variance, + decoded coefficient^2

Decay and noise are chosen by the error on uniform masks left out in turn. The
coefficients found become the prior of a second regression, which makes them sparse.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from oracles import Masks, Values
from spex.regression import prior_ridge, ridge_without_parts
from spex.spectrum import Support, characters

MAX_CANDIDATES = 1500
DECAYS = (0.1, 0.3, 0.6)
NOISES = (0.01, 0.1, 0.5)  # as a part of the values' variance
NO_NOISE = 1e-11
EXACT_ERROR = 1e-12  # held-out error, as a part of the variance, of an exact fit


@dataclass(frozen=True, eq=False)
class Refined:
    """A regression and its held-out predictions.

    Attributes:
        supports: the terms.
        coefficients: shape (terms, k).
        held_out: predictions for the rows of the parts, in their order, (rows, k).
        reason: which model was chosen.
    """

    supports: list[Support]
    coefficients: NDArray[np.float64]
    held_out: NDArray[np.float64]
    reason: str


@dataclass(frozen=True, eq=False)
class _Model:
    """Coefficients on all rows and without each part; held-out mean square error."""

    supports: list[Support]
    coefficients: NDArray[np.float64]
    without: list[NDArray[np.float64]]
    error: float
    held_out: NDArray[np.float64]
    reason: str


@dataclass(frozen=True, eq=False)
class _Data:
    """Masks, values standardised to variance 1, and the rows left out in turn."""

    masks: Masks
    values: Values
    parts: list[NDArray[np.int64]]

    def fit(
        self,
        supports: list[Support],
        prior: NDArray[np.float64],
        noise: float,
        reason: str,
    ) -> _Model:
        """Ridge on these supports, scored on the parts."""
        design = characters(self.masks, supports)
        prior = np.where([not s for s in supports], 1.0 + prior.max(), prior)
        coefficients, without = ridge_without_parts(
            design, self.values, prior, noise, self.parts
        )
        predictions = [
            design[part] @ fit for part, fit in zip(self.parts, without, strict=True)
        ]
        held_out = np.concatenate(predictions)
        errors = self.values[np.concatenate(self.parts)] - held_out
        error = float((errors**2).mean())
        return _Model(supports, coefficients, without, error, held_out, reason)


def refine(
    masks: Masks,
    values: Values,
    parts: list[NDArray[np.int64]],
    decoded: dict[Support, NDArray[np.float64]],
    max_order: int,
    num_terms: int,
) -> Refined:
    """The best of several regressions on decoded and low-order supports.

    Args:
        masks: shape (m, n).
        values: shape (m, k).
        parts: rows of uniform masks, left out in turn; decoding must not have used
            them.
        decoded: candidate supports and first estimates (k,).
        max_order: largest support.
        num_terms: terms kept, unless more were decoded exactly.
    """
    shift, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.where(scale <= 1e-12 * np.abs(values).max(axis=0), 1.0, scale)
    data = _Data(masks, (values - shift) / scale, parts)
    estimates = {s: f / scale for s, f in decoded.items() if len(s) <= max_order}
    best = _decoded_only(data, estimates)
    if best.error > EXACT_ERROR:
        supports = _candidates(masks, data.values, estimates, max_order)
        models = [best, *_low_order(data, supports, estimates)]
        best = min(models, key=lambda model: model.error)
        sparse = [_sparsified(data, best, noise, num_terms) for noise in NOISES]
        best = min(sparse, key=lambda model: model.error)
    coefficients = best.coefficients * scale
    coefficients[best.supports.index(())] += shift
    return Refined(
        best.supports, coefficients, best.held_out * scale + shift, best.reason
    )


def _decoded_only(data: _Data, estimates: dict[Support, NDArray[np.float64]]) -> _Model:
    strongest = sorted(estimates, key=lambda s: -float((estimates[s] ** 2).sum()))
    supports = [(), *strongest][: len(data.masks) // 2]
    reason = "least squares on what was decoded"
    try:
        return data.fit(supports, np.ones(len(supports)), NO_NOISE, reason)
    except np.linalg.LinAlgError:  # two supports look alike on these masks
        return data.fit(supports, np.ones(len(supports)), NOISES[0], reason)


def _low_order(
    data: _Data, supports: list[Support], estimates: dict[Support, NDArray[np.float64]]
) -> Iterable[_Model]:
    """Ridge on all candidates, for every decay and noise."""
    sizes = np.array([len(support) for support in supports])
    boost = np.array(
        [float((estimates.get(s, np.zeros(1)) ** 2).mean()) for s in supports]
    )
    for decay in DECAYS:
        prior = decay ** sizes.astype(float)
        prior = prior / prior[sizes > 0].sum() + boost
        for noise in NOISES:
            yield data.fit(
                supports,
                prior,
                noise,
                f"ridge on {len(supports)} decoded and low-order terms",
            )


def _sparsified(data: _Data, model: _Model, noise: float, num_terms: int) -> _Model:
    """Refit with the squared coefficients as prior, largest terms only.

    Each fold chooses and weighs its terms without its own part.
    """
    everything = np.arange(len(data.masks))
    held_out = []
    for part, fit in zip(data.parts, model.without, strict=True):
        rows = np.setdiff1d(everything, part)
        supports, fit = _reweighed(data, model.supports, fit, rows, noise, num_terms)
        held_out.append(characters(data.masks[part], supports) @ fit)
    predictions = np.concatenate(held_out)
    errors = data.values[np.concatenate(data.parts)] - predictions
    error = float((errors**2).mean())
    supports, fit = _reweighed(
        data, model.supports, model.coefficients, everything, noise, num_terms
    )
    reason = f"{model.reason}, {len(supports)} kept"
    return _Model(supports, fit, [], error, predictions, reason)


def _reweighed(
    data: _Data,
    supports: list[Support],
    coefficients: NDArray[np.float64],
    rows: NDArray[np.int64],
    noise: float,
    num_terms: int,
) -> tuple[list[Support], NDArray[np.float64]]:
    energy = (coefficients**2).mean(axis=1)
    energy[supports.index(())] = 1.0 + energy.max()
    largest = np.argsort(-energy, kind="stable")[:num_terms]
    kept = [supports[t] for t in largest]
    design = characters(data.masks[rows], kept)
    return kept, prior_ridge(design, data.values[rows], energy[largest], noise)


def _candidates(
    masks: Masks,
    values: Values,
    estimates: dict[Support, NDArray[np.float64]],
    max_order: int,
) -> list[Support]:
    """Decoded supports and their subsets, then low orders while there is room."""
    num_players = masks.shape[1]
    room = min(MAX_CANDIDATES, 2 * len(masks))
    chosen: dict[Support, None] = dict.fromkeys([(), *estimates])
    for support in estimates:
        for size in range(1, len(support)):
            chosen.update(dict.fromkeys(combinations(support, size)))
    chosen.update(dict.fromkeys((i,) for i in range(num_players)))
    strongest = _strongest_players(masks, values)
    for order in range(2, max_order + 1):
        free = room - len(chosen)
        pool = max(
            (p for p in range(num_players + 1) if comb(p, order) <= free), default=0
        )
        if pool < order + 1 and pool < num_players:
            break
        chosen.update(dict.fromkeys(combinations(sorted(strongest[:pool]), order)))
    return list(chosen)


def _strongest_players(masks: Masks, values: Values) -> list[int]:
    """Players by the size of their order-1 coefficients, strongest first."""
    signs = 1.0 - 2.0 * masks
    linear = (signs.T @ values) / len(masks)
    return np.argsort(-(linear**2).sum(axis=1), kind="stable").tolist()
