"""Masks that keep other than half: their design, and what is recovered from them."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import spex
from proxyspex import ProxySpex
from proxyspex.designs import biased_masks, is_sample
from proxyspex.process import ProductKernel
from spex import MethodError
from spex.basis import Basis
from spex.estimates import Estimates
from spex.exact import every_mask
from spex.faithfulness import r_squared
from spex.testing import MethodContract


class TestBiased(MethodContract):
    def make_method(self) -> ProxySpex:
        return ProxySpex(keep=0.7)


@pytest.mark.parametrize("keep", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("is_stratified", [False, True])
def test_masks_are_distinct_nested_and_keep_so_many(
    keep: float, is_stratified: bool
) -> None:
    strata = [0] * 30 + [1] * 60 + [2] * 10 if is_stratified else None
    few = biased_masks(100, 60, np.random.default_rng(3), keep, strata)
    many = biased_masks(100, 400, np.random.default_rng(3), keep, strata)
    assert many.shape == (401, 100)
    assert many[0].all()
    assert not many[1].any()
    assert np.array_equal(many[:61], few)
    assert len(np.unique(many, axis=0)) == 401
    assert is_sample(many[2:], keep)
    each = many[2:].mean(axis=0)
    assert np.abs(each - keep).max() < 4.5 * np.sqrt(keep * (1 - keep) / 399)


def test_every_stratum_keeps_its_share() -> None:
    strata = np.array([0, 1, 1, 1, 2, 2, 2, 2, 2, 2] * 10)
    masks = biased_masks(100, 200, np.random.default_rng(0), 0.7, strata.tolist())[2:]
    sizes = masks.sum(axis=1)
    assert sizes.std() > 2  # the number kept varies as in independent draws
    for stratum, count in enumerate((10, 30, 60)):
        kept = masks[:, strata == stratum].sum(axis=1)
        assert np.abs(kept - sizes * count / 100).max() < 2


def test_few_probable_masks_are_no_endless_search() -> None:
    masks = biased_masks(6, 60, np.random.default_rng(0), 0.95)
    assert 10 < len(masks) <= 61


@given(st.floats(0.1, 0.9), st.integers(0, 999))
@settings(max_examples=30)
def test_the_process_projects_exactly(keep: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, basis, masks = 5, Basis(keep), every_mask(5)
    kernel = ProductKernel(rng.uniform(0.01, 0.8, (2, n)), np.array([0.3, 0.7]), 0.1)
    rows = masks[rng.choice(2**n, 7, replace=False)]
    weights = rng.normal(size=7)
    sets = [s for t in range(4) for s in combinations(range(n), t)]
    signs, seen = 1.0 - 2 * masks, 1.0 - 2 * rows
    kept = masks.sum(axis=1)
    chances = keep**kept * (1 - keep) ** (n - kept)
    values = kernel(signs, seen) @ weights
    expected = basis.characters(masks, sets).astype(float).T @ (chances * values)
    found = kernel.spectrum(sets, seen, weights, basis.characters(rows, sets), basis)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def planted(keep: float, num_players: int = 30) -> spex.SparseFourier:
    """A function of few terms over masks that keep so many."""
    terms = {(): 1.0, (2,): -1.0, (5,): 0.8, (9,): 0.5, (2, 5): 0.9, (5, 9): -0.6}
    sets, table, _ = Basis(keep).to_fourier(
        [*terms], np.array([*terms.values()])[:, None]
    )
    return spex.SparseFourier.from_terms(num_players, sets, table)


@pytest.mark.parametrize("keep", [0.3, 0.8])
def test_planted_terms_are_found_in_their_own_basis(keep: float) -> None:
    truth = planted(keep)
    e = spex.explain(
        truth, players=30, method=ProxySpex(keep=keep), budget=500, max_order=3
    )
    assert e.basis.keep == keep
    assert e.faithfulness > 0.95
    found = {i.players: i.value for i in e.top(5)}
    expected = {(2,): -1.0, (5,): 0.8, (9,): 0.5, (2, 5): 0.9, (5, 9): -0.6}
    assert found.keys() == expected.keys()
    for players, value in expected.items():
        assert found[players] == pytest.approx(value, abs=0.12)
    fresh = np.random.default_rng(7).random((4000, 30)) < keep
    error = ((e.predict(fresh) - truth(fresh)[:, 0]) ** 2).mean()
    assert 1 - error / truth(fresh).var() == pytest.approx(e.faithfulness, abs=0.03)
    banzhaf = e.index("BV")
    assert banzhaf[(2,)] == pytest.approx(-found[(2,)] / Basis(keep).sigma)


def test_weighted_banzhaf_values_are_mean_effects() -> None:
    keep, n = 0.7, 6
    rng = np.random.default_rng(0)
    sets = [s for t in range(4) for s in combinations(range(n), t)]
    truth = spex.SparseFourier.from_terms(n, sets, rng.normal(size=(len(sets), 1)))
    masks = every_mask(n)
    e = spex.explain_values(masks[:60], truth(masks[:60]), method=ProxySpex(keep=keep))
    surrogate = e.fourier(masks)[:, 0]
    for player in range(n):
        without = ~masks[:, player]
        kept = masks[without].sum(axis=1)
        chances = keep**kept * (1 - keep) ** (n - 1 - kept)
        codes = np.flatnonzero(without)
        effect = surrogate[codes + (1 << player)] - surrogate[codes]
        assert e.index("BV")[(player,)] == pytest.approx(chances @ effect, abs=1e-9)
    pair = e.index("BII", order=2)
    total = sum(i.share for i in e.top(1000))
    assert total == pytest.approx(1.0)
    assert len(pair) > n


def test_given_masks_tell_how_many_they_keep(tmp_path: object) -> None:
    rng = np.random.default_rng(1)
    masks = rng.random((400, 20)) < 0.75
    values = masks[:, 3] + 2.0 * masks[:, 4] * masks[:, 7]
    e = spex.explain_values(masks, values)
    assert e.basis.keep == pytest.approx(0.75, abs=0.02)
    assert e.faithfulness > 0.95
    path = f"{tmp_path}/e.json"
    e.save(path)
    again = spex.load(path)
    assert again.basis == e.basis
    assert again.top(5) == e.top(5)


@pytest.mark.parametrize("design", [{"keep": 0.9}, {}, {"design": "shapley"}])
def test_a_mask_without_a_value_hardly_moves_the_faithfulness(design: dict) -> None:
    rng = np.random.default_rng(0)
    effects = rng.normal(size=40)

    def game(masks: np.ndarray) -> np.ndarray:
        values = masks @ effects + 2.0 * masks[:, 3] * masks[:, 5]
        return np.where(masks.any(axis=1), values, -40.0)

    method = ProxySpex(max_order=2, **design)
    plan = method.plan(40, 250, np.random.default_rng(1))
    values = game(plan.masks)[:, None]
    found = []
    for rows in ([], [70]):
        left = method.without(plan, np.array(rows, dtype=int))
        kept = np.delete(values, rows, axis=0)
        recovery = method.recover(left, kept, np.random.default_rng(2))
        truth = kept[recovery.held_out]
        weights = recovery.held_out_weights
        found.append(r_squared(truth, recovery.held_out_predictions, weights)[0])
        ends = left.masks[recovery.held_out].sum(axis=1)
        assert 0 < ends.min() <= ends.max() < 40
    assert found[1] == pytest.approx(found[0], abs=0.02)


@pytest.mark.parametrize(("num_players", "keep"), [(12, 0.9), (20, 0.95)])
def test_few_probable_masks_are_weighed_as_a_sample(
    num_players: int, keep: float
) -> None:
    rng = np.random.default_rng(0)
    effects = rng.normal(size=num_players)

    def game(masks: np.ndarray) -> np.ndarray:
        kept = masks.sum(axis=1)
        return masks @ effects + 6.0 * (kept < 0.75 * num_players)

    e = spex.explain(
        game, players=num_players, method=ProxySpex(keep=keep), budget=150, max_order=3
    )
    fresh = rng.random((20000, num_players)) < keep
    truth = game(fresh)
    true = 1 - ((e.predict(fresh) - truth) ** 2).mean() / truth.var()
    assert e.faithfulness.low - 0.15 < true < e.faithfulness.high + 0.15


def test_subsets_of_one_size_have_the_basis_of_their_share() -> None:
    rng = np.random.default_rng(0)
    masks = np.ones((600, 60), dtype=bool)
    for row in masks:
        row[rng.choice(60, 6, replace=False)] = False
    values = masks @ rng.normal(size=60) + 2.0 * masks[:, 0] * masks[:, 1]
    e = spex.explain_values(masks, values, max_order=2)
    assert e.basis.keep == pytest.approx(0.9)
    assert "no uniform sample" in e.provenance.reason


@given(st.floats(0.1, 0.9), st.integers(0, 99))
@settings(max_examples=20)
def test_standard_errors_are_those_of_independent_coefficients(
    keep: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    basis, n = Basis(keep), 4
    sets = [(), (0,), (1,), (0, 2), (1, 3), (0, 1, 2)]

    def estimates(coefficients: np.ndarray) -> Estimates:
        supports, table, _ = basis.to_fourier(sets, coefficients[:, None])
        spectrum = spex.SparseFourier.from_terms(n, supports, table)
        errors = np.ones((len(supports), 1))
        return Estimates(spectrum, errors, basis, None)

    base = rng.normal(size=len(sets)) + 3
    for name, order in (("SV", 1), ("Moebius", 3), ("k-SII", 2), ("FBII", 2)):
        listed, values, errors = estimates(base).index(name, order)
        squares = np.zeros(len(listed))
        for place in range(len(sets)):
            moved = base.copy()
            moved[place] += 1
            others, changed, _ = estimates(moved).index(name, order)
            at = dict(zip(others, changed[:, 0], strict=True))
            now = np.array([at[s] for s in listed])
            squares += (now - values[:, 0]) ** 2
        np.testing.assert_allclose(errors[:, 0], np.sqrt(squares), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 0.99}, "keep=0.99"),
        ({"keep": 0.7, "design": "paired"}, "masks of its own"),
        ({"strata": (0, 1), "design": "shapley"}, "masks of its own"),
        ({"strata": (0, 1), "is_unbiased": True}, "independent masks"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        ProxySpex(**settings)


def test_strata_of_few_players_are_refused() -> None:
    method = ProxySpex(strata=(0,) * 17 + (4,) * 3)
    with pytest.raises(MethodError, match="stratum 4 has 3 players"):
        method.plan(20, 100, np.random.default_rng(0))


def test_strata_need_a_number_for_each_player() -> None:
    method = ProxySpex(strata=(0, 1, 1))
    with pytest.raises(MethodError, match="3 numbers for 20 players"):
        method.plan(20, 100, np.random.default_rng(0))
