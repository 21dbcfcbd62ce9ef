"""Influence against what leaving one example out really does."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

import spex
from oracles.data import (
    DataOracle,
    EstimatorTrainer,
    FunctionTrainer,
    LogisticHead,
    RidgeHead,
    SmallNetwork,
    Targets,
    groups,
)
from proxyspex import ProxySpex

Make = Callable[[int, int], Any]


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("outputs", [("margin",), ("loss",), ("margin", "loss")])
def test_influence_is_the_effect_of_an_example_to_first_order(
    make_task: Make, num_classes: int, outputs: tuple[str, ...]
) -> None:
    task = make_task(num_classes, 350)
    head = LogisticHead(task.features, task.labels, l2=3.0, tolerance=1e-7)
    targets = task.targets(*outputs)
    told = head.influence(targets)
    masks = ~np.eye(350, dtype=bool)[:40]
    oracle = DataOracle(head, targets)
    everything = oracle.evaluate(np.ones((1, 350), dtype=bool))
    changes = everything - oracle.evaluate(masks)
    error = np.abs(told[:40] - changes).max() / np.abs(changes).max()
    assert error < 0.3
    correlation = np.corrcoef(told[:40].ravel(), changes.ravel())[0, 1]
    assert correlation > 0.99


def test_a_groups_influence_is_the_sum_of_its_examples(make_task: Make) -> None:
    task = make_task(2, 60)
    head = LogisticHead(task.features, task.labels)
    owner = [str(i % 7) for i in range(60)]
    told = DataOracle(head, task.targets(), players=groups(owner)).influence()
    single = DataOracle(head, task.targets()).influence()
    assert told is not None
    assert single is not None
    for group in range(7):
        np.testing.assert_allclose(told[group], single[group::7].sum(axis=0))


def test_it_makes_explanations_more_faithful(make_task: Make) -> None:
    task = make_task(2, 250)
    oracle = DataOracle(LogisticHead(task.features, task.labels), task.targets())
    guess = oracle.influence()
    assert guess is not None
    method = ProxySpex(max_order=2, num_terms=600)
    plain = spex.explain(oracle, method=method, budget=150)
    guided = spex.explain(
        oracle, method=spex.Guided.additive(method, guess), budget=150
    )
    assert guided.spent == plain.spent
    assert guided.faithfulness > plain.faithfulness + 0.05


def test_what_has_no_influence_says_so(make_task: Make) -> None:
    task = make_task(2, 40)
    head = LogisticHead(task.features, task.labels)
    accuracy: Targets = task.targets("accuracy")
    assert head.influence(accuracy) is None
    assert DataOracle(head, accuracy).influence() is None
    ridge = RidgeHead(task.features, task.labels)
    assert DataOracle(ridge, task.targets()).influence() is None
    wide = np.random.default_rng(0).normal(size=(120, 60))
    labels = np.arange(120) % 90  # a Hessian of 5,490 rows
    many = LogisticHead(wide, labels)
    assert many.influence(Targets(wide[:2], labels[:2])) is None


def nearest(features: Any, labels: Any) -> EstimatorTrainer:
    return EstimatorTrainer(KNeighborsClassifier(3), features, labels)


@pytest.mark.parametrize("trainer", [LogisticHead, RidgeHead, SmallNetwork, nearest])
def test_what_is_alike_and_of_the_same_class_is_said_to_help(
    make_task: Make, trainer: Any
) -> None:
    task = make_task(3, 60)
    targets = task.targets("margin", "loss")
    told = DataOracle(trainer(task.features, task.labels), targets).similarity()
    assert told is not None
    points = np.asarray(targets.points)
    for i, j in [(0, 0), (7, 1), (59, len(points) - 1)]:
        one, other = np.asarray(task.features)[i], points[j]
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        same = 1 if task.labels[i] == targets.labels[j] else -1
        assert told[i, j] == pytest.approx(same * cosine, abs=1e-6)
    margins, losses = np.split(told, 2, axis=1)
    assert np.allclose(margins, -losses)
    owner = [str(i % 7) for i in range(60)]
    grouped = DataOracle(
        trainer(task.features, task.labels), targets, players=groups(owner)
    ).similarity()
    assert np.allclose(grouped[3], told[3::7].sum(axis=0))


def test_what_is_not_of_a_point_is_like_none(make_task: Make) -> None:
    task = make_task(2, 60)
    features = np.asarray(task.features).copy()
    features[5] = 0.0
    network = SmallNetwork(features, task.labels)
    assert DataOracle(network, task.targets("accuracy")).similarity() is None
    alike = DataOracle(network, task.targets()).similarity()
    assert not alike[5].any()
    of_words = make_pipeline(CountVectorizer(), GaussianNB())
    texts = EstimatorTrainer(of_words, ["one word"] * len(task.labels), task.labels)
    assert DataOracle(texts, task.targets()).similarity() is None
    by_hand = FunctionTrainer(lambda i, seed, points: [1.0], 60, "ones")
    assert DataOracle(by_hand, task.targets()).similarity() is None
