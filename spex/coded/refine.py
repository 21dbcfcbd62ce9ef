"""Regression on what was found and on low orders, chosen on held-out uniform masks.

The discoveries alone miss what is real but too small to be told from noise one by one;
a plain linear fit may then do better. So there are two kinds of candidates:

- least squares on the discoveries;
- ridge regression on discoveries, their subsets and all supports of low order that the
  ablations can carry, each with a prior variance: decay^|S|, scaled to the variance of
  the values, + its first estimate squared; the largest terms are then refitted with
  their squares as prior, which makes them sparse.

Decay, noise and number of terms are chosen by the error on masks left out in turn: the
uniform ones, which had no part in the discoveries, and some of the coded ones, without
which rare outlying values would often go unseen.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Self

import numpy as np
from numpy.typing import NDArray

from spex.coded.normal import MAX_DENSE, Data, Normal, Table, moments
from spex.spectrum import Support

DECAYS = (0.01, 0.1, 0.3, 0.6)
NOISES = (0.01, 0.1, 0.5)  # as a part of the values' variance
NO_NOISE = 1e-9
LITTLE = 0.02  # of the variance: not looked for beyond the discoveries
CLEARLY = 2.0  # standard errors
MUCH = 0.03  # of the variance
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
    """The discoveries alone, unless another candidate predicts clearly better.

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
    low = Normal(data, _candidates(data, discoveries, max_order))
    reason = f"ridge on {len(low.supports)} terms"
    ridges = [(fit.refined(reason), fit) for fit in _ridges(low, discoveries)]
    dense, best = min(ridges, key=lambda ridge: ridge[0].error)
    sizes = [size for size in SIZES if size < len(low.supports)]
    models = [best.sparsified(size, noise) for size in sizes for noise in NOISES]
    chosen = min([*models, dense], key=lambda model: model.error)
    return chosen if _is_better(data, chosen, sparse) else sparse


def _is_better(data: Data, model: Refined, sparse: Refined) -> bool:
    """Whether it explains much more, or a little more but clearly so."""
    values = data.values[data.held_out]
    gain = (values - sparse.held_out) ** 2 - (values - model.held_out) ** 2
    by_row = gain.mean(axis=1)
    surely = CLEARLY * by_row.std() / np.sqrt(len(by_row))
    return bool(by_row.mean() > min(surely, MUCH * values.var(axis=0).mean()))


def _refined(
    data: Data, supports: list[Support], fit: Table, parts: list[Table], reason: str
) -> Refined:
    held_out = np.concatenate(parts)
    error = float(((data.values[data.held_out] - held_out) ** 2).mean())
    return Refined(supports, fit, error, held_out, reason)


def _ridges(
    normal: Normal, discoveries: dict[Support, NDArray[np.float64]]
) -> Iterator[_Fit]:
    """Ridge on all candidates, for every decay and noise."""
    nothing = np.zeros(1)
    boost = np.array(
        [float((discoveries.get(s, nothing) ** 2).mean()) for s in normal.supports]
    )
    for decay in DECAYS if len(normal.supports) <= MAX_DENSE else DECAYS[:1]:
        prior = _prior(normal.supports, decay) + boost
        for noise in NOISES:
            yield _Fit.of(normal, prior, noise)


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
            chosen.update(dict.fromkeys(combinations(support, size)))
    chosen.update(dict.fromkeys((i,) for i in range(num_players)))
    strongest = _strongest_players(data)
    for order in range(2, max_order + 1):
        free = room - len(chosen)
        pool = max(
            (p for p in range(num_players + 1) if comb(p, order) <= free), default=0
        )
        if pool < order + 1 and pool < num_players:
            break
        chosen.update(dict.fromkeys(combinations(sorted(strongest[:pool]), order)))
    return list(chosen)


def _strongest_players(data: Data) -> list[int]:
    """Players by the size of their order-1 coefficients, strongest first."""
    players = np.arange(data.plan.masks.shape[1])[:, None]
    linear = moments(data.bins, players)
    return np.argsort(-(linear**2).sum(axis=1), kind="stable").tolist()
