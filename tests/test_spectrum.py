"""The sparse spectrum against its definition."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import MaskError
from spex import SparseFourier, SupportError
from spex.exact import every_mask, walsh_hadamard
from spex.spectrum import characters


@st.composite
def spectra(draw: st.DrawFn) -> SparseFourier:
    """Any spectrum over 1 to 8 players with 1 to 3 outputs."""
    n = draw(st.integers(1, 8))
    everything = [s for r in range(n + 1) for s in combinations(range(n), r)]
    supports = draw(st.lists(st.sampled_from(everything), unique=True, max_size=20))
    k = draw(st.integers(1, 3))
    seed = draw(st.integers(0, 2**31))
    table = np.random.default_rng(seed).normal(size=(len(supports), k))
    return SparseFourier.from_terms(n, supports, table)


def by_definition(spectrum: SparseFourier, masks: np.ndarray) -> np.ndarray:
    values = np.zeros((len(masks), spectrum.num_outputs))
    for support, coefficient in zip(
        spectrum.supports, spectrum.coefficients, strict=True
    ):
        kept = masks[:, list(support)].sum(axis=1)
        values += (-1.0) ** kept[:, None] * coefficient
    return values


def test_the_sign_convention() -> None:
    """Kept is 1, so F({0}) < 0 means that keeping player 0 raises v."""
    spectrum = SparseFourier.from_dict(1, {(0,): -2.0})
    assert spectrum(np.array([[True], [False]])).tolist() == [[2.0], [-2.0]]


@settings(deadline=None)
@given(spectra())
def test_evaluation_is_the_definition(spectrum: SparseFourier) -> None:
    masks = every_mask(spectrum.num_players)
    assert np.allclose(spectrum(masks), by_definition(spectrum, masks))


@settings(deadline=None)
@given(spectra())
def test_dictionaries_go_both_ways(spectrum: SparseFourier) -> None:
    again = SparseFourier.from_dict(spectrum.num_players, spectrum.to_dict())
    assert again.supports == spectrum.supports
    if spectrum.supports:
        assert np.array_equal(again.coefficients, spectrum.coefficients)


@settings(deadline=None)
@given(spectra(), st.data())
def test_restriction_is_evaluation_with_players_held(
    spectrum: SparseFourier, data: st.DataObject
) -> None:
    n = spectrum.num_players
    fixed = data.draw(st.dictionaries(st.integers(0, n - 1), st.booleans()))
    masks = every_mask(n)
    held = masks.copy()
    for player, is_kept in fixed.items():
        held[:, player] = is_kept
    restricted = spectrum.restrict(fixed)
    assert np.allclose(restricted(masks), spectrum(held))
    assert not {p for s in restricted.supports for p in s} & fixed.keys()


@settings(deadline=None)
@given(spectra())
def test_energy_by_order_is_the_variance(spectrum: SparseFourier) -> None:
    values = spectrum(every_mask(spectrum.num_players))
    assert np.allclose(spectrum.energy_by_order()[1:].sum(axis=0), values.var(axis=0))


def test_characters_agree_between_the_dense_and_the_sparse_product() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((7, 6000)) < 0.5
    supports = [
        tuple(sorted(rng.choice(6000, 4, replace=False).tolist())) for _ in range(900)
    ]
    many = characters(masks, supports)
    few = np.hstack([characters(masks, [support]) for support in supports])
    assert np.array_equal(many, few)


def test_the_transform_is_its_own_inverse() -> None:
    table = np.random.default_rng(0).normal(size=(64, 3))
    assert np.allclose(walsh_hadamard(walsh_hadamard(table)) / 64, table)


@pytest.mark.parametrize("support", [(1, 0), (0, 0), (-1,), (3,)])
def test_a_support_that_is_not_a_set_of_players_is_refused(
    support: tuple[int, ...],
) -> None:
    with pytest.raises(SupportError, match="players 0 to 2"):
        SparseFourier.from_dict(3, {support: 1.0})


def test_a_support_given_twice_is_refused() -> None:
    with pytest.raises(SupportError, match="twice"):
        SparseFourier.from_terms(3, [(0,), (0,)], np.ones((2, 1)))


def test_masks_of_the_wrong_width_are_refused() -> None:
    with pytest.raises(MaskError, match="expected"):
        SparseFourier.from_dict(3, {(0,): 1.0})(np.ones((2, 4), bool))
