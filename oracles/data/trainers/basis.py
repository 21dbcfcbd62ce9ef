"""Features in the basis in which the Hessian of a linear model is nearly diagonal.

A penalised linear model with a free intercept does not change when its features are
centred, nor when they are rotated. In the eigenbasis of the centred features' X^T X,
with eigenvalues e, the Hessian over a random fraction f of the examples is about
penalty + scale * f * e, a diagonal: its inverse is the preconditioner of every subset
at once, for the price of an elementwise product.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEGLIGIBLE = 1e-12  # of the largest eigenvalue: rounding only


@dataclass(frozen=True, eq=False)
class Basis:
    """The rotation of features to r coordinates and a last one that is always 1.

    Attributes:
        mean: of the features, (d,).
        directions: eigenvectors as columns, (d, r), r the rank.
        eigenvalues: of the centred features' X^T X, (r,).
    """

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]

    @staticmethod
    def of(features: NDArray[np.float64]) -> "Basis":
        """The basis of features (n, d)."""
        mean = features.mean(axis=0)
        # directions no centred example has get no weight from a penalised fit
        _, sizes, rows = np.linalg.svd(features - mean, full_matrices=False)
        values = sizes**2
        kept = values > NEGLIGIBLE * max(float(values.max(initial=0.0)), 1e-300)
        return Basis(mean, rows[kept].T, values[kept])

    def coordinates(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features (n, d) as coordinates (n, r + 1)."""
        rotated = (features - self.mean) @ self.directions
        return np.hstack([rotated, np.ones((len(rotated), 1))])
