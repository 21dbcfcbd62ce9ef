"""The interface of a recovery method: plan masks, then recover a spectrum.

Both steps are pure; between them lie the ledger, the oracle and its workers, so
resuming, distributing and replaying a run need nothing from the method.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from oracles import Masks, Values
from spex.basis import Basis
from spex.spectrum import SparseFourier, Support


class Plan(Protocol):
    """Which masks are to be ablated, with whatever structure the decoder needs."""

    @property
    def masks(self) -> Masks:
        """Shape (m, n); its distinct rows number at most the budget."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recovery:
    """What a method makes of the values.

    Attributes:
        fourier: the surrogate's spectrum.
        standard_errors: of its coefficients, (terms, k), in `basis`.
        held_out: rows of the plan's masks that are a sample of the masks `basis` is
            orthonormal over, if weighted by `held_out_weights`, and that
            `held_out_predictions` were not fitted to.
        held_out_predictions: shape (len(held_out), k). Both are empty if every mask
            was ablated and the spectrum is exact.
        reason: what the method chose and why, as a sentence for the user.
        discoveries: supports that were each tested and stand out, the method saying at
            what false discovery rate; None if it tests none.
        full: the surrogate that the spectrum is the largest terms of, masks (l, n) to
            values (l, k); None if the spectrum is all there is.
        full_predictions: its predictions for the rows held out, as
            `held_out_predictions`.
        noise_floor: variance of a single value of a stochastic oracle around its mean,
            (k,), where masks came more than once.
        held_out_weights: (len(held_out),), of any scale; None if all are equal.
        basis: of the masks ablated; uniform unless they keep more, or less, than half.
    """

    fourier: SparseFourier
    standard_errors: NDArray[np.float64]
    held_out: NDArray[np.int64]
    held_out_predictions: NDArray[np.float64]
    reason: str
    discoveries: frozenset[Support] | None = None
    full: Callable[[Masks], Values] | None = None
    full_predictions: NDArray[np.float64] | None = None
    noise_floor: NDArray[np.float64] | None = None
    held_out_weights: NDArray[np.float64] | None = None
    basis: Basis = field(default_factory=Basis)


PlanT = TypeVar("PlanT", bound=Plan)


class Method(Protocol, Generic[PlanT]):
    """A way to recover a spectrum from few ablations.

    Registered under a name in the entry-point group `spex.methods` it can be chosen by
    that name; `factory(max_order=...)` makes one. A method that can learn from masks of
    any design has more functions, see `Extensible`, `Sparing` and `Learner`.
    """

    def min_budget(self, num_players: int) -> int:
        """The smallest budget `plan` accepts."""

    def plan(self, num_players: int, budget: int, rng: np.random.Generator) -> PlanT:
        """Masks to ablate: at most `budget` distinct rows, the intact one first.

        Raises:
            BudgetError: the budget is below `min_budget(num_players)`.
        """

    def recover(
        self, plan: PlanT, values: Values, rng: np.random.Generator
    ) -> Recovery:
        """The spectrum from the values (m, k) of the plan's masks, row by row."""


@runtime_checkable
class Extensible(Protocol):
    """A method that can make use of ablations known from before, whatever they are."""

    def extended(self, plan: Any, known: Masks) -> Any:
        """The plan with these masks (m, n), none of them in it, after its own."""


@runtime_checkable
class Sparing(Protocol):
    """A method that can do without some of the values it planned for."""

    def without(self, plan: Any, rows: NDArray[np.int64]) -> Any:
        """The plan without these rows of its masks."""


@runtime_checkable
class Learner(Protocol):
    """A method that can do with masks of any design."""

    def min_budget(self, num_players: int) -> int:
        """The fewest distinct masks `given` accepts."""

    def given(self, masks: Masks) -> Any:
        """A plan of just these masks (m, n), which may repeat."""

    def recover(self, plan: Any, values: Values, rng: np.random.Generator) -> Recovery:
        """The spectrum from the values (m, k) of the plan's masks, row by row."""
