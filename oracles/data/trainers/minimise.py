"""Penalised linear models of many subsets, all minimised in one loop.

L-BFGS (Nocedal and Wright 2006, algorithm 7.4) on every subset's own objective, side by
side: an iteration is two matrix products with the examples, whatever the number of
subsets. Three things make few iterations enough:

1. the first guess of the inverse Hessian is `basis`'s diagonal, scaled by the fraction
   of examples that a subset keeps, and not a multiple of the identity;
2. the model's margins are linear in the step, so the step's length is found from the
   slope at its end (one secant) without another product; the margins are kept;
3. everything starts from the fit to all examples.

The loop runs in float32, which is exact enough for margins to about 1e-4, and goes on
in float64 where a smaller tolerance is asked for or has not been met.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.data.trainers.basis import Basis

MEMORY = 8  # pairs of steps and gradients
SINGLE_ITERATIONS = 40  # more are better made in float64
DOUBLE_ITERATIONS = 1000
SINGLE_TOLERANCE = 3e-4  # of the Newton decrement; float32 cannot go far below
BLOCK = 2**18  # margins of so many subsets at a time stay in a core's cache

Array = NDArray[Any]
Slopes = Callable[[Array], Array]
"""Derivative of each example's loss by its margins: (b, c, n) -> (b, c, n)."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is the same for every subset.

    Attributes:
        coordinates: of the n examples, (n, r + 1); see `basis`.
        basis: that they are in.
        penalty: of half the squared weights; the intercept, which is last, has none.
        curvature: typical second derivative of an example's loss by its margin.
        num_margins: c, how many margins an example has.
    """

    coordinates: NDArray[np.float64]
    basis: Basis
    penalty: float
    curvature: float
    num_margins: int

    @property
    def block(self) -> int:
        """How many subsets are minimised at a time."""
        return max(16, BLOCK // (self.num_margins * len(self.coordinates)))

    def minimised(
        self, kept: NDArray[np.bool_], slopes: Slopes, start: Array, tolerance: float
    ) -> Array:
        """Weights (b, c, r + 1); NaN where they did not converge.

        Args:
            kept: which examples each subset has, (b, n).
            slopes: of the loss, for these subsets.
            start: weights, broadcast to (b, c, r + 1).
            tolerance: of the Newton decrement, in units of a margin.
        """
        size = self.coordinates.shape[1]
        begin = np.broadcast_to(start, (len(kept), self.num_margins, size))
        single = max(tolerance, SINGLE_TOLERANCE)
        loop = _Loop(self, kept.astype(np.float32), slopes, begin.astype(np.float32))
        loop.run(single, SINGLE_ITERATIONS)
        if tolerance >= single and loop.is_done.all():
            return loop.weights.astype(np.float64)
        finer = _Loop(self, kept.astype(np.float64), slopes, loop.finite(begin))
        finer.run(tolerance, DOUBLE_ITERATIONS)
        return np.where(finer.is_done[:, None, None], finer.weights, np.nan)


@dataclass(eq=False)
class _Loop:
    """The state of the minimisation of b subsets, in the dtype of `weights`."""

    problem: Problem
    kept: Array  # (b, n), 1.0 where an example counts
    slopes: Slopes
    weights: Array  # (b, c, r + 1)
    is_done: NDArray[np.bool_] = field(init=False)
    steps: list[Array] = field(default_factory=list)
    changes: list[Array] = field(default_factory=list)  # of the gradient
    rhos: list[Array] = field(default_factory=list)  # 1 / (step . change), (b, 1, 1)

    def __post_init__(self) -> None:
        dtype, problem = self.weights.dtype, self.problem
        self.examples = np.ascontiguousarray(problem.coordinates, dtype=dtype)
        self.penalties = np.full(self.examples.shape[1], problem.penalty, dtype=dtype)
        self.penalties[-1] = 0
        # the intercept's "eigenvalue" is the number of examples
        spread = np.append(problem.basis.eigenvalues, float(len(self.examples)))
        fraction = np.maximum(self.kept.mean(axis=1), 1 / len(self.examples))
        scaled = problem.curvature * fraction[:, None] * spread
        inverse = 1 / (self.penalties + scaled)
        self.inverse = inverse[:, None, :].astype(dtype)  # (b, 1, r + 1)
        self.is_done = np.zeros(len(self.kept), dtype=bool)

    def run(self, tolerance: float, most: int) -> None:
        """Iterate until all are done, or so many times."""
        margins = self._margins(self.weights)
        gradient = self._gradient(margins)
        for _ in range(most):
            step = self._direction(gradient)
            # where the loss is flat the first guess of the Hessian is far too steep
            decrement = np.maximum(
                _dot(gradient, self.inverse * gradient), -_dot(gradient, step)
            )
            self.is_done |= decrement.ravel() <= tolerance**2
            if self.is_done.all():
                return
            moved = self._margins(step)
            length = self._length(gradient, step, margins, moved)
            step *= length
            moved *= length
            self.weights = self.weights + step
            margins += moved
            before, gradient = gradient, self._gradient(margins)
            self._remember(step, gradient - before)

    def finite(self, start: Array) -> Array:
        """Weights in float64 to go on from: the start, where they are not finite."""
        good = np.isfinite(self.weights).all(axis=(1, 2), keepdims=True)
        return np.where(good, self.weights, start).astype(np.float64)

    def _margins(self, weights: Array) -> Array:
        flat = weights.reshape(-1, weights.shape[-1]) @ self.examples.T
        return flat.reshape(*weights.shape[:2], -1)

    def _gradient(self, margins: Array) -> Array:
        slopes = self.slopes(margins) * self.kept[:, None, :]
        flat = slopes.reshape(-1, slopes.shape[-1]) @ self.examples
        return flat.reshape(self.weights.shape) + self.penalties * self.weights

    def _direction(self, gradient: Array) -> Array:
        """The two-loop recursion."""
        found = -gradient
        pairs = list(zip(self.steps, self.changes, self.rhos, strict=True))
        amounts = []
        for step, change, rho in reversed(pairs):
            amounts.append(rho * _dot(step, found))
            found -= amounts[-1] * change
        found *= self.inverse
        for (step, change, rho), amount in zip(pairs, reversed(amounts), strict=True):
            found += step * (amount - rho * _dot(change, found))
        return found

    def _length(
        self, gradient: Array, step: Array, margins: Array, moved: Array
    ) -> Array:
        """Where the slope along the step would be zero; 0 for subsets that are done."""
        at_start = _dot(gradient, step)
        slopes = self.slopes(margins + moved) * self.kept[:, None, :]
        penalised = _dot(self.penalties * step, self.weights + step)
        at_end = _dot(slopes, moved) + penalised
        rise = at_end - at_start
        length = np.divide(-at_start, rise, out=np.ones_like(rise), where=rise > 0)
        # a secant may overshoot where the loss is flat: twice is far enough
        length = np.clip(length, 0.05, 2.0)
        return np.where(self.is_done[:, None, None], 0, length).astype(step.dtype)

    def _remember(self, step: Array, change: Array) -> None:
        product = _dot(step, change)
        rho = np.divide(1, product, out=np.zeros_like(product), where=product > 0)
        self.steps.append(step)
        self.changes.append(change)
        self.rhos.append(rho)
        if len(self.steps) > MEMORY:
            del self.steps[0], self.changes[0], self.rhos[0]


def _dot(first: Array, second: Array) -> Array:
    """Inner products of each subset's arrays, (b, 1, 1)."""
    return np.einsum("bcr,bcr->b", first, second)[:, None, None]
