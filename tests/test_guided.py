"""A first guess: it adds nothing but what it knows, and costs no ablations."""

from itertools import combinations

import numpy as np
import pytest

import spex
from proxyspex import ProxySpex
from spex import Guided, MethodError, SparseFourier
from spex.coded import Spex
from spex.testing import MethodContract

N = 60


class Unguided(Guided):
    """A guess of nothing, of whatever game is asked for."""

    def __init__(self, method: ProxySpex) -> None:
        object.__setattr__(self, "method", method)

    def _check_players(self, num_players: int) -> None:
        pass

    def recover(self, plan, values, rng):  # type: ignore[no-untyped-def]
        blank = SparseFourier.from_terms(
            plan.masks.shape[1], [()], np.zeros((1, values.shape[1]))
        )
        return Guided(self.method, (blank,)).recover(plan, values, rng)


class TestGuided(MethodContract):
    def make_method(self) -> Guided:
        return Unguided(ProxySpex())


def dense_game(seed: int = 0) -> tuple[SparseFourier, np.ndarray]:
    """Effects of all players, some pairs, in two outputs; and the effects."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(size=(N, 2))
    terms = {(i,): -effects[i] / 2 for i in range(N)}
    for pair in list(combinations(range(8), 2))[:10]:
        terms[pair] = 0.4 * rng.normal(size=2)
    return SparseFourier.from_dict(N, terms), effects


def r2(e: spex.Explanation, truth: SparseFourier, full: bool) -> float:
    masks = np.random.default_rng(9).random((2000, N)) < 0.5
    predict = e.full if full else e.fourier
    errors = ((predict(masks) - truth(masks)) ** 2).mean(axis=0)
    return float((1 - errors / truth(masks).var(axis=0)).mean())


def test_a_good_guess_in_any_units_saves_ablations() -> None:
    truth, effects = dense_game()
    units = np.array([0.2, -3.0])
    method = ProxySpex(max_order=2)
    plain = spex.explain(truth, players=N, method=method, budget=100)
    guided = Guided.additive(method, units * effects)
    good = spex.explain(truth, players=N, method=guided, budget=100)
    assert good.spent == plain.spent == 100
    for full in (True, False):
        assert r2(good, truth, full) > 0.85
        assert r2(plain, truth, full) < 0.8
    assert good.faithfulness == pytest.approx(r2(good, truth, False), abs=0.05)
    assert float(good.full_faithfulness) == pytest.approx(  # type: ignore[arg-type]
        r2(good, truth, True), abs=0.05
    )
    assert "first guess, times 4.7" in good.provenance.reason


def test_a_guess_that_is_noise_does_little_harm() -> None:
    truth, _ = dense_game()
    noise = np.random.default_rng(3).normal(size=(N, 2))
    method = ProxySpex(max_order=2)
    plain = spex.explain(truth, players=N, method=method, budget=300)
    bad = spex.explain(
        truth, players=N, method=Guided.additive(method, noise), budget=300
    )
    assert r2(bad, truth, True) > r2(plain, truth, True) - 0.02


def test_guesses_that_know_different_players_are_mixed() -> None:
    truth, effects = dense_game()
    half = (np.arange(N) < N // 2)[:, None]
    noise = np.random.default_rng(3).normal(size=(N, 2))
    parts = [5 * effects * half, 0.1 * effects * ~half, noise]
    scores = [
        r2(
            spex.explain(
                truth,
                players=N,
                method=Guided.additive(ProxySpex(max_order=2), *guesses),
                budget=100,
            ),
            truth,
            True,
        )
        for guesses in (parts, parts[::-1], parts[:1])
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert scores[0] > scores[2] + 0.05


def test_the_mix_is_the_best_with_nothing_below_zero() -> None:
    _, effects = dense_game()
    rng = np.random.default_rng(0)
    masks = rng.random((200, N)) < 0.5
    guesses = [effects[:, :1], -effects[:, :1] + rng.normal(size=(N, 1))]
    method = Guided.additive(ProxySpex(max_order=2), *guesses)
    e = spex.explain_values(masks, masks @ effects[:, :1], method=method)
    assert "first guess, times 1 and 0;" in e.provenance.reason


@pytest.mark.parametrize("count", [1, 10, 40])
def test_guesses_that_are_noise_are_not_said_to_explain(count: int) -> None:
    said, true = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        masks, fresh = rng.random((60, 30)) < 0.5, rng.random((500, 30)) < 0.5
        guesses = [rng.normal(size=(30, 1)) for _ in range(count)]
        method = Guided.additive(ProxySpex(max_order=1), *guesses)
        e = spex.explain_values(masks, rng.normal(size=60), method=method)
        said.append(float(e.faithfulness))
        errors = rng.normal(size=500) - e.fourier(fresh)[:, 0]
        true.append(1 - float((errors**2).mean()))
    assert np.mean(said) < max(0.05, np.mean(true) + 0.15)


@pytest.mark.parametrize(
    "guess",
    [
        np.full((5, 1), np.nan),
        [[1.0], [np.inf]],
        np.ones(5),
        np.ones((5, 1)) * 1j,
        [["a"]],
    ],
)
def test_guesses_that_are_no_table_of_numbers_are_refused(guess: object) -> None:
    with pytest.raises(MethodError, match=r"guess"):
        Guided.additive(ProxySpex(), guess)  # type: ignore[arg-type]


def test_the_surrogate_is_the_spectrum_and_predicts_what_was_held_out() -> None:
    truth, effects = dense_game()
    method = Guided.additive(ProxySpex(max_order=2), effects)
    plan = method.plan(N, 150, np.random.default_rng(0))
    found = method.recover(plan, truth(plan.masks), np.random.default_rng(1))
    assert found.standard_errors.shape == found.fourier.coefficients.shape
    assert (found.standard_errors > 0).all()
    errors = truth(plan.masks[found.held_out]) - found.held_out_predictions
    assert 1 - errors.var() / truth(plan.masks).var() > 0.9


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_the_value_with_no_player_does_not_set_the_slope(keep: float) -> None:
    _, effects = dense_game()

    def game(masks: np.ndarray) -> np.ndarray:
        values = masks @ effects[:, 0]
        return np.where(masks.any(axis=1), values, 500.0)

    method = Guided.additive(ProxySpex(max_order=2, keep=keep), effects[:, :1])
    e = spex.explain(game, players=N, method=method, budget=80)
    assert "first guess, times 1;" in e.provenance.reason
    assert e.faithfulness > 0.99


def test_guesses_of_something_else_are_refused() -> None:
    method = Guided.additive(ProxySpex(), np.ones((5, 2)))
    with pytest.raises(MethodError, match="5 players"):
        spex.explain(lambda m: m.sum(axis=1), players=30, method=method, budget=50)
    with pytest.raises(MethodError, match="2 outputs"):
        spex.explain_values(
            np.random.default_rng(0).random((60, 5)) < 0.5,
            np.zeros(60),
            method=method,
        )
    with pytest.raises(MethodError, match="4 players and 2 outputs, 5 players and 2"):
        Guided.additive(ProxySpex(), np.ones((5, 2)), np.ones((4, 2)))
    with pytest.raises(MethodError, match="of nothing"):
        Guided.additive(ProxySpex())
    for other in ("proxyspex", Spex()):
        with pytest.raises(MethodError, match="cannot be guided"):
            Guided(other, method.guesses)  # type: ignore[arg-type]
