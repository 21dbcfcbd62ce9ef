"""The order in which a training sees its examples."""

import math

import numpy as np
from numpy.typing import NDArray


def minibatches(
    indices: NDArray[np.int64], steps: int, size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Numbers of examples in each minibatch, (steps, size).

    Examples come in random order, all of them once before any comes again; fewer
    examples than `size` repeat within a minibatch. Without any, numbers are 0.
    """
    wanted = steps * size
    if not len(indices):
        return np.zeros((steps, size), dtype=np.int64)
    rounds = math.ceil(wanted / len(indices))
    orders = rng.permuted(np.tile(indices, (rounds, 1)), axis=1)
    return orders.ravel()[:wanted].reshape(steps, size)
