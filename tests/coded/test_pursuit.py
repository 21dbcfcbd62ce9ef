"""Discoveries: how often they are false, and what they are tested by."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, kstest, ttest_1samp

from spex import SparseFourier
from spex.coded.bins import Bins, as_players
from spex.coded.design import CodedPlan, coded_plan
from spex.coded.pursuit import pursue
from spex.coded.significance import (
    FDR,
    JOINT,
    discoveries,
    least_explained,
    num_supports,
    p_values,
)
from spex.spectrum import Support
from spex.testing import random_spectrum, random_supports

ROUNDING = 1e-24  # energy of a bin


def plan_of(num_players: int, budget: int, seed: int = 0) -> CodedPlan:
    return coded_plan(num_players, 5, budget, np.random.default_rng(seed))


def noise(plan: CodedPlan, seed: int, num_outputs: int = 1) -> np.ndarray:
    rng = np.random.default_rng(1000 + seed)
    return rng.normal(size=(len(plan.masks), num_outputs))


def standardized(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / values.std(axis=0)


def found_in(plan: CodedPlan, values: np.ndarray) -> set[Support]:
    """Supports discovered, the empty one left out."""
    pursued = pursue(Bins.of(plan, standardized(values)), ROUNDING, 5)
    assert () in pursued.supports
    assert len(pursued.coefficients) == len(pursued.supports)
    return set(pursued.supports) - {()}


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 300), st.integers(0, 500))
def test_discoveries_are_those_of_benjamini_and_hochberg(
    seed: int, count: int, untried: int
) -> None:
    """Those that were never candidates count as tests with a p-value of 1."""
    rng = np.random.default_rng(seed)
    p = rng.random(count) ** rng.choice([1.0, 2.0, 6.0], count)
    everything = np.concatenate([p, np.ones(untried)])
    adjusted = false_discovery_control(everything, method="bh")[:count]
    assert np.array_equal(discoveries(p, count + untried), adjusted <= FDR)


def test_no_tests_are_no_discoveries() -> None:
    assert discoveries(np.zeros(0), 0).shape == (0,)


@pytest.mark.parametrize(("num_players", "budget"), [(20, 600), (131, 3000)])
@pytest.mark.parametrize("left_out", [False, True])
def test_p_values_of_nothing_are_uniform(
    num_players: int, budget: int, left_out: bool
) -> None:
    supports = random_supports(num_players, 300, 0)
    players = as_players(supports, num_players)
    group = np.arange(len(supports)) % 3 if left_out else None
    p = []
    for seed in range(8):
        plan = plan_of(num_players, budget, seed)
        bins = Bins.of(plan, noise(plan, seed))
        p.append(p_values(bins, players, np.zeros((len(players), 1)), group))
    assert kstest(np.concatenate(p), "uniform").pvalue > 0.01


def test_p_values_of_several_outputs_are_valid() -> None:
    """Bonferroni: at most as many below any level as there may be."""
    plan, supports = plan_of(60, 1500), random_supports(60, 3000, 0)
    bins, players = Bins.of(plan, noise(plan, 0, 5)), as_players(supports, 60)
    p = p_values(bins, players, np.zeros((len(players), 5)))
    for level in (0.01, 0.05, 0.2, 0.5):
        error = np.sqrt(level * (1 - level) / len(p))
        assert (p <= level).mean() < level + 4 * error


def test_p_values_of_what_is_there_are_small_and_depend_on_its_size_alone() -> None:
    """Whether a term was taken out, and so is given, or is still in the bins."""
    plan = plan_of(60, 1500)
    truth = random_spectrum(60, 10, 3)
    supports = as_players(list(truth.supports), 60)
    inside = Bins.of(plan, truth(plan.masks) + noise(plan, 3))
    outside = inside.copy()
    outside.subtract(supports, truth.coefficients)
    assert (p_values(outside, supports, truth.coefficients) < 1e-4).all()
    nothing = np.zeros_like(truth.coefficients)
    assert (p_values(inside, supports, nothing) < 0.05).all()


def test_what_all_groups_chose_is_tested_against_all_supports() -> None:
    """Bonferroni with the supports of its order, times the 6 orders from 0 to 5."""
    plan, supports = plan_of(60, 1500), [(3,), (4, 9), (1, 2, 3), (5, 6, 7, 8)]
    players, bins = as_players(supports, 60), Bins.of(plan, noise(plan, 0))
    nothing = np.full((4, 1), 0.2)
    alone = p_values(bins, players, nothing)
    joint = p_values(bins, players, nothing, np.full(4, JOINT))
    orders = [6 * comb(60, order) for order in (1, 2, 3, 4)]
    assert num_supports(60, 5)[1:5].tolist() == orders
    assert np.allclose(joint, np.minimum(1.0, alone * orders))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 200), st.integers(1, 5), st.integers(10, 300))
def test_what_must_be_explained_is_what_a_t_test_asks_for(
    num_players: int, max_order: int, samples: int
) -> None:
    """Of samples with mean r and spread 1 - r^2, at the level of all supports."""
    max_order = min(max_order, num_players)
    part = least_explained(num_players, max_order, samples)[1]
    values = np.random.default_rng(0).normal(size=samples)
    values -= values.mean()
    values *= np.sqrt((1 - part) / (values**2).mean())
    p = ttest_1samp(values + np.sqrt(part), 0.0).pvalue
    assert p * num_players * (max_order + 1) == pytest.approx(FDR, rel=1e-6)


def test_a_dense_spectrum_with_an_outlier_has_hardly_any_discoveries() -> None:
    """All its coefficients are as small; all groups' sums of bins are looked at."""
    found = []
    for seed in range(6):
        plan = plan_of(14, 500, seed)
        wave = 1000 * np.random.default_rng(seed).normal(size=14)
        values = np.sin(plan.masks @ wave) + 30.0 * (~plan.masks).all(axis=1)
        found.append(len(found_in(plan, values[:, None])))
    assert sum(found) <= 3


@pytest.mark.parametrize(
    ("num_players", "budget", "num_outputs"),
    [(20, 400, 1), (40, 400, 1), (20, 300, 3)],
)
def test_noise_alone_is_hardly_ever_a_discovery(
    num_players: int, budget: int, num_outputs: int
) -> None:
    """One run in ten may make some."""
    runs, with_some, number = 10, 0, 0
    for seed in range(runs):
        plan = plan_of(num_players, budget, seed)
        found = found_in(plan, noise(plan, seed, num_outputs))
        with_some += bool(found)
        number += len(found)
    assert with_some <= 4  # P < 0.005 if each has some with probability 0.1
    assert number <= runs


@pytest.mark.parametrize("budget", [1000, 1500])
def test_strong_terms_in_noise_are_discovered_and_few_others(budget: int) -> None:
    """10 dB: noise has a tenth of the signal's variance."""
    recall, precision = [], []
    for seed in range(4):
        truth, plan = random_spectrum(60, 15, seed), plan_of(60, budget, seed)
        signal = truth(plan.masks)
        scale = np.sqrt((truth.coefficients**2).sum() / 10)
        found = found_in(plan, signal + scale * noise(plan, seed))
        recall.append(len(found & set(truth.supports)) / 15)
        precision.append(len(found & set(truth.supports)) / len(found))
    assert np.mean(recall) >= 0.9
    assert np.mean(precision) >= 0.8


def test_more_noise_hides_terms_but_makes_no_others() -> None:
    """0 dB at a small budget."""
    right = wrong = 0
    for seed in range(6):
        truth, plan = random_spectrum(40, 12, seed), plan_of(40, 800, seed)
        scale = np.sqrt((truth.coefficients**2).sum())
        found = found_in(plan, truth(plan.masks) + scale * noise(plan, seed))
        right += len(found & set(truth.supports))
        wrong += len(found - set(truth.supports))
    assert right >= 8
    assert wrong <= 0.25 * (right + wrong)


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_what_is_exact_is_said_to_be_and_leaves_nothing(num_outputs: int) -> None:
    plan, one = plan_of(60, 1500), random_spectrum(60, 15, 2)
    table = one.coefficients * np.arange(1.0, num_outputs + 1)
    values = SparseFourier.from_terms(60, one.supports, table)(plan.masks)
    bins = Bins.of(plan, standardized(values))
    before = bins.table.copy()
    pursued = pursue(bins, ROUNDING, 5)
    assert pursued.is_exact
    assert np.array_equal(bins.table, before)
    large = np.abs(pursued.coefficients).max(axis=1) > 1e-9
    found = {s for s, keep in zip(pursued.supports, large, strict=True) if keep}
    assert found - {()} == set(one.supports)


def test_what_is_noisy_is_not_said_to_be_exact() -> None:
    plan = plan_of(60, 1500)
    values = random_spectrum(60, 15, 2)(plan.masks) + 1e-3 * noise(plan, 0)
    bins = Bins.of(plan, standardized(values))
    pursued = pursue(bins, ROUNDING, 5)
    assert not pursued.is_exact
    left = bins.copy()
    left.subtract(as_players(pursued.supports, 60), pursued.coefficients)
    assert (left.table**2).sum() < 1e-5 * (bins.table**2).sum()


@pytest.mark.parametrize("max_order", [1, 2, 3])
def test_nothing_beyond_the_largest_order_is_discovered(max_order: int) -> None:
    plan, truth = plan_of(60, 1500), random_spectrum(60, 15, 1)
    values = standardized(truth(plan.masks) + 0.3 * noise(plan, 1))
    pursued = pursue(Bins.of(plan, values), ROUNDING, max_order)
    assert max(map(len, pursued.supports)) <= max_order
