"""Bins hold what the definition says, and planted spectra are read out of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spex import SparseFourier
from spex.coded.bins import Bins, as_players, as_supports
from spex.coded.decode import decode
from spex.coded.design import CodedPlan, coded_plan
from spex.coded.pursuit import pursue
from spex.coded.significance import JOINT
from spex.spectrum import Support
from spex.testing import random_supports

ROUNDING = 1e-24  # energy of a bin


def plan_of(num_players: int, budget: int, seed: int = 0) -> CodedPlan:
    return coded_plan(num_players, 5, budget, np.random.default_rng(seed))


def spectrum_of(
    num_players: int, supports: list[Support], seed: int, num_outputs: int = 1
) -> SparseFourier:
    """Coefficients of either sign between 0.5 and 2."""
    rng = np.random.default_rng(seed)
    shape = (len(supports), num_outputs)
    table = rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 2.0, shape)
    return SparseFourier.from_terms(num_players, supports, table)


def read(truth: SparseFourier, plan: CodedPlan) -> dict[Support, np.ndarray]:
    """What decoding and fitting in turn find, without what only rounding left."""
    found = pursue(Bins.of(plan, truth(plan.masks)), ROUNDING, 5)
    assert len(set(found.supports)) == len(found.supports)
    table = dict(zip(found.supports, found.coefficients, strict=True))
    return {s: row for s, row in table.items() if np.abs(row).max() > 1e-9}


def is_read(truth: SparseFourier, plan: CodedPlan) -> bool:
    found = read(truth, plan)
    return set(found) == set(truth.supports) and all(
        np.allclose(found[support], row, atol=1e-9)
        for support, row in zip(truth.supports, truth.coefficients, strict=True)
    )


@settings(max_examples=50, deadline=None)
@given(st.sets(st.frozensets(st.integers(0, 29), max_size=6)))
def test_supports_as_rows_are_supports_again(sets: set[frozenset[int]]) -> None:
    supports = [tuple(sorted(s)) for s in sets]
    assert as_supports(as_players(supports, 30), 30) == supports


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([8, 20, 131]), st.integers(0, 2**31), st.integers(1, 3))
def test_a_bin_holds_the_terms_that_fall_into_it_and_nothing_else(
    num_players: int, seed: int, num_outputs: int
) -> None:
    """U[p] = sum of F(k) (-1)^<d_p + o_c, k> over k with M_c^T k = j."""
    plan = plan_of(num_players, 200, seed)
    supports = [(), *random_supports(num_players, 12, seed)]
    truth = spectrum_of(num_players, supports, seed, num_outputs)
    bins = Bins.of(plan, truth(plan.masks))
    expected = np.zeros_like(bins.table)
    delays = np.vstack([np.zeros((1, num_players)), plan.shape.code.checks])
    for support, coefficient in zip(truth.supports, truth.coefficients, strict=True):
        for c, group in enumerate(plan.groups):
            j = np.bitwise_xor.reduce(group.hashes[list(support)], initial=0)
            ones = (delays + group.offset)[:, list(support)].sum(axis=1)
            signs = (-1.0) ** ones[:, None]
            expected[bins.starts[c] + j] += signs * coefficient
    assert np.allclose(bins.table, expected, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([8, 20, 131]), st.integers(0, 2**31))
def test_terms_taken_out_leave_nothing_and_copies_alone(
    num_players: int, seed: int
) -> None:
    plan = plan_of(num_players, 200, seed)
    supports = random_supports(num_players, 12, seed)
    truth = spectrum_of(num_players, supports, seed, 2)
    bins = Bins.of(plan, truth(plan.masks))
    left, before = bins.copy(), bins.table.copy()
    left.subtract(as_players(list(truth.supports), num_players), truth.coefficients)
    assert np.abs(left.table).max() < 1e-10
    assert np.array_equal(bins.table, before)


@pytest.mark.parametrize(
    ("num_players", "num_terms", "budget"),
    [(20, 8, 700), (100, 8, 1500), (100, 60, 5000), (1000, 25, 4500)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_sparse_spectra_are_read_exactly(
    num_players: int, num_terms: int, budget: int, seed: int
) -> None:
    supports = [(), *random_supports(num_players, num_terms, seed)]
    truth = spectrum_of(num_players, supports, seed)
    assert is_read(truth, plan_of(num_players, budget, seed))


@pytest.mark.parametrize("num_players", [40, 131])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_one_term_of_any_order_is_read_from_the_smallest_design_for_it(
    num_players: int, order: int
) -> None:
    plan = plan_of(num_players, 400)
    assert plan.shape.t == 5
    rng = np.random.default_rng(order)
    for _ in range(10):
        support = tuple(sorted(rng.choice(num_players, order, False).tolist()))
        assert is_read(spectrum_of(num_players, [support], order), plan)


def test_nothing_is_read_from_empty_bins() -> None:
    plan = plan_of(40, 400)
    assert read(SparseFourier.from_terms(40, [], np.zeros((0, 1))), plan) == {}


@pytest.mark.parametrize("budget", [700, 1000])
def test_nine_in_ten_spectra_near_the_load_are_read(budget: int) -> None:
    read_ones = 0
    for seed in range(10):
        plan = plan_of(60, budget, seed)
        num_terms = plan.shape.num_terms
        supports = random_supports(60, num_terms, 100 + seed)
        read_ones += is_read(spectrum_of(60, supports, seed), plan)
    assert read_ones >= 9


@pytest.mark.parametrize("seed", range(5))
def test_outputs_that_share_supports_are_read_together(seed: int) -> None:
    supports = random_supports(50, 20, seed)
    truth = spectrum_of(50, supports, seed, num_outputs=4)
    assert is_read(truth, plan_of(50, 1500, seed))


@pytest.mark.parametrize("seed", range(5))
def test_outputs_that_have_only_some_of_the_supports_are_read_together(
    seed: int,
) -> None:
    """Each support is in one output of three, and in no other."""
    truth = spectrum_of(50, random_supports(50, 18, seed), seed, num_outputs=3)
    owner = np.arange(18)[:, None] % 3 == np.arange(3)
    parted = SparseFourier.from_terms(50, truth.supports, truth.coefficients * owner)
    assert is_read(parted, plan_of(50, 1500, seed))


def test_many_outputs_are_no_harder_than_one() -> None:
    """k outputs of one spectrum are decoded as it is, whatever their scale."""
    plan = plan_of(60, 1500)
    one = spectrum_of(60, random_supports(60, 20, 7), 7)
    scales = np.array([[1.0, -2.0, 0.5, 3.0, 0.1]])
    several = SparseFourier.from_terms(60, one.supports, one.coefficients * scales)
    alone, together = read(one, plan), read(several, plan)
    assert set(alone) == set(together) == set(one.supports)
    for support, row in together.items():
        assert np.allclose(row, alone[support] * scales[0], atol=1e-9)


def sharing_bins(plan: CodedPlan, groups: list[int], seed: int) -> list[Support]:
    """Two supports in one bin of these groups, and in different ones of the others."""
    num_players = plan.shape.code.num_players
    bins = Bins.of(plan, np.zeros((len(plan.masks), 1)))
    supports = random_supports(num_players, 4000, seed)
    where = bins.find(as_players(supports, num_players))
    same = where == where[0]
    wanted = np.isin(np.arange(len(plan.groups)), groups)
    fits = (same == wanted).all(axis=1)
    return [supports[0], supports[int(np.flatnonzero(fits)[0])]]


@pytest.mark.parametrize("groups", [[0], [1], [2], [0, 1], [1, 2]])
@pytest.mark.parametrize("seed", range(2))
def test_terms_in_one_bin_are_told_apart_by_the_other_groups(
    groups: list[int], seed: int
) -> None:
    plan = plan_of(60, 1500, seed)
    supports = sharing_bins(plan, groups, seed)
    assert is_read(spectrum_of(60, supports, seed), plan)


def ring(plan: CodedPlan, seed: int) -> list[Support]:
    """Four supports of which each shares a bin with another one in every group."""
    num_players = plan.shape.code.num_players
    bins = Bins.of(plan, np.zeros((len(plan.masks), 1)))
    supports = random_supports(num_players, 20_000, seed)
    where = bins.find(as_players(supports, num_players))
    for other in np.flatnonzero(
        (where == where[0]).sum(axis=1) * (where[:, 2] == where[0, 2]) == 1
    ):
        pair = where[[0, other]]
        third = (where == [pair[0, 0], pair[1, 1], -1])[:, :2].all(axis=1)
        fourth = (where == [pair[1, 0], pair[0, 1], -1])[:, :2].all(axis=1)
        for i in np.flatnonzero(third):
            same = np.flatnonzero(fourth & (where[:, 2] == where[i, 2]))
            if len(same) and where[i, 2] != where[0, 2]:
                return [supports[j] for j in (0, int(other), int(i), int(same[0]))]
    raise AssertionError("no such supports among those drawn")


def reads_ring_from_sums(seed: int, scale: float) -> bool:
    """Whether sums of bins had to help; all four must be read."""
    plan = plan_of(60, 1500, seed)
    supports = ring(plan, seed)
    where = Bins.of(plan, np.zeros((len(plan.masks), 1))).find(as_players(supports, 60))
    assert all(len(set(column)) == 2 for column in where.T.tolist())
    truth = SparseFourier.from_terms(60, supports, np.ones((4, 1)))
    noise = np.random.default_rng(seed).normal(size=(len(plan.masks), 1))
    found = decode(Bins.of(plan, truth(plan.masks) + scale * noise), ROUNDING)
    read_ones = as_supports(found.players, 60)
    assert set(supports) <= set(read_ones)
    return JOINT in found.group


def test_terms_that_are_alone_in_no_bin_are_read() -> None:
    """Of equal size, so that half of the signs in a bin of two are lost; with noise."""
    cases = [(seed, scale) for seed in range(4) for scale in (0.0, 0.1, 0.3)]
    assert sum(reads_ring_from_sums(*case) for case in cases) > 0


@pytest.mark.parametrize("groups", [[0], [0, 1]])
def test_equal_terms_in_one_bin_are_told_apart(groups: list[int]) -> None:
    """Half of the signs of their sum are of nothing but rounding."""
    for seed in range(4):
        plan = plan_of(60, 1500, seed)
        supports = sharing_bins(plan, groups, seed)
        truth = SparseFourier.from_terms(60, supports, np.ones((2, 1)))
        assert is_read(truth, plan)
