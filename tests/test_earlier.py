"""Going on from an earlier explanation, and what a budget buys."""

from pathlib import Path

import numpy as np
import pytest

from oracles import FunctionOracle, InputError, Ledger
from spex import BudgetError, MethodError, SparseFourier, explain, load, outlook
from spex.testing import planted

NUM_PLAYERS = 30


class Counting:
    """A planted game that keeps what it was asked."""

    def __init__(self, seed: int = 0) -> None:
        self.truth = planted(NUM_PLAYERS, seed)
        self.asked: list[np.ndarray] = []

    def __call__(self, masks: np.ndarray) -> np.ndarray:
        self.asked.append(masks)
        return self.truth(masks)

    @property
    def count(self) -> int:
        return sum(map(len, self.asked))


@pytest.mark.parametrize("method", ["spex", "proxyspex"])
def test_going_on_pays_for_the_difference_only(method: str) -> None:
    game = Counting()
    first = explain(game, players=NUM_PLAYERS, method=method, budget=600, seed=7)
    second = explain(game, players=NUM_PLAYERS, budget=900, earlier=first)
    assert second.provenance.method == method
    assert second.provenance.paid == second.spent - first.spent
    assert game.count == second.spent
    assert len(np.unique(np.vstack(game.asked), axis=0)) == game.count
    fresh = explain(game, players=NUM_PLAYERS, method=method, budget=900, seed=7)
    assert second.fourier.to_dict() == fresh.fourier.to_dict()


def test_going_on_doubles_the_budget_by_itself() -> None:
    first = explain(Counting(), players=NUM_PLAYERS, budget=300, max_order=2)
    second = explain(Counting(), players=NUM_PLAYERS, earlier=first)
    assert second.provenance.budget == 600
    assert second.provenance.max_order == 2


def test_going_on_from_a_file_takes_what_the_ledger_has(tmp_path: Path) -> None:
    game = Counting()
    oracle = FunctionOracle(game, NUM_PLAYERS, fingerprint="planted 0")
    saved = tmp_path / "first.json"
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        explain(oracle, method="spex", budget=500, seed=3, ledger=ledger).save(saved)
        second = explain(oracle, budget=900, earlier=load(saved), ledger=ledger)
    assert second.provenance.method == "spex"
    assert second.provenance.paid == game.count - 500 == 400


def test_going_on_to_all_masks_is_exact() -> None:
    truth = planted(8)
    first = explain(truth, players=8, method="spex", budget=100)
    second = explain(truth, players=8, budget=256, earlier=first)
    assert second.provenance.method == "exact"
    assert second.provenance.paid == 156


def test_what_cannot_be_gone_on_from_is_refused(tmp_path: Path) -> None:
    game = Counting()
    first = explain(game, players=NUM_PLAYERS, budget=200)
    before = game.count
    with pytest.raises(InputError, match="another oracle"):
        explain(game, players=NUM_PLAYERS + 1, earlier=first)
    named = FunctionOracle(game, NUM_PLAYERS, fingerprint="another")
    with pytest.raises(InputError, match="another oracle"):
        explain(named, earlier=first)
    first.save(tmp_path / "first.json")
    with pytest.raises(InputError, match="Pass the ledger"):
        explain(game, players=NUM_PLAYERS, earlier=load(tmp_path / "first.json"))
    assert game.count == before


@pytest.mark.parametrize("num_players", [2, 8, 100, 10_000])
def test_an_outlook_says_what_the_plan_then_holds(num_players: int) -> None:
    view = outlook(num_players)
    budgets = [row.budget for row in view.coded]
    assert budgets == sorted(set(budgets))
    assert all(row.budget <= 2**num_players for row in view.coded)
    terms = [row.num_terms for row in view.coded]
    assert terms == sorted(terms)


def test_the_outlook_for_a_budget_is_the_design_it_buys() -> None:
    view = outlook(60, 1500)
    truth = SparseFourier.from_dict(60, {(0, 59): 1.0})
    found = explain(truth, players=60, method="spex", budget=1500)
    shape = view.coded[0].shape
    bins = " + ".join(str(2**b) for b in shape.bs)
    assert f"{bins} bins of {shape.num_delays} delays" in found.provenance.reason
    # masks that repeat are not paid for, which leaves room for a few more
    assert found.faithfulness.num_masks >= view.coded[0].num_uniform


def test_as_many_terms_as_the_outlook_says_are_found() -> None:
    row = outlook(50, 1200).coded[0]
    successes = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        terms: dict[tuple[int, ...], float] = {}
        while len(terms) < row.num_terms:
            players = rng.choice(50, rng.integers(1, 6), replace=False)
            terms[tuple(sorted(players.tolist()))] = float(rng.normal())
        truth = SparseFourier.from_dict(50, terms)
        found = explain(truth, players=50, method="spex", budget=1200, seed=seed)
        successes += found.fourier.to_dict().keys() - {()} == terms.keys()
    assert successes >= 8


def test_bad_questions_about_budgets_are_refused() -> None:
    with pytest.raises(BudgetError, match="at least 1"):
        outlook(0)
    with pytest.raises(BudgetError):
        outlook(20, 0)
    with pytest.raises(MethodError, match="max_order"):
        outlook(20, 100, max_order=0)
