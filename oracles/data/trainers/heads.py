"""Linear heads on frozen features, of hundreds of subsets at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, log_softmax, softmax

from oracles.base import Values
from oracles.data.arrays import as_matrix, digest_of
from oracles.data.classes import Classes, scores_with_absent, with_absent
from oracles.data.influence import (
    MOST_UNKNOWNS,
    linear_influence,
    similarity_of,
    slopes_of,
)
from oracles.data.targets import Measure, Targets
from oracles.data.trainer import Indices
from oracles.data.trainers.basis import Basis
from oracles.data.trainers.minimise import Array, Loss, Problem, Slopes
from oracles.errors import InputError

ABSENT = -1e30  # the logit of a class that is not trained on
Kept = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Head:
    """Heads fitted to m subsets.

    Attributes:
        weights: shape (m, c, r + 1), in the trainer's basis, the intercept last.
        counts: kept examples of each class, (m, C).
    """

    weights: NDArray[np.float64]
    counts: NDArray[np.float64]


class LogisticHead:
    """Logistic regression with an L2 penalty, as scikit-learn's with C = 1 / l2.

    Minimises the summed log-loss plus l2 / 2 times the squared weights, the intercept
    not penalised: with two classes over one vector of weights, with more over one for
    each class (softmax).

    Args:
        features: frozen features of the training examples, (n, d).
        labels: their classes.
        l2: strength of the penalty; scikit-learn's default is 1.
        tolerance: how far the solution may be from the exact one, measured by the
            Newton decrement. Logits at test points are as near, or a few times further
            where the penalty is weak and the classes are far apart. Below 3e-4 float32
            no longer does, and fitting takes about twice as long.

    Raises:
        InputError: features that are no finite matrix, another number of labels, fewer
            than two classes, or an l2 or tolerance that is not above 0.
    """

    def __init__(
        self,
        features: Any,
        labels: Sequence[Any],
        *,
        l2: float = 1.0,
        tolerance: float = 1e-3,
    ) -> None:
        _check_positive(l2=l2, tolerance=tolerance)
        self._linear = _Linear.of(features, labels)
        self._l2, self._tolerance = float(l2), float(tolerance)
        self._is_binary = len(self._linear.classes.names) == 2
        self.num_examples = len(self._linear.coordinates)
        self.description: Mapping[str, Any] = {
            "trainer": "logistic head",
            **self._linear.description,
            "l2": self._l2,
            "tolerance": self._tolerance,
        }

    def check(self, targets: Targets) -> None:
        """Raise InputError unless the test points have these features and classes."""
        self._linear.check(targets)

    def fit(self, indices: Indices, seed: int) -> Head:
        """The head of one subset; the seed makes no difference."""
        return self._fit(_kept(indices, self.num_examples))

    def score(self, model: Head, targets: Targets) -> Values:
        """Values (k,) of one subset's head."""
        return self._score(model, targets)[0]

    def fit_many(
        self, kept: Kept, seeds: NDArray[np.int64], targets: Targets
    ) -> Values:
        """Values (m, k) of m subsets; NaN where a fit did not converge."""
        return self._score(self._fit(kept), targets)

    def influence(self, targets: Targets) -> NDArray[np.float64] | None:
        """What keeping each example adds to each value, (n, k), without retraining.

        To first order from the head of all examples; see `oracles.data.influence`.
        None where it has no derivative, as an accuracy, or where the Hessian of all
        classes has more than `MOST_UNKNOWNS` rows.
        """
        linear, weights = self._linear, self._start[0]
        if "accuracy" in targets.outputs or weights.size > MOST_UNKNOWNS:
            return None
        points = linear.basis.coordinates(as_matrix(targets.points, "test points"))
        columns = slice(1, None) if self._is_binary else slice(None)
        here = self._probabilities(linear.coordinates @ weights.T)
        there = self._probabilities(points @ weights.T)
        right = Measure(linear.classes, targets).right
        slopes = [slopes_of(kind, there, right)[:, columns] for kind in targets.outputs]
        own = here[:, columns]
        curvatures = own[:, :, None] * (np.eye(own.shape[1]) - own[:, None, :])
        return linear_influence(
            linear.coordinates,
            own - linear.classes.one_hot[:, columns],
            curvatures,
            np.append(np.full(points.shape[1] - 1, self._l2), 0.0),
            np.concatenate([s[:, :, None] * points[:, None] for s in slopes]),
        )

    def similarity(self, targets: Targets) -> NDArray[np.float64] | None:
        """How like each example is to each test point, (n, k), by the features;
        see `oracles.data.influence.similarity_of`."""
        return self._linear.similarity(targets)

    def _probabilities(self, margins: Array) -> Array:
        """Of all classes, from margins (l, c)."""
        if self._is_binary:
            margins = np.hstack([np.zeros_like(margins), margins])
        return np.asarray(softmax(margins, axis=1))

    @cached_property
    def _problem(self) -> Problem:
        num_classes = len(self._linear.classes.names)
        # a logistic's second derivative is at most 1/4; a softmax's p (1 - p) near 1/C
        curvature = 0.2 if self._is_binary else (1 - 1 / num_classes) / num_classes
        num_margins = 1 if self._is_binary else num_classes
        loss = self._binary_loss if self._is_binary else self._softmax_loss
        return self._linear.problem(self._l2, curvature, num_margins, loss)

    @cached_property
    def _start(self) -> NDArray[np.float64]:
        """Weights of all examples, (1, c, r + 1)."""
        every = np.ones((1, self.num_examples), dtype=bool)
        return self._problem.minimised(every, np.zeros(()), self._tolerance)

    def _fit(self, kept: Kept) -> Head:
        counts = self._linear.classes.counts(kept)
        weights = np.zeros((len(kept), *self._start.shape[1:]))
        rows = (counts > 0).sum(axis=1) > 1  # with one class there is nothing to fit
        if rows.any():
            weights[rows] = self._problem.minimised(
                kept[rows], self._start, self._tolerance
            )
        return Head(weights, counts)

    def _binary_loss(self, kept: Array) -> Slopes:
        signs = (2 * self._linear.classes.codes - 1).astype(kept.dtype)
        tops = -(kept * signs)[:, None, :]

        def slopes(margins: Array) -> Array:  # -y / (1 + exp(y m))
            margins *= signs
            with np.errstate(over="ignore"):
                np.exp(margins, out=margins)
            margins += 1
            return np.divide(tops, margins, out=margins)

        return slopes

    def _softmax_loss(self, kept: Array) -> Slopes:
        counts = self._linear.classes.counts(kept > 0)
        # where a class is absent nothing is asked of its margin, and it stays at 0
        hidden = np.where(counts == 0, ABSENT, 0.0).astype(kept.dtype)[:, :, None]
        is_any_absent = bool((counts == 0).any())
        hot = self._linear.classes.one_hot.T.astype(kept.dtype) * kept[:, None, :]

        def slopes(margins: Array) -> Array:  # softmax - one hot
            if is_any_absent:
                margins += hidden
            margins -= margins.max(axis=1, keepdims=True)
            np.exp(margins, out=margins)
            margins *= (kept / margins.sum(axis=1))[:, None, :]
            margins -= hot
            return margins

        return slopes

    def _score(self, model: Head, targets: Targets) -> Values:
        margins = self._linear.margins(model.weights, targets)  # (m, t, c)
        if self._is_binary:
            log_probs = log_expit(np.concatenate([-margins, margins], axis=2))
            # one class alone has all there is
            alone = (model.counts == 0).any(axis=1)[:, None, None]
            log_probs = np.where(alone, 0.0, log_probs)
        else:
            is_absent = (model.counts == 0)[:, None, :]
            log_probs = log_softmax(np.where(is_absent, ABSENT, margins), axis=2)
        measure = Measure(self._linear.classes, targets)
        return measure.of_log_probs(with_absent(log_probs, model.counts))


class RidgeHead:
    """Least squares on one-hot classes with an L2 penalty, as scikit-learn's `Ridge`.

    A head's scores estimate probabilities without being held to 0..1; see `Targets` for
    what margins and losses mean for them. Its solution is exact, so it is a cheap and
    smooth stand-in for a classifier, and without randomness.

    Args:
        features: frozen features of the training examples, (n, d).
        labels: their classes.
        l2: strength of the penalty, scikit-learn's `alpha`.
        tolerance: how far the solution may be from the exact one; see `LogisticHead`.

    Raises:
        InputError: as for `LogisticHead`.
    """

    def __init__(
        self,
        features: Any,
        labels: Sequence[Any],
        *,
        l2: float = 1.0,
        tolerance: float = 1e-3,
    ) -> None:
        _check_positive(l2=l2, tolerance=tolerance)
        self._linear = _Linear.of(features, labels)
        self._tolerance = float(tolerance)
        num_classes = len(self._linear.classes.names)
        # the first class's column is what the others leave of 1, and is not fitted
        self._num_columns = num_classes - 1
        self._problem = self._linear.problem(
            float(l2), 1.0, self._num_columns, self._loss
        )
        self.num_examples = len(self._linear.coordinates)
        self.description: Mapping[str, Any] = {
            "trainer": "ridge head",
            **self._linear.description,
            "l2": float(l2),
            "tolerance": self._tolerance,
        }

    def check(self, targets: Targets) -> None:
        """Raise InputError unless the test points have these features and classes."""
        self._linear.check(targets)

    def fit(self, indices: Indices, seed: int) -> Head:
        """The head of one subset; the seed makes no difference."""
        return self._fit(_kept(indices, self.num_examples))

    def score(self, model: Head, targets: Targets) -> Values:
        """Values (k,) of one subset's head."""
        return self._score(model, targets)[0]

    def fit_many(
        self, kept: Kept, seeds: NDArray[np.int64], targets: Targets
    ) -> Values:
        """Values (m, k) of m subsets; NaN where a fit did not converge."""
        return self._score(self._fit(kept), targets)

    def similarity(self, targets: Targets) -> NDArray[np.float64] | None:
        """As `LogisticHead.similarity`."""
        return self._linear.similarity(targets)

    @cached_property
    def _start(self) -> NDArray[np.float64]:
        """Weights of all examples, (1, c, r + 1)."""
        every = np.ones((1, self.num_examples), dtype=bool)
        return self._problem.minimised(every, np.zeros(()), self._tolerance)

    def _fit(self, kept: Kept) -> Head:
        counts = self._linear.classes.counts(kept)
        weights = np.zeros((len(kept), *self._start.shape[1:]))
        rows = (counts > 0).sum(axis=1) > 1
        # the fit to one class: its score is 1 everywhere, and the others' 0
        alone = (counts > 0)[~rows, -self._num_columns :]
        weights[~rows, :, -1] = alone
        if rows.any():
            weights[rows] = self._problem.minimised(
                kept[rows], self._start, self._tolerance
            )
        return Head(weights, counts)

    def _loss(self, kept: Array) -> Slopes:
        hot = self._linear.classes.one_hot.T[-self._num_columns :].astype(kept.dtype)

        def slopes(margins: Array) -> Array:
            margins -= hot
            margins *= kept[:, None, :]
            return margins

        return slopes

    def _score(self, model: Head, targets: Targets) -> Values:
        scores = self._linear.margins(model.weights, targets)  # (m, t, c)
        first = 1 - scores.sum(axis=2, keepdims=True)
        scores = np.concatenate([first, scores], axis=2)
        measure = Measure(self._linear.classes, targets)
        return measure.of_scores(scores_with_absent(scores, model.counts))


@dataclass(frozen=True, eq=False)
class _Linear:
    """Training examples in the basis that linear heads are fitted in."""

    classes: Classes
    basis: Basis
    coordinates: NDArray[np.float64]  # (n, r + 1)
    num_features: int
    description: Mapping[str, Any]

    @staticmethod
    def of(features: Any, labels: Sequence[Any]) -> "_Linear":
        matrix = as_matrix(features, "features")
        classes = Classes.of(labels, len(matrix))
        basis = Basis.of(matrix)
        described = {
            "classes": list(classes.names),
            "digest": digest_of(matrix) + digest_of(classes.codes),
        }
        coordinates = basis.coordinates(matrix)
        return _Linear(classes, basis, coordinates, matrix.shape[1], described)

    def problem(
        self, l2: float, curvature: float, num_margins: int, loss: Loss
    ) -> Problem:
        return Problem(self.coordinates, self.basis, l2, curvature, num_margins, loss)

    def check(self, targets: Targets) -> None:
        points = as_matrix(targets.points, "the test points' features")
        if points.shape[1] != self.num_features:
            raise InputError(
                f"test points have {points.shape[1]} features, and training examples "
                f"{self.num_features}. Both need the same, from one encoder."
            )
        _ = Measure(self.classes, targets).right

    def similarity(self, targets: Targets) -> NDArray[np.float64] | None:
        """By the features, which the coordinates are rotated from."""
        rotated = self.coordinates[:, :-1] @ self.basis.directions.T
        return similarity_of(
            rotated + self.basis.mean,
            self.classes.codes,
            as_matrix(targets.points, "the test points' features"),
            Measure(self.classes, targets).right,
            targets.outputs,
        )

    def margins(
        self, weights: NDArray[np.float64], targets: Targets
    ) -> NDArray[np.float64]:
        """Shape (m, t, c)."""
        points = as_matrix(targets.points, "the test points' features")
        # the weights are fewer than the points: rotate them
        free = weights[..., :-1] @ self.basis.directions.T
        shift = weights[..., -1] - free @ self.basis.mean
        return np.swapaxes(free @ points.T + shift[..., None], 1, 2)


def _kept(indices: Indices, num_examples: int) -> Kept:
    kept = np.zeros((1, num_examples), dtype=bool)
    kept[0, indices] = True
    return kept


def _check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not 0 < value < np.inf:
            raise InputError(f"{name}={value} is not above 0.")
