"""The transform of trees is exact."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyspex import Boosting
from proxyspex.trees import fit_trees, forest_terms, mean_terms, read_forest, tree_data
from spex import SparseFourier
from spex.exact import every_mask
from spex.masks import uniform_masks


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
    boosting = Boosting(num_trees=num_trees, max_depth=depth, num_leaves=2**depth)
    booster = fit_trees(tree_data(masks, boosting), values, boosting, seed)
    spectrum = spectrum_of(forest_terms(read_forest(booster), num_players), num_players)
    everything = every_mask(num_players)
    expected = booster.predict(everything.astype(np.float32))
    assert np.allclose(spectrum(everything)[:, 0], expected, atol=1e-9)


def test_the_mean_of_spectra_is_the_spectrum_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((200, 9)) < 0.5
    parts = []
    for seed in range(3):
        settings = Boosting(num_trees=9)
        data = tree_data(masks, settings)
        booster = fit_trees(data, rng.normal(size=200), settings, seed)
        parts.append(forest_terms(read_forest(booster), 9))
    everything = every_mask(9)
    each = [spectrum_of(part, 9)(everything) for part in parts]
    together = spectrum_of(mean_terms(parts), 9)(everything)
    assert np.allclose(together, np.mean(each, axis=0))


def test_coefficients_are_looked_up_by_support() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((200, 9)) < 0.5
    settings = Boosting(num_trees=30)
    data = tree_data(masks, settings)
    forest = forest_terms(
        read_forest(fit_trees(data, masks @ rng.normal(size=9), settings, 0)), 9
    )
    terms = forest.largest(10**9)
    asked = [*terms, (0, 1, 2, 3, 4, 5, 6, 7, 8)]
    assert forest.of(asked).tolist() == [*terms.values(), 0.0]


def test_a_larger_budget_begins_with_the_same_masks() -> None:
    for num_players in (12, 300):
        few = uniform_masks(num_players, 100, np.random.default_rng(0))
        many = uniform_masks(num_players, 400, np.random.default_rng(0))
        assert np.array_equal(many[:101], few)
