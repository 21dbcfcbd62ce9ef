"""Regression by bins against the same regression with its design matrix written out."""

from dataclasses import replace

import numpy as np
import pytest

from spex import SparseFourier
from spex.coded import normal
from spex.coded.bins import Bins, as_players
from spex.coded.design import CodedPlan, coded_plan
from spex.coded.normal import Data, Normal, gram, moments
from spex.coded.refine import refine
from spex.regression import folds
from spex.spectrum import Support, characters
from spex.testing import random_supports

CASES = [(14, 400, 1), (40, 250, 2), (60, 600, 1), (131, 400, 3)]


def multiplicity(plan: CodedPlan) -> np.ndarray:
    """How often a row counts: as often as it is coded, or once."""
    times = np.zeros(len(plan.masks))
    for group in plan.groups:
        np.add.at(times, group.rows.ravel(), 1)
    return np.maximum(times, 1)


def some_supports(num_players: int, count: int, seed: int) -> list[Support]:
    """The empty one, and distinct ones of orders 1 to 4."""
    return [(), *random_supports(num_players, count, seed, max_order=4)]


def data_of(num_players: int, budget: int, num_outputs: int, seed: int = 0) -> Data:
    """Noise and a few terms; parts are of rows that count once, and of others."""
    rng = np.random.default_rng(seed)
    plan = coded_plan(num_players, 5, budget, rng)
    values = rng.normal(size=(len(plan.masks), num_outputs))
    supports = some_supports(num_players, 8, seed)
    values += characters(plan.masks, supports) @ rng.normal(size=(9, num_outputs))
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    some = np.union1d(plan.uniform, np.arange(len(plan.masks))[::3])
    return Data(plan, Bins.of(plan, values), values, folds(some, 5, rng))


def by_hand(
    data: Data,
    supports: list[Support],
    prior: np.ndarray,
    noise: float,
    part: int | None = None,
) -> np.ndarray:
    """Ridge regression on every row as often as it counts, without a part."""
    weights = multiplicity(data.plan)
    if part is not None:
        weights[data.parts[part]] = 0.0
    design = characters(data.plan.masks, supports).astype(float)
    matrix = (design.T * weights) @ design + noise * np.diag(1 / prior)
    return np.linalg.solve(matrix, (design.T * weights) @ data.values)


def priors(supports: list[Support], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.01, 1.0, len(supports))


@pytest.mark.parametrize(("num_players", "budget", "num_outputs"), CASES)
def test_products_of_characters_over_coded_masks_are_what_they_are(
    num_players: int, budget: int, num_outputs: int
) -> None:
    data = data_of(num_players, budget, num_outputs)
    supports = some_supports(num_players, 60, 1)
    players = as_players(supports, num_players)
    rows = np.concatenate([group.rows.ravel() for group in data.plan.groups])
    design = characters(data.plan.masks[rows], supports).astype(float)
    assert np.allclose(gram(data.bins, players), design.T @ design, atol=1e-8)
    right = design.T @ data.values[rows]
    assert np.allclose(moments(data.bins, players), right, atol=1e-8)


@pytest.mark.parametrize(("num_players", "budget", "num_outputs"), CASES)
@pytest.mark.parametrize("noise", [0.01, 0.5, 30.0])
def test_fits_on_all_rows_and_without_each_part_are_ridge_regressions(
    num_players: int, budget: int, num_outputs: int, noise: float
) -> None:
    data = data_of(num_players, budget, num_outputs)
    supports = some_supports(num_players, 60, 2)
    prior = priors(supports, 2)
    whole, without = Normal(data, supports).fit(prior, noise)
    assert np.allclose(whole, by_hand(data, supports, prior, noise), atol=1e-6)
    assert len(without) == len(data.parts)
    for part, fit in enumerate(without):
        expected = by_hand(data, supports, prior, noise, part)
        assert np.allclose(fit, expected, atol=1e-6)


@pytest.mark.parametrize(("num_players", "budget", "num_outputs"), CASES)
def test_the_held_out_error_is_that_of_fits_without_each_part(
    num_players: int, budget: int, num_outputs: int
) -> None:
    """Worked out without these fits, and in single precision."""
    data = data_of(num_players, budget, num_outputs)
    supports = some_supports(num_players, 60, 2)
    prior = priors(supports, 2)
    errors = []
    for number, rows in enumerate(data.parts):
        fit = by_hand(data, supports, prior, 0.5, number)
        errors.append(
            data.values[rows] - characters(data.plan.masks[rows], supports) @ fit
        )
    expected = (np.concatenate(errors) ** 2).mean()
    found = Normal(data, supports).held_out_error(prior, 0.5)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("num_players", "budget", "num_outputs"), CASES)
def test_more_terms_than_rows_are_fitted_as_well(
    num_players: int, budget: int, num_outputs: int
) -> None:
    data = data_of(num_players, budget, num_outputs)
    supports = some_supports(num_players, budget + 100, 3)
    prior = priors(supports, 3)
    whole, without = Normal(data, supports).fit(prior, 0.5)
    assert np.allclose(whole, by_hand(data, supports, prior, 0.5), atol=1e-5)
    expected = by_hand(data, supports, prior, 0.5, 2)
    assert np.allclose(without[2], expected, atol=1e-5)


@pytest.mark.parametrize(("num_players", "budget", "num_outputs"), CASES)
@pytest.mark.parametrize("noise", [0.5, 30.0])
def test_the_iterative_fit_is_the_direct_one_without_all_parts_at_once(
    num_players: int,
    budget: int,
    num_outputs: int,
    noise: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = data_of(num_players, budget, num_outputs)
    supports = some_supports(num_players, 60, 4)
    prior = priors(supports, 4)
    whole, _ = Normal(data, supports).fit(prior, noise)
    monkeypatch.setattr(normal, "MAX_DENSE", 10)
    again, again_without = Normal(data, supports).fit(prior, noise)
    everything = replace(data, parts=[np.concatenate(data.parts)])
    rest = by_hand(everything, supports, prior, noise, 0)
    for direct, iterative in [(whole, again), *((rest, fit) for fit in again_without)]:
        error = np.linalg.norm(iterative - direct)
        assert 0 < error < 1e-3 * np.linalg.norm(direct)


@pytest.mark.parametrize("is_fitted_before", [False, True])
@pytest.mark.parametrize("part", [None, 0, 4])
def test_a_fit_of_some_terms_is_a_ridge_regression_on_them_alone(
    is_fitted_before: bool, part: int | None
) -> None:
    data = data_of(40, 300, 2)
    supports = some_supports(40, 60, 5)
    prior = priors(supports, 5)
    every = Normal(data, supports)
    if is_fitted_before:
        every.fit(prior, 0.1)
    chosen = np.array([7, 0, 31, 59, 12])
    some = [supports[t] for t in chosen]
    fit = every.fit_some(chosen, prior[chosen], 0.3, part)
    expected = by_hand(data, some, prior[chosen], 0.3, part)
    assert np.allclose(fit, expected, atol=1e-6)


def sparse_data(num_players: int, budget: int, seed: int) -> tuple[Data, SparseFourier]:
    """Ten terms of unit size, and noise that is as large as one of them."""
    rng = np.random.default_rng(seed)
    plan = coded_plan(num_players, 5, budget, rng)
    supports = some_supports(num_players, 10, seed)[1:]
    truth = SparseFourier.from_terms(num_players, supports, np.ones((10, 1)))
    values = truth(plan.masks) + rng.normal(size=(len(plan.masks), 1))
    parts = folds(plan.uniform, 5, rng)
    return Data(plan, Bins.of(plan, values), values, parts), truth


def discovered(supports: list[Support]) -> dict[Support, np.ndarray]:
    return {(): np.zeros(1)} | {s: np.ones(1) for s in supports}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_error_is_that_of_the_held_out_predictions(seed: int) -> None:
    data, truth = sparse_data(30, 500, seed)
    model = refine(data, discovered(list(truth.supports)), 2)
    measured = data.values[data.held_out]
    assert model.error == pytest.approx(((measured - model.held_out) ** 2).mean())
    assert len(set(model.supports)) == len(model.supports) == len(model.coefficients)
    assert () in model.supports


@pytest.mark.parametrize("seed", range(3))
def test_held_out_predictions_are_as_good_as_those_on_fresh_masks(seed: int) -> None:
    """What is chosen by them may not be better than it says by much."""
    data, truth = sparse_data(30, 500, seed)
    model = refine(data, discovered(list(truth.supports)[:5]), 2)
    masks = np.random.default_rng(seed).random((4000, 30)) < 0.5
    fitted = characters(masks, model.supports) @ model.coefficients
    error = ((fitted - truth(masks)) ** 2).mean() + 1.0  # noise has variance 1
    assert model.error == pytest.approx(error, rel=0.35)


@pytest.mark.parametrize("seed", range(3))
def test_discoveries_that_are_all_there_is_are_hard_to_improve(seed: int) -> None:
    data, truth = sparse_data(30, 800, seed)
    model = refine(data, discovered(list(truth.supports)), 2)
    masks = np.random.default_rng(seed).random((2000, 30)) < 0.5
    fitted = characters(masks, model.supports) @ model.coefficients
    plain = 11 / len(data.values)  # error of least squares on the true terms
    assert ((fitted - truth(masks)) ** 2).mean() < 4 * plain


@pytest.mark.parametrize("seed", range(3))
def test_terms_that_were_not_discovered_are_fitted_if_of_low_order(seed: int) -> None:
    data, truth = sparse_data(30, 800, seed)
    low = [s for s in truth.supports if len(s) <= 2]
    high = [s for s in truth.supports if len(s) > 2]
    model = refine(data, discovered(high), 2)
    table = dict(zip(model.supports, model.coefficients[:, 0], strict=True))
    assert low
    assert all(table.get(s, 0.0) > 0.5 for s in low)
