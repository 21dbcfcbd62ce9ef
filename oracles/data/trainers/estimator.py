"""Any scikit-learn classifier as a trainer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from oracles.base import Values
from oracles.data.arrays import digest_of, take
from oracles.data.classes import Classes, with_absent
from oracles.data.influence import similarity_of
from oracles.data.targets import Measure, Targets
from oracles.data.trainer import Indices
from oracles.errors import InputError, ModelError


@dataclass(frozen=True, eq=False)
class FittedEstimator:
    """What was fitted to a subset.

    Attributes:
        estimator: None if at most one class was kept.
        counts: kept examples of each class, (C,).
    """

    estimator: Any
    counts: NDArray[np.float64]


class EstimatorTrainer:
    """A scikit-learn classifier with `predict_proba`, or a pipeline that ends in one.

    Every subset gets a fresh clone, whose `random_state`s are set to the seed. A
    probability of 0, as trees give, counts as 1 / (n + C), with n kept examples and C
    classes, before the rest is scaled: its logarithm has to be finite.

    Args:
        estimator: the classifier; it is cloned, never fitted.
        features: what its `fit` reads: an array (n, d), or a list of n texts for a
            pipeline that vectorises them.
        labels: classes of the n examples.

    Raises:
        ModelError: scikit-learn is missing.
        InputError: no classifier with `predict_proba`, another number of labels than
            examples, or fewer than two classes.

    >>> from sklearn.naive_bayes import GaussianNB
    >>> features = np.array([[0.0], [0.1], [1.0], [1.1]])
    >>> trainer = EstimatorTrainer(GaussianNB(), features, [0, 0, 1, 1])
    >>> model = trainer.fit(np.arange(4), seed=0)
    >>> bool(trainer.score(model, Targets(features[:1], [0]))[0] > 0)
    True
    """

    def __init__(self, estimator: Any, features: Any, labels: Sequence[Any]) -> None:
        _check_classifier(estimator)
        self._estimator, self._features = estimator, features
        self.num_examples = len(features)
        self._classes = Classes.of(labels, self.num_examples)
        self.description: Mapping[str, Any] = {
            "trainer": "scikit-learn",
            "estimator": type(estimator).__name__,
            "settings": {k: _named(v) for k, v in estimator.get_params().items()},
            "classes": list(self._classes.names),
            "digest": digest_of(features) + digest_of(self._classes.codes),
        }

    def check(self, targets: Targets) -> None:
        """Raise InputError unless the test points have labels seen in training."""
        _ = Measure(self._classes, targets).right

    def similarity(self, targets: Targets) -> NDArray[np.float64] | None:
        """As `SmallNetwork.similarity`; None where the features are no numbers."""
        features, points = np.asarray(self._features), np.asarray(targets.points)
        if features.ndim != 2 or not np.issubdtype(features.dtype, np.number):
            return None
        return similarity_of(
            features.astype(np.float64),
            self._classes.codes,
            points.astype(np.float64),
            Measure(self._classes, targets).right,
            targets.outputs,
        )

    def fit(self, indices: Indices, seed: int) -> FittedEstimator:
        """A fresh clone fitted to these examples."""
        from sklearn.base import clone

        codes = self._classes.codes[indices]
        counts = np.bincount(codes, minlength=len(self._classes.names)).astype(float)
        if (counts > 0).sum() < 2:
            return FittedEstimator(None, counts)
        fresh = clone(self._estimator)
        fresh.set_params(**dict.fromkeys(_seeds(fresh), seed))
        return FittedEstimator(fresh.fit(take(self._features, indices), codes), counts)

    def score(self, model: FittedEstimator, targets: Targets) -> Values:
        """Values (k,) at the test points."""
        shape = (1, len(targets.ids), len(self._classes.names))
        log_probs = np.zeros(shape)  # which is right for a class that is alone
        if model.estimator is not None:
            found = _log_probs(model.estimator, targets.points)
            floor = -np.log(model.counts.sum() + len(model.counts))
            found = log_softmax(np.where(np.isneginf(found), floor, found), axis=1)
            log_probs[0][:, model.estimator.classes_] = found
        counts = model.counts[None]
        measure = Measure(self._classes, targets)
        return measure.of_log_probs(with_absent(log_probs, counts))[0]


def classifier_named(name: str) -> Any:
    """A scikit-learn classifier with its default settings, by the name of its class.

    Raises:
        ModelError: scikit-learn is missing.
        InputError: there is none of that name, or it is one that `EstimatorTrainer`
            cannot use as it is; names those that are meant, perhaps.

    >>> classifier_named("KNeighborsClassifier")
    KNeighborsClassifier()
    """
    known = _classifiers()
    if name not in known:
        lower = {one.lower(): one for one in known}
        near = get_close_matches(name.lower(), lower, cutoff=0.5)
        meant = " or ".join(lower[one] for one in near)
        raise InputError(
            f"{name!r} is no classifier of scikit-learn's."
            + (f" Is {meant} meant?" if meant else "")
        )
    try:
        made = known[name]()
    except TypeError:  # its arguments are classifiers
        raise InputError(
            f"{name} is made of other classifiers, which a name does not tell. Pass an "
            "object of it to oracles.data.EstimatorTrainer, or name one of them."
        ) from None
    if getattr(made, "predict_proba", None) is None:
        raise InputError(
            f"{name} has no predict_proba, which margins and losses are made of. "
            "LogisticRegression, GaussianNB or RandomForestClassifier do."
        )
    return made


def _classifiers() -> Mapping[str, Any]:
    """Classes of all classifiers, by name."""
    _check_installed()
    from sklearn.utils import all_estimators

    return dict(all_estimators("classifier"))


def is_seeded(estimator: Any) -> bool:
    """Whether fitting it again to the same examples may give something else."""
    return bool(_seeds(estimator))


def _check_installed() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ModelError(
            f"EstimatorTrainer needs scikit-learn ({error}). Install it with "
            'pip install "spex-explain[data]".'
        ) from error


def _check_classifier(estimator: Any) -> None:
    _check_installed()
    from sklearn.base import is_classifier

    if isinstance(estimator, type) or not is_classifier(estimator):
        raise InputError(
            f"estimator={estimator!r} is no scikit-learn classifier. Pass an object "
            "such as LogisticRegression(); for anything else, use FunctionTrainer."
        )
    if getattr(estimator, "predict_proba", None) is None:
        raise InputError(
            f"estimator={type(estimator).__name__} has no predict_proba, which margins "
            "and losses are made of. Wrap it in CalibratedClassifierCV, or pass "
            "probability=True where it has that."
        )


def _log_probs(estimator: Any, points: Any) -> NDArray[np.float64]:
    """Log-probabilities of the classes that were kept, (t, kept classes)."""
    with np.errstate(divide="ignore"):
        # without underflow, where the estimator has it
        own = getattr(estimator, "predict_log_proba", None)
        found = own(points) if own else np.log(estimator.predict_proba(points))
    return np.asarray(found, dtype=np.float64)


def _seeds(estimator: Any) -> list[str]:
    """Names of all parameters that are random states, nested ones included."""
    names = estimator.get_params(deep=True)
    return [name for name in names if name.split("__")[-1] == "random_state"]


def _named(value: Any) -> str:
    """A parameter as text that does not differ between processes."""
    name = getattr(value, "__qualname__", None)  # functions show their address
    return repr(value) if name is None else f"{value.__module__}.{name}"
