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

from oracles import Masks, Values
from proxyspex.ablated import Ablated
from proxyspex.designs import (
    DESIGNS,
    UNUSUAL,
    biased_masks,
    check_strata,
    is_sample,
    size_spread,
    size_weights,
)
from proxyspex.fit import Fit, FullSurrogate, Wanted, fit_output
from proxyspex.parts import Parts
from proxyspex.trees import MAX_DEPTH, Boosting
from spex.basis import HALF, LEAST, MOST, UNIFORM, Basis
from spex.errors import BudgetError, MethodError
from spex.faithfulness import effective_number, r_squared
from spex.method import Recovery
from spex.spectrum import SparseFourier, Support

MIN_BUDGET = 20
BLIND_R2 = 0.1  # below this the proxies have learned nothing worth telling


@dataclass(frozen=True, eq=False)
class ProxyPlan:
    """Masks of a design, and others that were known before.

    Attributes:
        masks: shape (m, n), those of the design first.
        num_designed: how many they are.
        basis: of the masks of the design.
        is_given: whether there is no design: the masks are what somebody had. In a
            design the first two are all players and none.
        num_missing: how many masks fewer the design has than were asked for.
    """

    masks: Masks
    num_designed: int
    basis: Basis = UNIFORM
    is_given: bool = False
    num_missing: int = 0

    @property
    def learned_from(self) -> NDArray[np.int64]:
        """Rows the proxies learn from.

        Not the empty one of a design: often an outlier, it would tell of itself only.
        """
        return np.flatnonzero(self.is_given | ~self._is_designed | self._is_kept)

    @property
    def telling(self) -> NDArray[np.int64]:
        """Places, among those learned from, of a sample of the masks faithfulness is
        over: without the ends of a design, which are no draws."""
        is_drawn = self._is_designed & self._is_kept & ~self.masks.all(axis=1)
        return np.flatnonzero((self.is_given | is_drawn)[self.learned_from])

    def remarks(self) -> list[str]:
        """What a reader has to know of the masks."""
        said = []
        if self.num_missing:
            said.append(
                f"{self.num_missing} ablations were saved: hardly any other masks are "
                "probable"
            )
        if not self.basis.is_uniform:
            said.append(f"masks keep {self.basis.keep:.0%} of the players")
        if self.is_given and not is_sample(self.masks, self.basis.keep):
            said.append(
                "the masks given are no uniform sample: R² is over masks like them"
            )
        known = len(self.masks) - self.num_designed
        if known:
            said.append(f"{known} ablations known from before are learned from, too")
        return said

    @property
    def _is_designed(self) -> NDArray[np.bool_]:
        return np.arange(len(self.masks)) < self.num_designed

    @property
    def _is_kept(self) -> NDArray[np.bool_]:
        """Whether any player is."""
        return np.asarray(self.masks.any(axis=1))

    def without(self, rows: NDArray[np.int64]) -> "ProxyPlan":
        """The same plan, but for these rows."""
        designed = self.num_designed - int((rows < self.num_designed).sum())
        masks = np.delete(self.masks, rows, axis=0)
        return replace(self, masks=masks, num_designed=designed)


@dataclass(frozen=True, kw_only=True)
class ProxySpex:
    """Boosted trees and a Gaussian process as proxies, their spectrum as explanation.

    Args:
        max_order: largest interaction, from 1 to 8.
        num_terms: most coefficients kept for each output, the mean included; fewer are
            kept where they predict held-out masks as well.
        design: "uniform", "paired", "orthogonal", or, for Shapley values and Shapley
            interactions, "shapley"; see `designs`.
        keep: probability with which a mask keeps each player, from 0.05 to 0.95. Where
            it is not 1/2, all that hangs on the masks (the choice of terms, their
            order, faithfulness) is over such masks; see `spex.basis`. For systems that
            do not work on half of their parts; only with the uniform design.
        strata: number of each player's stratum, (n,), such as its class: every mask
            keeps the same share of each. None if there are none.
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
    keep: float = HALF
    strata: tuple[int, ...] | None = None
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
        if not LEAST <= self.keep <= MOST:
            raise MethodError(
                f"keep={self.keep} is out of range; masks keep each player with a "
                f"probability of {LEAST} to {MOST}."
            )
        if self.design != "uniform" and (self.keep != HALF or self.strata is not None):
            raise MethodError(
                f"design={self.design!r} has masks of its own, and keep and strata say "
                "what masks to draw. Leave them out, or the design."
            )
        is_drawn = self.design != "shapley" and self.strata is None
        if self.is_unbiased and not is_drawn:
            raise MethodError(
                "is_unbiased corrects by the mean error over independent masks, and "
                'those of design="shapley" or of strata are not. Leave one of them out.'
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
        masks = self._drawn(num_players, budget - 1, rng)
        missing = budget - len(masks)
        return ProxyPlan(masks, len(masks), Basis(self.keep), num_missing=missing)

    def _drawn(self, num_players: int, count: int, rng: np.random.Generator) -> Masks:
        if self.strata is not None and len(self.strata) != num_players:
            raise MethodError(
                f"strata holds {len(self.strata)} numbers for {num_players} players. "
                "Pass one for each."
            )
        if self.strata is not None:
            check_strata(self.strata)
        if self.keep == HALF and self.strata is None:
            return DESIGNS[self.design](num_players, count, rng)
        return biased_masks(num_players, count, rng, self.keep, self.strata)

    def extended(self, plan: ProxyPlan, known: Masks) -> ProxyPlan:
        """The plan with masks that cost nothing more; they teach, but tell nothing
        about faithfulness, since they may be of any design."""
        return replace(plan, masks=np.concatenate([plan.masks, known]))

    def given(self, masks: Masks) -> ProxyPlan:
        """A plan of just these masks, of whatever design, which may repeat.

        If `keep` is the default and they do not keep half of the players, but all
        alike another part, they are taken for masks of that one.
        """
        keep = self.keep
        if keep == HALF and not is_sample(masks, HALF):
            told = float(np.clip(masks.mean(), LEAST, MOST))
            keep = told if size_spread(masks, told) <= UNUSUAL else HALF
        return ProxyPlan(masks, len(masks), Basis(keep), is_given=True)

    def without(self, plan: ProxyPlan, rows: NDArray[np.int64]) -> ProxyPlan:
        """The plan without rows that there are no values for."""
        return plan.without(rows)

    def recover(
        self, plan: ProxyPlan, values: Values, rng: np.random.Generator
    ) -> Recovery:
        """The spectrum from the values (m, k) of the plan's masks.

        Masks that come more than once are averaged, and the noise of a single value,
        which their differences tell, is reported.
        """
        learned = plan.learned_from
        data = Ablated.of(plan.masks[learned], values[learned], plan.telling)
        wanted, weights = self._wanted(plan.basis), self._weights(plan, data)
        parts = Parts.of(data, wanted.boosting, weights, plan.basis, rng)
        fits = [
            fit_output(data.masks, column, parts, wanted, generator)
            for column, generator in zip(
                data.values.T, rng.spawn(data.values.shape[1]), strict=True
            )
        ]
        held_out = np.sort(np.concatenate(parts.inside))
        predictions = np.stack([fit.held_out[held_out] for fit in fits], axis=1)
        full = np.stack([fit.full_held_out[held_out] for fit in fits], axis=1)
        spectrum = _join(data.masks.shape[1], [fit.terms for fit in fits], plan.basis)
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
            basis=plan.basis,
        )

    def _wanted(self, basis: Basis) -> Wanted:
        boosting = replace(self.boosting, max_depth=self.max_order)
        return Wanted(self.num_terms, self.max_order, boosting, basis, self.is_unbiased)

    def _weights(self, plan: ProxyPlan, data: Ablated) -> NDArray[np.float64] | None:
        """What makes the rows that tell a sample; None if they are one as they are.

        Where few masks are probable, distinct ones hold too many of the others.
        """
        told, keep = data.masks[data.telling], plan.basis.keep
        is_skewed = not plan.basis.is_uniform and not is_sample(told, keep)
        if plan.is_given or not (self.design == "shapley" or is_skewed):
            return None
        weights = np.zeros(len(data.masks))
        weights[data.telling] = size_weights(told, keep)
        return weights

    def _reasons(
        self,
        plan: ProxyPlan,
        data: Ablated,
        fits: list[Fit],
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
        reasons += plan.remarks()
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


def _join(
    num_players: int, fits: list[dict[Support, float]], basis: Basis
) -> SparseFourier:
    """One spectrum for all outputs on the union of their supports in a basis."""
    supports = list(dict.fromkeys(support for terms in fits for support in terms))
    table = np.array([[terms.get(s, 0.0) for terms in fits] for s in supports])
    sets, coefficients, _ = basis.to_fourier(supports, table)
    return SparseFourier.from_terms(num_players, sets, coefficients)
