"""How sure a ranking is."""

import numpy as np
from numpy.typing import NDArray

NUM_DRAWS = 1000
REACH = 4.0  # standard errors that a draw is taken to stay within
SPREAD = 2.0  # a few values are much larger than most
SEED = 0


def chance_to_stay(
    values: NDArray[np.float64], errors: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """For each value, how often it is among the `count` largest in size.

    Over draws of all values from independent normal distributions around them, with
    the errors that values have after they were shrunk (empirical Bayes: t^2 = `SPREAD`
    times their mean square, error^2 t^2 / (error^2 + t^2)).

    Args:
        values: shape (terms,).
        errors: standard errors, (terms,).
        count: at least 1.
    """
    if count >= len(values):
        return np.ones(len(values))
    spread = SPREAD * float((values**2).mean()) or 1.0
    errors = errors * np.sqrt(spread / (spread + errors**2))
    # only those that could be among the largest are drawn
    size, reach = np.abs(values), REACH * errors
    bar = np.sort(size - reach)[-count]
    near = np.flatnonzero(size + reach >= bar)
    chances = np.zeros(len(values))
    chances[near] = _drawn(values[near], errors[near], count)
    return chances


def _drawn(
    values: NDArray[np.float64], errors: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    if len(values) == count:
        return np.ones(count)
    rng = np.random.default_rng(SEED)
    drawn = np.abs(values + errors * rng.standard_normal((NUM_DRAWS, len(values))))
    drawn += 1e-12 * np.abs(values)  # of values without errors, the order as it is
    largest = np.argpartition(-drawn, count - 1, axis=1)[:, :count]
    return np.bincount(largest.ravel(), minlength=len(values)) / NUM_DRAWS
