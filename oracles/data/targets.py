"""Test points, and what is measured at them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from oracles.data.arrays import digest_of
from oracles.data.classes import Classes
from oracles.data.table import check_distinct, shortened
from oracles.errors import InputError

POINTWISE = ("margin", "loss")
OUTPUTS = (*POINTWISE, "accuracy")
Measured = dict[str, Callable[[], NDArray[np.float64]]]


class Targets:
    """Test points and what is measured at them after every retraining.

    What can be measured, by a classifier's probabilities p of the classes:

    - "margin": log-odds of the right class, log p / (1 - p), at every test point. The
      default: unlike p it is not squashed, and it is what TRAK (Park et al. 2023)
      attributes. A ridge head, which has no probabilities, gives the right class's
      score less the largest other one.
    - "loss": -log p of the right class at every test point; of a ridge head the
      squared error of its scores.
    - "accuracy": the share of test points whose right class has the largest score, one
      number; classes that tie share the point.

    Args:
        points: t test points, as the trainer reads them: features (t, d), or texts.
        labels: their right classes; None if the trainer measures something of its own,
            one number for each of the `ids`.
        ids: names of the test points; by default their numbers, from 1.
        outputs: some of the above; not looked at without labels.
        texts: of the test points, for reports; by default the points, if they are
            texts. Long ones are cut.

    Raises:
        InputError: no test points, ids, labels or texts of another number, an id that
            comes twice, or an output that does not exist.

    >>> targets = Targets([[0.0], [1.0]], ["a", "b"], outputs=("loss", "accuracy"))
    >>> targets.names
    ('loss of 1', 'loss of 2', 'accuracy')
    """

    def __init__(
        self,
        points: Any,
        labels: Sequence[Any] | None,
        *,
        ids: Sequence[str] | None = None,
        outputs: Sequence[str] = ("margin",),
        texts: Sequence[str] | None = None,
    ) -> None:
        self.points = points
        self.labels = None if labels is None else list(labels)
        count = len(ids) if labels is None and ids is not None else len(points)
        self.ids = tuple(str(i + 1) for i in range(count)) if ids is None else (*ids,)
        self.outputs = () if labels is None else tuple(outputs)
        self.texts = _texts_of(points) if texts is None else tuple(texts)
        self._check(count)

    def _check(self, count: int) -> None:
        if not count:
            raise InputError("there are no test points. Give at least one.")
        sizes = {"ids": len(self.ids), "labels": len(self.labels or self.ids)}
        sizes |= {"texts": len(self.texts)} if self.texts else {}
        for name, size in sizes.items():
            if size != count:
                raise InputError(f"there are {size} {name} for {count} test points.")
        check_distinct(self.ids, "ids of the test points")
        wrong = [name for name in self.outputs if name not in OUTPUTS]
        if wrong or (self.labels is not None and not self.outputs):
            raise InputError(
                f"outputs={list(self.outputs)} holds something unknown or nothing. "
                f"Choose from {', '.join(OUTPUTS)}."
            )
        check_distinct(self.outputs, "outputs")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the k values, in order; just the ids where one kind is measured."""
        pointwise = [kind for kind in self.outputs if kind in POINTWISE]
        if len(pointwise) <= 1 and "accuracy" not in self.outputs:
            return self.ids
        named: list[str] = []
        for kind in self.outputs:
            of_ids = [f"{kind} of {name}" for name in self.ids]
            named += of_ids if kind in POINTWISE else [kind]
        return tuple(named)

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """JSON-ready: ids, what is measured, a digest of points and labels, and what
        reports show."""
        labels = None if self.labels is None else [str(label) for label in self.labels]
        return {
            "test_ids": list(self.ids),
            "measured": list(self.outputs),
            "test_labels": labels,
            "test_digest": digest_of(self.points),
            **(
                {"test_texts": [shortened(text) for text in self.texts]}
                if self.texts
                else {}
            ),
        }


def _texts_of(points: Any) -> tuple[str, ...]:
    """The points, if they are a list of texts."""
    is_listed = isinstance(points, list | tuple)
    if not is_listed or not all(isinstance(point, str) for point in points):
        return ()
    return tuple(points)


@dataclass(frozen=True, eq=False)
class Measure:
    """Turns scores of the classes into the values that `targets` ask for."""

    classes: Classes
    targets: Targets

    @cached_property
    def right(self) -> NDArray[np.int64]:
        """Each test point's class, (t,).

        Raises:
            InputError: the targets have no labels, or one unseen in training.
        """
        if self.targets.labels is None:
            raise InputError(
                "the test points have no labels, so a classifier has no right class to "
                "be measured by. Pass Targets(points, labels)."
            )
        return self.classes.codes_of(self.targets.labels)

    def of_log_probs(self, log_probs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (m, k) of log-probabilities (m, t, C)."""
        right, others = self._split(log_probs)
        measured: Measured = {
            "margin": lambda: right - _log_sum(others),
            "loss": lambda: -right,
            "accuracy": lambda: _accuracy(right, others),
        }
        return np.hstack([measured[kind]() for kind in self.targets.outputs])

    def of_scores(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (m, k) of scores (m, t, C) that are no log-probabilities."""
        right, others = self._split(scores)
        measured: Measured = {
            "margin": lambda: right - others.max(axis=2),
            "loss": lambda: (right - 1) ** 2 + (others**2).sum(axis=2),
            "accuracy": lambda: _accuracy(right, others),
        }
        return np.hstack([measured[kind]() for kind in self.targets.outputs])

    def _split(
        self, scores: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The right class's score (m, t), and the others' (m, t, C - 1)."""
        count, num_points, num_classes = scores.shape
        points = np.arange(num_points)
        if num_classes == 2:
            rest = scores[:, points, 1 - self.right, None]
        else:
            is_other = np.ones((num_points, num_classes), dtype=bool)
            is_other[points, self.right] = False
            rest = scores[:, is_other].reshape(count, num_points, num_classes - 1)
        return scores[:, points, self.right], rest


def _log_sum(log_probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the summed probabilities (m, t) of classes (m, t, c)."""
    return log_probs[..., 0] if log_probs.shape[2] == 1 else logsumexp(log_probs, 2)


def _accuracy(
    right: NDArray[np.float64], others: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share of points (m, 1) that are right; of those that tie, a part."""
    best = others.max(axis=2)
    ties = (others == right[..., None]).sum(axis=2)
    share = (right >= best) / (1 + ties)
    # a diverged model must not pass for a wrong one
    return np.where(np.isnan(right + best), np.nan, share).mean(axis=1, keepdims=True)
