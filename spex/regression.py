"""Ridge regression on characters, each coefficient with a prior variance of its own."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve


def prior_ridge(
    design: NDArray[np.floating],
    values: NDArray[np.float64],
    prior_variance: NDArray[np.float64],
    noise_variance: float,
) -> NDArray[np.float64]:
    """Posterior mean of w in values = design w + noise, w_t ~ N(0, prior_variance_t).

    Solved in the smaller of the two dimensions: terms x terms or rows x rows.

    Args:
        design: characters, shape (m, terms).
        values: shape (m, k), or (m,).
        prior_variance: shape (terms,), at least 0; inf for a term that is not shrunk
            is not allowed, a large number does the same.
        noise_variance: above 0.

    Returns:
        Coefficients of shape (terms, k), or (terms,).
    """
    scale = np.sqrt(prior_variance)
    scaled = design.astype(np.float64) * scale
    m, terms = scaled.shape
    if terms <= m:
        gram = scaled.T @ scaled
        gram[np.diag_indices(terms)] += noise_variance
        solution = cho_solve(cho_factor(gram), scaled.T @ values)
    else:
        gram = scaled @ scaled.T
        gram[np.diag_indices(m)] += noise_variance
        solution = scaled.T @ cho_solve(cho_factor(gram), values)
    return (solution.T * scale).T


def ridge_without_parts(
    design: NDArray[np.floating],
    values: NDArray[np.float64],
    prior_variance: NDArray[np.float64],
    noise_variance: float,
    parts: list[NDArray[np.int64]],
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """`prior_ridge` on all rows, and on all rows but each part, from one inverse.

    With A = Z'Z + noise I and hat matrix H = Z A^-1 Z', leaving out rows f changes the
    solution by -A^-1 Z_f' (I - H_ff)^-1 r_f, r_f being their residuals.

    Args:
        design: characters, shape (m, terms).
        values: shape (m, k).
        prior_variance: shape (terms,).
        noise_variance: above 0.
        parts: rows to leave out, one array for each fold.

    Returns:
        Coefficients (terms, k) on all rows, and the same without each part.
    """
    scale = np.sqrt(prior_variance)
    scaled = design.astype(np.float64) * scale
    m, terms = scaled.shape
    if terms > m:
        return _dual_without_parts(scaled, values, scale, noise_variance, parts)
    gram = scaled.T @ scaled
    gram[np.diag_indices(terms)] += noise_variance
    inverse = cho_solve(cho_factor(gram), np.eye(terms))
    solution = inverse @ (scaled.T @ values)
    without = []
    for part in parts:
        gain = inverse @ scaled[part].T
        kept = np.eye(len(part)) - scaled[part] @ gain
        residuals = values[part] - scaled[part] @ solution
        without.append(solution - gain @ np.linalg.solve(kept, residuals))
    return scale[:, None] * solution, [scale[:, None] * w for w in without]


def _dual_without_parts(
    scaled: NDArray[np.float64],
    values: NDArray[np.float64],
    scale: NDArray[np.float64],
    noise_variance: float,
    parts: list[NDArray[np.int64]],
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """The same with a rows x rows inverse, for more terms than rows."""
    gram = scaled @ scaled.T
    gram[np.diag_indices(len(gram))] += noise_variance
    inverse = cho_solve(cho_factor(gram), np.eye(len(gram)))
    weights = inverse @ values
    back = scaled.T * scale[:, None]
    without = []
    for part in parts:
        errors = np.linalg.solve(inverse[np.ix_(part, part)], weights[part])
        left = weights - inverse[:, part] @ errors
        left[part] = 0.0
        without.append(back @ left)
    return back @ weights, without


def folds(
    rows: NDArray[np.int64], count: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """`rows` in random order, cut into `count` parts of nearly equal size."""
    return np.array_split(rng.permutation(rows), count)
