"""The basis of biased masks: orthonormal, exact, and the uniform one at one half."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spex import SparseFourier
from spex.basis import Basis
from spex.exact import every_mask, walsh_hadamard

KEEPS = st.floats(0.05, 0.95)


def random_spectrum(num_players: int, seed: int, outputs: int = 2) -> SparseFourier:
    rng = np.random.default_rng(seed)
    sets = [s for t in range(4) for s in combinations(range(num_players), t)]
    chosen = rng.choice(len(sets), size=min(8, len(sets)), replace=False)
    return SparseFourier.from_terms(
        num_players, [sets[c] for c in chosen], rng.normal(size=(len(chosen), outputs))
    )


def chances(masks: np.ndarray, keep: float) -> np.ndarray:
    """Probability of each mask."""
    kept = masks.sum(axis=1)
    return keep**kept * (1 - keep) ** (masks.shape[1] - kept)


@given(KEEPS, st.integers(1, 5))
def test_characters_are_orthonormal(keep: float, num_players: int) -> None:
    masks = every_mask(num_players)
    sets = [s for t in range(4) for s in combinations(range(num_players), t)]
    values = Basis(keep).characters(masks, sets).astype(float)
    gram = values.T @ (chances(masks, keep)[:, None] * values)
    np.testing.assert_allclose(gram, np.eye(len(sets)), atol=1e-4)


@given(KEEPS, st.integers(1, 6), st.integers(0, 99))
def test_a_spectrum_is_the_mean_of_value_times_character(
    keep: float, num_players: int, seed: int
) -> None:
    spectrum, basis = random_spectrum(num_players, seed), Basis(keep)
    masks = every_mask(num_players)
    sets, coefficients, _ = basis.of_fourier(spectrum)
    weighted = chances(masks, keep)[:, None] * spectrum(masks)
    expected = basis.characters(masks, sets).astype(float).T @ weighted
    np.testing.assert_allclose(coefficients, expected, atol=1e-4)


@given(KEEPS, st.integers(1, 6), st.integers(0, 99))
def test_there_and_back_is_the_same_function(
    keep: float, num_players: int, seed: int
) -> None:
    spectrum, basis = random_spectrum(num_players, seed), Basis(keep)
    there = basis.of_fourier(spectrum)
    sets, coefficients, _ = basis.to_fourier(there[0], there[1])
    back = SparseFourier.from_terms(num_players, sets, coefficients)
    masks = every_mask(num_players)
    np.testing.assert_allclose(back(masks), spectrum(masks), atol=1e-8)


@given(KEEPS, st.integers(1, 6), st.integers(0, 99))
def test_squares_add_up_to_the_mean_square(
    keep: float, num_players: int, seed: int
) -> None:
    spectrum = random_spectrum(num_players, seed)
    masks = every_mask(num_players)
    energy = chances(masks, keep) @ spectrum(masks) ** 2
    _, coefficients, _ = Basis(keep).of_fourier(spectrum)
    np.testing.assert_allclose((coefficients**2).sum(axis=0), energy, atol=1e-8)


@given(KEEPS, st.integers(1, 5), st.integers(0, 99))
def test_tables_transform_as_their_spectrum(
    keep: float, num_players: int, seed: int
) -> None:
    table = np.random.default_rng(seed).normal(size=(2**num_players, 3))
    masks, basis = every_mask(num_players), Basis(keep)
    sets = [tuple(np.flatnonzero(row).tolist()) for row in masks]
    weighted = chances(masks, keep)[:, None] * table
    expected = basis.characters(masks, sets).astype(float).T @ weighted
    np.testing.assert_allclose(basis.transform(table), expected, atol=1e-3)


@pytest.mark.parametrize("num_players", [1, 4])
def test_one_half_is_the_walsh_hadamard_transform(num_players: int) -> None:
    table = np.random.default_rng(0).normal(size=(2**num_players, 2))
    np.testing.assert_allclose(
        Basis().transform(table), walsh_hadamard(table) / 2**num_players
    )
    spectrum = random_spectrum(num_players, 1)
    sets, coefficients, _ = Basis().of_fourier(spectrum)
    for players, row in zip(sets, coefficients, strict=True):
        if players in spectrum.position:
            kept = spectrum.coefficients[spectrum.position[players]]
            np.testing.assert_allclose(row, kept)
