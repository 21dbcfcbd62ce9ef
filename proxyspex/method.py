"""ProxySPEX: fit proxies that are cheap to transform, keep their largest coefficients.

After Butler, Agarwal, Kang, Erginbas, Yu, Ramchandran, "ProxySPEX: Inference-Efficient
Interpretability via Sparse Feature Interactions in LLMs" (NeurIPS 2025,
arXiv 2505.17495), section 4:

1. ablate uniform random masks,
2. fit gradient-boosted trees,
3. transform them exactly and keep the largest coefficients,
4. refit those on the values.

Deviations from the paper:
(a) one setting of the trees, which depends on the number of masks, in place of a grid
    search: the mean of five folds' forests is better than the best of the grid, at a
    tenth of the time;
(b) the refit is a Gaussian process whose prior is the trees' spectrum and a product
    kernel, blended with the trees as held-out masks advise (`blend`);
(c) up to a fixed number of terms is kept instead of 95 % of the energy: the cut by
    energy loses small terms even when every mask is known.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from oracles import Masks, Values, check_masks
from proxyspex.ablated import Ablated
from proxyspex.blend import MAD, Blend, blend
from proxyspex.designs import DESIGNS, is_uniform, size_weights
from proxyspex.parts import Parts, grown
from proxyspex.sparse import Sparse, sparsify
from proxyspex.trees import (
    MAX_DEPTH,
    Boosting,
)
from spex.errors import BudgetError, MethodError
from spex.faithfulness import effective_number, r_squared
from spex.method import Recovery
from spex.spectrum import SparseFourier, Support, characters

MIN_BUDGET = 20
CONSTANT = 1e-12  # values that vary by less than this part are constant
WILD = 10.0  # robust standard deviations from which a value is taken for an accident
FEW_WILD, WILD_PART = 2, 0.005  # if no more than so many, or this part, are
BLIND_R2 = 0.1  # below this the proxies have learned nothing worth telling


@dataclass(frozen=True, eq=False)
class ProxyPlan:
    """Masks of a design, and others that were known before.

    Attributes:
        masks: shape (m, n), those of the design first.
        num_designed: how many they are.
        is_given: whether there is no design: the masks are what somebody had. In a
            design the first two are all players and none.
    """

    masks: Masks
    num_designed: int
    is_given: bool = False

    @property
    def learned_from(self) -> NDArray[np.int64]:
        """Rows the proxies learn from.

        Not the empty one of a design: often an outlier, it would tell of itself only.
        """
        everything = np.arange(len(self.masks))
        return everything if self.is_given else np.delete(everything, 1)

    @property
    def telling(self) -> slice:
        """Of those, a sample of the masks faithfulness is over."""
        return slice(0, None) if self.is_given else slice(1, self.num_designed - 1)


@dataclass(frozen=True, kw_only=True)
class ProxySpex:
    """Boosted trees and a Gaussian process as proxies, their spectrum as explanation.

    Args:
        max_order: largest interaction, from 1 to 8.
        num_terms: most coefficients kept for each output, the mean included; fewer are
            kept where they predict held-out masks as well.
        design: "uniform", "paired", "orthogonal", or, for Shapley values and Shapley
            interactions, "shapley"; see `designs`.
        is_unbiased: add to each coefficient what the held-out errors say is missing,
            the mean of (v - vhat) chi_S, with vhat fitted to the other folds. Over
            uniform masks a coefficient kept in any case is then right on average, if
            farther off in a single run (cross-fitting, as in Chernozhukov et al. 2018).
        boosting: settings of the trees; their depth follows `max_order`.

    Raises:
        MethodError: an argument out of range.
    """

    max_order: int = 5
    num_terms: int = 200
    design: str = "uniform"
    is_unbiased: bool = False
    boosting: Boosting = field(default_factory=Boosting)

    def __post_init__(self) -> None:
        if not 1 <= self.max_order <= MAX_DEPTH:
            raise MethodError(
                f"max_order={self.max_order} is out of range; proxyspex finds "
                f"interactions of order 1 to {MAX_DEPTH}."
            )
        if self.num_terms < 1:
            raise MethodError(f"num_terms={self.num_terms} must be at least 1.")
        if self.design not in DESIGNS:
            names = ", ".join(DESIGNS)
            raise MethodError(
                f"design={self.design!r} is not known. Choose from {names}."
            )
        if self.is_unbiased and self.design == "shapley":
            raise MethodError(
                "is_unbiased corrects by the mean error over uniform masks, and those "
                'of design="shapley" are not. Leave one of them out.'
            )

    def min_budget(self, num_players: int) -> int:
        """20: fewer teach trees nothing."""
        return MIN_BUDGET

    def plan(
        self, num_players: int, budget: int, rng: np.random.Generator
    ) -> ProxyPlan:
        """`budget` distinct masks; a larger budget begins with the same ones.

        Raises:
            BudgetError: the budget is below `min_budget`.
        """
        needed = self.min_budget(num_players)
        if budget < needed:
            raise BudgetError(
                f"budget={budget} is below the {needed} ablations proxyspex can learn "
                f"anything from. Pass budget={needed} or more."
            )
        budget = min(budget, 2 ** min(num_players, 62))
        masks = DESIGNS[self.design](num_players, budget - 1, rng)
        return ProxyPlan(masks, len(masks))

    def extended(self, plan: ProxyPlan, known: Masks) -> ProxyPlan:
        """The plan with masks that cost nothing more; they teach, but tell nothing
        about faithfulness, since they may be of any design."""
        return replace(plan, masks=np.concatenate([plan.masks, known]))

    def given(self, masks: Masks) -> ProxyPlan:
        """A plan of just these masks, of whatever design, which may repeat."""
        return ProxyPlan(masks, len(masks), is_given=True)

    def recover(
        self, plan: ProxyPlan, values: Values, rng: np.random.Generator
    ) -> Recovery:
        """The spectrum from the values (m, k) of the plan's masks.

        Masks that come more than once are averaged, and the noise of a single value,
        which their differences tell, is reported.
        """
        learned = plan.learned_from
        data = Ablated.of(plan.masks[learned], values[learned], plan.telling)
        settings = replace(self.boosting, max_depth=self.max_order)
        weights = None
        if self.design == "shapley" and not plan.is_given:
            weights = np.zeros(len(data.masks))
            weights[data.telling] = size_weights(data.masks[data.telling])
        parts = Parts.of(data, settings, weights, rng)
        fits = [
            self._fit(data, column, parts, settings, generator)
            for column, generator in zip(
                data.values.T, rng.spawn(data.values.shape[1]), strict=True
            )
        ]
        held_out = np.sort(np.concatenate(parts.inside))
        predictions = np.stack([fit.held_out[held_out] for fit in fits], axis=1)
        full = np.stack([fit.full_held_out[held_out] for fit in fits], axis=1)
        spectrum = _join(data.masks.shape[1], [fit.terms for fit in fits])
        truth = data.values[held_out]
        if weights is not None:
            weights = weights[held_out]
        scores = [r_squared(truth, p, weights) for p in (predictions, full)]
        errors = truth - predictions
        mean_square = np.average(errors**2, axis=0, weights=weights)
        spread = np.sqrt(mean_square / effective_number(len(held_out), weights))
        return Recovery(
            fourier=spectrum,
            standard_errors=np.tile(spread, (len(spectrum.supports), 1)),
            held_out=learned[data.first[held_out]],
            held_out_predictions=predictions,
            reason="; ".join(self._reasons(plan, data, fits, *scores)),
            full=FullSurrogate(fits),
            full_predictions=full,
            noise_floor=data.noise_floor,
            held_out_weights=weights,
        )

    def _fit(
        self,
        data: Ablated,
        values: NDArray[np.float64],
        parts: "Parts",
        settings: Boosting,
        rng: np.random.Generator,
    ) -> "_Fit":
        if values.std() <= CONSTANT * np.abs(values).max():
            return _Fit.constant(data.masks, float(values.mean()), len(values))
        tamed = _tamed(values)
        shift, scale = float(tamed.mean()), float(tamed.std())
        standard = (tamed - shift) / scale
        mixed = blend(
            data.masks,
            standard,
            grown(data.masks, standard, parts, settings, rng),
            rng,
        )
        sparse = sparsify(
            data.masks, standard, mixed, self.num_terms, self.max_order, parts.weights
        )
        coefficients = sparse.shrinkage * sparse.coefficients
        held_out = sparse.shrinkage * sparse.held_out
        if self.is_unbiased:
            coefficients, held_out = _corrected(data.masks, standard, mixed, sparse)
        terms = dict(zip(sparse.supports, (scale * coefficients).tolist(), strict=True))
        terms[()] += shift
        return _Fit(
            data.masks,
            terms,
            scale * held_out + shift,
            scale * mixed.held_out + shift,
            mixed,
            shift,
            scale,
        )

    def _reasons(
        self,
        plan: ProxyPlan,
        data: Ablated,
        fits: list["_Fit"],
        sparse_r2: NDArray[np.float64],
        full_r2: NDArray[np.float64],
    ) -> list[str]:
        """What was chosen, and what a reader has to know."""
        blends = [fit.blend for fit in fits if fit.blend is not None]
        if not blends:
            return ["the values do not vary: there is only a mean"]
        trust = np.mean([b.trust for b in blends])
        most = max(len(fit.terms) for fit in fits)
        reasons = [
            f"{len(blends[0].folds)} x {self.boosting.num_trees} boosted trees, "
            f"{trust:.0%} of the way blended with a Gaussian process",
            f"the {most} largest terms have R² {sparse_r2.mean():.3f} on held-out "
            f"masks, all terms together {full_r2.mean():.3f}",
        ]
        outlying = max(b.outlying for b in blends)
        if outlying:
            reasons.append(f"up to {outlying} outlying values weigh less")
        if plan.is_given and not is_uniform(plan.masks):
            reasons.append(
                "the masks given are no uniform sample: R² is over masks like them"
            )
        known = len(plan.masks) - plan.num_designed
        if known:
            reasons.append(f"{known} ablations known from before are learned from, too")
        if data.noise_floor is not None:
            noise = ", ".join(f"{x:.3g}" for x in np.sqrt(data.noise_floor))
            reasons.append(
                f"values of one mask differ by a standard deviation of {noise}"
            )
        blind = np.flatnonzero(full_r2 < BLIND_R2).tolist()
        if blind:
            of = f" of output {', '.join(map(str, blind))}" if len(fits) > 1 else ""
            reasons.append(
                f"no proxy predicts held-out masks{of}: the values are noise, or need "
                "more ablations, or interact in larger sets without smaller ones, "
                "which proxyspex cannot see and method='spex' can"
            )
        return reasons


CHUNK = 1024  # masks predicted at a time


@dataclass(frozen=True, eq=False)
class FullSurrogate:
    """All terms of the blend, of every output."""

    fits: list["_Fit"]

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


@dataclass(frozen=True, eq=False)
class _Fit:
    """One output: terms, held-out predictions of them and of the blend, the blend."""

    masks: Masks
    terms: dict[Support, float]
    held_out: NDArray[np.float64]
    full_held_out: NDArray[np.float64]
    blend: Blend | None
    shift: float
    scale: float

    @classmethod
    def constant(cls, masks: Masks, value: float, num_rows: int) -> "_Fit":
        flat = np.full(num_rows, value)
        return cls(masks, {(): value}, flat, flat, None, value, 1.0)

    def predict(self, masks: Masks) -> NDArray[np.float64]:
        """The full surrogate (l,)."""
        if self.blend is None:
            return np.full(len(masks), self.shift)
        return self.scale * self.blend.predict(self.masks, masks) + self.shift


def _corrected(
    masks: Masks, values: NDArray[np.float64], mixed: Blend, sparse: Sparse
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients with what held-out errors say is missing, and held-out predictions,
    each fold's corrected by what the other folds miss."""
    design = characters(masks, sparse.supports)
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


def _join(num_players: int, fits: list[dict[Support, float]]) -> SparseFourier:
    """One spectrum for all outputs on the union of their supports."""
    supports = list(dict.fromkeys(support for terms in fits for support in terms))
    table = np.array([[terms.get(s, 0.0) for terms in fits] for s in supports])
    return SparseFourier.from_terms(num_players, supports, table)
