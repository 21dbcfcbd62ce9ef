"""Which supports are real: tests on masks that did not suggest them, and their errors.

The contributions of a support S to its bins, sign times residual content plus its own
coefficient, are as many estimates of F(S) as there are groups and delays; whatever else
is left in a bin, noise or undecoded terms, shows as their spread. A t-test on them,
against all supports tested, keeps the false discovery rate at `FDR` (Benjamini &
Hochberg, JRSS B 1995): in each round of the search among its tests, and for what is
left in the end among all that were made. The group in whose bin a support was decoded
has chosen it and is left out of its test. Where all groups together have chosen it, it
may be any support there is, and its p-value is multiplied by their number (Bonferroni,
each order having an equal share).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb, stdtr, stdtrit

from spex.coded.bins import Bins, Players

FDR = 0.1
LISTED, JOINT = -1, -2  # in place of a group: from a list of supports, or of all groups
CHUNK_ENTRIES = 1 << 17  # of bins looked at together; these stay in the cache


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
        left_out: the group in whose bin each support was decoded, `LISTED` or `JOINT`,
            (w,); by default all are listed.
    """
    found = np.ones(len(players))
    energy, repeats = (residual.table**2).sum(axis=1), _repeats(residual)
    step = max(1, CHUNK_ENTRIES // residual.table[0].size)
    for start in range(0, len(players), step):
        rows = slice(start, start + step)
        weights = np.tile(residual.weights, (len(players[rows]), 1))
        if left_out is not None:
            weights[np.arange(weights.shape[1]) == left_out[rows, None]] = 0.0
        found[rows] = _p_values(
            residual, players[rows], coefficients[rows], weights, energy, repeats
        )
    if left_out is not None:
        joint = np.flatnonzero(left_out == JOINT)
        num_players = residual.plan.shape.code.num_players
        count = num_supports(num_players, residual.plan.shape.t)
        orders = (players[joint] < num_players).sum(axis=1)
        found[joint] = np.minimum(1.0, found[joint] * count[orders])
    return found


def num_supports(num_players: int, max_order: int) -> NDArray[np.float64]:
    """Supports of each order, times the number of orders: (max_order + 1,)."""
    return comb(num_players, np.arange(max_order + 1)) * (max_order + 1)


def least_explained(
    num_players: int, max_order: int, samples: int
) -> NDArray[np.float64]:
    """Part of the energy of so many samples that a term of each order must explain.

    So that one of all supports of up to `max_order` players explains as much by chance
    with probability `FDR` at most: (max_order + 1,).
    """
    p = FDR / num_supports(num_players, max_order)
    squares = stdtrit(samples - 1, p / 2) ** 2
    return squares / (squares + samples - 1)


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
    weights: NDArray[np.float64],
    energy: NDArray[np.float64],
    repeats: float,
) -> NDArray[np.float64]:
    """Given the weight of each group, (w, C), and the energies of bins, (bins, k)."""
    num_delays = residual.table.shape[1]
    total = num_delays * weights.sum(axis=1)[:, None]
    found = residual.correlations(players) * num_delays
    estimate = coefficients + np.einsum("wc,wck->wk", weights, found) / total
    around = energy[residual.find(players)]  # (w, C, k)
    error = np.sqrt(np.einsum("wc,wck->wk", weights**2, around)) / total
    t = np.abs(estimate) / np.maximum(error * np.sqrt(repeats), 1e-300)
    freedom = num_delays * (weights > 0).sum(axis=1)[:, None] / repeats - 1
    freedom = np.maximum(freedom, 1)
    p = 2 * stdtr(freedom, -t)
    return np.minimum(1.0, p.min(axis=1) * p.shape[1])
