"""Circuits: the smallest and best sets, found on the surrogate and run."""

from collections.abc import Generator
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import FunctionOracle, InputError, Ledger, UnansweredError
from spex import Explanation, SparseFourier, explain, load
from spex.search import best_subset
from spex.testing import planted
from spex.tried.circuits import (
    CIRCUIT,
    PRUNED,
    PRUNINGS,
    ROUNDS,
    TRIES,
    circuits_of,
    find_circuits,
    with_circuits,
)

PLAYERS = 7


def exact(seed: int, sign: float = 1.0) -> tuple[FunctionOracle, Explanation]:
    """A planted function, all of whose masks were ablated."""
    spectrum = planted(PLAYERS, seed)
    oracle = FunctionOracle(
        lambda masks: sign * spectrum(masks), PLAYERS, fingerprint=f"{seed} {sign}"
    )
    return oracle, explain(oracle, budget=2**PLAYERS)


def value(oracle: FunctionOracle, kept: tuple[int, ...]) -> float:
    mask = np.isin(np.arange(PLAYERS), kept)[None]
    return float(oracle.evaluate(mask)[0, 0])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 200), st.sampled_from([0.3, 0.5, 0.9, 1.0]))
def test_a_circuit_is_the_smallest_set_that_does_as_much(
    seed: int, level: float
) -> None:
    oracle, found = exact(seed)
    everyone = tuple(range(PLAYERS))
    none, gap = value(oracle, ()), value(oracle, everyone) - value(oracle, ())
    [circuit] = find_circuits(oracle, found, levels=[level], sparsities=())
    assert circuit.kind == CIRCUIT
    assert circuit.measured == pytest.approx(value(oracle, circuit.players))
    assert circuit.predicted == pytest.approx(circuit.measured, abs=1e-6)
    assert circuit.faithfulness == pytest.approx((circuit.measured - none) / gap)
    assert circuit.faithfulness >= level - 1e-5
    for kept in combinations(everyone, len(circuit.players) - 1):
        assert (value(oracle, kept) - none) / gap < level + 1e-5
    assert circuit.is_smallest
    assert circuit.is_minimal


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 200), st.sampled_from([0.2, 0.5, 0.8]))
def test_pruning_keeps_the_best_set_of_its_size(seed: int, part: float) -> None:
    oracle, found = exact(seed)
    everyone = tuple(range(PLAYERS))
    sign = np.sign(value(oracle, everyone) - value(oracle, ()))
    [pruned] = find_circuits(oracle, found, levels=(), sparsities=[part])
    size = PLAYERS - round(part * PLAYERS)
    assert (pruned.kind, len(pruned.players)) == (PRUNED, size)
    best = max(sign * value(oracle, kept) for kept in combinations(everyone, size))
    assert sign * pruned.measured == pytest.approx(best, abs=1e-6)
    assert pruned.is_smallest


@pytest.mark.parametrize(("seed", "other"), [(0, 1), (2, 3), (5, 8)])
def test_a_pruned_model_is_the_best_of_several_where_the_surrogate_is_wrong(
    seed: int, other: int
) -> None:
    """It knows some ablations, and takes the function for another one."""
    oracle, _ = exact(seed)
    found = explain(oracle, method="proxyspex", budget=40)
    wrong = replace(found, fourier=planted(PLAYERS, other))
    everyone = tuple(range(PLAYERS))
    sign = np.sign(value(oracle, everyone) - value(oracle, ()))
    for pruned in find_circuits(oracle, wrong, levels=(), sparsities=[0.3, 0.6]):
        size = len(pruned.players)
        first = best_subset(wrong.fourier, size, largest=sign > 0).kept
        known = found.ablations
        assert known is not None
        rows = known.masks.sum(axis=1) == size
        before = [value(oracle, first), *known.values[rows, 0]]
        assert sign * pruned.measured >= max(sign * np.array(before)) - 1e-9
        assert pruned.is_smallest <= (pruned.players == first)
        assert 1 < pruned.tried <= 1 + 2 * PRUNINGS
        sets = combinations(everyone, size)
        values = np.array([sign * value(oracle, kept) for kept in sets])
        assert (values > sign * pruned.measured + 1e-9).sum() <= 1  # or hardly less


def test_what_falls_when_players_are_kept_is_a_behaviour_too() -> None:
    oracle, found = exact(3)
    reversed_oracle, reversed_found = exact(3, -1.0)
    sets = [
        [circuit.players for circuit in find_circuits(o, f)]
        for o, f in ((oracle, found), (reversed_oracle, reversed_found))
    ]
    assert sets[0] == sets[1]


def both(masks: np.ndarray) -> np.ndarray:
    return (masks[:, 0] & masks[:, 1]).astype(float)


def test_a_circuit_that_falls_short_is_given_up_for_another() -> None:
    """The surrogate takes player 2 for enough; in truth 0 and 1 are."""
    oracle = FunctionOracle(both, 3, fingerprint="both")
    truth = explain(oracle, budget=8)
    terms = truth.fourier.to_dict()
    # 2 alone is said to do 0.95, the pair 1
    wrong = {**terms, (): terms[()] + 0.475, (2,): -0.475}
    believed = replace(truth, fourier=SparseFourier.from_dict(3, wrong))
    [circuit] = find_circuits(oracle, believed, levels=[0.9], sparsities=())
    assert circuit.tried > 1
    assert circuit.players == (0, 1)
    assert circuit.measured == 1.0
    assert circuit.is_reached


@pytest.mark.parametrize(
    "believed",
    [
        {(): 0.25, (5,): -1e-3},  # too little to reach any level
        {(i,): -1.0 for i in range(2, 12)},  # everything but the truth
        {(): 0.2, (0,): -0.1, (1,): -0.1, (7,): -0.02},  # the truth, too small
    ],
)
def test_a_surrogate_that_is_wrong_costs_runs_and_not_the_level(
    believed: dict[tuple[int, ...], float],
) -> None:
    oracle = FunctionOracle(both, 12, fingerprint="both of 12")
    found = explain(oracle, budget=100)
    found = replace(found, fourier=SparseFourier.from_dict(12, believed))
    [circuit] = find_circuits(oracle, found, levels=[0.9], sparsities=())
    assert set(circuit.players) >= {0, 1}
    assert circuit.is_reached
    assert circuit.tried <= TRIES + 4 + ROUNDS * 12
    assert circuit.players == (0, 1)
    assert circuit.is_minimal


def test_a_set_found_with_a_margin_is_not_called_the_smallest() -> None:
    """Player 3 alone is enough; the surrogate takes the idle player 2 for as good."""

    def some(masks: np.ndarray) -> np.ndarray:
        part = 0.92 * masks[:, 3] + 0.6 * (masks[:, 0] & masks[:, 1])
        return np.where(masks.all(axis=1), 1.0, part)

    oracle = FunctionOracle(some, 5, fingerprint="some of 5")
    truth = explain(oracle, budget=32)
    terms = truth.fourier.to_dict()
    wrong = {**terms, (): terms[()] + 0.475, (2,): terms.get((2,), 0.0) - 0.475}
    believed = replace(truth, fourier=SparseFourier.from_dict(5, wrong))
    [circuit] = find_circuits(oracle, believed, levels=[0.9], sparsities=())
    assert circuit.players == (3,)
    assert circuit.is_minimal
    assert not circuit.is_smallest


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 200), st.integers(0, 200), st.sampled_from([0.4, 0.9]))
def test_no_player_of_a_minimal_circuit_can_be_left_out(
    seed: int, other: int, level: float
) -> None:
    """Whatever the surrogate, here of another function, says."""
    oracle, found = exact(seed)
    wrong = replace(found, fourier=planted(PLAYERS, other))
    none = value(oracle, ())
    gap = value(oracle, tuple(range(PLAYERS))) - none
    [circuit] = find_circuits(oracle, wrong, levels=[level], sparsities=())
    assert circuit.is_reached
    assert circuit.tried <= TRIES + 4 + ROUNDS * PLAYERS
    fewer = combinations(circuit.players, len(circuit.players) - 1)
    parts = [(value(oracle, kept) - none) / gap for kept in fewer]
    assert circuit.is_minimal <= (max(parts) < level)
    assert circuit.is_minimal or circuit.tried > PLAYERS


class Unsure(FunctionOracle):
    """Has no value where player 0 works without player 1."""

    def check_affordable(self, masks: np.ndarray) -> None:
        """It costs nothing."""

    def evaluate_each(
        self, masks: np.ndarray
    ) -> Generator[tuple[list[int], np.ndarray], None, None]:
        missing = np.flatnonzero(masks[:, 0] & ~masks[:, 1]).tolist()
        rows = [row for row in range(len(masks)) if row not in missing]
        if rows:
            yield rows, self.evaluate(masks[rows])
        if missing:
            raise UnansweredError(dict.fromkeys(missing, "no answer"), len(masks))


def test_what_cannot_be_measured_makes_no_circuit_minimal() -> None:
    truth = explain(FunctionOracle(both, 3, fingerprint="both"), budget=8)
    unknown = replace(truth, ablations=None)
    players = truth.players
    [circuit] = find_circuits(
        Unsure(both, players), unknown, levels=[0.9], sparsities=()
    )
    assert circuit.players == (0, 1)
    assert circuit.is_smallest
    assert not circuit.is_minimal


def test_pruned_models_without_a_value_are_passed_over() -> None:
    truth = explain(FunctionOracle(both, 3, fingerprint="both"), budget=8)
    unknown = replace(truth, ablations=None)
    # it takes player 0 alone for the best
    terms = {(): 0.5, (0,): -0.4, (1,): -0.05}
    wrong = replace(unknown, fourier=SparseFourier.from_dict(3, terms))
    [one, two] = find_circuits(
        Unsure(both, truth.players), wrong, levels=(), sparsities=[0.6, 0.3]
    )
    assert one.measured == 0.0
    assert one.players in ((1,), (2,))
    assert two.players == (0, 1)
    assert two.measured == 1.0


def test_circuits_are_saved_with_the_explanation(tmp_path) -> None:  # type: ignore[no-untyped-def]
    oracle, found = exact(5)
    circuits = find_circuits(oracle, found)
    assert [c.kind for c in circuits] == [CIRCUIT] + 3 * [PRUNED]
    with_circuits(found, circuits).save(tmp_path / "r.json")
    assert circuits_of(load(tmp_path / "r.json")) == circuits
    assert circuits_of(found) == []


def test_what_was_run_is_kept_in_the_ledger(tmp_path) -> None:  # type: ignore[no-untyped-def]
    asked = []

    def counted(masks: np.ndarray) -> np.ndarray:
        asked.append(len(masks))
        return both(masks)

    oracle = FunctionOracle(counted, 12, fingerprint="counted")
    with Ledger(tmp_path / "l.sqlite") as ledger:
        found = explain(oracle, budget=100, ledger=ledger)
        first = find_circuits(oracle, found, ledger=ledger)
        assert sum(asked) <= 100 + 2 + sum(circuit.tried for circuit in first)
        before = sum(asked)
        assert find_circuits(oracle, found, ledger=ledger) == first
        assert sum(asked) == before


@pytest.mark.parametrize("level", [0.0, -0.5, 1.2, float("nan")])
def test_levels_out_of_range_are_refused(level: float) -> None:
    oracle, found = exact(1)
    with pytest.raises(InputError, match="circuit level"):
        find_circuits(oracle, found, levels=[level])


@pytest.mark.parametrize("part", [0.0, 1.0, -1.0, float("nan")])
def test_parts_to_prune_out_of_range_are_refused(part: float) -> None:
    oracle, found = exact(1)
    with pytest.raises(InputError, match="prune"):
        find_circuits(oracle, found, sparsities=[part])


def test_ends_that_are_the_same_have_no_faithfulness() -> None:
    oracle = FunctionOracle(
        lambda masks: (masks[:, 0] ^ masks[:, 1]).astype(float), 3, fingerprint="xor"
    )
    with pytest.raises(InputError, match="no scale"):
        find_circuits(oracle, explain(oracle, budget=8))


def test_another_oracle_is_refused() -> None:
    _, found = exact(1)
    with pytest.raises(InputError, match="another oracle"):
        find_circuits(exact(2)[0], found)
