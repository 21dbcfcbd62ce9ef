"""Every index of a surrogate, with the standard errors that its coefficients' give."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np
from numpy.typing import NDArray

from spex.basis import Basis, Terms
from spex.ends import SHAPLEY_TYPE, Ends, put_in
from spex.indices import find_index, fourier_weight, sum_over_supersets
from spex.spectrum import SparseFourier, Support

BANZHAF_TYPE = ("BV", "BII")
DUST = 1e-12  # of the largest coefficient

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Estimates:
    """A spectrum and how sure it is; see `Explanation` for all four.

    Attributes:
        fourier: the surrogate.
        standard_errors: of its coefficients in `basis`, (terms, k).
        basis: of the masks ablated.
        ends: what was measured at the ends, or None.
    """

    fourier: SparseFourier
    standard_errors: Array
    basis: Basis
    ends: Ends | None

    @cached_property
    def terms(self) -> Terms:
        """Sets, coefficients and their variances in `basis`."""
        variances = self.standard_errors**2
        if self.basis.is_uniform:
            return [*self.fourier.supports], self.fourier.coefficients, variances
        sets, coefficients, _ = self.basis.of_fourier(self.fourier)
        # what cancels in the change of basis leaves rounding
        size = np.abs(coefficients).max(axis=1, initial=0.0)
        rows = np.flatnonzero(size > DUST * size.max(initial=0.0))
        places = [self.fourier.position[sets[row]] for row in rows]
        return [sets[row] for row in rows], coefficients[rows], variances[places]

    def index(
        self, name: str, order: int | None
    ) -> tuple[Sequence[Support], Array, Array]:
        """Sets, values (sets, k) and standard errors (sets, k): `Explanation.index`.

        Raises:
            InteractionIndexError: unknown name, or an order it is not defined for.
        """
        highest = max(map(len, self.fourier.supports), default=1)
        if order is None:
            order = _default_order(name, highest)
        if name == "Fourier":
            return self._scaled(range(order + 1), 1.0)
        if name in BANZHAF_TYPE:
            find_index(name, order)
            return self._scaled(range(1, order + 1), -1 / self.basis.sigma)
        if order == 1 and name in ("STII", "FSII"):
            name = "k-SII"  # the same: Shapley values and v(empty)
        table = self._converted(name, order)
        if self.ends is not None and name in SHAPLEY_TYPE:
            variance = (self.standard_errors**2).mean(axis=0)
            table = put_in(self.ends, self.fourier, name, order, table, variance)
        sets, values, variances = table
        return sets, values, np.sqrt(variances)

    def _converted(self, name: str, order: int) -> tuple[list[Support], Array, Array]:
        """An index, its variances straight from those of the coefficients in `basis`.

        F(R) is a sum over the S that hold R, and the index one over the R that hold T:
        the coefficients of `fourier` are not independent, those in `basis` are.
        """
        index = find_index(name, order)
        back = self.basis.back
        supports, coefficients, variances = self.terms

        def weight(t: int, s: int) -> float:
            return sum(
                comb(s - t, r - t) * fourier_weight(name, order, t, r) * back(r, s)
                for r in range(t, s + 1)
            )

        sizes = range(0 if index.has_empty_set else 1, order + 1)
        return sum_over_supersets(supports, coefficients, variances, weight, sizes)

    def _scaled(
        self, sizes: range, scale: float
    ) -> tuple[Sequence[Support], Array, Array]:
        """Terms in `basis` of these sizes, times scale^size, and standard errors."""
        supports, coefficients, variances = self.terms
        rows = [row for row, s in enumerate(supports) if len(s) in sizes]
        powers = np.array([scale ** len(supports[row]) for row in rows])[:, None]
        errors = np.sqrt(variances[rows]) * np.abs(powers)
        return [supports[row] for row in rows], coefficients[rows] * powers, errors


def _default_order(name: str, highest: int) -> int:
    if name in ("Fourier", "Moebius", "BII"):
        return max(1, highest)
    return find_index(name, 1).max_order or 2
