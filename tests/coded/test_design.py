"""Coded designs: what they hold, what they spend, and how they grow."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spex import BudgetError, MethodError
from spex.coded import Spex
from spex.coded.design import CodedPlan, coded_plan
from spex.coded.shapes import (
    budget_for,
    budget_for_terms,
    num_uniform,
    shape_for,
    shapes,
    smallest_budget,
)

PLAYERS = (6, 14, 40, 131, 1000)
ORDER = 5


def plan_of(num_players: int, budget: int, seed: int, order: int = ORDER) -> CodedPlan:
    return coded_plan(num_players, order, budget, np.random.default_rng(seed))


def budgets(num_players: int) -> st.SearchStrategy[int]:
    largest = min(2**num_players, 3000)
    return st.integers(smallest_budget(num_players, ORDER), largest)


SIZED = st.sampled_from(PLAYERS).flatmap(
    lambda n: st.tuples(st.just(n), budgets(n), st.integers(0, 2**32 - 1))
)


@settings(max_examples=60, deadline=None)
@given(SIZED)
def test_a_budget_buys_as_many_distinct_masks_the_intact_one_first(
    sized: tuple[int, int, int],
) -> None:
    num_players, budget, seed = sized
    masks = plan_of(num_players, budget, seed).masks
    assert masks.shape == (budget, num_players)
    assert len(np.unique(np.packbits(masks, axis=1), axis=0)) == budget
    assert masks[0].all()


@pytest.mark.parametrize("num_players", [6, 7, 8, 9, 10])
@pytest.mark.parametrize("seed", [0, 4])
def test_a_budget_near_all_masks_buys_as_many_as_there_are(
    num_players: int, seed: int
) -> None:
    """Where most uniform and coded masks repeat others."""
    for budget in [*range(2**num_players - 6, 2**num_players + 2), 2**num_players * 2]:
        masks = plan_of(num_players, budget, seed).masks
        assert len(masks) == min(budget, 2**num_players)
        assert len(np.unique(masks, axis=0)) == len(masks)


@settings(max_examples=60, deadline=None)
@given(SIZED, st.data())
def test_a_larger_budget_begins_with_the_masks_of_a_smaller_one(
    sized: tuple[int, int, int], data: st.DataObject
) -> None:
    num_players, budget, seed = sized
    smaller = data.draw(budgets(num_players).filter(lambda b: b <= budget))
    few, many = (plan_of(num_players, b, seed) for b in (smaller, budget))
    assert np.array_equal(many.masks[:smaller], few.masks)


@pytest.mark.parametrize("num_players", PLAYERS[1:])
def test_stages_hold_the_masks_of_those_before(num_players: int) -> None:
    """Budgets on both sides of every stage up to 3,000 masks."""
    edges = [budget_for(s) for s in shapes(num_players, ORDER)]
    some = [b + d for b in edges if b < 3000 for d in (-1, 0) if b > edges[0] or d == 0]
    largest = plan_of(num_players, 3000, 1).masks
    for budget in some:
        assert np.array_equal(plan_of(num_players, budget, 1).masks, largest[:budget])


def test_masks_that_repeat_by_chance_do_not_change_those_that_follow() -> None:
    """Among 2^21 masks many seeds repeat a uniform one."""
    for seed in range(25):
        few, many = (plan_of(21, b, seed).masks for b in (5000, 5100))
        assert np.array_equal(many[:5000], few), f"seed {seed}"


@pytest.mark.parametrize("num_players", [40, 131, 1000])
def test_a_stage_is_complete_from_its_budget_on(num_players: int) -> None:
    for before, stage in zip(
        stages := [s for s in shapes(num_players, 3) if s.num_masks < 2500],
        stages[1:],
        strict=False,
    ):
        budget = budget_for(stage)
        assert plan_of(num_players, budget - 1, 2, order=3).shape == before
        assert plan_of(num_players, budget, 2, order=3).shape == stage
        assert shape_for(num_players, 3, budget - 1) == before
        assert shape_for(num_players, 3, budget) == stage


@pytest.mark.parametrize("num_players", [1, 2, 3, 20, 300])
def test_stages_grow_to_the_largest_order_first_and_then_bin_by_bin(
    num_players: int,
) -> None:
    stages = list(shapes(num_players, ORDER))
    sizes = [stage.num_masks for stage in stages]
    orders = [stage.t for stage in stages]
    assert sizes == sorted(set(sizes))
    assert orders == sorted(orders)
    assert max(orders) == min(ORDER, num_players)
    for stage in stages:
        assert max(stage.bs) - min(stage.bs) <= 1
        assert max(stage.bs) <= num_players


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([40, 300]), st.integers(1, 500))
def test_a_budget_for_terms_is_the_least_stage_with_room_for_them(
    num_players: int, num_terms: int
) -> None:
    stage = shape_for(num_players, ORDER, 2000)
    bought = shape_for(num_players, ORDER, budget_for_terms(stage, num_terms))
    assert bought.num_terms >= num_terms
    fewer = [s for s in shapes(num_players, ORDER) if s.num_masks < bought.num_masks]
    assert all(s.num_terms < num_terms for s in fewer if s.t == ORDER)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_a_uniform_mask_is_added_or_not_with_every_mask(length: int) -> None:
    assert num_uniform(length + 1) - num_uniform(length) in (0, 1)
    assert 0 <= num_uniform(length) <= length


@pytest.mark.parametrize(("num_players", "budget"), [(14, 900), (40, 1500), (131, 400)])
def test_rows_of_a_group_are_what_the_code_says(num_players: int, budget: int) -> None:
    """x = M_c l + d_p + o_c for every pattern l and delay d_p."""
    plan = plan_of(num_players, budget, 5)
    delays = np.vstack([np.zeros((1, num_players)), plan.shape.code.checks])
    for group, b in zip(plan.groups, plan.shape.bs, strict=True):
        assert group.columns.shape == (b, num_players)
        assert group.rows.shape == (plan.shape.num_delays, 2**b)
        patterns = np.arange(2**b)[:, None] >> np.arange(b) & 1
        expected = delays[:, None] + patterns @ group.columns.astype(int) + group.offset
        assert np.array_equal(plan.masks[group.rows], expected % 2 == 1)


@settings(max_examples=40, deadline=None)
@given(SIZED)
def test_columns_of_a_group_are_linearly_independent(
    sized: tuple[int, int, int],
) -> None:
    """So that every sum of some of them is another pattern."""
    plan = plan_of(*sized)
    for group in plan.groups:
        patterns = np.arange(2**group.b)[:, None] >> np.arange(group.b) & 1
        sums = patterns @ group.columns.astype(int) % 2
        assert len(np.unique(sums, axis=0)) == 2**group.b


@settings(max_examples=40, deadline=None)
@given(SIZED)
def test_the_bin_of_a_set_is_the_sum_of_its_columns(
    sized: tuple[int, int, int],
) -> None:
    plan = plan_of(*sized)
    members = np.random.default_rng(0).random((20, plan.masks.shape[1])) < 0.2
    for group in plan.groups:
        bits = members.astype(int) @ group.columns.T.astype(int) % 2
        bins = [np.bitwise_xor.reduce(group.hashes[row]) for row in members]
        assert np.array_equal(bins, bits @ (1 << np.arange(group.b)))


@settings(max_examples=40, deadline=None)
@given(SIZED)
def test_uniform_masks_are_in_no_group_and_enough(sized: tuple[int, int, int]) -> None:
    num_players, budget, seed = sized
    plan = plan_of(num_players, budget, seed)
    coded = np.concatenate([group.rows.ravel() for group in plan.groups])
    assert not np.isin(plan.uniform, coded).any()
    assert 0 not in plan.uniform
    assert np.isin(plan.uniform, plan.uncoded).all()
    assert np.array_equal(np.union1d(plan.uncoded, coded), np.arange(len(plan.masks)))
    if num_players >= 40:  # where masks hardly repeat
        assert len(plan.uniform) >= num_uniform(budget - 1)


def test_uniform_masks_are_uniform() -> None:
    rows = [(plan := plan_of(40, 2000, s)).masks[plan.uniform] for s in range(20)]
    kept = np.concatenate(rows)
    error = 0.5 / np.sqrt(len(kept))
    assert np.abs(kept.mean(axis=0) - 0.5).max() < 4 * error
    assert abs(kept.sum(axis=1).std() - np.sqrt(40) / 2) < 0.1


def test_a_design_does_not_hold_the_empty_coalition_by_construction() -> None:
    plans = [plan_of(30, 1000, seed) for seed in range(10)]
    assert not any((~plan.masks).all(axis=1).any() for plan in plans)


@pytest.mark.parametrize(
    ("num_players", "budget", "expected"),
    [
        (14, 300, "dad3403f3bbaa8cb9c4dfa15b35ca32713a841c5fd1e5cf717cefad1d7f25f4d"),
        (40, 500, "69a2f78a48ca291c3ab50d9caeca820e04a43921af243c44e7ff35a2b4acda67"),
    ],
)
def test_a_design_is_the_same_everywhere(
    num_players: int, budget: int, expected: str
) -> None:
    packed = np.packbits(plan_of(num_players, budget, 0).masks)
    assert hashlib.sha256(packed.tobytes()).hexdigest() == expected


@pytest.mark.parametrize("num_players", [6, 40, 1000])
def test_a_budget_below_the_smallest_is_refused_by_its_number(num_players: int) -> None:
    smallest = Spex().min_budget(num_players)
    rng = np.random.default_rng(0)
    assert len(Spex().plan(num_players, smallest, rng).masks) == smallest
    with pytest.raises(BudgetError, match=f"Pass budget={smallest} "):
        Spex().plan(num_players, smallest - 1, rng)


@pytest.mark.parametrize("max_order", [0, -1])
def test_an_order_below_one_is_refused(max_order: int) -> None:
    with pytest.raises(MethodError, match="at least 1"):
        Spex(max_order=max_order)
