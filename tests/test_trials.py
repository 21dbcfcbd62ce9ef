"""Trials: of the sets of a size, the best that a budget finds."""

from itertools import combinations
from math import comb, inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import FunctionOracle, InputError, Ledger
from proxyspex import ProxySpex
from spex.errors import BudgetError, MethodError
from spex.exact import every_mask
from spex.search import best_subset
from spex.spectrum import SparseFourier
from spex.testing import planted
from spex.tried.proposals import WIDTH, Aim, Surrogate, proposals
from spex.tried.trials import SHARE, best_tried

PLAYERS, BUDGET = 8, 100
METHOD = ProxySpex(design="shapley")
MOST = [Aim(size) for size in range(1, PLAYERS)]


def oracle_of(spectrum: SparseFourier, scale: float = 1.0) -> FunctionOracle:
    return FunctionOracle(lambda masks: scale * spectrum(masks), spectrum.num_players)


def rough(seed: int) -> FunctionOracle:
    """No two masks have values that have to do with each other."""
    table = np.random.default_rng(seed).normal(size=2**PLAYERS)
    places = 2 ** np.arange(PLAYERS)
    return FunctionOracle(lambda masks: table[masks @ places], PLAYERS)


def all_values(oracle: FunctionOracle, size: int) -> np.ndarray:
    masks = every_mask(PLAYERS)
    return oracle.evaluate(masks[masks.sum(axis=1) == size])[:, 0]


@pytest.mark.parametrize("seed", range(3))
def test_the_best_of_each_size_is_found(seed: int) -> None:
    oracle = oracle_of(planted(PLAYERS, seed))
    for trial in best_tried(oracle, MOST, budget=BUDGET):
        values = all_values(oracle, trial.aim.size)
        assert trial.measured >= values.max() - 0.01 * np.ptp(values)


@pytest.mark.parametrize("seed", range(3))
def test_the_closest_of_each_size_is_found(seed: int) -> None:
    oracle = oracle_of(planted(PLAYERS, seed))
    full = float(oracle.evaluate(np.ones((1, PLAYERS), dtype=bool))[0, 0])
    aims = [Aim(size, full) for size in (2, 4, 6)]
    for trial in best_tried(oracle, aims, budget=BUDGET):
        values = all_values(oracle, trial.aim.size)
        least = np.abs(values - full).min()
        assert abs(trial.measured - full) <= least + 0.01 * np.ptp(values)


@pytest.mark.parametrize(("seed", "towards"), [(0, inf), (1, inf), (2, -inf), (3, 0.0)])
def test_no_worse_than_what_the_surrogate_takes_for_the_best(
    seed: int, towards: float
) -> None:
    oracle = rough(seed)
    count = int(SHARE * BUDGET)
    plan = METHOD.plan(PLAYERS, BUDGET - count, np.random.default_rng(seed))
    values = oracle.evaluate(plan.masks)
    found = METHOD.recover(plan, values, np.random.default_rng(seed)).fourier
    aims = [Aim(size, towards) for size in range(1, PLAYERS)]
    for trial in best_tried(oracle, aims, budget=BUDGET, seed=seed):
        mask = np.isin(np.arange(PLAYERS), trial.players)[None]
        assert len(trial.players) == trial.aim.size
        assert trial.measured == oracle.evaluate(mask)[0, 0]
        rows = plan.masks.sum(axis=1) == trial.aim.size
        known = [*values[rows, 0]]
        if np.isinf(towards):
            first = best_subset(found, trial.aim.size, largest=towards > 0).kept
            mask = np.isin(np.arange(PLAYERS), first)[None]
            known += [oracle.evaluate(mask)[0, 0]]
        losses = trial.aim.losses(np.array([trial.measured, *known]))
        assert losses[0] == losses.min()


@pytest.mark.parametrize("budget", [40, 120, 400])
def test_the_budget_is_kept_and_nothing_is_paid_twice(
    budget: int,
    tmp_path,  # type: ignore[no-untyped-def]
) -> None:
    asked: list[bytes] = []
    inner = rough(1)

    def counted(masks: np.ndarray) -> np.ndarray:
        asked.extend(mask.tobytes() for mask in masks)
        return inner.evaluate(masks)

    oracle = FunctionOracle(counted, PLAYERS, fingerprint="counted")
    with Ledger(tmp_path / "l.sqlite") as ledger:
        first = best_tried(oracle, MOST, budget=budget, ledger=ledger)
        assert len(asked) == len(set(asked)) <= budget
        assert budget > 256 or len(asked) > 0.8 * budget  # there is always more
        assert best_tried(oracle, MOST, budget=budget, ledger=ledger) == first
        assert len(asked) == len(set(asked))
    assert [trial.aim for trial in first] == MOST
    for trial in first:
        assert trial.tried <= comb(PLAYERS, trial.aim.size)


@pytest.mark.parametrize(("seed", "scale"), [(0, 0.25), (1, 4.0)])
def test_units_do_not_matter(seed: int, scale: float) -> None:
    aims = [Aim(2), Aim(4, -inf), Aim(5, 0.75)]
    scaled = [Aim(a.size, scale * a.towards) for a in aims]
    spectrum = planted(PLAYERS, seed)
    one = best_tried(oracle_of(spectrum), aims, budget=BUDGET)
    other = best_tried(oracle_of(spectrum, scale), scaled, budget=BUDGET)
    for before, after in zip(one, other, strict=True):
        assert after.measured == pytest.approx(scale * before.measured)


def test_all_outputs_can_be_aimed_at() -> None:
    tables = planted(PLAYERS, 1), planted(PLAYERS, 2)
    both = FunctionOracle(
        lambda masks: np.hstack([table(masks) for table in tables]),
        PLAYERS,
        outputs=("a", "b"),
    )
    for output, table in enumerate(tables):
        alone = best_tried(oracle_of(table), MOST, budget=BUDGET)
        assert best_tried(both, MOST, budget=BUDGET, output=output) == alone


def test_what_there_cannot_be_is_refused_before_anything_is_paid() -> None:
    def unasked(masks: np.ndarray) -> np.ndarray:
        raise AssertionError("it was asked")

    oracle = FunctionOracle(unasked, PLAYERS, outputs=("a",))
    with pytest.raises(InputError, match="aims is empty"):
        best_tried(oracle, [], budget=BUDGET)
    for size in (-1, PLAYERS + 1):
        with pytest.raises(InputError, match=f"size={size} .* Pass 0 to 8"):
            best_tried(oracle, [Aim(size)], budget=BUDGET)
    with pytest.raises(InputError, match="towards=nan"):
        best_tried(oracle, [Aim(1, nan)], budget=BUDGET)
    with pytest.raises(InputError, match="output=1 does not exist"):
        best_tried(oracle, MOST, budget=BUDGET, output=1)
    with pytest.raises(MethodError, match="cannot learn"):
        best_tried(oracle, MOST, budget=BUDGET, method=Unextended())  # type: ignore[arg-type]
    with pytest.raises(BudgetError, match="Pass budget=32 or more"):
        best_tried(oracle, MOST, budget=31)


class Unextended:
    """A method without `extended`."""


def test_the_smallest_budget_named_is_enough() -> None:
    assert len(best_tried(rough(2), MOST, budget=32)) == len(MOST)


@settings(max_examples=50, deadline=None)
@given(
    st.floats(-3, 3),
    st.floats(0.1, 2),
    st.floats(0.01, 3),
    st.sampled_from([0.5, inf, -inf]),
)
def test_expected_gains_are_what_they_are_on_average(
    mean: float, error: float, least: float, towards: float
) -> None:
    aim = Aim(1, towards)
    quantiles = (np.arange(20_001) + 0.5) / 20_001
    from scipy.special import ndtri

    draws = mean + error * ndtri(quantiles)
    expected = np.maximum(0, least - aim.losses(draws)).mean()
    [gain] = aim.expected_gains(np.array([mean]), error, least)
    assert gain == pytest.approx(expected, abs=1e-3)
    [sure] = aim.expected_gains(np.array([mean]), 0.0, least)
    assert sure == pytest.approx(max(0, least - aim.losses(np.array([mean]))[0]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 7), st.sampled_from([inf, -inf, 0.3]))
def test_proposals_are_sets_of_the_size_and_all_exchanges(
    seed: int, size: int, towards: float
) -> None:
    surrogate = Surrogate(planted(PLAYERS, seed), 0.1)
    best = np.arange(PLAYERS) >= PLAYERS - size
    removable = range(PLAYERS - 1)  # the last player stays
    masks = proposals(surrogate, Aim(size, towards), best, removable, 1.0)
    assert (masks.sum(axis=1) == size).all()
    assert masks[:, -1].all()
    found = {mask.tobytes() for mask in masks}
    assert len(found) == len(masks)
    for gone, new in combinations(range(PLAYERS - 1), 2):
        exchanged = best.copy()
        exchanged[[gone, new]] = best[[new, gone]]
        assert best[gone] == best[new] or exchanged.tobytes() in found


def test_proposals_for_many_players_are_not_all_exchanges() -> None:
    n = 10 * WIDTH
    surrogate = Surrogate(planted(n), 0.1)
    best = np.arange(n) < n // 2
    masks = proposals(surrogate, Aim(n // 2, 1.0), best, range(n), 1.0)
    assert len(masks) <= 4 + 2 * WIDTH**2
    losses = np.abs(surrogate(masks) - 1.0)
    assert losses.min() < abs(surrogate(best[None])[0] - 1.0)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_of_few_players_every_set_is_run(n: int) -> None:
    rng = np.random.default_rng(n)
    table = rng.normal(size=2**n)
    oracle = FunctionOracle(lambda m: table[m @ (1 << np.arange(n))], n)
    aims = [Aim(size) for size in range(n + 1)] + [Aim(1, towards=0.0)]
    masks = every_mask(n)
    for trial in best_tried(oracle, aims, budget=2**n):
        values = table[masks.sum(axis=1) == trial.aim.size]
        losses = trial.aim.losses(values)
        assert trial.measured == values[losses.argmin()]
        assert trial.tried == len(values)


def test_sizes_are_whole_numbers() -> None:
    oracle = FunctionOracle(lambda m: m.sum(axis=1), 8)
    with pytest.raises(InputError, match=r"size=2\.5"):
        best_tried(oracle, [Aim(2.5)], budget=60)  # type: ignore[arg-type]
