"""The coded design and its decoder on planted spectra."""

import numpy as np
import pytest

from spex import BudgetError, MethodError, SparseFourier, explain
from spex.coded import Spex
from spex.coded.decode import decode
from spex.coded.design import coded_plan, largest_shape, smallest_budget
from spex.testing import MethodContract


class TestSpex(MethodContract):
    def make_method(self) -> Spex:
        return Spex(max_order=3)


def random_spectrum(num_players: int, num_terms: int, seed: int) -> SparseFourier:
    rng = np.random.default_rng(seed)
    supports = {
        tuple(sorted(rng.choice(num_players, rng.integers(1, 6), False).tolist()))
        for _ in range(num_terms)
    }
    signs = rng.choice([-1.0, 1.0], len(supports))
    table = (signs * rng.uniform(0.5, 2.0, len(supports)))[:, None]
    return SparseFourier.from_terms(num_players, supports, table)


@pytest.mark.parametrize(
    ("num_players", "num_terms", "budget"),
    [(20, 10, 800), (100, 10, 2000), (100, 100, 8000), (1000, 30, 8000)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_sparse_spectra_of_order_five_are_recovered_exactly(
    num_players: int, num_terms: int, budget: int, seed: int
) -> None:
    truth = random_spectrum(num_players, num_terms, seed)
    found = explain(truth, players=num_players, method="spex", budget=budget, seed=seed)
    terms = found.fourier.to_dict()
    strong = {s for s, f in terms.items() if abs(f) > 1e-8}
    assert strong == set(truth.supports)
    for support, coefficient in truth.to_dict().items():
        assert terms[support] == pytest.approx(coefficient, abs=1e-8)
    assert found.faithfulness == pytest.approx(1.0)
    assert found.spent <= budget


def test_noise_does_not_hide_strong_interactions() -> None:
    truth = random_spectrum(60, 15, 3)
    rng = np.random.default_rng(0)

    def noisy(masks: np.ndarray) -> np.ndarray:
        values = truth(masks)[:, 0]
        return values + rng.normal(scale=0.5, size=len(values))

    found = explain(noisy, players=60, method="spex", budget=4000)
    top = {interaction.players for interaction in found.top(len(truth.supports))}
    assert len(top & set(truth.supports)) >= 0.9 * len(truth.supports)


def test_outputs_vote_together() -> None:
    truth = random_spectrum(50, 20, 0)
    table = np.random.default_rng(1).normal(size=(len(truth.supports), 4))
    several = SparseFourier.from_terms(50, truth.supports, table)
    plan = coded_plan(50, 5, 4000, np.random.default_rng(0))
    found = decode(plan, several(plan.masks))
    assert set(found) == set(several.supports)
    for support, row in zip(several.supports, several.coefficients, strict=True):
        assert np.allclose(found[support], row, atol=1e-8)


SIZES = [
    (num_players, budget)
    for num_players in (6, 8, 14, 33, 131, 1000)
    for budget in (55, 100, 333, 1000, 2500)
    if smallest_budget(num_players, 5) <= budget <= 2**num_players
]


@pytest.mark.parametrize(("num_players", "budget"), SIZES)
def test_any_budget_is_used_almost_whole(num_players: int, budget: int) -> None:
    plan = coded_plan(num_players, 5, budget, np.random.default_rng(0))
    distinct = len(np.unique(np.packbits(plan.masks, axis=1), axis=0))
    assert 0.8 * budget <= distinct <= budget


def test_a_design_does_not_hold_the_empty_coalition_by_construction() -> None:
    plans = [coded_plan(30, 5, 1000, np.random.default_rng(s)) for s in range(5)]
    assert not any((~plan.masks).all(axis=1).any() for plan in plans)


def test_more_budget_buys_more_bins() -> None:
    shapes = [largest_shape(131, 5, budget) for budget in (1000, 4000, 16_000)]
    bins = [shape.num_groups * 2**shape.b for shape in shapes]
    assert bins == sorted(set(bins))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(MethodError, match="at least"):
        Spex(max_order=0)
    with pytest.raises(BudgetError, match="Pass budget="):
        explain(lambda m: m[:, 0], players=500, method="spex", budget=30)
