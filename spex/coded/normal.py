"""Normal equations of a plan's masks for chosen supports, with some rows left out.

Transformed into bins, the coded masks' design matrix is sparse: a support is in one bin
of each group, for every delay. Supports that share no bin have no product.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.sparse import csr_array

from oracles import Values
from spex.coded.bins import Bins, Players, as_players
from spex.coded.design import CodedPlan
from spex.spectrum import Support, characters

MAX_DENSE = 1500  # supports; beyond this their matrix of products is not written down
TOLERANCE = 1e-5  # of conjugate gradients, relative to the right side,
MAX_ITERATIONS = 50  # or so many
CHUNK_ROWS = 1 << 11  # multiplied together

Table = NDArray[np.float64]
Signs = NDArray[np.float32]
AnyFloat = TypeVar("AnyFloat", np.float32, np.float64)
Apply = Callable[[Table], Table]


def gram(bins: Bins, players: Players) -> Table:
    """sum over coded masks of chi_S chi_T, (w, w): 0 unless they share a bin."""
    where, signs = bins.find(players), bins.signs(players)
    total = np.zeros((len(players), len(players)))
    for c, weight in enumerate(bins.weights):
        same = where[:, c, None] == where[None, :, c]
        total += weight * same * (signs[:, c] @ signs[:, c].T)
    return total


def moments(bins: Bins, players: Players) -> Table:
    """sum over coded masks of chi_S v, (w, k)."""
    found = bins.correlations(players) * bins.table.shape[1]
    return np.einsum("c,wck->wk", bins.weights, found)


def strongest_players(bins: Bins) -> list[int]:
    """Players by the size of their order-1 coefficients, strongest first."""
    players = np.arange(bins.plan.masks.shape[1])[:, None]
    linear = moments(bins, players)
    return np.argsort(-(linear**2).sum(axis=1), kind="stable").tolist()


@dataclass(frozen=True, eq=False)
class Data:
    """Values of a plan's masks, centred and scaled; rows left out in turn.

    Attributes:
        plan: whose masks were ablated.
        bins: of the values.
        values: shape (m, k).
        parts: rows, cut into folds.
    """

    plan: CodedPlan
    bins: Bins
    values: Values
    parts: list[NDArray[np.int64]]

    @cached_property
    def times(self) -> NDArray[np.int64]:
        """How often each row counts: as often as it is coded, or once. (m,)"""
        times = np.zeros(len(self.plan.masks), dtype=np.int64)
        for group in self.plan.groups:
            np.add.at(times, group.rows.ravel(), 1)
        return np.maximum(times, 1)

    @cached_property
    def held_out(self) -> NDArray[np.int64]:
        """Rows of all parts, in order."""
        return np.concatenate(self.parts)


@dataclass(frozen=True, eq=False)
class Normal:
    """Ridge regression on supports: on all rows, and without each part."""

    data: Data
    supports: list[Support]

    @cached_property
    def designs(self) -> list[Signs]:
        """Characters of each part's masks, (rows, terms)."""
        return [self._characters(part) for part in self.data.parts]

    def fit(self, prior: Table, noise: float) -> tuple[Table, list[Table]]:
        """Posterior mean (terms, k) on all rows and without each part.

        Args:
            prior: variance of each coefficient, (terms,).
            noise: variance of the values around the regression.
        """
        scale = np.sqrt(prior)
        if len(self.supports) > MAX_DENSE:
            return self._fit_iteratively(scale, noise)
        factor = cho_factor(_penalized(self._matrix, scale, noise))
        solution = cho_solve(factor, scale[:, None] * self._right)
        without = [
            scale[:, None] * _without(factor, solution, design * scale, values)
            for design, values in self._counted
        ]
        return scale[:, None] * solution, without

    def held_out_error(self, prior: Table, noise: float) -> float:
        """Mean square error of `fit` on each part left out, in single precision.

        For at most `MAX_DENSE` supports.
        """
        scale = np.sqrt(prior).astype(np.float32)
        matrix = _penalized(self._short_matrix, scale, noise)
        factor = cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
        designs = [design for design, _ in self._counted]
        right = np.concatenate([*designs, self._right.T.astype(np.float32)])
        half = solve_triangular(
            factor, (right * scale).T, lower=True, check_finite=False
        )
        *parts, moments = np.split(half, np.cumsum([len(x) for x in self.designs]), 1)
        errors = []
        for part, rows, (_, values) in zip(
            parts, self.data.parts, self._counted, strict=True
        ):
            kept = np.eye(len(values)) - part.T @ part
            error = np.linalg.solve(kept, values - part.T @ moments)
            errors.append(error / np.sqrt(self.data.times[rows, None]))
        return float((np.concatenate(errors) ** 2).mean())

    def fit_some(
        self, chosen: NDArray[np.int64], prior: Table, noise: float, part: int | None
    ) -> Table:
        """Posterior mean of some of the terms, on all rows or without a part."""
        matrix, right = self._products(chosen), self._right[chosen]
        if part is not None:
            design, values = self._counted[part]
            design = design[:, chosen]
            matrix = matrix - design.T @ design
            right = right - design.T @ values
        scale = np.sqrt(prior)
        factor = cho_factor(_penalized(matrix, scale, noise))
        return scale[:, None] * cho_solve(factor, scale[:, None] * right)

    def _fit_iteratively(self, scale: Table, noise: float) -> tuple[Table, list[Table]]:
        """`fit` by conjugate gradients, with and without all the parts together.

        So many supports have so many more masks that the other parts are not missed.
        """
        num_outputs = self._right.shape[1]
        held_out, values = map(np.concatenate, zip(*self._counted, strict=True))
        rest = self._right - held_out.T @ values

        def apply(x: Table) -> Table:
            scaled = scale[:, None] * x
            product = self._coded.T @ (self._coded @ scaled)
            short = scaled.astype(np.float32)
            product += self._uncoded.T @ (self._uncoded @ short)
            product[:, num_outputs:] -= held_out.T @ (held_out @ short[:, num_outputs:])
            return scale[:, None] * product + noise * x

        right = scale[:, None] * np.concatenate([self._right, rest], axis=1)
        solved = scale[:, None] * _conjugate_gradients(apply, right)
        with_all, without = np.split(solved, 2, axis=1)
        return with_all, [without] * len(self.designs)

    @cached_property
    def _right(self) -> Table:
        """sum over all masks of chi_S v."""
        uncoded = self.data.values[self.data.plan.uncoded]
        rest = _product(self._uncoded, uncoded)
        return moments(self.data.bins, self._players) + rest

    @cached_property
    def _matrix(self) -> Table:
        return self._products(np.arange(len(self.supports)))

    @cached_property
    def _short_matrix(self) -> Signs:
        return self._matrix.astype(np.float32)

    def _products(self, chosen: NDArray[np.int64]) -> Table:
        """sum over all masks of chi_S chi_T for some of the supports."""
        if "_matrix" in self.__dict__:
            return self._matrix[np.ix_(chosen, chosen)]
        uncoded = self._uncoded[:, chosen]
        return gram(self.data.bins, self._players[chosen]) + uncoded.T @ uncoded

    @cached_property
    def _coded(self) -> csr_array:
        """Design matrix of the coded masks, (bins x delays, terms)."""
        bins, players = self.data.bins, self._players
        signs = bins.signs(players)
        signs *= np.sqrt(bins.weights)[:, None]
        num_delays = signs.shape[2]
        rows = bins.find(players)[:, :, None] * num_delays + np.arange(num_delays)
        starts = np.arange(len(players) + 1) * rows[0].size
        shape = (len(players), len(bins.table) * num_delays)
        return csr_array((signs.ravel(), rows.ravel(), starts), shape=shape).T.tocsr()

    @cached_property
    def _players(self) -> Players:
        return as_players(self.supports, self.data.plan.masks.shape[1])

    @cached_property
    def _counted(self) -> list[tuple[Signs, Values]]:
        """Designs and values of the parts, each row times the root of how it counts."""
        roots = [np.sqrt(self.data.times[part, None]) for part in self.data.parts]
        return [
            ((design * root).astype(np.float32), self.data.values[part] * root)
            for design, part, root in zip(
                self.designs, self.data.parts, roots, strict=True
            )
        ]

    @cached_property
    def _uncoded(self) -> Signs:
        return self._characters(self.data.plan.uncoded)

    def _characters(self, rows: NDArray[np.int64]) -> Signs:
        """As float32, in which their products are exact."""
        return characters(self.data.plan.masks[rows], self.supports)


def _product(design: Signs, values: Table) -> Table:
    """design^T values in double precision, without a copy of the design in it."""
    total = np.zeros((design.shape[1], values.shape[1]))
    for start in range(0, len(design), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        total += design[rows].T @ values[rows]
    return total


def _penalized(
    matrix: NDArray[AnyFloat], scale: NDArray[AnyFloat], noise: float
) -> NDArray[AnyFloat]:
    scaled = matrix * scale
    scaled *= scale[:, None]
    scaled[np.diag_indices_from(scaled)] += noise
    return scaled


def _without(
    factor: tuple[Table, bool], solution: Table, design: NDArray[Any], values: Values
) -> Table:
    """The solution without some rows, given what all rows' matrix A factors into.

    Leaving out rows Z_f changes it by -A^-1 Z_f' (I - Z_f A^-1 Z_f')^-1 r_f, r_f being
    their residuals.
    """
    gain = cho_solve(factor, design.T)
    kept = np.eye(len(design)) - design @ gain
    return solution - gain @ np.linalg.solve(kept, values - design @ solution)


def _conjugate_gradients(apply: Apply, right: Table) -> Table:
    """x with apply(x) = right, each column on its own (Hestenes & Stiefel 1952)."""
    x = np.zeros_like(right)
    residual, direction = right.copy(), right.copy()
    energy = (residual**2).sum(axis=0)
    enough = TOLERANCE**2 * energy
    for _ in range(MAX_ITERATIONS):
        if (energy <= enough).all():
            break
        image = apply(direction)
        curvature = np.maximum((direction * image).sum(axis=0), 1e-300)
        step = energy / curvature
        x += step * direction
        residual -= step * image
        before, energy = energy, (residual**2).sum(axis=0)
        direction = residual + energy / np.maximum(before, 1e-300) * direction
    return x
