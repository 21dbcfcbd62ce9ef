"""Classes of the training examples, and what is said of those a subset lacks.

A class with no kept example gets, at every test point, the probability that Laplace's
rule of succession gives it: 1 / (n + C), with n kept examples and C classes. The kept
classes share the rest as the model says. A class that is alone has all the rest, and
with no examples all classes have 1 / C. So every mask has a finite value, by one rule
for all classifiers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles.errors import InputError


@dataclass(frozen=True, eq=False)
class Classes:
    """Labels of n training examples as numbers.

    Attributes:
        names: of the C classes, sorted.
        codes: shape (n,), each example's class.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]

    @staticmethod
    def of(labels: Iterable[Any], num_examples: int) -> "Classes":
        """Classes found in the labels; their names are the labels as text.

        Raises:
            InputError: fewer than two classes, an empty label, or another number of
                labels than examples.
        """
        named = [_named(label) for label in labels]
        if len(named) != num_examples:
            raise InputError(
                f"there are {len(named)} labels for {num_examples} examples. Every "
                "example needs one."
            )
        names, codes = np.unique(named, return_inverse=True)
        if len(names) < 2:
            raise InputError(
                f"the training labels have {len(names)} classes ({list(names)}). A "
                "classifier needs two or more."
            )
        return Classes(tuple(map(str, names)), codes.astype(np.int64))

    @cached_property
    def one_hot(self) -> NDArray[np.float64]:
        """Shape (n, C)."""
        return np.eye(len(self.names))[self.codes]

    def counts(self, kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Kept examples of each class, (m, C), for kept examples (m, n)."""
        return kept.astype(np.float64) @ self.one_hot

    def codes_of(self, labels: Iterable[Any]) -> NDArray[np.int64]:
        """Numbers of other examples' labels.

        Raises:
            InputError: a label that no training example has.
        """
        place = {name: code for code, name in enumerate(self.names)}
        named = [_named(label) for label in labels]
        unseen = sorted({name for name in named if name not in place})
        if unseen:
            raise InputError(
                f"test labels {unseen[:5]} are none of the training labels "
                f"{list(self.names[:10])}. Leave these test points out, or add "
                "examples of theirs to the training data."
            )
        return np.array([place[name] for name in named], dtype=np.int64)


def _named(label: Any) -> str:
    name = "" if label is None else str(label)
    if not name.strip() or name.lower() in ("nan", "<na>"):  # as pandas has it
        raise InputError(f"a label is empty ({label!r}). Every example needs one.")
    return name


def with_absent(
    log_probs: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log-probabilities (m, t, C) with those of absent classes by Laplace's rule.

    Args:
        log_probs: shape (m, t, C), normalised over the classes that are kept; what
            stands at the others is not looked at.
        counts: kept examples of each class, (m, C).
    """
    floor, rest = _laplace(counts)
    with np.errstate(divide="ignore"):
        scaled = log_probs + np.log(rest)[:, None, None]
    return np.where((counts == 0)[:, None, :], np.log(floor)[:, None, None], scaled)


def scores_with_absent(
    scores: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The same for scores (m, t, C) that estimate probabilities themselves."""
    floor, rest = _laplace(counts)
    scaled = scores * rest[:, None, None]
    return np.where((counts == 0)[:, None, :], floor[:, None, None], scaled)


def _laplace(
    counts: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probability of each absent class, and what is left to the others; (m,) each."""
    floor = 1 / (counts.sum(axis=1) + counts.shape[1])
    return floor, 1 - (counts == 0).sum(axis=1) * floor
