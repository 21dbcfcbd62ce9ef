"""The exact spectrum, when all 2^n masks fit in the budget."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oracles import Masks, Values, averaged
from spex.errors import BudgetError
from spex.method import Recovery
from spex.spectrum import SparseFourier

ROUNDING = 1e-12  # coefficients below this part of the largest value are dropped


@dataclass(frozen=True, eq=False)
class ExactPlan:
    """All 2^n masks; they may repeat where they were given."""

    masks: Masks


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Ablate every mask and transform.

    Args:
        max_order: accepted for a common signature; an exact spectrum keeps every
            order, since nothing is saved by leaving any out.
    """

    max_order: int = 5

    def min_budget(self, num_players: int) -> int:
        """2^n."""
        return 2**num_players

    def plan(
        self,
        num_players: int,
        budget: int,
        rng: np.random.Generator,
    ) -> ExactPlan:
        """All masks.

        Raises:
            BudgetError: the budget is below 2^n.
        """
        if budget < self.min_budget(num_players):
            raise BudgetError(
                f"budget={budget} is below the 2^{num_players} = {2**num_players} "
                f"ablations of an exact transform. Pass budget={2**num_players}, or "
                "another method."
            )
        return ExactPlan(every_mask(num_players)[::-1])

    def given(self, masks: Masks) -> ExactPlan:
        """A plan of just these masks, all 2^n of them, which may repeat."""
        return ExactPlan(masks)

    def recover(
        self,
        plan: ExactPlan,
        values: Values,
        rng: np.random.Generator,
    ) -> Recovery:
        """The whole spectrum by a fast Walsh-Hadamard transform."""
        num_players = plan.masks.shape[1]
        mean = averaged(plan.masks, values)
        codes = plan.masks[mean.first] @ (1 << np.arange(num_players))
        coefficients = walsh_hadamard(mean.means[np.argsort(codes)]) / 2**num_players
        errors = np.zeros_like(coefficients)
        if mean.noise is not None:
            errors += np.sqrt(mean.noise * (1 / mean.counts).sum()) / 2**num_players
        kept = np.abs(coefficients).max(axis=1) > ROUNDING * np.abs(values).max()
        supports = [
            tuple(np.flatnonzero(row).tolist()) for row in every_mask(num_players)[kept]
        ]
        spectrum = SparseFourier.from_terms(num_players, supports, coefficients[kept])
        return Recovery(
            fourier=spectrum,
            standard_errors=errors[kept],
            held_out=np.zeros(0, dtype=np.int64),
            held_out_predictions=np.zeros((0, values.shape[1])),
            reason="a fast Walsh-Hadamard transform of all masks",
            noise_floor=mean.noise,
        )


def every_mask(num_players: int) -> Masks:
    """All 2^n masks in binary order, player i in bit i; the intact one last."""
    codes = np.arange(2**num_players)[:, None]
    return (codes >> np.arange(num_players)) & 1 == 1


def walsh_hadamard(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """sum_x table[x] (-1)^<x, y> along the first axis, of length 2^b."""
    length = len(table)
    result = table.copy()
    step = 1
    while step < length:
        pairs = result.reshape(length // (2 * step), 2, step, -1)
        low, high = pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]
        result = np.stack([low, high], axis=1).reshape(table.shape)
        step *= 2
    return result
