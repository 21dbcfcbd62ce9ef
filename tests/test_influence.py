"""Helpful, harmful, redundant: planted in the data, found through real trainers."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
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
from spex import Explanation, Guided, SparseFourier, explain, load
from spex.errors import InteractionIndexError
from spex.faithfulness import Faithfulness
from spex.influence import Influence, measured
from spex.registry import load_method
from spex.testing import planted
from spex.tried.flips import TRIES, checked_flips
from spex.tried.removals import (
    Removal,
    check_removals,
    flips,
    has_flipped,
    kept_of,
    predicted,
    removals_of,
    with_removals,
)
from spex.tried.subsets import best_subsets

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
    # the full input is known, and not asked for again
    assert [calls[0], calls[-1]] == [(1, 3), (3, 3)]
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


def grows(value: Callable[[int], float], count: int, name: str) -> DataOracle:
    """The margin is a function of how many examples are trained on."""

    def train(indices: Any, seed: int, points: Any) -> list[float]:
        return [value(len(indices))]

    trainer = FunctionTrainer(train, count, name)
    return DataOracle(trainer, Targets([[0.0]], ["a"]))


@pytest.mark.parametrize("empty", [0.0, 1e-16, -4e-16])
def test_to_train_on_nothing_is_no_flip(empty: float) -> None:
    oracle = grows(lambda kept: kept + empty, 4, f"counts from {empty}")
    result = explain(oracle, budget=16)
    assert flips(result) == []
    assert flips(result, margin=0.0) == []
    below = grows(lambda kept: 10.0 * kept - 1.0, 4, f"less than 0, {empty}")
    assert flips(explain(below, budget=16)) == []


def test_zero_is_on_no_side(result: Explanation) -> None:
    above, below = (
        replace(result, intact=np.ones(1)),
        replace(result, intact=-np.ones(1)),
    )
    nothing = Removal(0, (1,), -1.0, measured=0.0)
    assert has_flipped(above, nothing) is has_flipped(below, nothing) is False
    assert has_flipped(above, replace(nothing, measured=-0.1)) is True
    assert has_flipped(below, replace(nothing, measured=0.1)) is True


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_where_nothing_is_estimated_every_flip_is_one(seed: int) -> None:
    game = planted(5, seed)

    def train(indices: Any, seed: int, points: Any) -> list[float]:
        return game(np.isin(np.arange(5), indices)[None])[0].tolist()

    trainer = FunctionTrainer(train, 5, f"planted {seed}")
    oracle = DataOracle(trainer, Targets([[0.0]], ["a"]))
    result = explain(oracle, budget=32)
    for removal in check_removals(oracle, result, flips(result)):
        assert has_flipped(result, removal) is True
        assert 0 < len(removal.players) < 5


def hard(outputs: int) -> Explanation:
    """No removal takes any output across 0, which takes long to prove."""
    rng = np.random.default_rng(1)
    triples = {tuple(sorted(rng.choice(40, 3, replace=False))) for _ in range(400)}
    supports = [(), *(tuple(map(int, one)) for one in sorted(triples))]
    table = rng.normal(size=(len(supports), outputs))
    names = [f"e{i}" for i in range(40)]
    targets = [f"t{i}" for i in range(outputs)]
    # far enough from 0 for a quick search, near enough for the relaxation
    fourier = SparseFourier.from_terms(40, supports, table)
    whole = fourier(np.ones((1, 40), dtype=bool))[0]
    result = explain(planted(40), players=names, budget=300)
    return replace(
        result,
        fourier=fourier,
        standard_errors=np.zeros_like(table),
        outputs=tuple(targets),
        intact=whole - table[0] + 0.6 * np.abs(table[1:]).sum(axis=0),
        provenance=replace(
            result.provenance, subject={"kind": "data", "measured": ["margin"]}
        ),
        faithfulness=Faithfulness(0.85, 0.95, (0.9,) * outputs, 50),
        ends=None,
    )


def test_what_was_not_decided_in_time_is_not_called_impossible() -> None:
    result = hard(3)
    undecided = flips(result, total_time=0.0)
    assert [one.output for one in undecided] == [0, 1, 2]
    assert not any(one.is_decided for one in undecided)
    assert [one.predicted for one in undecided] == result.intact.tolist()
    # nor is a margin that nothing reaches a search without an end
    assert flips(result, margin=1e6, total_time=0.0) == []


def test_a_single_removal_without_a_value_ends_nothing() -> None:
    oracle = noisy(frozenset({0, 1, 2}))
    method = load_method("proxyspex", 2, keep=0.7)
    result = explain(oracle, method=method, budget=40)
    for known in (result, replace(result, ablations=None)):
        [broken] = check_removals(oracle, known, [Removal(0, (0, 1, 2), -1.0)])
        assert (broken.measured, broken.noise, broken.tried) == (None, None, 1)


def test_noise_that_cannot_be_measured_is_unknown() -> None:
    seeds: list[int] = []

    def train(indices: Any, seed: int, points: Any) -> list[float]:
        # once the seed of a set's value is known, all others diverge
        if len(indices) == 5:
            seeds.append(seed)
            return [1.0 if seed == seeds[0] else float("nan")]
        return [len(indices) / 5]

    trainer = FunctionTrainer(train, 6, "diverges with other seeds")
    oracle = DataOracle(trainer, Targets([[0.0]], ["a"]))
    result = explain(grows(lambda kept: kept / 5, 6, "fine"), budget=64)
    result = replace(result, ablations=None)
    [told] = check_removals(oracle, result, [Removal(0, (3,), -1.0)])
    assert (told.measured, told.noise) == (1.0, None)


def saturated() -> tuple[DataOracle, Explanation]:
    """Half of the data tells that an example does more than it does near all of it."""
    oracle = grows(lambda kept: 10 * (kept / 20) ** 0.5 - 7, 20, "saturates")
    method = load_method("proxyspex", 1)
    return oracle, explain(oracle, method=method, budget=200, max_order=1)


def test_a_removal_that_does_not_flip_is_raised_by_its_shortfall(
    tmp_path: Path,
) -> None:
    oracle, result = saturated()
    [first] = check_removals(oracle, result, flips(result))
    assert has_flipped(result, first) is False
    with Ledger(tmp_path / "l.sqlite") as ledger:
        [last] = checked_flips(oracle, result, ledger=ledger)
        assert 2 <= last.tried <= TRIES
        assert len(ledger.masks(oracle.fingerprint, 20)) == last.tried
    assert has_flipped(result, last) is True
    assert len(last.players) > len(first.players)
    assert last.is_smallest is False
    assert Removal.from_json(last.to_json()) == last


def test_a_removal_that_flips_stays_where_nothing_smaller_does(
    result: Explanation,
) -> None:
    oracle = data_oracle()
    [first] = check_removals(oracle, result, flips(result))
    [last] = checked_flips(oracle, result)
    assert replace(last, tried=1) == replace(first, predicted=last.predicted)
    assert last.predicted == pytest.approx(first.predicted)
    assert 1 <= last.tried <= TRIES


@pytest.mark.parametrize("kind", ["margin", "loss"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 5))
def test_the_best_subset_is_that_of_all_of_its_size(
    kind: str, seed: int, size: int
) -> None:
    game = planted(6, seed)
    result = explain(game, players=6, budget=64)
    subject = {"kind": "data", "measured": [kind]}
    made = replace(result.provenance, subject=subject)
    [found] = best_subsets(replace(result, provenance=made), size)
    masks = np.array(
        [np.isin(np.arange(6), some) for some in combinations(range(6), size)]
    )
    values = game(masks)[:, 0]
    best = values.max() if kind == "margin" else values.min()
    assert len(kept_of(result, found)) == size
    assert found.predicted == pytest.approx(best, abs=1e-5)
    assert found.is_smallest
