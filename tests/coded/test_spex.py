"""SPEX from the function to the explanation."""

from functools import cache

import numpy as np
import pytest

from spex import Explanation, SparseFourier, Status, explain
from spex.coded import Spex
from spex.masks import uniform_masks
from spex.spectrum import Support
from spex.testing import MethodContract, random_spectrum


class TestSpex(MethodContract):
    def make_method(self) -> Spex:
        return Spex(max_order=3)


class Noisy:
    """A spectrum, with noise that is the same whenever a mask is asked for."""

    def __init__(self, truth: SparseFourier, decibels: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        signal = (truth.coefficients[[s != () for s in truth.supports]] ** 2).sum()
        self.truth = truth
        self.scale = np.sqrt(2 * signal * 10 ** (-decibels / 10))
        self.wave = 1000 * rng.normal(size=truth.num_players)

    def __call__(self, masks: np.ndarray) -> np.ndarray:
        return self.truth(masks)[:, 0] + self.scale * np.sin(masks @ self.wave)


def mostly_linear(num_players: int, seed: int) -> SparseFourier:
    """Every single player, and five pairs."""
    rng = np.random.default_rng(seed)
    terms: dict[Support, float] = {(): 0.5}
    terms |= {(i,): float(rng.normal()) for i in range(num_players)}
    for _ in range(5):
        pair = tuple(sorted(rng.choice(num_players, 2, replace=False).tolist()))
        terms[pair] = float(rng.choice([-1, 1]) * rng.uniform(1, 2))
    return SparseFourier.from_dict(num_players, terms)


def is_exactly(found: Explanation, truth: SparseFourier, rounding: float) -> bool:
    terms = found.fourier.to_dict()
    strong = {s for s, f in terms.items() if np.abs(f) > rounding}
    return strong == set(truth.supports) and all(
        abs(terms[s] - f) <= rounding for s, f in truth.to_dict().items()
    )


def fidelity(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """R² of predictions (m,) or (m, many)."""
    errors = (predicted.T - truth) ** 2
    return 1 - errors.mean(axis=-1) / truth.var()


def fresh_masks(num_players: int) -> np.ndarray:
    return np.random.default_rng(99).random((2000, num_players)) < 0.5


def best_linear_ridge(function: Noisy, budget: int, test: np.ndarray) -> float:
    """R² of ridge regression of order 1, its penalty chosen on the test masks."""
    num_players = function.truth.num_players
    masks = uniform_masks(num_players, budget - 1, np.random.default_rng(7))
    values, signs = function(masks), 1.0 - 2.0 * masks
    mean, shift = values.mean(), signs.mean(axis=0)
    spread, basis = np.linalg.eigh((signs - shift).T @ (signs - shift))
    right = basis.T @ ((signs - shift).T @ (values - mean))
    penalties = np.logspace(-2, 5, 30)
    fits = right[:, None] / (spread[:, None] + penalties)
    predicted = (1.0 - 2.0 * test - shift) @ (basis @ fits) + mean
    return fidelity(predicted, function.truth(test)[:, 0]).max()


def gains_over_ridge(num_players: int, budget: int, seeds: range) -> list[float]:
    """R² beyond the peer's, at 10 dB of noise."""
    gains = []
    for seed in seeds:
        function = Noisy(mostly_linear(num_players, seed), 10, seed)
        found = explain(
            function, players=num_players, method="spex", budget=budget, seed=seed
        )
        masks = fresh_masks(num_players)
        ours = fidelity(found.predict(masks), function.truth(masks)[:, 0])
        gains.append(ours - best_linear_ridge(function, budget, masks))
    return gains


@pytest.mark.parametrize(
    ("num_players", "num_terms", "budget"),
    [(20, 7, 700), (40, 12, 1000), (100, 8, 1500), (1000, 25, 4500)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_sparse_spectra_are_recovered_exactly_however_players_are_numbered(
    num_players: int, num_terms: int, budget: int, seed: int
) -> None:
    truth = random_spectrum(num_players, num_terms, seed)
    order = np.random.default_rng(seed).permutation(num_players)
    renamed = SparseFourier.from_dict(
        num_players,
        {tuple(sorted(order[list(s)].tolist())): f for s, f in truth.to_dict().items()},
    )

    def moved(masks: np.ndarray) -> np.ndarray:
        return truth(masks[:, order])

    for function, expected in ((truth, truth), (moved, renamed)):
        found = explain(
            function, players=num_players, method="spex", budget=budget, seed=seed
        )
        assert is_exactly(found, expected, 1e-9)
        assert found.faithfulness == pytest.approx(1.0)
        assert found.spent == budget


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, -1e6, 1e12])
@pytest.mark.parametrize("offset", [0.0, 1.0, -1e6])
def test_terms_are_exact_to_rounding_in_any_unit(scale: float, offset: float) -> None:
    """The offset in units of the spread."""
    truth = random_spectrum(40, 12, 5)
    found = explain(
        lambda masks: scale * (truth(masks) + offset),
        players=40,
        method="spex",
        budget=1000,
    )
    terms = {s: f / scale for s, f in found.fourier.to_dict().items()}
    assert {s for s in terms if s} == set(truth.supports)
    assert all(
        terms[s] == pytest.approx(f, abs=1e-8) for s, f in truth.to_dict().items()
    )
    assert terms.get((), 0.0) == pytest.approx(offset, rel=1e-8, abs=1e-8)


@cache
def noisy_and_its_fit() -> tuple[Noisy, Explanation]:
    """With values of spread about 4."""
    function = Noisy(random_spectrum(30, 10, 5), 10, 1)
    return function, explain(function, players=30, method="spex", budget=500)


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 1e6), (1.0, 1e9), (-1e12, 1e15)])
def test_the_fit_of_noisy_values_does_not_depend_on_their_unit(
    scale: float, offset: float
) -> None:
    """Down to a spread of 1e-12 of the offset, of which four digits are left."""
    (function, plain), masks = noisy_and_its_fit(), fresh_masks(30)
    moved = explain(
        lambda masks: scale * function(masks) + offset,
        players=30,
        method="spex",
        budget=500,
    )
    assert set(moved.fourier.supports) == set(plain.fourier.supports)
    again = (moved.predict(masks) - offset) / scale
    assert np.allclose(again, plain.predict(masks), atol=3e-3)


def test_faithfulness_does_not_depend_on_an_offset() -> None:
    """Of 1e9 times the values' spread, of which seven digits are left."""
    function, plain = noisy_and_its_fit()
    spread = function(fresh_masks(30)).std()
    moved = explain(
        lambda masks: function(masks) / spread + 1e9,
        players=30,
        method="spex",
        budget=500,
    )
    assert moved.faithfulness == pytest.approx(plain.faithfulness, abs=1e-3)


def test_strong_terms_in_noise_are_recovered_and_few_others_stand_out() -> None:
    """10 dB; what stands out has an interval without 0."""
    truth = random_spectrum(60, 15, 0)
    found = explain(Noisy(truth, 10, 0), players=60, method="spex", budget=1500)
    everything = found.top(10**6)
    out = {i.players for i in everything if i.low > 0 or i.high < 0}
    assert len(out & set(truth.supports)) >= 0.9 * 15
    assert len(out & set(truth.supports)) >= 0.8 * len(out)
    strongest = {i.players for i in everything[:15]}
    assert len(strongest & set(truth.supports)) >= 0.9 * 15


@pytest.mark.parametrize(("budget", "seeds"), [(150, 6), (400, 2), (1500, 1)])
def test_what_is_mostly_linear_is_explained_as_well_as_by_the_best_linear_ridge(
    budget: int, seeds: int
) -> None:
    """On average; where a budget tells few pairs, one or the other is luckier."""
    assert np.mean(gains_over_ridge(40, budget, range(seeds))) >= 0


def test_many_players_are_explained_as_well_as_by_the_best_linear_ridge() -> None:
    """To .01, which is what two draws of masks differ by."""
    (gain,) = gains_over_ridge(1200, 3000, range(1))
    assert gain >= -0.01


@pytest.mark.parametrize(("num_players", "budget"), [(40, 300), (100, 500)])
def test_a_dense_spectrum_is_called_one_and_told_what_it_takes(
    num_players: int, budget: int
) -> None:
    wave = 1000 * np.random.default_rng(0).normal(size=num_players)
    found = explain(
        lambda masks: np.sin(masks @ wave),
        players=num_players,
        method="spex",
        budget=budget,
    )
    assert found.status is Status.POOR
    assert "takes at least" in found.provenance.reason
    needed = int(found.provenance.reason.split("about ")[-1].split(" ")[0])
    assert needed > budget


def test_a_spectrum_that_is_dense_in_part_is_called_partly_faithful() -> None:
    rng = np.random.default_rng(0)
    wave, weights = 1000 * rng.normal(size=40), rng.normal(size=40)
    weights *= 1.2 / np.linalg.norm(weights)

    def partly(masks: np.ndarray) -> np.ndarray:
        return np.sin(masks @ wave) + (1.0 - 2.0 * masks) @ weights

    found = explain(partly, players=40, method="spex", budget=400)
    assert found.status is Status.PARTIAL
    assert found.faithfulness.low <= 1.44 / (1.44 + 0.5)


def test_a_sparse_spectrum_is_not_told_to_pay_more() -> None:
    found = explain(random_spectrum(40, 10, 0), players=40, method="spex", budget=1000)
    assert found.status is Status.FAITHFUL
    assert "takes at least" not in found.provenance.reason
