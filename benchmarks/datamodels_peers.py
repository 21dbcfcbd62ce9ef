"""What the data-attribution benchmarks compare with: datamodels, and attribution
scores that need no retraining."""

from collections.abc import Callable
from functools import cache

import numpy as np
from datamodels_packages import Layers, installed
from datamodels_tasks import Array, Task, checkpoints, logits_and_gradients
from sklearn.linear_model import LassoCV, LinearRegression, RidgeCV

PENALTIES = np.logspace(-1, 5, 25)
NEIGHBOURS = (1, 5, 10, 50)
DAMPINGS = np.logspace(-3, 3, 7)
NEWTON_STEPS = 50

Scorer = Callable[[], list[Array]]
"""Scores (n, k), larger where an example helps; several where a method has a setting,
of which the benchmark takes what does best."""

Predictor = Callable[[Array], Array]
"""Margins (m, k), up to a shift of each column, for masks (m, n)."""


def fitted(name: str, masks: Array, values: Array) -> Predictor:
    """Linear datamodels of every test point.

    LASSO with its penalty by cross-validation, as Ilyas et al. 2022 (section 2) have
    it; ridge with leave-one-out; least squares.
    """
    signs = 2.0 * masks - 1
    if name == "ridge":
        model = RidgeCV(PENALTIES, alpha_per_target=True).fit(signs, values)
        return lambda m: model.predict(2.0 * m - 1)
    if name == "least squares":
        least = LinearRegression().fit(signs, values)
        return lambda m: least.predict(2.0 * m - 1)
    models = [
        LassoCV(cv=5, alphas=30, precompute=True, max_iter=5000).fit(signs, column)
        for column in values.T
    ]
    return lambda m: np.stack([one.predict(2.0 * m - 1) for one in models], axis=1)


def coefficients(predict: Predictor, num_players: int) -> Array:
    """What keeping each example adds to each linear prediction, (n, k)."""
    every = np.ones((num_players, num_players), dtype=bool)
    without = every & ~np.eye(num_players, dtype=bool)
    return predict(every[:1]) - predict(without)


def retraining_free(task: Task) -> dict[str, Scorer]:
    """What scores examples, by name."""
    found: dict[str, Scorer] = {
        "similarity": lambda: [similarity(task)],
        "KNN-Shapley": lambda: [knn_shapley(task, count) for count in NEIGHBOURS],
        "TRAK": lambda: trak(task),
    }
    if task.name == "text":
        found = {"influence": lambda: [influence(task)], **found}
    for name, scored in installed().items():
        found[name] = lambda scored=scored: scored(task, models(task))
    return found


def similarity(task: Task) -> Array:
    """Cosine of the features, negative where the classes differ."""
    one = task.features / np.linalg.norm(task.features, axis=1, keepdims=True)
    other = task.points / np.linalg.norm(task.points, axis=1, keepdims=True)
    return (one @ other.T) * task.agreement


def knn_shapley(task: Task, count: int) -> Array:
    """Exact Shapley values of a nearest-neighbours classifier (Jia et al. 2019,
    "Efficient task-specific data valuation for nearest neighbor algorithms", Thm. 1).
    """
    squares = (task.features**2).sum(axis=1)[
        :, None
    ] - 2 * task.features @ task.points.T
    order = np.argsort(squares, axis=0, kind="stable")
    agrees = np.take_along_axis(task.agreement > 0, order, axis=0).astype(float)
    n = len(order)
    ranks = np.arange(1, n)
    steps = np.minimum(count, ranks) / (count * ranks)
    changes = (agrees[:-1] - agrees[1:]) * steps[:, None]
    values = np.zeros_like(agrees)
    values[-1] = agrees[-1] / n
    values[:-1] = values[-1] + changes[::-1].cumsum(axis=0)[::-1]
    found = np.zeros_like(values)
    np.put_along_axis(found, order, values, axis=0)
    return found


def head_of(task: Task, kept: Array) -> tuple[Array, Array]:
    """Weights of the two-class logistic head with l2 = 1, and its Hessian, by Newton's
    method; the intercept, last, is not penalised."""
    inputs = np.c_[task.features, np.ones(len(task.labels))][kept]
    labels = (task.labels == max(task.labels))[kept]
    penalty = np.r_[np.ones(task.features.shape[1]), 0]
    weights = np.zeros(inputs.shape[1])
    for _ in range(NEWTON_STEPS):
        shares = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (shares - labels) + penalty * weights
        curved = inputs * (shares * (1 - shares))[:, None]
        hessian = inputs.T @ curved + np.diag(penalty)
        step = np.linalg.solve(hessian, slope)
        weights -= step
        if np.abs(step).max() < 1e-12:
            break
    return weights, hessian


def influence(task: Task) -> Array:
    """What keeping an example adds to the margin, by the exact inverse Hessian of the
    head trained on everything (Koh & Liang 2017, eq. 2)."""
    weights, hessian = head_of(task, np.ones(len(task.labels), dtype=bool))
    inputs = np.c_[task.features, np.ones(len(task.labels))]
    points = np.c_[task.points, np.ones(len(task.right))]
    errors = 1 / (1 + np.exp(-inputs @ weights)) - (task.labels == max(task.labels))
    signs = np.where(task.right == max(task.labels), 1.0, -1.0)
    return -(errors[:, None] * inputs) @ np.linalg.solve(hessian, points.T) * signs


def influence_error(task: Task, count: int = 10) -> float:
    """Largest part by which influence misses the change of a true leave-one-out."""
    scores, worst = influence(task), 0.0
    points = np.c_[task.points, np.ones(len(task.right))]
    signs = np.where(task.right == max(task.labels), 1.0, -1.0)
    every = np.ones(len(task.labels), dtype=bool)
    whole = points @ head_of(task, every)[0] * signs
    for left in range(count):
        kept = every.copy()
        kept[left] = False
        true = whole - points @ head_of(task, kept)[0] * signs
        worst = max(
            worst, float(np.abs(true - scores[left]).max() / np.abs(true).max())
        )
    return worst


def trak(task: Task) -> list[Array]:
    """TRAK (Park et al. 2023, eq. 17) with several dampings, from gradients of margins:

    the mean over checkpoints of G_test (G'G + damping)^-1 G', times that of 1 - p, G
    being the training examples' and G_test the test points'. Networks here are small
    enough to do without a random projection.
    """
    names = np.unique(task.labels)
    train, test = (np.searchsorted(names, part) for part in (task.labels, task.right))
    nets = models(task)
    sums = [np.zeros((len(train), len(test))) for _ in DAMPINGS]
    missing = np.zeros(len(train))
    for layers in nets:
        margins, own = logits_and_gradients(layers, task.features, train)
        _, asked = logits_and_gradients(layers, task.points, test)
        missing += 1 / (1 + np.exp(margins)) / len(nets)
        gram = own @ own.T  # G' (G G' + damping)^-1 is the same, and n x n
        across = own @ asked.T
        size = np.trace(gram) / len(gram)
        for total, damping in zip(sums, DAMPINGS, strict=True):
            damped = gram + damping * size * np.eye(len(gram))
            total += np.linalg.solve(damped, across) / len(nets)
    return [total * missing[:, None] for total in sums]


@cache
def models(task: Task) -> list[Layers]:
    """Trained on everything: networks, or the logistic head, a layer of two logits."""
    if task.name != "text":
        return checkpoints(task)
    weights = head_of(task, np.ones(len(task.labels), dtype=bool))[0] / 2
    return [[(np.outer(weights[:-1], [-1, 1]), weights[-1] * np.array([-1.0, 1.0]))]]
