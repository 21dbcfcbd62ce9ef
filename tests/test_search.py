"""Subset search against brute force, by the table and by the integer program."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from spex import SparseFourier, SupportError, explain
from spex.errors import SearchError
from spex.exact import every_mask
from spex.search import (
    Found,
    best_subset,
    smallest_flip,
    smallest_sufficient,
    subsets,
)
from spex.search.climb import filled, swapped, thinned
from spex.search.goal import Goal
from spex.search.program import program


@pytest.fixture(params=["table", "program"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of solving, whatever the size."""
    if request.param == "program":
        monkeypatch.setattr(subsets, "MOST_TABLED", 0)


def sparse_game(
    n: int, num_terms: int, seed: int, *, integers: bool = False
) -> SparseFourier:
    """Random terms of order up to 5; integers bring many ties."""
    rng = np.random.default_rng(seed)
    terms = {}
    for _ in range(num_terms):
        order = min(n, int(rng.integers(0, 6)))
        support = tuple(sorted(rng.choice(n, order, replace=False).tolist()))
        draw = rng.normal(size=2)
        terms[support] = np.round(2 * draw) if integers else draw
    return SparseFourier.from_dict(n, terms)


def large_game(n: int, num_pairs: int, seed: int) -> SparseFourier:
    """An effect of every player, and some pairs."""
    rng = np.random.default_rng(seed)
    terms = {(i,): float(rng.normal()) for i in range(n)}
    for _ in range(num_pairs):
        terms[tuple(sorted(rng.choice(n, 2, replace=False).tolist()))] = rng.normal()
    return SparseFourier.from_dict(n, terms)


def masks_with(n: int, removable: set[int]) -> np.ndarray:
    masks = every_mask(n)
    fixed = [i for i in range(n) if i not in removable]
    return masks[masks[:, fixed].all(axis=1)]


def check(found: Found, fourier: SparseFourier, removable: set[int]) -> None:
    """Kept and removed partition the players, and the value is the surrogate's."""
    n = fourier.num_players
    assert sorted(found.kept + found.removed) == list(range(n))
    assert list(found.kept) == sorted(found.kept)
    assert list(found.removed) == sorted(found.removed)
    assert set(found.removed) <= removable


def value_of(fourier: SparseFourier, found: Found, output: int = 0) -> float:
    mask = np.zeros((1, fourier.num_players), dtype=bool)
    mask[0, list(found.kept)] = True
    return float(fourier(mask)[0, output])


games = st.builds(
    sparse_game,
    st.integers(1, 9),
    st.integers(0, 25),
    st.integers(0, 9999),
    integers=st.booleans(),
)


@pytest.mark.usefixtures("ways")
def test_best_subset_is_that_of_brute_force() -> None:
    @settings(max_examples=40, deadline=None)
    @given(fourier=games, data=st.data())
    def holds(fourier: SparseFourier, data: st.DataObject) -> None:
        n = fourier.num_players
        removable = data.draw(st.sets(st.integers(0, n - 1)))
        size = data.draw(st.integers(n - len(removable), n))
        largest = data.draw(st.booleans())
        masks = masks_with(n, removable)
        values = fourier(masks[masks.sum(axis=1) == size])[:, -1]
        output = fourier.num_outputs - 1
        setting = {"largest": largest, "output": output, "removable": removable}
        found = best_subset(fourier, size, **setting)  # type: ignore[arg-type]
        check(found, fourier, removable)
        assert len(found.kept) == size
        assert found.is_proven
        best = values.max() if largest else values.min()
        assert found.value == pytest.approx(best, abs=1e-4)
        assert value_of(fourier, found, output) == pytest.approx(found.value, abs=1e-9)

    holds()


@pytest.mark.usefixtures("ways")
def test_smallest_flip_is_that_of_brute_force() -> None:
    @settings(max_examples=60, deadline=None)
    @given(fourier=games, data=st.data())
    def holds(fourier: SparseFourier, data: st.DataObject) -> None:
        n = fourier.num_players
        removable = data.draw(st.sets(st.integers(0, n - 1)))
        threshold = data.draw(st.integers(-3, 3)) + 0.5
        margin = data.draw(st.sampled_from([0.0, 0.7]))
        masks = masks_with(n, removable)
        values, removed = fourier(masks)[:, 0], n - masks.sum(axis=1)
        full = values[removed == 0][0]
        side = -1 if full > threshold else 1
        gains = side * (values - threshold) - margin
        if (np.abs(gains) < 1e-4).any():
            return  # a tie that rounding decides
        found = smallest_flip(fourier, threshold, removable=removable, margin=margin)
        if not (gains > 0).any():
            assert found is None
            return
        assert found is not None
        fewest = removed[gains > 0].min()
        farthest = gains[removed == fewest].max()
        check(found, fourier, removable)
        assert found.is_proven
        assert len(found.removed) == found.at_least == fewest
        gain = side * (found.value - threshold) - margin
        assert gain == pytest.approx(farthest, abs=1e-4)
        assert value_of(fourier, found) == pytest.approx(found.value, abs=1e-9)

    holds()


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("step", [1, 5])
def test_reaching_a_threshold_exactly(step: int) -> None:
    """At or below it has crossed from above; from below it takes more than that."""
    count = explain(lambda x: x.sum(axis=1) * 1.0, players=4, budget=16).fourier
    found = smallest_flip(count, 4 - step + 0.0)
    if step == 5:  # below what can be reached
        assert found is None
        return
    assert found is not None
    assert (len(found.removed), found.value) == (1, pytest.approx(3))
    debt = explain(lambda x: -1.0 * x.sum(axis=1), players=4, budget=16).fourier
    found = smallest_flip(debt, -3)
    assert found is not None
    assert (len(found.removed), found.value) == (2, pytest.approx(-2))


@pytest.mark.usefixtures("ways")
def test_backups_are_removed_together() -> None:
    """Two that stand in for each other show no effect alone; greedy takes decoys."""

    def value(masks: np.ndarray) -> np.ndarray:
        return 5.0 * (masks[:, 0] | masks[:, 1]) + masks[:, 2:].sum(axis=1) - 4

    fourier = explain(value, players=8, budget=256).fourier
    greedy = np.flatnonzero(~thinned(Goal.of(fourier, 0, None).reversed(), 2))
    assert set(greedy.tolist()) != {0, 1}
    worst = best_subset(fourier, 6, largest=False)
    assert (worst.removed, worst.value) == ((0, 1), pytest.approx(2))
    flip = smallest_flip(fourier, 2)
    assert flip is not None
    assert (flip.removed, flip.at_least) == ((0, 1), 2)


@pytest.mark.usefixtures("ways")
def test_three_that_must_all_be_there() -> None:
    """From nothing, no one or two of them help."""

    def value(masks: np.ndarray) -> np.ndarray:
        return 4.0 * masks[:, [1, 4, 6]].all(axis=1) + masks[:, :1].sum(axis=1)

    fourier = explain(value, players=8, budget=256).fourier
    assert best_subset(fourier, 3).kept == (1, 4, 6)
    assert best_subset(fourier, 2).value == pytest.approx(1)


@pytest.mark.usefixtures("ways")
def test_scaling_shifts_and_permutations_carry_over() -> None:
    for seed in range(4):
        fourier = sparse_game(8, 20, seed)
        order = np.random.default_rng(seed).permutation(8)
        moved = SparseFourier.from_dict(
            8,
            {
                tuple(sorted(order[list(s)].tolist())): 1e-7 * c
                + (5e-7 if not s else 0)
                for s, c in fourier.to_dict().items()
            },
        )
        for size in (3, 6):
            before, after = best_subset(fourier, size), best_subset(moved, size)
            assert set(after.kept) == set(order[list(before.kept)].tolist())
        flip = smallest_flip(fourier, 0.3)
        other = smallest_flip(moved, 1e-7 * 0.3 + (5e-7 if () in moved.position else 0))
        assert (flip is None) == (other is None)
        if flip is not None and other is not None:
            assert set(other.removed) == set(order[list(flip.removed)].tolist())


@pytest.mark.usefixtures("ways")
def test_a_measured_value_decides_the_side() -> None:
    """Measured below the threshold, the surrogate is shifted there and flipped back."""
    fourier = SparseFourier.from_dict(3, {(): 0.0, (0,): -1.0, (1,): 1.5, (2,): 0.2})
    from_above = smallest_flip(fourier, 0.5, intact=2.0)
    from_below = smallest_flip(fourier, 0, intact=-1.0)
    assert from_above is not None
    assert from_below is not None
    assert (from_above.removed, from_above.value) == ((0,), pytest.approx(0.0))
    assert (from_below.removed, from_below.value) == ((1,), pytest.approx(2.0))


def test_effects_without_interactions_are_sorted() -> None:
    effects = np.random.default_rng(0).normal(size=2000)
    fourier = SparseFourier.from_dict(
        2000, {(i,): -e / 2 for i, e in enumerate(effects.tolist())}
    )
    found = best_subset(fourier, 700)
    assert set(found.kept) == set(np.argsort(-effects)[:700].tolist())
    assert found.is_proven
    flip = smallest_flip(fourier, effects.sum() / 2 - 100.3)
    assert flip is not None
    assert flip.is_proven
    strongest = np.argsort(-effects)[: len(flip.removed)]
    assert set(flip.removed) == set(strongest.tolist())


def test_a_thousand_players_with_interactions() -> None:
    fourier = large_game(1000, 500, 0)
    best = best_subset(fourier, 500)
    for found in (
        best,
        best_subset(fourier, 900, largest=False),
        smallest_flip(fourier, 0, intact=20.0),
    ):
        assert found is not None
        assert found.is_proven
    goal = Goal.of(fourier, 0, None)
    for start in (thinned(goal, 500), filled(goal, 500)):
        assert goal.gain(swapped(goal, start)) <= best.value + 1e-9


def test_swaps_raise_the_gain_until_none_does() -> None:
    for seed in range(20):
        goal = Goal.of(sparse_game(9, 25, seed), 0, None)
        start = np.random.default_rng(seed).permutation(9) < 4
        end = swapped(goal, start)
        assert end.sum() == 4
        assert goal.gain(end) >= goal.gain(start)
        assert (swapped(goal, end) == end).all()
        shared = (goal.members.T @ goal.members).toarray() > 0
        for i, j in zip(*np.nonzero(shared & end[:, None] & ~end), strict=True):
            other = end.copy()
            other[[i, j]] = False, True
            assert goal.gain(other) <= goal.gain(end) + 2 * goal.slack


def test_out_of_time_there_is_a_set_and_a_bound() -> None:
    """A spin glass of 120 players, which nobody solves in a tenth of a second."""
    fourier = large_game(120, 2500, 1)
    found = best_subset(fourier, 60, time_limit=0.1)
    assert len(found.kept) == 60
    assert found.bound > found.value == pytest.approx(value_of(fourier, found))
    assert not found.is_proven
    # the bound holds for whatever else is tried
    rng = np.random.default_rng(0)
    masks = np.argsort(rng.random((2000, 120)), axis=1) < 60
    assert fourier(masks).max() < found.value


def test_without_an_end_in_time_it_says_so() -> None:
    fourier = large_game(120, 2500, 1)
    full = float(fourier(np.ones((1, 120), dtype=bool))[0, 0])
    lowest = best_subset(fourier, 60, largest=False, time_limit=0.1)
    between = (lowest.value + lowest.bound) / 2
    assert full > between
    with pytest.raises(SearchError, match="time_limit"):
        smallest_flip(fourier, between, time_limit=0.1)


def test_the_relaxation_has_no_gap_without_cycles() -> None:
    """Products of three in a chain: the bound of the first relaxation is attained."""
    rng = np.random.default_rng(2)
    terms = {}
    for start in range(0, 40, 2):
        for order in (1, 2, 3):
            for support in combinations(range(start, start + 3), order):
                terms[support] = float(rng.normal())
    fourier = SparseFourier.from_dict(42, terms)
    goal = Goal.of(fourier, 0, None)
    relaxed = program(goal)
    ties = LinearConstraint(relaxed.ties, relaxed.right, relaxed.right)
    bound = milp(-relaxed.gain, bounds=Bounds(0, 1), constraints=ties).fun
    best = max(best_subset(fourier, size).value for size in range(42))
    assert goal.scale * (relaxed.constant - bound) == pytest.approx(best)


def test_bad_input_is_named() -> None:
    fourier = sparse_game(6, 10, 0)
    with pytest.raises(SearchError, match=r"size=7 .* 0 to 6"):
        best_subset(fourier, 7)
    with pytest.raises(SearchError, match=r"size=3 .* 4 to 6"):
        best_subset(fourier, 3, removable=(0, 5))
    with pytest.raises(SearchError, match="output=2"):
        best_subset(fourier, 3, output=2)
    with pytest.raises(SearchError, match="margin=-1"):
        smallest_flip(fourier, margin=-1)
    with pytest.raises(SearchError, match="threshold=nan"):
        smallest_flip(fourier, float("nan"))
    with pytest.raises(SupportError, match="6"):
        smallest_flip(fourier, removable=[6])
    wide = SparseFourier.from_dict(30, {tuple(range(13)): 1.0})
    with pytest.raises(SearchError, match="13 players"):
        best_subset(wide, 10)
    assert best_subset(wide, 24, removable=range(8, 18)).is_proven


@pytest.mark.usefixtures("ways")
def test_smallest_sufficient_is_that_of_brute_force() -> None:
    @settings(max_examples=40, deadline=None)
    @given(fourier=games, level=st.floats(-3, 3))
    def holds(fourier: SparseFourier, level: float) -> None:
        n = fourier.num_players
        masks = every_mask(n)
        values = fourier(masks)[:, 0]
        if np.abs(values - level).min() < 1e-3:
            return
        across = values <= level if values[0] > level else values > level
        found = smallest_sufficient(fourier, level)
        if not across.any():
            assert found is None
            return
        sizes = masks.sum(axis=1)
        assert found is not None
        check(found, fourier, set(range(n)))
        assert found.is_proven
        assert len(found.kept) == found.at_least == sizes[across].min()
        assert (value_of(fourier, found) <= level) == (values[0] > level)
        assert value_of(fourier, found) == pytest.approx(found.value, abs=1e-9)

    holds()
