"""A method that starts from a first guess: only what the guess misses is recovered.

The values are v = b g + r, with g a guess that costs no ablations, such as influence
functions or gradients, b the slope that fits it best to the values of each output, and
r what is left, smaller and sparser than v where the guess is good. (A control variate:
Owen 2013, section 8.9.) Their spectra add up as they do.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from oracles import Masks, Values
from spex.errors import MethodError
from spex.method import Extensible, Learner, Method, Recovery, Sparing
from spex.spectrum import SparseFourier

Array = NDArray[np.float64]


@runtime_checkable
class Guidable(Method[Any], Extensible, Sparing, Learner, Protocol):
    """A method that learns from whatever masks there are."""


@dataclass(frozen=True, eq=False)
class Guided:
    """Another method, given a first guess.

    Its plans are the method's own, so the same ablations serve with and without.

    Args:
        method: recovers what the guess misses; one that learns from any masks, such as
            `ProxySpex`.
        guess: of every output, in any units: only how it varies counts.

    Raises:
        MethodError: a method that is a name, or that needs masks of its own.

    >>> from spex import explain
    >>> from proxyspex import ProxySpex
    >>> guess = Guided.additive(ProxySpex(max_order=2), np.ones((40, 1)))
    >>> e = explain(lambda m: m.sum(axis=1), players=40, method=guess, budget=50)
    >>> round(e.faithfulness, 6)
    1.0
    """

    method: Guidable
    guess: SparseFourier

    def __post_init__(self) -> None:
        if not isinstance(self.method, Guidable):
            raise MethodError(
                f"method={self.method!r} cannot be guided: it does not learn from any "
                "masks. Pass an object such as proxyspex.ProxySpex()."
            )

    @classmethod
    def additive(cls, method: Guidable, effects: Array) -> "Guided":
        """With a guess of what keeping each player adds to each output, (n, k)."""
        players = [(player,) for player in range(len(effects))]
        guess = SparseFourier.from_terms(len(effects), players, -effects / 2)
        return cls(method, guess)

    def min_budget(self, num_players: int) -> int:
        """That of the method."""
        return self.method.min_budget(num_players)

    def plan(self, num_players: int, budget: int, rng: np.random.Generator) -> Any:
        """That of the method.

        Raises:
            BudgetError: the budget is below `min_budget`.
            MethodError: the guess is of other players.
        """
        self._check_players(num_players)
        return self.method.plan(num_players, budget, rng)

    def extended(self, plan: Any, known: Masks) -> Any:
        """As the method does."""
        return self.method.extended(plan, known)

    def without(self, plan: Any, rows: NDArray[np.int64]) -> Any:
        """As the method does."""
        return self.method.without(plan, rows)

    def given(self, masks: Masks) -> Any:
        """As the method does.

        Raises:
            MethodError: the guess is of other players.
        """
        self._check_players(masks.shape[1])
        return self.method.given(masks)

    def recover(self, plan: Any, values: Values, rng: np.random.Generator) -> Recovery:
        """The guess, scaled, and what the method makes of the rest.

        Raises:
            MethodError: the guess is of another number of outputs.
        """
        if self.guess.num_outputs != values.shape[1]:
            raise MethodError(
                f"the guess has {self.guess.num_outputs} outputs, and there are "
                f"{values.shape[1]}. Both need the same."
            )
        guessed = self.guess(plan.masks)
        slopes = _slopes(plan.masks, guessed, values)
        rest = self.method.recover(plan, values - slopes * guessed, rng)
        scaled = replace(self.guess, coefficients=self.guess.coefficients * slopes)
        return _with_guess(rest, scaled, slopes * guessed, slopes)

    def _check_players(self, num_players: int) -> None:
        if self.guess.num_players != num_players:
            raise MethodError(
                f"the guess is of {self.guess.num_players} players, and there are "
                f"{num_players}. Both need the same."
            )


def _slopes(masks: Masks, guessed: Values, values: Values) -> Array:
    """Least squares of each output on its guess, (k,); 0 if that does not vary.

    The masks of all and of no players, which are far from all others, count only where
    there are no others.
    """
    kept = masks.sum(axis=1)
    inside = (kept > 0) & (kept < masks.shape[1])
    rows = inside if inside.any() else ~inside
    centred = guessed[rows] - guessed[rows].mean(axis=0)
    squares = (centred**2).sum(axis=0)
    products = (centred * values[rows]).sum(axis=0)
    return np.divide(products, squares, out=np.zeros(len(squares)), where=squares > 0)


def _with_guess(
    rest: Recovery, scaled: SparseFourier, guessed: Values, slopes: Array
) -> Recovery:
    """What was recovered of the rest, and the guess added to all of it."""
    fourier = _sum(rest.fourier, scaled)
    spread = rest.standard_errors.max(axis=0, initial=0.0)
    errors = np.tile(spread, (len(fourier.supports), 1))
    for support, row in rest.fourier.position.items():
        errors[fourier.position[support]] = rest.standard_errors[row]
    held_out = guessed[rest.held_out]
    full, predicted = rest.full, rest.full_predictions
    by = ", ".join(f"{slope:.2f}" for slope in slopes[:4])
    more = ", ..." if len(slopes) > 4 else ""
    return replace(
        rest,
        fourier=fourier,
        standard_errors=errors,
        held_out_predictions=rest.held_out_predictions + held_out,
        full=None if full is None else _Sum(full, scaled),
        full_predictions=None if predicted is None else predicted + held_out,
        reason=f"a first guess, times {by}{more}; of what it misses: {rest.reason}",
    )


def _sum(one: SparseFourier, other: SparseFourier) -> SparseFourier:
    supports = [*dict.fromkeys([*one.supports, *other.supports])]
    place = {support: row for row, support in enumerate(supports)}
    table = np.zeros((len(supports), one.num_outputs))
    for part in (one, other):
        table[[place[s] for s in part.supports]] += part.coefficients
    return SparseFourier.from_terms(one.num_players, supports, table)


@dataclass(frozen=True, eq=False)
class _Sum:
    """The full surrogate of the rest, and the guess."""

    rest: Callable[[Masks], Values]
    guess: SparseFourier

    def __call__(self, masks: Masks) -> Values:
        return self.rest(masks) + self.guess(masks)
