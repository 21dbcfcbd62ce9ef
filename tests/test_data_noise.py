"""`spex data` tells how far one training is from another, if training is random."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spex
from oracles import Ledger
from oracles.data import DataOracle, FunctionTrainer, SmallNetwork, Targets
from spex.cli import main
from spex.cli.data_noise import with_noise
from spex.saved import load
from spex.tried.removals import NOISE_MASKS

POINTS = 300
TARGETS = Targets(None, None, ids=[str(i) for i in range(POINTS)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    rows = [(x, y, "up" if x > 0 else "down") for x, y in rng.normal(size=(30, 2))]
    for name, some in (("train", rows), ("test", rows[:2])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("x", "y", "label"), *some])
    return folder


def explained(folder: Path, *more: str) -> spex.Explanation:
    result = folder / "result.json"
    told = [
        "data", "--train", str(folder / "train.csv"),
        "--test", str(folder / "test.csv"), "--feature-columns", "x,y",
        "--budget", "60", "--ledger", str(folder / "l.sqlite"),
        "--json", str(result), *more,
    ]  # fmt: skip
    assert main(told) == 0
    return load(result)


NETWORK = ("--trainer", "network", "--steps", "5")


def test_the_noise_of_a_network_is_told_and_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = explained(folder, *NETWORK)
    said = capsys.readouterr()
    assert f"and {NOISE_MASKS} more that tell their noise" in said.err
    assert "Values vary from draw to draw" in said.out
    assert found.spent == 60
    rows = np.loadtxt(folder / "train.csv", delimiter=",", skiprows=1, usecols=(0, 1))
    features = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    labels = ["up" if x > 0 else "down" for x in rows[:, 0]]
    oracle = DataOracle(
        SmallNetwork(features, labels, steps=5), Targets(features[:2], labels[:2])
    )
    masks = np.random.default_rng(0).random((60, 30)) < 0.5
    noise = oracle.noise_floor(masks, draws=4)
    assert found.noise_floor is not None
    assert (found.noise_floor > noise / 4).all()
    assert (found.noise_floor < 4 * noise).all()
    with Ledger(folder / "l.sqlite") as ledger:
        first = ledger.masks(oracle.fingerprint, 30)
        again = ledger.masks(oracle.reseeded().fingerprint, 30)
    assert len(first) == 60
    assert {row.tobytes() for row in again} <= {row.tobytes() for row in first}
    assert len(again) == NOISE_MASKS


def test_what_is_in_the_ledger_is_not_trained_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = explained(folder, *NETWORK, "--quiet")
    trained = []
    train = SmallNetwork.fit_many

    def counted(self: SmallNetwork, kept: Any, *more: Any) -> Any:
        trained.extend(kept)
        return train(self, kept, *more)

    monkeypatch.setattr(SmallNetwork, "fit_many", counted)
    again = explained(folder, *NETWORK, "--quiet")
    assert not trained
    np.testing.assert_array_equal(again.noise_floor, found.noise_floor)


def test_training_that_is_not_random_has_none_and_costs_no_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DataOracle, "reseeded", None)
    found = explained(folder)
    assert "noise" not in capsys.readouterr().err
    np.testing.assert_array_equal(found.noise_floor, 0)


@pytest.mark.usefixtures("elsewhere")
def test_workers_train_for_the_noise_too(folder: Path) -> None:
    found = explained(folder, *NETWORK, "--seed", "3", "--workers", "1", "--quiet")
    assert found.noise_floor is not None
    assert found.noise_floor.all()


def noisy(spread: float) -> DataOracle:
    """The number of 5 kept examples, with noise the seed draws at every point."""

    def trained(kept: Any, seed: int, points: Any) -> Any:
        return len(kept) + spread * np.random.default_rng(seed).normal(size=POINTS)

    return DataOracle(FunctionTrainer(trained, 5, f"noise of {spread}"), TARGETS)


def test_it_is_the_variance_of_one_value() -> None:
    oracle = noisy(0.5)
    found = spex.explain(oracle, budget=32, seed=0)
    told = with_noise(oracle.reseeded(), found, None)
    assert told.noise_floor is not None
    assert told.noise_floor.mean() == pytest.approx(0.25, rel=0.1)
    assert told.status is not spex.Status.EXACT


def test_coefficients_of_all_subsets_vary_as_their_values_do() -> None:
    oracle = noisy(0.5)
    found = spex.explain(oracle, budget=32, seed=0)
    assert not found.standard_errors.any()
    told = with_noise(oracle.reseeded(), found, None)
    pairs = [row for row, s in enumerate(found.fourier.supports) if len(s) > 1]
    # of the mean that is without noise, these are 0
    deviations = found.fourier.coefficients[pairs]
    shown = told.standard_errors[pairs]
    ratio = (deviations**2).mean() / (shown**2).mean()
    assert ratio == pytest.approx(1, rel=0.15)


def test_where_nothing_trains_again_it_stays_unknown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = spex.explain(noisy(0.5), budget=32, seed=0)

    def failing(kept: Any, seed: int, points: Any) -> Any:
        raise ValueError("no luck")

    again = DataOracle(FunctionTrainer(failing, 5, "fails"), TARGETS)
    assert with_noise(again, found, None) is found
    assert "warning: the noise is not known" in capsys.readouterr().err
