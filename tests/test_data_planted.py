"""Training examples that act together, planted for real trainers, are found."""

import csv
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import spex
from oracles.data import DataOracle, EstimatorTrainer, LogisticHead, Targets
from spex.cli import main
from spex.influence import Influence
from spex.reading import Kind, reading

WORDS = ("plot", "acting", "music", "script", "camera", "ending")


def kind_of(found: spex.Explanation, group: tuple[int, ...]) -> Kind:
    """How the group is read out, where it must be the strongest that acts together."""
    influence = Influence.of(found)
    assert influence.together[0].players == group
    assert {one.players for one in influence.helpful[: len(group)]} == {
        (player,) for player in group
    }
    [first, *_] = influence.readings
    assert first == reading(found.fourier, group, keep=found.basis.keep)
    return first.kind


def told(oracle: DataOracle, group: tuple[int, ...], rng: np.random.Generator) -> Kind:
    """The same from trainings alone: what the group adds to random subsets of others,
    beside what its players add one by one."""
    rest = rng.random((60, len(oracle.players))) < 0.5
    rest[:, group] = False

    def added(players: tuple[int, ...]) -> float:
        more = rest.copy()
        more[:, players] = True
        return float((oracle.evaluate(more) - oracle.evaluate(rest)).mean())

    alone, together = sum(added((player,)) for player in group), added(group)
    return Kind.REDUNDANT if abs(together) < abs(alone) else Kind.SYNERGISTIC


def test_of_two_copies_either_is_enough_for_the_nearest_neighbour() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    far = rng.normal(size=(18, 2)) + np.array([5, 0])
    features = np.concatenate([far, [[0.0, 0.0], [0.0, 0.0]]])
    labels = ["far"] * 9 + ["other"] * 9 + ["near", "near"]
    trainer = EstimatorTrainer(KNeighborsClassifier(1), features, labels)
    oracle = DataOracle(trainer, Targets(np.array([[0.1, 0.0]]), ["near"]))
    found = spex.explain(oracle, budget=200, seed=0)
    assert kind_of(found, (18, 19)) is told(oracle, (18, 19), rng) is Kind.REDUNDANT


@pytest.mark.parametrize("copies", [2, 3])
def test_copies_are_redundant_for_a_logistic_head(copies: int) -> None:
    rng = np.random.default_rng(copies)
    features = rng.normal(size=(20, 6))
    features[-copies:] = 4 * np.eye(6)[0]
    features[:-copies, 0] = 0  # only the copies tell of the first feature
    labels = (features[:, 1] > 0).tolist()
    labels[-copies:] = [True] * copies
    oracle = DataOracle(
        LogisticHead(features, labels, l2=0.1), Targets(4 * np.eye(6)[:1], [True])
    )
    found = spex.explain(oracle, budget=200, seed=0)
    group = tuple(range(20 - copies, 20))
    influence = Influence.of(found)
    assert {one.players[0] for one in influence.helpful[:copies]} == {*group}
    for pair in combinations(group, 2):
        read = reading(found.fourier, pair)
        assert read.kind is told(oracle, pair, rng) is Kind.REDUNDANT


def test_of_two_texts_both_are_needed_where_a_word_must_come_twice() -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = [f"{said} {word}" for word in WORDS for said in ("fine", "dull")] + [
        "whales whales",
        "whales swim",
    ]
    labels = ["good", "bad"] * len(WORDS) + ["good", "good"]
    trainer = EstimatorTrainer(
        # without an intercept, so that a text tells nothing by its label alone
        make_pipeline(
            CountVectorizer(min_df=2), LogisticRegression(fit_intercept=False)
        ),
        texts,
        labels,
    )
    rng = np.random.default_rng(0)
    oracle = DataOracle(trainer, Targets(["whales"], ["good"]))
    found = spex.explain(oracle, budget=128, seed=0)
    pair = (12, 13)
    assert kind_of(found, pair) is told(oracle, pair, rng) is Kind.SYNERGISTIC


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two copies at (0, 0), three neighbours around (9, 60), others between them.

    A tree sets the copies apart; of five neighbours, three make the majority.
    """
    folder = tmp_path_factory.mktemp("planted")
    rng = np.random.default_rng(0)
    rows = [(0, 0, "in", "copy 1"), (0, 0, "in", "copy 2")]
    rows += [(9, y, "in", f"one of 3 at {y}") for y in (59, 60, 61)]
    rows += [
        (x, 30 + y, "out", f"other {i}")
        for i, (x, y) in enumerate(rng.normal(size=(15, 2)).tolist())
    ]
    write(folder / "train.csv", rows)
    write(folder / "copies.csv", [(0, 0, "in", "test")])
    write(folder / "three.csv", [(9, 60, "in", "test")])
    return folder


def write(path: Path, rows: list[tuple[float, float, str, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("x", "y", "label", "name"), *rows])


def from_files(folder: Path, test: str, trainer: str, *more: str) -> spex.Explanation:
    result = folder / f"{test}.json"
    told = [
        "data", "--train", str(folder / "train.csv"),
        "--test", str(folder / f"{test}.csv"), "--feature-columns", "x,y",
        "--id-column", "name", "--trainer", trainer,
        "--budget", "200", "--no-ledger", "--json", str(result), *more,
    ]  # fmt: skip
    assert main(told) == 0
    return spex.load(result)


def test_the_command_line_tells_copies_from_those_that_are_needed_together(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = from_files(folder, "copies", "DecisionTreeClassifier")
    assert kind_of(copies, (0, 1)) is Kind.REDUNDANT
    assert "redundant" in capsys.readouterr().out
    three = from_files(folder, "three", "KNeighborsClassifier", "--measure", "accuracy")
    influence = Influence.of(three)
    groups = [*combinations((2, 3, 4), 2), (2, 3, 4)]
    assert {one.players for one in influence.helpful[:3]} == {(2,), (3,), (4,)}
    assert {one.players for one in influence.together[:4]} == {*groups}
    assert {read.kind for read in influence.readings[:4]} == {Kind.SYNERGISTIC}
    assert "synergistic" in capsys.readouterr().out
