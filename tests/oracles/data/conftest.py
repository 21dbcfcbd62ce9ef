"""A small real task: scikit-learn's digits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from oracles.data import Targets


class Task:
    """Training examples and test points of some of the ten digits."""

    def __init__(self, classes: int, examples: int) -> None:
        digits = load_digits()
        rows = np.flatnonzero(digits.target < classes)
        rows = np.random.default_rng(0).permutation(rows)
        self.features = digits.data[rows[:examples]] / 16
        self.labels = digits.target[rows[:examples]]
        self.points = digits.data[rows[-20:]] / 16
        self.right = digits.target[rows[-20:]]

    def targets(self, *outputs: str) -> Targets:
        return Targets(self.points, self.right, outputs=outputs or ("margin",))


@pytest.fixture(scope="session")
def make_task() -> Callable[[int, int], Any]:
    return Task


def halves(count: int, players: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, players)) < 0.5
