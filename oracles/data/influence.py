"""Influence functions: what each example adds, from one training on all of them.

An example less moves a minimum theta of summed losses by H^-1 grad l_i to first order,
H being the Hessian at theta (Cook & Weisberg 1982; Koh & Liang 2017, eq. 1), and so
keeping it adds -grad f H^-1 grad l_i to a value f. No retraining is needed, and
interactions are not seen: a first guess for `spex.guided`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST_UNKNOWNS = 5000  # of a Hessian: 200 MB
SIGNS = {"margin": 1, "loss": -1}  # of what is measured at a test point
DAMPING = 1e-9  # of the Hessian's trace: a softmax leaves one direction free


def slopes_of(kind: str, probs: Array, right: NDArray[np.int64]) -> Array:
    """Derivative of "margin" or "loss" by the softmax's outputs, (t, C).

    Args:
        kind: what is measured; see `Targets`.
        probs: of the classes at each point, (t, C).
        right: each point's class, (t,).
    """
    is_right = np.eye(probs.shape[1], dtype=bool)[right]
    if kind == "loss":
        return probs - is_right
    others = np.where(is_right, 0.0, probs)
    return is_right - others / others.sum(axis=1, keepdims=True)


def linear_influence(
    inputs: Array, slopes: Array, curvatures: Array, penalty: Array, effects: Array
) -> Array:
    """Influence in a linear model with c outputs z = x W^T, (n, k).

    Args:
        inputs: x of each example, (n, d).
        slopes: derivative of each example's loss by its outputs, (n, c).
        curvatures: second derivatives likewise, (n, c, c).
        penalty: second derivative of the penalty by each column of W, (d,).
        effects: derivative of each value by W, (k, c, d).
    """
    (n, d), c = inputs.shape, slopes.shape[1]
    hessian = np.zeros((c, d, c, d))
    for a in range(c):
        for b in range(a, c):
            block = (inputs * curvatures[:, a, b, None]).T @ inputs
            hessian[a, :, b] = hessian[b, :, a] = block
        hessian[a, :, a] += np.diag(penalty)
    flat = hessian.reshape(c * d, c * d)
    flat[np.diag_indices(c * d)] += DAMPING * np.trace(flat) / (c * d)
    solved = np.linalg.solve(flat, effects.reshape(-1, c * d).T).reshape(c, d, -1)
    moved = np.zeros((n, len(effects)))
    for a in range(c):
        moved -= slopes[:, a, None] * (inputs @ solved[a])
    return moved


def similarity_of(
    features: Array,
    codes: NDArray[np.int64],
    points: Array,
    right: NDArray[np.int64],
    outputs: Sequence[str],
) -> Array | None:
    """What an example is like says what it adds, (n, k), in no units.

    The cosine of its features and a test point's, negative where its class is another;
    for a loss, minus that. None where something else is measured. An example without
    features, all 0, is like none.

    Args:
        features, codes: of the n examples, (n, d), and their classes.
        points, right: of the t test points, likewise.
        outputs: what is measured at them; see `Targets`.
    """
    if not outputs or not {*outputs} <= {*SIGNS}:
        return None
    one, other = _unit(features), _unit(points)
    table = (one @ other.T) * np.where(codes[:, None] == right, 1.0, -1.0)
    return np.hstack([SIGNS[kind] * table for kind in outputs])


def _unit(rows: Array) -> Array:
    """Of length 1, or 0."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)
