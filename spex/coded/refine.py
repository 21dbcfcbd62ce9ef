"""Regression on what was found and on low orders, chosen on held-out masks.

The discoveries alone miss what is real but too small to be told from noise one by one;
a plain linear fit may then do better. So there are two kinds of candidates:

- least squares on the discoveries;
- ridge regression on discoveries, their subsets and all supports of low order that the
  ablations can carry, each with a prior variance: decay^|S|, scaled to the variance of
  the values, + its first estimate squared. Ridges of several decays and noises are
  averaged, weighted by their errors; the largest terms are then refitted with their
  squares as prior, which makes them sparse.

Weights and the number of terms are told by the error on masks left out in turn: the
uniform ones, which had no part in the discoveries, and some of the coded ones, which
had, but without which rare outlying values would often go unseen.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Self

import numpy as np
from numpy.typing import NDArray

from spex.coded.normal import MAX_DENSE, Data, Normal, Table, strongest_players
from spex.spectrum import Support

DECAYS = (0.03, 0.1, 0.3, 0.6)
NOISES = (0.03, 0.1, 0.5, 1.0, 2.0)  # as a part of the values' variance
REFIT_NOISES = (0.01, 0.1, 0.5)  # of the largest terms alone
FEW_NOISES = (0.03, 0.5)  # where a fit takes long
USUAL_DECAY, USUAL_NOISE = 0.1, 1.0  # best on average where there are few ablations
RELUCTANCE = 1.0  # to leave these, in nats for each factor of e
EVIDENCE = 1 / 8  # nats for each held-out row and factor of e in the error
LIGHTEST = 0.05  # weight of a ridge that counts
NO_NOISE = 1e-9
LITTLE = 0.02  # of the variance: not looked for beyond the discoveries
NOTICED = 0.01  # of the variance: less is not worth terms that are no discoveries
MOST_SUBSETS = 6000  # candidates beyond which no subsets of discoveries are added
SLIGHT = 0.003  # of the variance: less is not worth more terms
ROWS = 3  # for each term that is kept
SIZES = (50, 100, 200, 400, 800)


@dataclass(frozen=True, eq=False)
class Refined:
    """A regression, and what it says about masks it was not fitted to.

    Attributes:
        supports: the terms.
        coefficients: shape (terms, k).
        error: mean square held-out error.
        held_out: predictions for the rows of the parts, in their order, (rows, k).
        reason: which model was chosen.
    """

    supports: list[Support]
    coefficients: Table
    error: float
    held_out: Table
    reason: str


@dataclass(frozen=True, eq=False)
class _Fit:
    """Coefficients (terms, k) on all rows and without each part."""

    normal: Normal
    coefficients: Table
    without: list[Table]

    @classmethod
    def of(cls, normal: Normal, prior: Table, noise: float) -> Self:
        """The fit with these prior variances and noise."""
        return cls(normal, *normal.fit(prior, noise))

    @classmethod
    def average(cls, fits: list[Self], weights: NDArray[np.float64]) -> Self:
        """Their weighted mean."""
        parts = zip(*(fit.without for fit in fits), strict=True)
        return cls(
            fits[0].normal,
            _mean([fit.coefficients for fit in fits], weights),
            [_mean(list(part), weights) for part in parts],
        )

    def refined(self, reason: str) -> Refined:
        """As a candidate."""
        held_out = [
            x @ w for x, w in zip(self.normal.designs, self.without, strict=True)
        ]
        supports = self.normal.supports
        return _refined(self.normal.data, supports, self.coefficients, held_out, reason)

    def sparsified(self, num_terms: int, noise: float) -> Refined:
        """The largest terms, refitted; each fold chooses its own without its part."""
        held_out = []
        for part, (design, fit) in enumerate(
            zip(self.normal.designs, self.without, strict=True)
        ):
            chosen, refitted = self._largest(fit, num_terms, noise, part)
            held_out.append(design[:, chosen] @ refitted)
        chosen, fit = self._largest(self.coefficients, num_terms, noise, None)
        supports = [self.normal.supports[t] for t in chosen]
        reason = f"ridge on {len(self.coefficients)} terms, {len(chosen)} kept"
        return _refined(self.normal.data, supports, fit, held_out, reason)

    def _largest(
        self, fit: Table, num_terms: int, noise: float, part: int | None
    ) -> tuple[NDArray[np.int64], Table]:
        energy = (fit**2).mean(axis=1)
        energy[self.normal.supports.index(())] = 1.0 + energy.max()
        chosen = np.argsort(-energy, kind="stable")[:num_terms]
        return chosen, self.normal.fit_some(chosen, energy[chosen], noise, part)


def refine(
    data: Data, discoveries: dict[Support, NDArray[np.float64]], max_order: int
) -> Refined:
    """The discoveries alone, unless another candidate predicts noticeably better.

    Args:
        data: see `Data`.
        discoveries: supports, the empty one among them, and first estimates (k,).
        max_order: largest support.
    """
    found = Normal(data, list(discoveries))
    plain = _Fit.of(found, np.ones(len(discoveries)), NO_NOISE)
    sparse = plain.refined(f"least squares on {len(discoveries) - 1} discoveries")
    mean = _Fit.of(Normal(data, [()]), np.ones(1), NO_NOISE).refined("the mean alone")
    sparse = min(sparse, mean, key=lambda model: model.error)
    variance = data.values[data.held_out].var(axis=0).mean()
    if sparse.error <= LITTLE * variance:
        return sparse
    models = _ridges(_averaged_ridge(data, discoveries, max_order))
    least = min(model.error for model in models) + SLIGHT * variance
    chosen = next(model for model in models if model.error <= least)
    return chosen if sparse.error - chosen.error > NOTICED * variance else sparse


def _ridges(ridge: _Fit) -> list[Refined]:
    """Of each number of terms, fewest first, refitted with the noise that suits one."""
    dense = ridge.refined(f"ridge on {len(ridge.coefficients)} terms")
    most = min(len(ridge.coefficients) - 1, len(ridge.normal.data.values) // ROWS)
    sizes = [size for size in SIZES if size <= most]
    if not sizes:  # few rows do not tell which terms to keep
        return [dense]
    middle = sizes[len(sizes) // 2]
    tried = {noise: ridge.sparsified(middle, noise) for noise in REFIT_NOISES}
    noise = min(tried, key=lambda noise: tried[noise].error)
    sparse = [
        tried[noise] if size == middle else ridge.sparsified(size, noise)
        for size in sizes
    ]
    return [*sparse, dense]


def _refined(
    data: Data, supports: list[Support], fit: Table, parts: list[Table], reason: str
) -> Refined:
    held_out = np.concatenate(parts)
    error = float(((data.values[data.held_out] - held_out) ** 2).mean())
    return Refined(supports, fit, error, held_out, reason)


def _averaged_ridge(
    data: Data, discoveries: dict[Support, NDArray[np.float64]], max_order: int
) -> _Fit:
    """Ridges on all candidates, averaged.

    Few ablations tell little about decay and noise, so that the best on them is often
    far from the best there is; an average, drawn towards what is usual, is never.
    """
    normal = Normal(data, _candidates(data, discoveries, max_order))
    nothing = np.zeros(1)
    boost = np.array(
        [float((discoveries.get(s, nothing) ** 2).mean()) for s in normal.supports]
    )
    if len(normal.supports) > MAX_DENSE:
        return _best_of_few(normal, boost)
    weights = _weights(_held_out_errors(normal, boost), len(data.held_out))
    fits = [
        _Fit.of(normal, _prior(normal.supports, decay) + boost, noise)
        for decay, noise in weights
    ]
    return _Fit.average(fits, np.array(list(weights.values())))


def _best_of_few(normal: Normal, boost: Table) -> _Fit:
    """Where each fit takes long: the better of two."""
    prior = _prior(normal.supports, USUAL_DECAY) + boost
    fits = [_Fit.of(normal, prior, noise) for noise in FEW_NOISES]
    return min(fits, key=lambda fit: fit.refined("").error)


def _held_out_errors(normal: Normal, boost: Table) -> dict[tuple[float, float], float]:
    """For every decay at the usual noise, and every noise at the best decay."""
    errors = {}
    for decay in DECAYS:
        prior = _prior(normal.supports, decay) + boost
        errors[decay, USUAL_NOISE] = normal.held_out_error(prior, USUAL_NOISE)
    (decay, _), _ = min(errors.items(), key=lambda item: item[1])
    prior = _prior(normal.supports, decay) + boost
    for noise in NOISES:
        if noise != USUAL_NOISE:
            errors[decay, noise] = normal.held_out_error(prior, noise)
    return errors


def _weights(
    errors: dict[tuple[float, float], float], num_rows: int
) -> dict[tuple[float, float], float]:
    """Of each decay and noise, those that count: by error, and by how usual it is."""
    usual = np.log([USUAL_DECAY, USUAL_NOISE])
    logs = np.array(
        [
            -EVIDENCE * num_rows * np.log(error)
            - RELUCTANCE * np.abs(np.log(setting) - usual).sum()
            for setting, error in errors.items()
        ]
    )
    weights = np.exp(logs - logs.max())
    weights[weights < LIGHTEST * weights.sum()] = 0.0
    weights /= weights.sum()
    return {s: float(w) for s, w in zip(errors, weights, strict=True) if w}


def _mean(tables: list[Table], weights: NDArray[np.float64]) -> Table:
    return np.tensordot(weights, np.stack(tables), axes=1)


def _prior(supports: list[Support], decay: float) -> Table:
    """decay^|S| as a part of the variance; 1 for the mean."""
    sizes = np.array([len(support) for support in supports])
    prior = decay ** sizes.astype(float)
    prior /= prior[sizes > 0].sum()
    prior[sizes == 0] = 1.0
    return prior


def _candidates(
    data: Data, discoveries: Iterable[Support], max_order: int
) -> list[Support]:
    """Discoveries and their subsets, then low orders while there is room."""
    num_players = data.plan.masks.shape[1]
    room = min(MAX_DENSE, 2 * len(data.values))
    chosen: dict[Support, None] = dict.fromkeys(discoveries)
    for support in discoveries:
        for size in range(1, len(support)):
            if len(chosen) < MOST_SUBSETS:
                chosen.update(dict.fromkeys(combinations(support, size)))
    chosen.update(dict.fromkeys((i,) for i in range(num_players)))
    strongest = strongest_players(data.bins)
    for order in range(2, max_order + 1):
        free = room - len(chosen)
        pool = max(
            (p for p in range(num_players + 1) if comb(p, order) <= free), default=0
        )
        if pool < order + 1 and pool < num_players:
            break
        chosen.update(dict.fromkeys(combinations(sorted(strongest[:pool]), order)))
    return list(chosen)
