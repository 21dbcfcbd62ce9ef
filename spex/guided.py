"""A method that starts from first guesses: only what they miss is recovered.

The values are v = b (w_1 g_1 + w_2 g_2 + ...) + r. A guess g costs no ablations, such
as influence functions, gradients or similarity; w_i >= 0 says how much the guesses
count beside each other, the same for all outputs, which together tell it better than
each could; b is the slope that fits an output best; and r is what is left, smaller and
sparser than v where the guesses are good. (Control variates: Owen 2013, section 8.9.)
Their spectra add up as they do.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from oracles import Masks, Values
from spex.errors import MethodError
from spex.method import Extensible, Learner, Method, Recovery, Sparing
from spex.regression import folds
from spex.spectrum import SparseFourier

NUM_FOLDS = 5  # in which rows held out are not told of by themselves

Array = NDArray[np.float64]


@runtime_checkable
class Guidable(Method[Any], Extensible, Sparing, Learner, Protocol):
    """A method that learns from whatever masks there are."""


@dataclass(frozen=True, eq=False)
class Guided:
    """Another method, given first guesses.

    Its plans are the method's own, so the same ablations serve with and without.

    Args:
        method: recovers what the guess misses; one that learns from any masks, such as
            `ProxySpex`.
        guesses: one or more, each of every output, in any units: only how they vary
            counts.

    Raises:
        MethodError: a method that is a name, or that needs masks of its own; no guess,
            or guesses of different players or outputs.

    >>> from spex import explain
    >>> from proxyspex import ProxySpex
    >>> guess = Guided.additive(ProxySpex(max_order=2), np.ones((40, 1)))
    >>> e = explain(lambda m: m.sum(axis=1), players=40, method=guess, budget=50)
    >>> round(e.faithfulness, 6)
    1.0
    """

    method: Guidable
    guesses: tuple[SparseFourier, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.method, Guidable):
            raise MethodError(
                f"method={self.method!r} cannot be guided: it does not learn from any "
                "masks. Pass an object such as proxyspex.ProxySpex()."
            )
        sizes = {(guess.num_players, guess.num_outputs) for guess in self.guesses}
        if len(sizes) != 1:
            told = ", ".join(f"{n} players and {k} outputs" for n, k in sorted(sizes))
            raise MethodError(
                f"the guesses are of {told or 'nothing'}. Pass one or more, all of the "
                "same players and outputs."
            )

    @classmethod
    def additive(cls, method: Guidable, *effects: Array) -> "Guided":
        """With guesses of what keeping each player adds to each output, (n, k) each.

        Raises:
            MethodError: one is not finite numbers (n, k), or as for the class.
        """
        guesses = []
        for given in effects:
            each = _checked(given)
            players = [(player,) for player in range(len(each))]
            terms = SparseFourier.from_terms(len(each), players, -each / 2)
            guesses.append(terms)
        return cls(method, tuple(guesses))

    def min_budget(self, num_players: int) -> int:
        """That of the method."""
        return self.method.min_budget(num_players)

    def plan(self, num_players: int, budget: int, rng: np.random.Generator) -> Any:
        """That of the method.

        Raises:
            BudgetError: the budget is below `min_budget`.
            MethodError: the guesses are of other players.
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
            MethodError: the guesses are of other players.
        """
        self._check_players(masks.shape[1])
        return self.method.given(masks)

    def recover(self, plan: Any, values: Values, rng: np.random.Generator) -> Recovery:
        """The guesses, mixed and scaled, and what the method makes of the rest.

        Raises:
            MethodError: the guesses are of another number of outputs.
        """
        if self.guesses[0].num_outputs != values.shape[1]:
            raise MethodError(
                f"the guess has {self.guesses[0].num_outputs} outputs, and there are "
                f"{values.shape[1]}. Both need the same."
            )
        factors = _factors(plan.masks, self.guesses, values)
        guess = reduce(_sum, map(_scaled, self.guesses, factors))
        rest = self.method.recover(plan, values - guess(plan.masks), rng)
        held_out = _held_out(plan.masks, self.guesses, values, rest.held_out, rng)
        return _with_guess(rest, guess, held_out, factors)

    def _check_players(self, num_players: int) -> None:
        if self.guesses[0].num_players != num_players:
            raise MethodError(
                f"the guess is of {self.guesses[0].num_players} players, and there are "
                f"{num_players}. Both need the same."
            )


def _factors(masks: Masks, guesses: tuple[SparseFourier, ...], values: Values) -> Array:
    """What each guess of each output is multiplied by, (guesses, k): b w_i.

    The masks of all and of no players, which are far from all others, count only where
    there are no others.
    """
    kept = masks.sum(axis=1)
    inside = (kept > 0) & (kept < masks.shape[1])
    rows = inside if inside.any() else ~inside
    tables = np.stack([guess(masks[rows]) for guess in guesses])
    tables -= tables.mean(axis=1, keepdims=True)
    sizes = tables.std(axis=1)
    standard = _over(tables, sizes[:, None])
    centred = values[rows] - values[rows].mean(axis=0)
    weights = np.ones(1)
    if len(guesses) > 1:
        wanted = _over(centred, centred.std(axis=0)).ravel()
        weights, _ = nnls(standard.reshape(len(guesses), -1).T, wanted)
    mixed = np.tensordot(weights, standard, axes=1)
    slopes = _over((mixed * centred).sum(axis=0), (mixed**2).sum(axis=0))
    return _over(weights[:, None] * slopes, sizes)


def _held_out(
    masks: Masks,
    guesses: tuple[SparseFourier, ...],
    values: Values,
    rows: NDArray[np.int64],
    rng: np.random.Generator,
) -> Array:
    """What the guesses say of these rows, (rows, k), by factors told by the others."""
    said = np.zeros((len(rows), values.shape[1]))
    for part in folds(np.arange(len(rows)), NUM_FOLDS, rng):
        others = np.delete(np.arange(len(masks)), rows[part])
        factors = _factors(masks[others], guesses, values[others])
        for guess, factor in zip(guesses, factors, strict=True):
            said[part] += guess(masks[rows[part]]) * factor
    return said


def _over(above: Array, below: Array) -> Array:
    """The quotient, 0 where there is nothing to divide by."""
    shape = np.broadcast_shapes(above.shape, below.shape)
    return np.divide(above, below, out=np.zeros(shape), where=below > 0)


def _scaled(guess: SparseFourier, factors: Array) -> SparseFourier:
    return replace(guess, coefficients=guess.coefficients * factors)


def _with_guess(
    rest: Recovery, scaled: SparseFourier, held_out: Values, factors: Array
) -> Recovery:
    """What was recovered of the rest, and the guess added to all of it."""
    fourier = _sum(rest.fourier, scaled)
    spread = rest.standard_errors.max(axis=0, initial=0.0)
    errors = np.tile(spread, (len(fourier.supports), 1))
    for support, row in rest.fourier.position.items():
        errors[fourier.position[support]] = rest.standard_errors[row]
    full, predicted = rest.full, rest.full_predictions
    by = " and ".join(map(_shown, factors))
    return replace(
        rest,
        fourier=fourier,
        standard_errors=errors,
        held_out_predictions=rest.held_out_predictions + held_out,
        full=None if full is None else _Sum(full, scaled),
        full_predictions=None if predicted is None else predicted + held_out,
        reason=f"a first guess, times {by}; of what it misses: {rest.reason}",
    )


def _shown(factors: Array) -> str:
    """Those of the first few outputs."""
    return ", ".join(f"{x:.3g}" for x in factors[:4]) + ", ..." * (len(factors) > 4)


def _sum(one: SparseFourier, other: SparseFourier) -> SparseFourier:
    supports = [*dict.fromkeys([*one.supports, *other.supports])]
    place = {support: row for row, support in enumerate(supports)}
    table = np.zeros((len(supports), one.num_outputs))
    for part in (one, other):
        table[[place[s] for s in part.supports]] += part.coefficients
    return SparseFourier.from_terms(one.num_players, supports, table)


def _checked(effects: Any) -> Array:
    table = np.asarray(effects)
    is_real = np.issubdtype(table.dtype, np.number) or table.dtype == np.bool_
    if table.ndim != 2 or not is_real or np.iscomplexobj(table):
        raise MethodError(
            f"a guess of shape {table.shape} and type {table.dtype} is not what "
            "keeping each player adds to each output. Pass numbers (n, k)."
        )
    if not np.isfinite(table).all():
        bad = int((~np.isfinite(table)).sum())
        raise MethodError(
            f"{bad} of the {table.size} numbers of a guess are not finite. Leave out "
            "the guess, or put 0 where nothing is known."
        )
    return table.astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Sum:
    """The full surrogate of the rest, and the guess."""

    rest: Callable[[Masks], Values]
    guess: SparseFourier

    def __call__(self, masks: Masks) -> Values:
        return self.rest(masks) + self.guess(masks)
