"""The transform of trees is exact, and the proxy keeps the method's contract."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyspex import Boosting, ProxySpex
from proxyspex.trees import fit_trees, forest_terms, mean_terms, read_forest
from spex import BudgetError, MethodError, SparseFourier, explain
from spex.exact import every_mask
from spex.masks import uniform_masks
from spex.testing import MethodContract, planted


class TestProxySpex(MethodContract):
    def make_method(self) -> ProxySpex:
        return ProxySpex()


def spectrum_of(terms: object, num_players: int) -> SparseFourier:
    everything = terms.largest(10**9)  # type: ignore[attr-defined]
    return SparseFourier.from_dict(num_players, everything)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 8),
    st.integers(1, 60),
    st.integers(0, 2**31 - 1),
)
def test_the_spectrum_of_a_forest_is_the_forest(
    num_players: int, depth: int, num_trees: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((200, num_players)) < 0.5
    values = rng.normal(size=200) + masks[:, 0]
    boosting = Boosting(num_trees=num_trees, max_depth=depth)
    booster = fit_trees(masks, values, boosting, seed)
    spectrum = spectrum_of(forest_terms(read_forest(booster), num_players), num_players)
    everything = every_mask(num_players)
    expected = booster.predict(everything.astype(np.float32))
    assert np.allclose(spectrum(everything)[:, 0], expected, atol=1e-9)


def test_the_mean_of_spectra_is_the_spectrum_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((200, 9)) < 0.5
    parts = []
    for seed in range(3):
        booster = fit_trees(masks, rng.normal(size=200), Boosting(num_trees=9), seed)
        parts.append(forest_terms(read_forest(booster), 9))
    everything = every_mask(9)
    each = [spectrum_of(part, 9)(everything) for part in parts]
    together = spectrum_of(mean_terms(parts), 9)(everything)
    assert np.allclose(together, np.mean(each, axis=0))


def test_a_larger_budget_begins_with_the_same_masks() -> None:
    for num_players in (12, 300):
        few = uniform_masks(num_players, 100, np.random.default_rng(0))
        many = uniform_masks(num_players, 400, np.random.default_rng(0))
        assert np.array_equal(many[:101], few)


def test_order_and_number_of_terms_are_limited() -> None:
    found = explain(
        planted(16), players=16, method=ProxySpex(max_order=2, num_terms=30), budget=300
    )
    assert len(found.fourier.supports) <= 30
    assert max(map(len, found.fourier.supports)) <= 2


def test_a_few_wild_values_do_not_wreck_it() -> None:
    """The empty and the full coalition of real functions are often outliers."""
    truth = planted(14)

    def wild(masks: np.ndarray) -> np.ndarray:
        return truth(masks)[:, 0] + 30.0 * masks.all(axis=1)

    masks = every_mask(14)
    values = truth(masks)[:, 0]
    found = explain(wild, players=14, method="proxyspex", budget=400)
    error = ((found.predict(masks) - values) ** 2).mean()
    assert error < 0.2 * values.var()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(MethodError, match="order 1 to 8"):
        ProxySpex(max_order=9)
    with pytest.raises(MethodError, match="num_terms"):
        ProxySpex(num_terms=0)
    with pytest.raises(BudgetError, match="budget=20"):
        explain(lambda m: m[:, 0], players=50, method="proxyspex", budget=10)
