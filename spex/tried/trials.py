"""Trials: sets that a surrogate proposes are run, learned from, and proposed again.

A surrogate is right on average over masks like those it learned from, and a search asks
it for the one set that it overrates most. So for each size that is asked for several
sets are run, and the best is the one that was measured to be. They are run in rounds,
each of those of which most is to be expected, and learned from before the next.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, isnan
from typing import Any

import numpy as np

from oracles import InputError, Ledger, Masks, Oracle, Values, distinct_masks, run
from spex.errors import BudgetError, MethodError
from spex.exact import every_mask
from spex.explanation import Explanation
from spex.method import Extensible, Method
from spex.registry import LEARNER, load_method
from spex.spectrum import Support
from spex.tried.proposals import Aim, Array, Bools, Surrogate, proposals
from spex.tried.removals import surrogate_error

SHARE = 0.4
"""Part of a budget that runs what is proposed; the rest is learned from first."""

ROUNDS = 8
"""In which sets are run; in each, no aim has more than its share."""

SECONDS = 1.0  # of a search
LITTLE = 1e-4  # of the spread of the values: no more is to be expected
MOST_LEARNED = 200_000  # 2,800 masks of 72 heads take seconds to learn from
Learn = Callable[[Masks, Array], Surrogate]
"""What is known with masks (m, n) that were tried, and their values (m,), too."""

Measure = Callable[[Masks], Array]
"""Values (m,) of masks (m, n), NaN where there is none."""


@dataclass(frozen=True)
class Trial:
    """The best set that is known for an aim.

    Attributes:
        aim: what was asked for.
        players: those kept, increasing.
        measured: value of the output with just these.
        tried: sets of this size that were run on the surrogate's proposal; all of them
            where every set was run.
    """

    aim: Aim
    players: Support
    measured: float
    tried: int


def best_tried(
    oracle: Oracle,
    aims: Sequence[Aim],
    *,
    budget: int,
    method: Method[Any] | None = None,
    output: int = 0,
    seed: int = 0,
    ledger: Ledger | None = None,
) -> list[Trial]:
    """The best sets of some sizes, of all that were run within a budget.

    Of the budget 60 % is planned by the method. The rest runs sets that the surrogate
    proposes: one for each aim first, then those of which most is to be expected.

    >>> from oracles import FunctionOracle
    >>> both = FunctionOracle(lambda m: m[:, 0] & m[:, 7], 8)
    >>> [trial] = best_tried(both, [Aim(2)], budget=60)
    >>> trial.players, trial.measured
    ((0, 7), 1.0)

    Args:
        oracle: what is to be ablated.
        aims: sizes, and the values that they are to come close to.
        budget: most distinct ablations to ask the oracle for, everything included.
        method: learns from masks beyond its own; by default proxyspex with as many
            masks of few players as of many.
        output: which of the k outputs.
        seed: of the masks and of the recovery.
        ledger: where ablations are kept.

    Returns:
        One trial for each aim that some set of its size has a value for, in their
        order. Where the budget is for every set, these are the best there are.

    Raises:
        InputError: no aims, a size or an output there is not (where outputs have no
            names, known after the first ablations), or a value that is no number.
        MethodError: a method that cannot learn from more masks than its own.
        BudgetError: the budget is below what the method and one set for each aim take.
        OracleError: it failed, or has no value for a mask; see `oracles.errors`.
    """
    n = len(oracle.players)
    check_aims(aims, n)
    if oracle.outputs:  # else it is known after the first ablations only
        _check_output(output, len(oracle.outputs))
    learner = _learner(method)
    count = max(int(SHARE * budget), len(aims))

    def measure(masks: Masks, most_unanswered: float = 1.0) -> Array:
        done = run(oracle, masks, ledger=ledger, most_unanswered=most_unanswered)
        _check_output(output, done.values.shape[1])
        return np.asarray(done.values[:, output])

    if 2**n <= budget:
        return _of_all(aims, n, measure)
    _check_budget(budget, count, learner.min_budget(n), len(aims))
    plan = learner.plan(n, budget - count, np.random.default_rng(seed))
    values = measure(plan.masks, most_unanswered=0.0)
    learn = _Planned(learner, plan, values, seed)
    trials = Trials(aims, plan.masks, values, learn, measure, range(n))
    trials.run(count)
    return [trial for trial in trials.best() if trial is not None]


def _of_all(aims: Sequence[Aim], num_players: int, measure: Measure) -> list[Trial]:
    """The best sets of so few players that every one is run."""
    masks = every_mask(num_players)
    values, sizes = measure(masks), masks.sum(axis=1)
    found = []
    for aim in aims:
        rows = np.flatnonzero((sizes == aim.size) & ~np.isnan(values))
        if len(rows):
            row = rows[aim.losses(values[rows]).argmin()]
            players = tuple(np.flatnonzero(masks[row]).tolist())
            found.append(Trial(aim, players, float(values[row]), len(rows)))
    return found


def check_aims(aims: Sequence[Aim], num_players: int) -> None:
    """Refuse what cannot be aimed at, before anything is paid.

    Raises:
        InputError: no aims, a size there is not, or a value that is no number.
    """
    if not aims:
        raise InputError("aims is empty. Pass one for each size, such as [Aim(3)].")
    for aim in aims:
        if aim.size != int(aim.size) or not 0 <= aim.size <= num_players:
            raise InputError(
                f"size={aim.size} cannot be kept of {num_players} players. Pass 0 to "
                f"{num_players}."
            )
        if isnan(aim.towards):
            raise InputError(
                "towards=nan is no value to come close to. Pass a number, inf for the "
                "largest value or -inf for the smallest."
            )


def _check_output(output: int, count: int) -> None:
    if not 0 <= output < count:
        raise InputError(f"output={output} does not exist; there are {count}.")


def _learner(method: Method[Any] | None) -> Any:
    """The method, if it can learn from what is tried."""
    if method is None:
        return load_method(LEARNER, design="shapley")
    if isinstance(method, Extensible):
        return method
    raise MethodError(
        f"method={method!r} cannot learn from the sets that are tried. Pass an object "
        "such as proxyspex.ProxySpex()."
    )


def _check_budget(budget: int, count: int, needed: int, num_aims: int) -> None:
    if budget - count < needed:
        enough = max(needed + num_aims, int((needed - 1) / (1 - SHARE)) + 1)
        raise BudgetError(
            f"budget={budget} is too small: {needed} ablations teach the method "
            f"something, and {SHARE:.0%}, or one for each of {num_aims} aims, try "
            f"sets. Pass budget={enough} or more."
        )


@dataclass(frozen=True, eq=False)
class _Planned:
    """A method's plan, and what was tried beyond it."""

    method: Any
    plan: Any
    values: Array
    seed: int

    def __call__(self, masks: Masks, values: Array) -> Surrogate:
        plan = self.method.extended(self.plan, masks)
        known = np.concatenate([self.values, values])[:, None]
        return learned(self.method, plan, known, self.seed)


def learned(method: Any, plan: Any, values: Values, seed: int) -> Surrogate:
    """What a method makes of the values (m, 1) of a plan's masks."""
    recovery = method.recover(plan, values, np.random.default_rng(seed))
    errors = values[recovery.held_out] - recovery.held_out_predictions
    error = float(np.sqrt(np.mean(errors**2))) if errors.size else 0.0
    return Surrogate(recovery.fourier, error)


@dataclass(frozen=True, eq=False)
class Explained:
    """The surrogate of an explanation, recovered again with what was tried.

    Of more than `MOST_LEARNED` entries of masks it stays as it is.

    Attributes:
        explanation: the explanation.
        output: which of its k outputs.
    """

    explanation: Explanation
    output: int

    def __call__(self, masks: Masks, values: Array) -> Surrogate:
        """With masks (m, n) that were tried and their values (m,)."""
        found, known = self.explanation, self.explanation.ablations
        told = ~np.isnan(values)
        if known is None or known.masks.size > MOST_LEARNED or not told.any():
            return self._as_it_is()
        order, keep = found.provenance.max_order, found.basis.keep
        method = load_method(LEARNER, order, keep=keep)
        masks = np.concatenate([known.masks, masks[told]])
        values = np.append(known.values[:, self.output], values[told])
        if len(distinct_masks(masks)[0]) < method.min_budget(masks.shape[1]):
            return self._as_it_is()
        seed = found.provenance.seed
        return learned(method, method.given(masks), values[:, None], seed)

    def _as_it_is(self) -> Surrogate:
        found, output = self.explanation, self.output
        column = found.fourier.coefficients[:, [output]]
        fourier = replace(found.fourier, coefficients=column)
        return Surrogate(fourier, surrogate_error(found, output))


class Trials:
    """Masks and their values, and what they are to be best at.

    Args:
        aims: what is wanted; other sizes do not matter.
        masks: what is known before, (m, n).
        values: of these, (m,), NaN where there is none.
        learn: makes a surrogate of what was tried, on top of what it knows.
        measure: runs sets.
        removable: players that may be ablated; others are kept.
        time_limit: seconds, about, of each search.
    """

    def __init__(
        self,
        aims: Sequence[Aim],
        masks: Masks,
        values: Array,
        learn: Learn,
        measure: Measure,
        removable: Collection[int],
        time_limit: float = SECONDS,
    ) -> None:
        self._aims, self._masks, self._values = tuple(aims), masks, values
        self._num_before = len(masks)
        self._learn, self._measure = learn, measure
        self._removable, self._limit = removable, time_limit
        self._fixed = np.setdiff1d(np.arange(masks.shape[1]), list(removable))
        self._misses = np.zeros(0)

    def run(self, count: int, rounds: int = ROUNDS) -> None:
        """Run so many sets, or fewer where no more is to be expected."""
        for left in range(min(rounds, count), 0, -1):
            tried = slice(self._num_before, None)
            surrogate = self._learn(self._masks[tried], self._values[tried])
            fresh = self._most_promising(surrogate, ceil(count / left))
            if not len(fresh):
                break
            values = self._measure(fresh)
            misses = values - surrogate(fresh)
            self._misses = np.append(self._misses, misses[~np.isnan(misses)])
            self._masks = np.concatenate([self._masks, fresh])
            self._values = np.append(self._values, values)
            count -= len(fresh)

    def best(self) -> list[Trial | None]:
        """For each aim; None where no set of the size has a value."""
        return [self._best(aim) for aim in self._aims]

    def _best(self, aim: Aim) -> Trial | None:
        rows = self._rows(aim)
        if not len(rows):
            return None
        row = rows[aim.losses(self._values[rows]).argmin()]
        players = tuple(np.flatnonzero(self._masks[row]).tolist())
        tried = int((rows >= self._num_before).sum())
        return Trial(aim, players, float(self._values[row]), tried)

    def _rows(self, aim: Aim) -> Any:
        """Of sets of an aim's size that have a value."""
        fits = (self._masks.sum(axis=1) == aim.size) & ~np.isnan(self._values)
        return np.flatnonzero(fits & self._masks[:, self._fixed].all(axis=1))

    def _most_promising(self, surrogate: Surrogate, count: int) -> Masks:
        """So many masks, none run before, of all aims."""
        error = surrogate.error
        if len(self._misses):  # what it proposes, it knows less well than what it knew
            error = float(np.sqrt(np.mean(self._misses**2)))
        most = ceil(count / len(self._aims))
        ranked: list[tuple[float, Bools]] = []
        for aim in self._aims:
            masks, gains = self._unknown(surrogate, aim, error)
            order = np.argsort(-gains, kind="stable")[:most]
            ranked += [(gains[row], masks[row]) for row in order]
        least = LITTLE * float(np.ptp(self._values[~np.isnan(self._values)]))
        ranked.sort(key=lambda one: -one[0])
        distinct = {mask.tobytes(): mask for gain, mask in ranked if gain > least}
        chosen = [*distinct.values()][:count]
        return np.array(chosen, dtype=bool).reshape(-1, self._masks.shape[1])

    def _unknown(
        self, surrogate: Surrogate, aim: Aim, error: float
    ) -> tuple[Masks, Array]:
        """Masks that were not run, and how much is to be expected of each."""
        best = self._best(aim)
        start = None
        if best is not None:
            start = np.isin(np.arange(self._masks.shape[1]), best.players)
        masks = proposals(surrogate, aim, start, self._removable, self._limit)
        known = {mask.tobytes() for mask in self._masks}
        masks = masks[[mask.tobytes() not in known for mask in masks]]
        predicted = surrogate(masks)
        if best is not None:
            least = float(aim.losses(np.array(best.measured)))
            return masks, aim.expected_gains(predicted, error, least)
        gains = -aim.losses(predicted)  # any is better than none
        return masks, np.where(gains == gains.max(initial=-inf), inf, 0.0)
