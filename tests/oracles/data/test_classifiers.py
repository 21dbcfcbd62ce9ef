"""scikit-learn's classifiers by name, here and on the command line."""

import csv
from pathlib import Path

import numpy as np
import pytest

import spex
from oracles import InputError
from oracles.data import EstimatorTrainer, Targets, classifier_named, is_seeded
from spex.cli import main
from spex.report.html import render_html
from spex.saved import load


@pytest.mark.parametrize(
    ("name", "varies"),
    [
        ("GaussianNB", False),
        ("KNeighborsClassifier", False),
        ("RandomForestClassifier", True),
    ],
)
def test_a_classifier_is_made_by_name_and_trained(name: str, varies: bool) -> None:
    made = classifier_named(name)
    assert type(made).__name__ == name
    assert is_seeded(made) is varies
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 2))
    labels = (features[:, 0] > 0).tolist()
    trainer = EstimatorTrainer(made, features, labels)
    model = trainer.fit(np.arange(40), 0)
    targets = Targets(np.array([[2.0, 0.0], [-2.0, 0.0]]), [True, False])
    assert (trainer.score(model, targets) > 0).all()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("RandomForest", "Is RandomForestClassifier"),
        ("kneighborsclassifier", "KNeighborsClassifier"),
        ("LogisticRegresion", "LogisticRegression"),
        ("KNeighborsRegressor", "KNeighborsClassifier"),
        ("qqqqq", "'qqqqq' is no classifier of scikit-learn's."),
        ("VotingClassifier", "made of other classifiers"),
        ("LinearSVC", "has no predict_proba"),
        ("__import__('os').system('true')", "is no classifier"),
    ],
)
def test_other_names_are_refused(name: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        classifier_named(name)
    assert said in str(raised.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifiers")
    rows = [
        (f"The {what} is {said}.", str(number), label)
        for number, what in enumerate(("plot", "acting", "music", "script", "ending"))
        for said, label in (("a joy", "good"), ("a mess", "bad"))
    ]
    for name, some in (("train", rows), ("test", rows[:1])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "x", "label"), *some])
    return folder


def run(folder: Path, *more: str) -> int:
    return main(
        [
            "data", "--train", str(folder / "train.csv"),
            "--test", str(folder / "test.csv"), "--no-ledger", "--quiet",
            "--budget", "40", "--json", str(folder / "r.json"), *more,
        ]
    )  # fmt: skip


def test_texts_are_trained_on_by_their_embeddings(folder: Path) -> None:
    more = ("--model", "sentiment", "--device", "cpu", "--trainer", "GaussianNB")
    assert run(folder, *more) == 0
    found: spex.Explanation = load(folder / "r.json")
    training = found.provenance.subject["training"]
    assert training["estimator"] == "GaussianNB"
    assert "made a GaussianNB say this?" in render_html(found, "BV", 5)
    np.testing.assert_array_equal(found.noise_floor, 0)


def test_columns_are_trained_on_and_their_noise_is_told(folder: Path) -> None:
    more = ("--feature-columns", "x", "--trainer", "ExtraTreeClassifier")
    assert run(folder, *more) == 0
    found = load(folder / "r.json")
    assert found.provenance.subject["training"]["trainer"] == "scikit-learn"
    assert found.noise_floor is not None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--trainer", "logistics"], "There are logistic, ridge, network, finetune"),
        (["--trainer", "RandomForest"], "Is RandomForestClassifier"),
        (["--model", "GaussianNB"], "pass it as --trainer GaussianNB"),
        (["--trainer", "GaussianNB", "--l2", "1"], "--l2 means nothing"),
        (["--trainer", "GaussianNB", "--steps", "1"], "--steps means nothing"),
    ],
)
def test_bad_trainers_are_refused(
    folder: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--feature-columns", "x", *more) == 1
    assert said in " ".join(capsys.readouterr().err.split())
