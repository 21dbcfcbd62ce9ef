"""SPEX: ablate coded masks, decode them, and regress on what was found.

After Kang, Butler, Agarwal, Erginbas, Pedarsani, Yu, Ramchandran, "SPEX: Scaling
Feature Interaction Explanations for LLMs" (ICML 2025, arXiv 2502.13870); how this
differs from it is said in `design`, `decode`, `pursuit` and `refine`.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from oracles import Values
from spex.coded.bins import Bins
from spex.coded.codes import check_field
from spex.coded.design import CodedPlan, coded_plan
from spex.coded.normal import Data
from spex.coded.pursuit import Pursued, pursue
from spex.coded.refine import Refined, refine
from spex.coded.shapes import budget_for_terms, smallest_budget
from spex.coded.significance import FDR
from spex.errors import BudgetError, MethodError
from spex.method import Recovery
from spex.regression import folds
from spex.spectrum import SparseFourier

NUM_FOLDS = 5
MANY_FOLDS, MANY_ROWS = 10, 1000  # where there are fewer rows, each is missed more
FEW_UNIFORM = 16  # below this many, coded masks have to tell the faithfulness as well
MAX_CODED_HELD_OUT = 500
ROUNDING = 1e-15  # of the largest value
EXACT_ERROR = 1e-16  # square on a held-out mask, as a part of the variance
SMALLEST = 1e-10  # an exact coefficient that counts, in standard deviations
SPARSE_R2 = 0.9  # a spectrum that reaches this is sparse enough for its budget
DETECTABLE = 16.0  # (4 standard errors)^2


@dataclass(frozen=True, kw_only=True)
class Spex:
    """Sparse Fourier recovery from a coded design.

    Args:
        max_order: largest interaction looked for, at least 1.

    Raises:
        MethodError: `max_order` is below 1.
    """

    max_order: int = 5

    def __post_init__(self) -> None:
        if self.max_order < 1:
            raise MethodError(f"max_order={self.max_order} must be at least 1.")

    def min_budget(self, num_players: int) -> int:
        """What 3 groups of 2 bins for order 1 and a few uniform masks cost."""
        check_field(num_players)
        return smallest_budget(num_players, self.max_order)

    def plan(
        self, num_players: int, budget: int, rng: np.random.Generator
    ) -> CodedPlan:
        """The first `budget` masks of the sequence that the generator stands for.

        Raises:
            BudgetError: the budget is below `min_budget`.
            MethodError: there is no code for so many players.
        """
        needed = self.min_budget(num_players)
        if budget < needed:
            raise BudgetError(
                f"budget={budget} is below the {needed} ablations of the smallest "
                f"coded design for {num_players} players. Pass budget={needed} or "
                'more, or method="proxyspex".'
            )
        return coded_plan(num_players, self.max_order, budget, rng)

    def recover(
        self, plan: CodedPlan, values: Values, rng: np.random.Generator
    ) -> Recovery:
        """The spectrum from the values (m, k) of the plan's masks."""
        shift, scale = values.mean(axis=0), values.std(axis=0)
        rounding = ROUNDING * np.abs(values).max(axis=0)
        constant = (scale <= rounding) | (np.ptp(values, axis=0) == 0)  # have no vote
        scale = np.where(constant, 1.0, scale)
        rounding = np.where(constant, 0.0, rounding)
        scaled = np.where(constant, 0.0, (values - shift) / scale)
        bins = Bins.of(plan, scaled)
        empty = float(((rounding / scale) ** 2).sum()) * bins.table.shape[1]
        found = pursue(bins, empty, self.max_order)
        rows = _held_out(plan, rng)
        num_folds = MANY_FOLDS if len(values) < MANY_ROWS else NUM_FOLDS
        parts = folds(rows, min(num_folds, len(rows)), rng)
        data = Data(plan, bins, scaled, parts)
        model = _exact(found, data) if found.is_exact else None
        if model is None:
            terms = dict(zip(found.supports, found.coefficients, strict=True))
            model = refine(data, terms, self.max_order)
        return _recovery(data, found, model, shift, scale)


def _held_out(plan: CodedPlan, rng: np.random.Generator) -> NDArray[np.int64]:
    """The uniform rows, and some that are coded."""
    coded = np.setdiff1d(np.arange(len(plan.masks)), plan.uncoded)
    some = rng.choice(coded, min(MAX_CODED_HELD_OUT, len(coded)), replace=False)
    return np.concatenate([plan.uniform, some])


def _exact(found: Pursued, data: Data) -> Refined | None:
    """What was decoded, if it predicts the masks that are in no group to rounding."""
    rows = np.union1d(data.held_out, data.plan.uncoded)
    spectrum = SparseFourier.from_terms(
        data.plan.masks.shape[1], found.supports, found.coefficients
    )
    errors = data.values[rows] - spectrum(data.plan.masks[rows])
    if (errors**2).max() > EXACT_ERROR:
        return None
    held_out = data.values[data.held_out] - errors[np.searchsorted(rows, data.held_out)]
    large = np.abs(found.coefficients).max(axis=1) > SMALLEST
    large[found.supports.index(())] = True
    supports = [s for s, keep in zip(found.supports, large, strict=True) if keep]
    reason = "decoding left nothing over"
    error = float((errors**2).max())
    return Refined(supports, found.coefficients[large], error, held_out, reason)


def _recovery(
    data: Data,
    found: Pursued,
    model: Refined,
    shift: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> Recovery:
    """In the units of the values, with what was done as a sentence."""
    tells = np.isin(data.held_out, data.plan.uniform)
    if tells.sum() < FEW_UNIFORM:
        tells[:] = True
    rows, held_out = data.held_out[tells], model.held_out[tells]
    errors = data.values[rows] - held_out
    spread = scale * np.sqrt((errors**2).mean(axis=0) / len(data.values))
    discoveries = frozenset(found.supports) & frozenset(model.supports) - {()}
    coefficients = model.coefficients * scale
    coefficients[model.supports.index(())] += shift
    shape = data.plan.shape
    reasons = [
        f"{' + '.join(str(2**b) for b in shape.bs)} bins of {shape.num_delays} delays "
        f"(order {shape.t}) and {len(data.plan.uniform)} uniform masks",
        f"decoded {found.num_decoded} times; {len(discoveries)} terms are "
        f"discoveries at a false discovery rate of {FDR:.0%}",
        model.reason,
        *_advice(data, found, model),
    ]
    return Recovery(
        fourier=SparseFourier.from_terms(
            data.plan.masks.shape[1], model.supports, coefficients
        ),
        standard_errors=np.tile(spread, (len(model.supports), 1)),
        held_out=rows,
        held_out_predictions=held_out * scale + shift,
        reason="; ".join(reasons),
        discoveries=discoveries,
    )


def _advice(data: Data, found: Pursued, model: Refined) -> list[str]:
    """Where too little is explained: the least budget that could explain enough.

    What is still missing is taken to be spread over coefficients smaller than those
    found (in overloaded bins larger ones may be missing, too): then at least so many
    more are needed as the smallest of these fits into what is missing.
    """
    variance = float(data.values[data.held_out].var(axis=0).mean())
    left = model.error / variance if variance else 0.0
    if left <= 1 - SPARSE_R2:
        return []
    energy = np.sort((found.coefficients[1:] ** 2).mean(axis=1))
    smallest = energy[0] if len(energy) else DETECTABLE / len(data.values)
    terms = len(energy) + ceil((left - 1 + SPARSE_R2) * variance / smallest)
    shape = data.plan.shape
    needed = budget_for_terms(shape, terms)
    if needed <= len(data.values):
        return [
            f"{left:.0%} of the variance is noise, or of higher order than {shape.t}, "
            "or in terms too small to be told apart"
        ]
    most = 2 ** min(data.plan.masks.shape[1], 62)
    cost = f"about {needed}" if needed < most else f"all {most}"
    return [
        f"{left:.0%} of the variance is not in terms that {len(data.values)} ablations "
        f"can tell apart: unless it is noise or of higher order than {shape.t}, R² "
        f"{SPARSE_R2} takes at least {terms} terms and so {cost} ablations"
    ]
