"""SPEX: ablate coded masks, decode them, and regress on what was decoded.

After Kang, Butler, Agarwal, Erginbas, Pedarsani, Yu, Ramchandran, "SPEX: Scaling
Feature Interaction Explanations for LLMs" (ICML 2025, arXiv 2502.13870); how this
differs from it is said in `decode` and `refine`.
"""

from dataclasses import dataclass

import numpy as np

from oracles import Values
from spex.coded.decode import decode
from spex.coded.design import CodedPlan, coded_plan, smallest_budget
from spex.coded.refine import refine
from spex.errors import BudgetError, MethodError
from spex.method import Recovery
from spex.regression import folds
from spex.spectrum import SparseFourier

NUM_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Spex:
    """Sparse Fourier recovery from a coded design.

    Args:
        max_order: largest interaction looked for, at least 1.
        num_terms: coefficients kept, unless the decoding is exact.

    Raises:
        MethodError: `max_order` or `num_terms` is below 1.
    """

    max_order: int = 5
    num_terms: int = 200

    def __post_init__(self) -> None:
        if self.max_order < 1 or self.num_terms < 1:
            raise MethodError(
                f"max_order={self.max_order} and num_terms={self.num_terms} must be at "
                "least 1."
            )

    def min_budget(self, num_players: int) -> int:
        """What 2 groups of 4 bins for order 1 and a few uniform masks cost."""
        return smallest_budget(num_players, self.max_order)

    def plan(
        self, num_players: int, budget: int, rng: np.random.Generator
    ) -> CodedPlan:
        """The coded design with the most bins, the rest of the budget uniform.

        Raises:
            BudgetError: the budget is below `min_budget`.
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
        decoded = decode(plan, values)
        parts = folds(plan.uniform, NUM_FOLDS, rng)
        refined = refine(
            plan.masks, values, parts, decoded, self.max_order, self.num_terms
        )
        rows = np.concatenate(parts)
        errors = values[rows] - refined.held_out
        spread = np.sqrt((errors**2).mean(axis=0) / len(values))
        shape = plan.shape
        return Recovery(
            fourier=SparseFourier.from_terms(
                plan.masks.shape[1], refined.supports, refined.coefficients
            ),
            standard_errors=np.tile(spread, (len(refined.supports), 1)),
            held_out=rows,
            held_out_predictions=refined.held_out,
            reason=f"{shape.num_groups} groups of {2**shape.b} bins and "
            f"{shape.num_delays} delays (order {shape.code.t}), {len(plan.uniform)} "
            f"uniform masks; {len(decoded)} supports decoded; {refined.reason}",
        )
