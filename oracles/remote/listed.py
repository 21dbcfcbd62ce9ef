"""What a list of the likeliest tokens says of any one token."""

import math
from collections.abc import Callable, Sequence

import numpy as np

ROUNDING = 1e-6  # probabilities are told apart to about this, in float32


def log_probability(
    listed: Sequence[tuple[str, float]], word: str
) -> tuple[float, bool]:
    """Of a token, or if it is not listed the most it can have; and whether it is that.

    Args:
        listed: the likeliest tokens and their log-probabilities.
        word: a token without the white space around it.

    >>> log_probability([(" yes", -0.5), ("no", -2.5)], "no")
    (-2.5, False)
    """
    found = _together(listed, lambda token: token == word)
    if found > -math.inf:
        return found, False
    last = min(value for _, value in listed)
    return min(last, math.log(max(_left_over(listed), ROUNDING))), True


def against_all_others(
    listed: Sequence[tuple[str, float]], word: str
) -> tuple[float, bool]:
    """log p - log (1 - p) of a token, and whether it is made of a bound."""
    value, is_bound = log_probability(listed, word)
    if is_bound:
        return value - math.log1p(-math.exp(value)), True
    # what is left over is known to within rounding, and so counts beyond that only
    left = _left_over(listed) - ROUNDING
    rest = math.log(left) if left > 0 else -math.inf
    others = _together(listed, lambda token: token != word)
    others = float(np.logaddexp(others, rest))
    if others == -math.inf:
        return value - math.log(ROUNDING), True
    return value - others, False


def _left_over(listed: Sequence[tuple[str, float]]) -> float:
    """Probability of all tokens that are not listed."""
    return 1 - math.fsum(math.exp(value) for _, value in listed)


def _together(
    listed: Sequence[tuple[str, float]], is_counted: Callable[[str], bool]
) -> float:
    """Log-probability of all listed tokens of a kind, -inf if there are none."""
    values = [value for token, value in listed if is_counted(token.strip())]
    return float(np.logaddexp.reduce(values)) if values else -math.inf
