"""Training many subsets together is training on each, by another program or by hand."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC

from oracles import InputError
from oracles.data import (
    BatchTrainer,
    EstimatorTrainer,
    FunctionTrainer,
    LogisticHead,
    RidgeHead,
    SmallNetwork,
    Targets,
    Trainer,
)

Make = Callable[[int, int], Any]
KEPT = (0.1, 0.3, 0.5, 0.9, 1.0)


def subsets(examples: int, repeats: int = 2) -> np.ndarray:
    shares = np.repeat(KEPT, repeats)[:, None]
    return np.random.default_rng(1).random((len(shares), examples)) < shares


def log_odds(logits: np.ndarray, right: np.ndarray) -> np.ndarray:
    """By the definition, from logits (t, C)."""
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    mine = probabilities[np.arange(len(right)), right]
    return np.log(mine) - np.log(1 - mine)


def sklearn_margins(task: Any, kept: np.ndarray, l2: float) -> np.ndarray:
    model = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=20_000)
    model.fit(task.features[kept], task.labels[kept])
    logits = model.decision_function(task.points)
    if logits.ndim == 1:
        logits = np.stack([np.zeros_like(logits), logits], axis=1)
    columns = np.searchsorted(model.classes_, task.right)
    return log_odds(logits, columns)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("l2", [0.1, 10.0])
def test_logistic_heads_are_scikit_learns(
    make_task: Make, classes: int, l2: float
) -> None:
    task = make_task(classes, 150)
    kept = subsets(150, 1)[1:]
    targets = task.targets()
    truth = np.array([sklearn_margins(task, row, l2) for row in kept])
    for tolerance, error in ((1e-3, 2e-2), (1e-6, 2e-5)):
        head = LogisticHead(task.features, task.labels, l2=l2, tolerance=tolerance)
        found = head.fit_many(kept, np.zeros(len(kept), dtype=int), targets)
        assert np.abs(found - truth).max() < error


@pytest.mark.parametrize("classes", [2, 4])
def test_ridge_heads_are_scikit_learns(make_task: Make, classes: int) -> None:
    task = make_task(classes, 120)
    kept = subsets(120)
    kept = kept[[len(set(task.labels[row])) == classes for row in kept]]
    hot = np.eye(classes)[task.labels]
    for tolerance, error in ((1e-3, 3e-3), (1e-8, 1e-7)):
        head = RidgeHead(task.features, task.labels, l2=2.0, tolerance=tolerance)
        targets = task.targets("margin", "loss")
        found = head.fit_many(kept, np.zeros(len(kept), dtype=int), targets)
        for row, values in zip(kept, found, strict=True):
            model = Ridge(alpha=2.0).fit(task.features[row], hot[row])
            scores = model.predict(task.points)
            mine = scores[np.arange(20), task.right]
            loss = ((scores - np.eye(classes)[task.right]) ** 2).sum(axis=1)
            scores[np.arange(20), task.right] = -np.inf
            truth = np.concatenate([mine - scores.max(axis=1), loss])
            assert np.abs(values - truth).max() < error


def test_a_feature_that_never_varies_and_more_features_than_examples_are_fine() -> None:
    rng = np.random.default_rng(0)
    features = np.hstack([rng.normal(size=(30, 40)), np.ones((30, 2))])
    labels = (features[:, 0] > 0).astype(int)
    head = LogisticHead(features, labels, tolerance=1e-6)
    kept = subsets(30)[4:]
    found = head.fit_many(
        kept, np.zeros(len(kept), dtype=int), Targets(features, labels)
    )
    for row, values in zip(kept, found, strict=True):
        model = LogisticRegression(tol=1e-10).fit(features[row], labels[row])
        logits = model.decision_function(features)
        assert np.abs(values - np.where(labels == 1, logits, -logits)).max() < 1e-4


def plain_network(
    task: Any,
    trainer: SmallNetwork,
    indices: np.ndarray,
    seed: int,
    decay: float,
    classes: Sequence[int] = (0, 1, 2),
) -> np.ndarray:
    """Logits after a plain PyTorch loop that never sees other examples or classes."""
    first, orders = trainer.drawn(indices, seed)
    first = [*first[:-2], first[-2][:, classes], first[-1][list(classes)]]
    assert set(orders.ravel()) <= set(indices)
    features = torch.tensor(task.features, dtype=torch.float32)
    labels = torch.tensor(np.searchsorted(classes, task.labels).clip(max=len(classes)))
    layers: list[torch.nn.Module] = []
    for size, width in pairwise([*trainer.description["sizes"][:-1], len(classes)]):
        layers += [torch.nn.Linear(size, width), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    for parameter, values in zip(net.parameters(), first, strict=True):
        parameter.data = torch.tensor(values.T.copy())
    optimizer = torch.optim.SGD(
        net.parameters(), lr=0.2, momentum=0.8, weight_decay=decay
    )
    steps = len(orders)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 - i / steps)
    for rows in torch.from_numpy(orders):
        loss = torch.nn.functional.cross_entropy(net(features[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return net(torch.tensor(task.points, dtype=torch.float32)).double().numpy()


@pytest.mark.parametrize(("hidden", "decay"), [((8,), 0.0), ((6, 5), 0.01)])
def test_many_networks_together_are_each_trained_on_its_subset_alone(
    make_task: Make, hidden: tuple[int, ...], decay: float
) -> None:
    task = make_task(3, 60)
    trainer = SmallNetwork(
        task.features,
        task.labels,
        hidden=hidden,
        steps=60,
        batch_size=8,
        learning_rate=0.2,
        momentum=0.8,
        weight_decay=decay,
    )
    kept = subsets(60, 1)[1:]
    seeds = np.arange(len(kept)) + 5
    found = trainer.fit_many(kept, seeds, task.targets())
    for row, seed, values in zip(kept, seeds, found, strict=True):
        assert len(set(task.labels[row])) == 3
        logits = plain_network(task, trainer, np.flatnonzero(row), int(seed), decay)
        assert np.abs(values - log_odds(logits, task.right)).max() < 1e-3
        alone = trainer.score(
            trainer.fit(np.flatnonzero(row), int(seed)), task.targets()
        )
        assert np.abs(values - alone).max() < 1e-4


def test_minibatches_go_through_all_examples_before_any_comes_again(
    make_task: Make,
) -> None:
    task = make_task(2, 40)
    trainer = SmallNetwork(task.features, task.labels, steps=10, batch_size=8)
    indices = np.arange(0, 40, 2)
    _, orders = trainer.drawn(indices, 3)
    first, second = orders.ravel()[:20], orders.ravel()[20:40]
    assert sorted(first) == sorted(second) == [*indices]
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, indices)


def test_classes_a_subset_lacks_do_not_change_what_is_learned_of_the_others(
    make_task: Make,
) -> None:
    task = make_task(4, 120)
    kept = np.isin(task.labels, (1, 3))
    asked = np.isin(task.right, (1, 3))
    targets = Targets(task.points[asked], task.right[asked], outputs=("loss",))
    rest = np.log(1 - 2 / (kept.sum() + 4))  # what is left to the two, by Laplace
    head = LogisticHead(task.features, task.labels, tolerance=1e-6)
    found = head.fit_many(kept[None], np.zeros(1, dtype=int), targets)[0]
    # softmax over two classes has half the penalty of one vector's difference
    model = LogisticRegression(C=2, tol=1e-10, max_iter=20_000)
    model.fit(task.features[kept], task.labels[kept])
    codes = (task.right[asked] == 3).astype(int)
    mine = model.predict_log_proba(task.points[asked])[np.arange(asked.sum()), codes]
    assert np.allclose(-found, mine + rest, atol=1e-4)

    trainer = SmallNetwork(
        task.features,
        task.labels,
        hidden=(8,),
        steps=60,
        learning_rate=0.2,
        momentum=0.8,
    )
    found = trainer.fit_many(kept[None], np.array([4]), targets)[0]
    indices = np.flatnonzero(kept)
    logits = plain_network(task, trainer, indices, 4, 0.0, classes=[1, 3])[asked]
    mine = logits[np.arange(asked.sum()), codes] - np.logaddexp(*logits.T)
    assert np.allclose(-found, mine + rest, atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda task: LogisticHead(task.features, task.labels),
        lambda task: RidgeHead(task.features, task.labels),
        lambda task: SmallNetwork(task.features, task.labels, steps=20),
        lambda task: EstimatorTrainer(
            RandomForestClassifier(5), task.features, task.labels
        ),
    ],
    ids=["logistic", "ridge", "network", "estimator"],
)
@pytest.mark.parametrize("classes", [2, 4])
def test_classes_a_subset_lacks_have_laplaces_probability(
    make_task: Make, make: Callable[[Any], Trainer], classes: int
) -> None:
    task = make_task(classes, 80)
    trainer = make(task)
    is_ridge = isinstance(trainer, RidgeHead)
    targets = task.targets("margin", "accuracy")
    ones = np.flatnonzero(task.labels == 1)
    none = trainer.score(trainer.fit(np.arange(0), 0), targets)
    assert np.allclose(none[:-1], 0 if is_ridge or classes == 2 else -np.log(3))
    assert none[-1] == pytest.approx(1 / classes)
    found = trainer.score(trainer.fit(ones, 0), targets)
    low, total = 1 / (len(ones) + classes), len(ones) + classes
    high = (len(ones) + 1) / total
    margin = high - low if is_ridge else np.log(high / (1 - high))
    other = low - high if is_ridge else np.log(low / (1 - low))
    assert np.allclose(found[:-1], np.where(task.right == 1, margin, other))
    assert found[-1] == pytest.approx((task.right == 1).mean())
    if classes == 4:  # two are left: the others' probability is as above
        some = np.flatnonzero(task.labels < 2)
        found = trainer.score(trainer.fit(some, 0), targets)
        low = 1 / (len(some) + 4)
        lost = found[:-1][task.right > 1]
        assert np.isfinite(found).all()
        assert (
            (lost < 0).all() if is_ridge else np.allclose(lost, np.log(low / (1 - low)))
        )


def test_one_by_one_and_together_agree_with_absent_classes(make_task: Make) -> None:
    task = make_task(4, 80)
    kept = subsets(80, 1)
    kept[0], kept[1], kept[2] = False, task.labels == 2, task.labels != 0
    for trainer in (
        LogisticHead(task.features, task.labels, tolerance=1e-6),
        RidgeHead(task.features, task.labels, tolerance=1e-6),
        SmallNetwork(task.features, task.labels, steps=30),
    ):
        assert isinstance(trainer, BatchTrainer)
        targets = task.targets("margin", "loss", "accuracy")
        seeds = np.arange(len(kept))
        together = trainer.fit_many(kept, seeds, targets)
        for row, seed, values in zip(kept, seeds, together, strict=True):
            model = trainer.fit(np.flatnonzero(row), int(seed))
            assert np.allclose(trainer.score(model, targets), values, atol=1e-4)


def test_any_scikit_learn_classifier_is_fitted_to_the_subset_with_the_seed(
    make_task: Make,
) -> None:
    task = make_task(3, 90)
    trainer = EstimatorTrainer(RandomForestClassifier(7), task.features, task.labels)
    kept = np.flatnonzero(subsets(90)[4])
    found = trainer.score(trainer.fit(kept, 11), task.targets("loss"))
    forest = RandomForestClassifier(7, random_state=11)
    forest.fit(task.features[kept], task.labels[kept])
    mine = forest.predict_proba(task.points)[np.arange(20), task.right]
    floor = 1 / (len(kept) + 3)
    zeros = (forest.predict_proba(task.points) == 0).sum(axis=1)
    smoothed = np.where(mine == 0, floor, mine) / (1 + zeros * floor)
    assert np.allclose(found, -np.log(smoothed))
    again = trainer.score(trainer.fit(kept, 12), task.targets("loss"))
    assert not np.allclose(found, again)


def test_a_text_pipeline_is_a_trainer() -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    texts = ["good film", "bad film", "good plot", "bad plot", "fine film"]
    pipeline = make_pipeline(CountVectorizer(), MultinomialNB())
    trainer = EstimatorTrainer(pipeline, texts, ["pos", "neg", "pos", "neg", "pos"])
    targets = Targets(["good good", "bad bad"], ["pos", "neg"], outputs=("margin",))
    assert (trainer.score(trainer.fit(np.arange(5), 0), targets) > 0).all()
    reversed_roles = trainer.fit(np.array([1, 4]), 0)  # knows neither "good" nor "plot"
    assert trainer.score(reversed_roles, targets)[1] > 0


def test_what_cannot_be_trained_on_is_refused_at_once(make_task: Make) -> None:
    task = make_task(2, 30)
    features, labels = task.features, task.labels
    head = LogisticHead(features, labels)
    for make, said in [
        (lambda: LogisticHead(features[:, 0], labels), "expected"),
        (lambda: LogisticHead(features, labels[:-1]), "29 labels for 30"),
        (lambda: LogisticHead(features, labels * 0), "1 classes"),
        (lambda: LogisticHead(features * np.nan, labels), "not finite in 30 rows"),
        (lambda: LogisticHead(["a text"], ["label"]), "Embed texts"),
        (lambda: LogisticHead(features, labels, l2=0), "l2=0 is not above 0"),
        (lambda: RidgeHead(features, labels, tolerance=-1), "tolerance=-1"),
        (lambda: LogisticHead(features, [None, *labels[1:]]), "label is empty"),
        (lambda: SmallNetwork(features, labels, steps=0), "steps out of range"),
        (lambda: EstimatorTrainer(LinearSVC(), features, labels), "predict_proba"),
        (lambda: EstimatorTrainer(Ridge(), features, labels), "no scikit-learn class"),
        (lambda: FunctionTrainer(len, 3, ""), "fingerprint is empty"),
        (lambda: head.check(Targets(features[:1], [7])), "none of the training labels"),
        (lambda: head.check(Targets(features[:1, :3], [0])), "3 features"),
        (lambda: head.check(Targets(features[:1], None)), "no labels"),
        (lambda: Targets([], []), "no test points"),
        (lambda: Targets(features, labels[:3]), "3 labels for 30"),
        (lambda: Targets([1], [1], outputs=("logit",)), "logit"),
        (lambda: Targets([1, 2], [1, 1], ids=("a", "a")), "more than once"),
    ]:
        with pytest.raises(InputError, match=said):
            make()
