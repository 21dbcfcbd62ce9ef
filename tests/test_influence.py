"""Helpful, harmful, redundant: planted in the data, found through real trainers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from oracles import FunctionOracle, InputError, Ledger
from oracles.data import (
    DataOracle,
    FunctionTrainer,
    LogisticHead,
    RidgeHead,
    SmallNetwork,
    Targets,
    groups,
)
from spex import Explanation, Guided, explain, load
from spex.errors import InteractionIndexError
from spex.influence import (
    Influence,
    Removal,
    check_removals,
    flips,
    has_flipped,
    measured,
    predicted,
    removals_of,
    with_removals,
)
from spex.registry import load_method
from spex.testing import planted

COPIES = (20, 21, 22)  # of one example, the only ones that tell of the test point
WRONG = 23  # lies at the test point, with the other label
LABELS = [*"ab" * 10, *"aaa", "b"]


def task() -> tuple[np.ndarray, np.ndarray]:
    """Two classes; a test point in a direction of its own."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(24, 6))
    features[:20, 0] += np.where(np.arange(20) % 2, -2, 2)
    features[:20, 5] = 0.0
    features[20:] = 0.0
    features[20:, 5] = (2.0, 2.0, 2.0, 1.5)
    return features, np.eye(1, 6, 5) * 2.0


Make = Callable[[Any, Any], Any]
TRAINERS: dict[str, Make] = {
    "logistic": lambda x, y: LogisticHead(x, y, l2=0.3),
    "ridge": lambda x, y: RidgeHead(x, y, l2=0.3),
    "network": lambda x, y: SmallNetwork(x, y, hidden=(8,), steps=80),
}


def data_oracle(trainer: str = "logistic", output: str = "margin") -> DataOracle:
    features, points = task()
    targets = Targets(points, ["a"], outputs=(output,))
    return DataOracle(TRAINERS[trainer](features, LABELS), targets)


def explained(oracle: DataOracle, budget: int = 300) -> Explanation:
    method = load_method("proxyspex", 3, keep=0.7)
    guess = oracle.influence()
    guided = method if guess is None else Guided.additive(method, guess)
    return explain(oracle, method=guided, budget=budget)


@pytest.fixture(scope="module")
def result() -> Explanation:
    return explained(data_oracle())


@pytest.fixture(scope="module", params=TRAINERS)
def found(request: pytest.FixtureRequest) -> tuple[DataOracle, Explanation]:
    oracle = data_oracle(request.param)
    return oracle, explained(oracle, 500)


def test_copies_help_and_are_redundant_and_the_mislabelled_harms(
    found: tuple[DataOracle, Explanation],
) -> None:
    influence = Influence.of(found[1])
    assert {one.players[0] for one in influence.helpful[:3]} == {*COPIES}
    assert influence.harmful[0].players == (WRONG,)
    assert all(one.value > 0 for one in influence.helpful)
    assert all(one.value < 0 for one in influence.harmful)
    among = [read for read in influence.readings if {*read.players} <= {*COPIES}]
    pairs = {read.players for read in among if len(read.players) == 2}
    assert pairs == {(20, 21), (20, 22), (21, 22)}
    assert {read.kind.value for read in among} == {"redundant"}


def test_the_proposed_removal_flips_the_prediction_of_a_model_trained_again(
    result: Explanation,
) -> None:
    oracle = data_oracle()
    [removal] = flips(result)
    assert result.intact[0] > 0 > removal.predicted
    assert {*removal.players} <= {*range(20), *COPIES}
    [checked] = check_removals(oracle, result, [removal])
    assert has_flipped(result, removal) is None
    assert has_flipped(result, checked) is True
    features, points = task()
    kept = [i for i in range(24) if i not in removal.players]
    model = LogisticRegression(C=1 / 0.3, tol=1e-8)
    model.fit(features[kept], [LABELS[i] for i in kept])
    assert model.predict(points) == ["b"]
    assert -model.decision_function(points)[0] == pytest.approx(
        checked.measured, abs=0.02
    )
    assert removal.predicted == pytest.approx(checked.measured, abs=0.5)


def test_what_lowers_a_loss_is_helpful() -> None:
    result = explained(data_oracle(output="loss"))
    influence = Influence.of(result)
    assert measured(result, 0) == "loss"
    assert influence.is_loss
    assert {one.players[0] for one in influence.helpful[:3]} == {*COPIES}
    assert influence.harmful[0].players == (WRONG,)
    assert all(one.value < 0 for one in influence.helpful)
    assert flips(result) == []


def test_a_group_of_copies_is_one_helpful_player() -> None:
    features, points = task()
    column = [*map(str, range(20)), "copies", "copies", "copies", "wrong"]
    trainer = LogisticHead(features, LABELS, l2=0.3)
    oracle = DataOracle(trainer, Targets(points, ["a"]), players=groups(column))
    influence = Influence.of(explained(oracle))
    assert influence.helpful[0].names == ("copies",)
    assert influence.harmful[0].names == ("wrong",)


@pytest.mark.parametrize("index", ["SV", "BV", "BII", "FSII", "Moebius", "Fourier"])
def test_indices_are_the_explanations_own(result: Explanation, index: str) -> None:
    influence = Influence.of(result, top=99, index=index)
    of_one = index if index in ("SV", "BV") else "BV"
    alone = result.top(999, of_one)
    assert [*influence.helpful] == [one for one in alone if one.value > 0]
    assert [*influence.harmful] == [one for one in alone if one.value < 0]
    of_groups = "BII" if index in ("SV", "BV") else index
    listed = [g for g in result.top(9999, of_groups) if len(g.players) > 1 and g.value]
    assert [*influence.together] == listed[:99]
    for group, read in zip(influence.together, influence.readings, strict=True):
        assert read == result.reading(group.players)


def test_outputs_and_indices_that_do_not_exist_are_refused(result: Explanation) -> None:
    with pytest.raises(InteractionIndexError, match="output=1"):
        Influence.of(result, 1)
    with pytest.raises(InteractionIndexError, match="output=-1"):
        measured(result, -1)
    with pytest.raises(InteractionIndexError, match="nonsense"):
        Influence.of(result, index="nonsense")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 500), st.sets(st.integers(0, 6)))
def test_predicted_is_what_happens_where_nothing_is_estimated(
    seed: int, removed: set[int]
) -> None:
    spectrum = planted(7, seed)
    result = explain(spectrum, players=7, budget=128)
    mask = ~np.isin(np.arange(7), [*removed])[None]
    players = tuple(sorted(removed))
    assert predicted(result, players) == pytest.approx(float(spectrum(mask)[0, 0]))


def test_each_removal_costs_an_ablation_that_is_kept(
    result: Explanation, tmp_path: Path
) -> None:
    oracle = data_oracle()
    removals = [Removal(0, (0, 3), -1.0), Removal(0, COPIES, -2.0)]
    calls: list[tuple[int, int]] = []
    with Ledger(tmp_path / "l.sqlite") as ledger:
        checked = check_removals(
            oracle,
            result,
            removals,
            ledger=ledger,
            progress=lambda done, total: calls.append((done, total)),
        )
        masks = ledger.masks(oracle.fingerprint, 24)
    assert calls[-1] == (2, 2)
    assert len(masks) == 2
    expected = np.ones((2, 24), dtype=bool)
    expected[0, [0, 3]] = expected[1, list(COPIES)] = False
    values = oracle.evaluate(expected)[:, 0]
    assert [one.measured for one in checked] == pytest.approx(values.tolist())
    assert [one.noise for one in checked] == [0.0, 0.0]


def test_removals_are_saved_with_the_explanation(
    result: Explanation, tmp_path: Path
) -> None:
    removals = [
        Removal(0, (1, 2), -0.5, True, measured=-0.25, noise=0.125),
        Removal(0, COPIES, -2.0),
    ]
    with_removals(result, removals).save(tmp_path / "e.json")
    assert removals_of(load(tmp_path / "e.json")) == removals
    assert removals_of(result) == []


def noisy(fails: frozenset[int] | None = None) -> DataOracle:
    """A count with a standard deviation of 1/2; fails where just these are left out."""

    def train(indices: Any, seed: int, points: Any) -> list[float]:
        if {*range(6)} - {*indices.tolist()} == fails:
            raise ArithmeticError("it will not train")
        return [len(indices) - 2.5 + np.random.default_rng(seed).normal(0, 0.5)]

    trainer = FunctionTrainer(train, 6, f"counts {sorted(fails or ())}")
    return DataOracle(trainer, Targets(None, None, ids=("count",)))


def test_the_noise_of_training_is_told() -> None:
    oracle = noisy()
    result = explain(oracle, budget=64)
    removals = [Removal(0, (i, j), 0.0) for i in range(6) for j in range(i)]
    checked = check_removals(oracle, result, removals)
    assert all(one.noise == checked[0].noise for one in checked)
    assert checked[0].noise is not None
    assert 0.2 < checked[0].noise < 0.9


def test_a_removal_that_cannot_be_trained_without_has_no_value() -> None:
    oracle = noisy(frozenset({0, 1, 2}))
    method = load_method("proxyspex", 2, keep=0.7)
    result = explain(oracle, method=method, budget=40)
    removals = [Removal(0, (0, 1, 2), -1.0), Removal(0, (3,), 1.0)]
    broken, fine = check_removals(oracle, result, removals)
    assert broken.measured is None
    assert has_flipped(result, broken) is None
    assert fine.measured is not None


def test_another_oracle_is_refused(result: Explanation) -> None:
    with pytest.raises(InputError, match="another oracle"):
        check_removals(data_oracle("ridge"), result, [Removal(0, (1,), 0.0)])
    other = FunctionOracle(lambda masks: masks.sum(axis=1), 3)
    with pytest.raises(InputError, match="another oracle"):
        check_removals(other, result, [])


def test_nothing_proposed_is_nothing_checked(result: Explanation) -> None:
    assert check_removals(data_oracle(), result, []) == []


def test_what_no_removal_takes_that_far_has_none(result: Explanation) -> None:
    assert len(flips(result)) == 1
    assert flips(result, margin=1e6) == []
