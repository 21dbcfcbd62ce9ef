"""Faithfulness: how much of the model's variation the surrogate explains.

    R^2 = 1 - sum (v(x) - vhat(x))^2 / sum (v(x) - vbar)^2

over uniform random masks x that vhat was not fitted to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles import Values

LEVEL = 0.9
"""Nominal coverage of every interval the product reports."""

WIDENING = 1.5
"""Held-out errors are no independent draws: the folds share the masks they learn from,
and rare large errors are missed by small samples. Measured on real value functions
(benchmarks/covers_the_truth.py), for which the plain interval covers 70 %."""

DRIFT = 0.1
"""Standard deviation of log(1 - R^2) between the folds' surrogates and the one that
learned from all masks; measured likewise."""


class Faithfulness(float):
    """An R^2 with an interval; it is a float, so compare and format it as one.

    Attributes:
        low, high: interval of nominal coverage `LEVEL`.
        per_output: R^2 of each output; the number itself is their mean.
        num_masks: held-out masks it was estimated on, or as many as tell as much where
            they weigh differently; 0 if the spectrum is exact.
    """

    low: float
    high: float
    per_output: tuple[float, ...]
    num_masks: int

    def __new__(
        cls, low: float, high: float, per_output: tuple[float, ...], num_masks: int
    ) -> "Faithfulness":
        self = super().__new__(cls, float(np.mean(per_output)))
        self.low, self.high = low, high
        self.per_output, self.num_masks = per_output, num_masks
        return self

    def to_json(self) -> dict[str, Any]:
        """As JSON-ready data; the inverse of `from_json`."""
        return {
            "low": self.low,
            "high": self.high,
            "per_output": list(self.per_output),
            "num_masks": self.num_masks,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Faithfulness":
        """From what `to_json` returned."""
        return cls(
            data["low"], data["high"], tuple(data["per_output"]), data["num_masks"]
        )

    def __repr__(self) -> str:
        return f"Faithfulness({self:.3f}, low={self.low:.3f}, high={self.high:.3f})"


@dataclass(frozen=True)
class _Ratio:
    """1 - R^2 of each output, and each row's relative influence on it."""

    unexplained: NDArray[np.float64]
    influence: NDArray[np.float64]


Weights = NDArray[np.float64]


def effective_number(count: int, weights: Weights | None) -> float:
    """How many rows of equal weight tell as much as `count` with these (Kish 1965)."""
    if weights is None:
        return float(count)
    return float(weights.sum() ** 2 / (weights**2).sum())


def r_squared(
    values: Values, predictions: Values, weights: Weights | None = None
) -> NDArray[np.float64]:
    """R^2 of each output, shape (k,); rows may weigh differently, (m,).

    An output that does not vary has R^2 1 if it is predicted to rounding, else 0.
    """
    return 1 - _unexplained(values, predictions, weights).unexplained


def estimate_faithfulness(
    values: Values,
    predictions: Values,
    *,
    weights: Weights | None = None,
    is_cross_fitted: bool = False,
) -> Faithfulness:
    """Mean R^2 over outputs with an interval, from held-out predictions (m, k).

    The interval is symmetric for log(1 - R^2), a log ratio of two means, whose
    standard error comes from the rows' influence (delta method).

    Args:
        values: shape (m, k).
        predictions: shape (m, k).
        weights: shape (m,), of any scale, where masks are no uniform sample but are one
            with these weights.
        is_cross_fitted: whether predictions come from folds that learned from most of
            the other rows, and the R^2 is of what learned from all; the interval is
            then widened by `WIDENING` and `DRIFT`.
    """
    ratio = _unexplained(values, predictions, weights)
    count = max(1, round(effective_number(len(values), weights)))
    total = float(ratio.unexplained.mean())
    if total <= 0:
        return Faithfulness(1.0, 1.0, (1.0,) * values.shape[1], count)
    influence = (ratio.influence * ratio.unexplained).mean(axis=1) / total
    error = influence.std() / np.sqrt(len(values))
    if is_cross_fitted:
        error = np.hypot(WIDENING * error, DRIFT)
    spread = error * NormalDist().inv_cdf((1 + LEVEL) / 2)
    low, high = 1 - total * np.exp([spread, -spread])
    per_output = tuple((1 - ratio.unexplained).tolist())
    return Faithfulness(float(low), float(high), per_output, count)


def exact_faithfulness(num_outputs: int) -> Faithfulness:
    """R^2 = 1: the spectrum is the whole value function."""
    return Faithfulness(1.0, 1.0, (1.0,) * num_outputs, 0)


def _unexplained(
    values: Values, predictions: Values, weights: Weights | None
) -> _Ratio:
    w = np.ones(len(values)) if weights is None else weights / weights.mean()
    squares = (values - np.average(values, axis=0, weights=w)) ** 2 * w[:, None]
    errors = (values - predictions) ** 2 * w[:, None]
    rounding = (1e-12 * np.abs(values).max(axis=0)) ** 2
    constant = squares.mean(axis=0) <= rounding
    predicted = errors.mean(axis=0) <= rounding
    variance = np.where(constant, 1.0, squares.mean(axis=0))
    mean_error = np.where(predicted, 1.0, errors.mean(axis=0))
    unexplained = np.where(constant, ~predicted, errors.mean(axis=0) / variance)
    influence = errors / mean_error - squares / variance
    return _Ratio(unexplained, np.where(constant | predicted, 0.0, influence))
