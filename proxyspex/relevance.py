"""How much each single player may matter, learned from all outputs together.

Where there are more players than a kernel can learn the decays of from one output, the
linear part of the process is told which players matter to all of them: a ridge whose
prior variances w_i are raised to the mean share of energy that the outputs' own
solutions give each player, a few times over (the fixed point of MacKay 1992 for
automatic relevance determination, pooled over outputs and held to a floor).
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROUNDS = 3
FLOOR = 0.1  # of the variance that all players share alike
NOISES = np.logspace(-4, 1, 11)  # tried, as a part of the values' variance


def relevance(features: NDArray[np.float32], values: Array) -> Array:
    """Shares of single players in the prior variance, (n,), which add to 1.

    Args:
        features: characters of the single players, (m, n).
        values: shape (m, k).
    """
    n, k = features.shape[1], values.shape[1]
    centred = values - values.mean(axis=0)
    standard = centred / np.maximum(centred.std(axis=0), 1e-12)
    floor = max(FLOOR, 1 / (1 + k))
    shares = np.full(n, 1 / n)
    for _ in range(ROUNDS):
        energy = _ridge(features * np.sqrt(shares, dtype=np.float32), standard) ** 2
        energy *= shares[:, None]
        own = energy / np.maximum(energy.sum(axis=0), 1e-12)
        shares = floor / n + (1 - floor) * own.mean(axis=1)
    return shares


def _ridge(features: NDArray[np.float32], values: Array) -> Array:
    """Coefficients (n, k), each output with the noise its evidence is largest for."""
    m, n = features.shape
    left = features.T if n <= m else features  # the smaller of both dimensions
    sizes, vectors = np.linalg.eigh(left @ left.T)
    sizes = np.maximum(sizes.astype(np.float64), 0.0)
    turned = vectors.T.astype(np.float64) @ (left @ values if n <= m else values)
    widened = sizes[:, None] + NOISES  # eigenvalues x noises
    inverse = 1 / widened
    squares = np.einsum("ek,en->nk", turned**2, inverse)
    rest = 0.0
    if n <= m:
        squares = ((values**2).sum(axis=0) - squares) / NOISES[:, None]
        rest = (m - n) * np.log(NOISES)[:, None]
    squares = np.maximum(squares, 1e-300)
    evidence = -0.5 * (
        m * np.log(squares) + np.log(widened).sum(axis=0)[:, None] + rest
    )
    chosen = inverse[:, evidence.argmax(axis=0)]
    solved = vectors @ (turned * chosen)
    return np.asarray(solved if n <= m else features.T @ solved, dtype=np.float64)
