"""The smallest removal that flips an output, against all there are, on real oracles."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import InputError, InterruptedRun, Ledger
from oracles.data import DataOracle, FunctionTrainer, Targets
from spex import Explanation, explain
from spex.registry import load_method
from spex.testing import planted
from spex.tried.chains import FINEST, chain_of, mixed
from spex.tried.flips import FlipSearch, checked_flips
from spex.tried.removals import Removal, flips, has_flipped, removals_of, with_removals

Game = Callable[[np.ndarray], np.ndarray]
SAME = (1, 3, 4, 8, 9, 13, 16, 17)  # of 20, what a class is planted to be


def trained(game: Game, players: int, name: str, outputs: int = 1) -> DataOracle:
    """A trainer whose margins are a set function, from masks (m, n) to (m, k)."""

    def train(indices: Any, seed: int, points: Any) -> list[float]:
        return game(np.isin(np.arange(players), indices)[None])[0].tolist()

    trainer = FunctionTrainer(train, players, name)
    return DataOracle(trainer, Targets([[0.0]] * outputs, ["a"] * outputs))


def several(players: int, seed: int, outputs: int) -> Game:
    games = [planted(players, seed + 10_000 * output) for output in range(outputs)]
    return lambda masks: np.hstack([game(masks) for game in games])


def crossing(game: Game, players: int, removed: tuple[int, ...], output: int) -> bool:
    masks = np.ones((2, players), dtype=bool)
    masks[1, list(removed)] = False
    whole, without = game(masks)[:, output]
    return bool(without < 0) if whole > 0 else bool(without > 0)


def fewest(game: Game, players: int, output: int = 0) -> int | None:
    """The size of the smallest set that flips an output; somebody is kept."""
    for size in range(1, players):
        for some in combinations(range(players), size):
            if crossing(game, players, some, output):
                return size
    return None


def learned(oracle: DataOracle, budget: int, keep: float = 0.7) -> Explanation:
    return explain(oracle, method=load_method("proxyspex", 2, keep=keep), budget=budget)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_where_everything_is_known_it_is_the_smallest_there_is(seed: int) -> None:
    game = several(6, seed, 2)
    oracle = trained(game, 6, f"planted {seed}", outputs=2)
    result = explain(oracle, budget=64)
    search = FlipSearch(oracle, result)
    search.run(len(result.outputs))
    assert search.spent == 0
    found = {one.output: one for one in search.removals()}
    for output in range(2):
        size = fewest(game, 6, output)
        if size is None:
            assert output not in found
        elif output in found:  # a crossing within a hundredth is none
            assert len(found[output].players) == size
            assert has_flipped(result, found[output])


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_with_tries_enough_no_player_can_be_given_back(seed: int) -> None:
    game = planted(9, seed)
    oracle = trained(game, 9, f"planted {seed}")
    result = learned(oracle, 40)
    guess = np.random.default_rng(seed).normal(size=(9, 1))
    for found in checked_flips(oracle, result, guesses=[guess], tries=600):
        flipped = crossing(game, 9, found.players, 0)
        assert has_flipped(result, found) is flipped
        if flipped:
            for player in found.players:
                rest = tuple(sorted({*found.players} - {player}))
                assert not rest or not crossing(game, 9, rest, 0)


def redundant(masks: np.ndarray) -> np.ndarray:
    """Two points: as long as one of a class is kept it is right, or one of the rest."""
    same = masks[:, SAME].any(axis=1)
    rest = np.delete(masks, SAME, axis=1).any(axis=1)
    noise = 0.05 * (masks @ np.sin(np.arange(20)))
    return np.stack([4.0 * same - 2 + noise, 4.0 * rest - 2 - noise], axis=1)


def likeness() -> np.ndarray:
    guess = np.where(np.isin(np.arange(20), SAME), 1.0, -1.0)
    return np.stack([guess, -guess], axis=1)


def test_a_class_that_no_mask_empties_is_found_by_its_likeness() -> None:
    oracle = trained(redundant, 20, "redundant", outputs=2)
    result = learned(oracle, 150)
    alone = checked_flips(oracle, result)
    assert not any(has_flipped(result, one) for one in alone)
    first, second = checked_flips(oracle, result, guesses=[likeness()])
    assert first.players == SAME
    assert second.players == tuple(sorted({*range(20)} - {*SAME}))
    assert has_flipped(result, first)
    assert has_flipped(result, second)
    assert not first.is_smallest
    assert not second.is_smallest


def test_what_is_measured_for_one_output_serves_the_others() -> None:
    def twice(masks: np.ndarray) -> np.ndarray:
        return np.repeat(redundant(masks)[:, :1], 2, axis=1)

    spent = []
    for outputs in ([0], [0, 1]):
        oracle = trained(twice, 20, "twice", outputs=2)
        guess = np.repeat(likeness()[:, :1], 2, axis=1)
        search = FlipSearch(oracle, learned(oracle, 150), outputs, guesses=[guess])
        search.run(40)
        spent.append(search.spent)
        assert [one.players for one in search.removals()] == [SAME] * len(outputs)
    assert spent[0] == spent[1]


@settings(max_examples=10)
@given(st.integers(0, 1_000), st.integers(1, 12))
def test_no_more_is_trained_than_was_allowed(seed: int, tries: int) -> None:
    game = several(12, seed, 3)
    asked: list[bytes] = []

    def counted(masks: np.ndarray) -> np.ndarray:
        asked.append(masks.tobytes())
        return game(masks)

    oracle = trained(counted, 12, f"counted {seed}", outputs=3)
    result = learned(oracle, 40)
    guess = np.random.default_rng(seed).normal(size=(12, 3))
    asked.clear()
    search = FlipSearch(oracle, result, guesses=[guess])
    search.run(3 * tries)
    assert len(asked) == len({*asked}) == search.spent <= 3 * tries
    found = search.removals()
    assert all(one.tried <= search.spent for one in found)
    for one in found:
        assert one.measured is not None
        flipped = crossing(game, 12, one.players, one.output)
        assert has_flipped(result, one) is flipped


def test_what_was_paid_for_is_never_lost(tmp_path: Path) -> None:
    asked: list[int] = []
    most = 10**9

    def patient(masks: np.ndarray) -> np.ndarray:
        if len(asked) >= most:
            raise KeyboardInterrupt
        asked.append(len(masks))
        return redundant(masks)

    oracle = trained(patient, 20, "patient", outputs=2)
    result = learned(oracle, 150)
    asked.clear()
    whole = checked_flips(oracle, result, guesses=[likeness()])
    needed = len(asked)
    with Ledger(tmp_path / "l.sqlite") as ledger:
        settings: dict[str, Any] = {"guesses": [likeness()], "ledger": ledger}
        asked.clear()
        most = needed // 2
        with pytest.raises(InterruptedRun):
            checked_flips(oracle, result, **settings)
        most = 10**9
        again = checked_flips(oracle, result, **settings)
        # of the noise, which is no part of the search, nothing is kept
        first = len(asked)
        assert [replace(one, noise=None) for one in again] == [
            replace(one, noise=None) for one in whole
        ]
        assert first <= needed
        checked_flips(oracle, result, **settings)
        assert len(ledger.masks(oracle.fingerprint, 20)) <= needed


def test_sets_without_a_value_are_passed_over() -> None:
    def fails(masks: np.ndarray) -> np.ndarray:
        if (~masks[:, [SAME[0], SAME[1]]]).all() and masks[:, 0].all():
            raise ArithmeticError("it will not train")
        return redundant(masks)

    oracle = trained(fails, 20, "fails", outputs=2)
    result = learned(oracle, 150)
    guess = likeness()
    guess[0, 0] = 0.5  # comes after the class
    [found] = checked_flips(oracle, result, [0], guesses=[guess], tries=60)
    assert has_flipped(result, found)
    assert found.players == tuple(sorted((*SAME, 0)))


def test_sets_beyond_the_noise_are_preferred() -> None:
    def steps(masks: np.ndarray) -> np.ndarray:
        return np.array([[3.0, 2.0, 1.0, -0.2, -0.9, -1.7, -1.8, -1.8, -1.8]]).T[
            (~masks).sum(axis=1)
        ]

    oracle = trained(steps, 8, "steps")
    result = replace(learned(oracle, 60), ablations=None)
    guess = np.arange(8.0, 0.0, -1.0)[:, None]
    sizes = {}
    for noise in (0.0, 1.0, 4.0):
        floor = np.array([noise])
        noisy = replace(result, noise_floor=floor)
        [found] = checked_flips(oracle, noisy, guesses=[guess], tries=200)
        assert has_flipped(noisy, found)
        assert found.noise == noise**0.5
        sizes[noise] = len(found.players)
    assert (sizes[0.0], sizes[1.0]) == (3, 5)
    assert sizes[4.0] == 3  # nothing is that far beyond 0


def test_a_set_of_any_size_goes_farthest_by_what_was_measured() -> None:
    oracle = trained(redundant, 20, "redundant", outputs=2)
    search = FlipSearch(oracle, learned(oracle, 150), guesses=[likeness()])
    search.run(40)
    [first, _] = search.removals()
    for size in range(1, 20):
        some = search.of_size(0, size)
        assert len({*some}) == size
        if size >= len(first.players):
            assert {*first.players} <= {*some}
            assert oracle.evaluate(~np.isin(np.arange(20), some)[None])[0, 0] < 0


def test_progress_counts_trainings_within_the_budget() -> None:
    oracle = trained(redundant, 20, "redundant", outputs=2)
    calls: list[tuple[int, int]] = []
    search = FlipSearch(oracle, learned(oracle, 150), guesses=[likeness()])
    search.run(20, progress=lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls)
    assert calls[-1][0] == search.spent <= 20
    assert {total for _, total in calls} == {20}


def test_what_was_found_is_saved_and_read_again() -> None:
    oracle = trained(redundant, 20, "redundant", outputs=2)
    result = learned(oracle, 150)
    found = checked_flips(oracle, result, guesses=[likeness()])
    assert removals_of(with_removals(result, found)) == found
    assert Removal.from_json(found[0].to_json()) == found[0]


def test_bad_guesses_and_budgets_are_refused_before_anything_is_paid_for() -> None:
    oracle = trained(redundant, 20, "redundant", outputs=2)
    result = learned(oracle, 150)
    with pytest.raises(InputError, match=r"shape \(20, 1\)"):
        checked_flips(oracle, result, guesses=[likeness()[:, :1]])
    with pytest.raises(InputError, match="finite"):
        checked_flips(oracle, result, guesses=[np.full((20, 2), np.nan)])
    with pytest.raises(InputError, match="tries=0"):
        checked_flips(oracle, result, guesses=[likeness()], tries=0)
    other = trained(redundant, 20, "another", outputs=2)
    with pytest.raises(InputError, match="another oracle"):
        checked_flips(other, result)


def test_without_guesses_what_nothing_flips_by_the_surrogate_is_not_tried() -> None:
    oracle = trained(lambda masks: masks.sum(axis=1)[:, None] + 1.0, 8, "above 0")
    result = explain(oracle, budget=256)
    assert flips(result) == []
    assert checked_flips(oracle, result) == []


@settings(max_examples=60)
@given(st.integers(2, 400), st.data())
def test_a_chain_finds_where_it_crosses_in_a_few_steps(
    count: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, count - 1))
    power = data.draw(st.sampled_from([0.3, 1.0, 3.0]))

    def gain(size: int) -> float:
        return float((first - 0.5) ** power - size**power)

    chain = chain_of(np.arange(count, 0, -1.0), (), None, gain(0))
    steps = 0
    while (size := chain.next_size(count - 1)) is not None:
        assert size not in chain.gains
        chain.gains[size] = gain(size)
        steps += 1
    flipped = [size for size, value in chain.gains.items() if value < 0]
    assert first <= min(flipped) <= first + max(1, min(flipped) // FINEST)
    assert steps <= 4 + 3 * np.log2(count)


def test_guesses_count_by_their_spread() -> None:
    one, other = np.array([0.0, 1.0, 3.0]), np.array([5.0, 1.0, 0.0])
    alike = mixed([one, other])
    assert np.allclose(mixed([one * 1e6, other]), alike)
    assert np.allclose(mixed([one, other, np.full(3, 7.0)]), alike)
    assert not mixed([np.ones(3)]).any()
