"""Penalised linear models of many subsets, all minimised in one loop.

L-BFGS (Nocedal and Wright 2006, algorithm 7.4) on every subset's own objective, side by
side: an iteration is two matrix products with the examples, whatever the number of
subsets. Three things make few iterations enough:

1. the first guess of the inverse Hessian is `basis`'s diagonal, scaled by the fraction
   of examples that a subset keeps, and not a multiple of the identity;
2. the model's margins are linear in the step, so the step's length is found from the
   slope at its end (one secant) without another product; the margins are kept;
3. everything starts from the fit to all examples.

A subset that is done is set aside, and when half are, the rest go on alone. The loop
runs in float32, which is exact enough for margins to about 1e-4, and goes on in float64
where a smaller tolerance is asked for or has not been met.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.data.trainers.basis import Basis

MEMORY = 8  # pairs of steps and gradients
FLAT = 0.3  # a step may end where the slope is at most this part of the first
SINGLE_ITERATIONS = 40  # more are better made in float64
DOUBLE_ITERATIONS = 1000
SINGLE_TOLERANCE = 3e-4  # of the Newton decrement; float32 cannot go far below
BLOCK = 2**18  # margins of so many subsets at a time stay in a core's cache

Array = NDArray[Any]
Slopes = Callable[[Array], Array]
"""Derivatives of the kept examples' losses by their margins, 0 for the others:
(b, c, n) -> (b, c, n). May write over its argument."""

Loss = Callable[[Array], Slopes]
"""The slopes for b subsets, given as (b, n) with 1.0 where an example is kept; that
array's dtype is the one of all margins."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is the same for every subset.

    Attributes:
        coordinates: of the n examples, (n, r + 1); see `basis`.
        basis: that they are in.
        penalty: of half the squared weights; the intercept, which is last, has none.
        curvature: typical second derivative of an example's loss by its margin.
        num_margins: c, how many margins an example has.
        loss: of the examples.
    """

    coordinates: NDArray[np.float64]
    basis: Basis
    penalty: float
    curvature: float
    num_margins: int
    loss: Loss

    def minimised(
        self, kept: NDArray[np.bool_], start: Array, tolerance: float
    ) -> NDArray[np.float64]:
        """Weights (m, c, r + 1) of m subsets; NaN where they did not converge.

        Args:
            kept: which examples each subset has, (m, n).
            start: weights, broadcast to (m, c, r + 1).
            tolerance: of the Newton decrement, in units of a margin.
        """
        block = max(16, BLOCK // (self.num_margins * len(self.coordinates)))
        shape = (self.num_margins, self.coordinates.shape[1])
        found = [np.zeros((0, *shape))]
        for first in range(0, len(kept), block):
            part = kept[first : first + block]
            begin = np.broadcast_to(start, (len(part), *shape))
            found.append(self._block(part, begin, tolerance))
        return np.concatenate(found)

    def _block(
        self, kept: NDArray[np.bool_], start: Array, tolerance: float
    ) -> NDArray[np.float64]:
        single = max(tolerance, SINGLE_TOLERANCE)
        begin = start.astype(np.float32)
        loop = _Loop(self, kept.astype(np.float32), begin)
        found = loop.run(single, SINGLE_ITERATIONS).astype(np.float64)
        is_left = np.isnan(found).any(axis=(1, 2)) | (tolerance < single)
        if is_left.any():
            begin = np.where(np.isnan(found), start, found)[is_left]
            finer = _Loop(self, kept[is_left].astype(np.float64), begin)
            found[is_left] = finer.run(tolerance, DOUBLE_ITERATIONS)
        return found

    @cached_property
    def single(self) -> Array:
        """The coordinates in float32."""
        return self.coordinates.astype(np.float32)


@dataclass(eq=False)
class _Loop:
    """The minimisation of b subsets, in the dtype of `weights`."""

    problem: Problem
    kept: Array  # (b, n), 1.0 where an example is kept
    weights: Array  # (b, c, r + 1)
    steps: list[Array] = field(default_factory=list)
    changes: list[Array] = field(default_factory=list)  # of the gradient
    rhos: list[Array] = field(default_factory=list)  # 1 / (step . change), (b, 1, 1)

    def __post_init__(self) -> None:
        dtype, problem = self.weights.dtype, self.problem
        is_single = dtype == np.float32
        self.examples = problem.single if is_single else problem.coordinates
        self.penalties = np.full(self.examples.shape[1], problem.penalty, dtype=dtype)
        self.penalties[-1] = 0
        # the intercept's "eigenvalue" is the number of examples
        spread = np.append(problem.basis.eigenvalues, float(len(self.examples)))
        fraction = np.maximum(self.kept.mean(axis=1), 1 / len(self.examples))
        scaled = problem.curvature * fraction[:, None] * spread
        inverse = 1 / (self.penalties + scaled)
        self.inverse = inverse[:, None, :].astype(dtype)  # (b, 1, r + 1)
        self.slopes = problem.loss(self.kept)
        self.margins = self._margins(self.weights)
        self.gradient = self._gradient(self.slopes(self.margins.copy()))

    def run(self, tolerance: float, most: int) -> Array:
        """Iterate so many times or until all are done; NaN for those that are not."""
        found = np.full_like(self.weights, np.nan)
        rows = np.arange(len(found))
        for _ in range(most):
            step = self._direction()
            # where the loss is flat the first guess of the Hessian is far too steep
            decrement = np.maximum(
                _dot(self.gradient, self.inverse * self.gradient),
                -_dot(self.gradient, step),
            )
            is_done = decrement.ravel() <= tolerance**2
            # a subset's answer must not depend on how long others take
            fresh = is_done & np.isnan(found[rows, 0, 0])
            found[rows[fresh]] = self.weights[fresh]
            is_left = np.isnan(found[rows, 0, 0])
            if not is_left.any():
                break
            if is_left.sum() <= len(rows) / 2:
                rows, step = rows[is_left], step[is_left]
                self._select(is_left)
            self._move(step)
        return found

    def _select(self, is_left: NDArray[np.bool_]) -> None:
        """Go on with some of the subsets."""
        self.kept, self.weights = self.kept[is_left], self.weights[is_left]
        self.inverse, self.margins = self.inverse[is_left], self.margins[is_left]
        self.gradient = self.gradient[is_left]
        self.slopes = self.problem.loss(self.kept)
        for memory in (self.steps, self.changes, self.rhos):
            memory[:] = [array[is_left] for array in memory]

    def _margins(self, weights: Array) -> Array:
        flat = weights.reshape(-1, weights.shape[-1]) @ self.examples.T
        return flat.reshape(*weights.shape[:2], -1)

    def _gradient(self, slopes: Array) -> Array:
        flat = slopes.reshape(-1, slopes.shape[-1]) @ self.examples
        found = flat.reshape(self.weights.shape)
        found += self.penalties * self.weights
        return found

    def _direction(self) -> Array:
        """The two-loop recursion."""
        found = -self.gradient
        pairs = list(zip(self.steps, self.changes, self.rhos, strict=True))
        amounts = []
        for step, change, rho in reversed(pairs):
            amounts.append(rho * _dot(step, found))
            found -= amounts[-1] * change
        found *= self.inverse
        for (step, change, rho), amount in zip(pairs, reversed(amounts), strict=True):
            found += step * (amount - rho * _dot(change, found))
        return found

    def _move(self, step: Array) -> None:
        """Take the step, as long as it should be, and remember it."""
        at_start = _dot(self.gradient, step)
        moved = self._margins(step)
        slopes = self.slopes(self.margins + moved)
        at_end = _dot(slopes, moved)
        at_end += _dot(self.penalties * step, self.weights + step)
        is_good = np.abs(at_end) <= FLAT * np.abs(at_start)
        if not is_good.all():
            # a secant finds where the slope is zero; where the loss is flat it may
            # overshoot, and twice the step is far enough
            rise = at_end - at_start
            length = np.divide(-at_start, rise, out=np.ones_like(rise), where=rise > 0)
            length = np.where(is_good, 1, np.clip(length, 0.05, 2)).astype(step.dtype)
            step, moved = step * length, moved * length
            slopes = self.slopes(self.margins + moved)
        self.margins += moved
        self.weights = self.weights + step
        before, self.gradient = self.gradient, self._gradient(slopes)
        change = self.gradient - before
        product = _dot(step, change)
        rho = np.divide(1, product, out=np.zeros_like(product), where=product > 0)
        for memory, array in zip(
            (self.steps, self.changes, self.rhos), (step, change, rho), strict=True
        ):
            memory.append(array)
            del memory[:-MEMORY]


def _dot(first: Array, second: Array) -> Array:
    """Inner products of each subset's arrays, (b, 1, 1)."""
    return np.einsum("bcr,bcr->b", first, second)[:, None, None]
