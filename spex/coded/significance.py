"""Which supports are real: tests on masks that did not suggest them, and their errors.

The contributions of a support S to its bins, sign times residual content plus its own
coefficient, are as many estimates of F(S) as there are groups and delays; whatever else
is left in a bin, noise or undecoded terms, shows as their spread. A t-test on them,
against all supports tested, keeps the false discovery rate at `FDR` (Benjamini &
Hochberg, JRSS B 1995). The group in whose bin a support was decoded has chosen it and
is left out of its test.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from spex.coded.bins import Bins, Players

FDR = 0.1
CHUNK_ENTRIES = 1 << 21  # of bins looked at together


def p_values(
    residual: Bins,
    players: Players,
    coefficients: NDArray[np.float64],
    left_out: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Two-sided p-values (w,) of F(S) = 0, Bonferroni over outputs.

    Args:
        residual: bins with all terms taken out, these with `coefficients` among them.
        players: supports (w, t).
        coefficients: (w, k).
        left_out: the group that must not testify for each support, (w,).
    """
    found = np.ones(len(players))
    step = max(1, CHUNK_ENTRIES // residual.table[0].size)
    for start in range(0, len(players), step):
        rows = slice(start, start + step)
        groups = None if left_out is None else left_out[rows]
        found[rows] = _p_values(residual, players[rows], coefficients[rows], groups)
    return found


def discoveries(p: NDArray[np.float64], num_tests: int) -> NDArray[np.bool_]:
    """Benjamini-Hochberg: the p-values that are discoveries among `num_tests`."""
    order = np.argsort(p, kind="stable")
    passes = p[order] * num_tests <= FDR * np.arange(1, len(p) + 1)
    last = int(np.flatnonzero(passes)[-1]) + 1 if passes.any() else 0
    found = np.zeros(len(p), dtype=bool)
    found[order[:last]] = True
    return found


def _repeats(bins: Bins) -> float:
    """How often a mask of the design comes in it: what repeats is no new evidence."""
    rows = np.concatenate([group.rows.ravel() for group in bins.plan.groups])
    return len(rows) / len(np.unique(rows))


def _p_values(
    residual: Bins,
    players: Players,
    coefficients: NDArray[np.float64],
    left_out: NDArray[np.int64] | None,
) -> NDArray[np.float64]:
    weights = np.tile(residual.weights, (len(players), 1))
    if left_out is not None:
        weights[np.arange(len(players)), left_out] = 0.0
    num_delays = residual.table.shape[1]
    total = num_delays * weights.sum(axis=1)[:, None]
    energy = (residual.table**2).sum(axis=1)[residual.find(players)]  # (w, C, k)
    found = residual.correlations(players) * num_delays
    estimate = coefficients + np.einsum("wc,wck->wk", weights, found) / total
    error = np.sqrt(np.einsum("wc,wck->wk", weights**2, energy)) / total
    repeats = _repeats(residual)
    t = np.abs(estimate) / np.maximum(error * np.sqrt(repeats), 1e-300)
    freedom = num_delays * (weights > 0).sum(axis=1)[:, None] / repeats - 1
    freedom = np.maximum(freedom, 1)
    p = 2 * stdtr(freedom, -t)
    return np.minimum(1.0, p.min(axis=1) * p.shape[1])
