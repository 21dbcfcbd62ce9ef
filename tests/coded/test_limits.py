"""SPEX where there is little to explain, little to pay with, or bad input."""

import re

import numpy as np
import pytest

from oracles import OracleValueError
from spex import BudgetError, Explanation, MethodError, Status, explain
from spex.coded import Spex
from spex.coded.field import Field
from spex.exact import every_mask
from spex.registry import choose

BUDGETS = (70, 300, 1000)


def explained(function: object, players: int, budget: int) -> Explanation:
    return explain(function, players=players, method="spex", budget=budget)


def strong_terms(found: Explanation) -> dict[tuple[int, ...], float]:
    return {s: f for s, f in found.fourier.to_dict().items() if abs(f) > 1e-9}


@pytest.mark.parametrize("num_players", [20, 40, 1000])
@pytest.mark.parametrize("max_order", [1, 5])
def test_a_budget_that_is_too_small_is_refused_by_the_smallest(
    num_players: int, max_order: int
) -> None:
    method = Spex(max_order=max_order)
    smallest = method.min_budget(num_players)

    def first(masks: np.ndarray) -> np.ndarray:
        return masks[:, 0]

    for named in (method, "spex"):
        settings = {"players": num_players, "method": named, "max_order": max_order}
        with pytest.raises(BudgetError, match=f"budget={smallest} or more"):
            explain(first, budget=smallest - 1, **settings)
        found = explain(first, budget=smallest, **settings)
        assert found.spent == smallest


@pytest.mark.parametrize("num_players", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("method", ["spex", Spex()])
def test_few_players_are_explained_exactly(
    num_players: int, method: str | Spex
) -> None:
    rng = np.random.default_rng(num_players)
    table = rng.normal(size=2**num_players)

    def lookup(masks: np.ndarray) -> np.ndarray:
        return table[masks @ (1 << np.arange(num_players))]

    found = explain(lookup, players=num_players, method=method, budget=2**num_players)
    assert found.status is Status.EXACT
    assert np.allclose(found.predict(every_mask(num_players)), table)


@pytest.mark.parametrize("num_players", [6, 7, 8, 9])
def test_budgets_just_below_all_masks_are_spent_and_explained(num_players: int) -> None:
    rng = np.random.default_rng(num_players)
    weights = rng.normal(size=num_players)
    for missing in range(1, 5):
        budget = 2**num_players - missing
        found = explained(lambda masks: masks @ weights, num_players, budget)
        assert found.spent == budget
        masks = every_mask(num_players)
        assert np.allclose(found.predict(masks), masks @ weights, atol=1e-6)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("value", [0.0, 7.0, -1e9, 1e-12])
def test_a_constant_has_nothing_but_a_mean(budget: int, value: float) -> None:
    found = explained(lambda masks: np.full(len(masks), value), 40, budget)
    masks = np.random.default_rng(0).random((100, 40)) < 0.5
    assert np.allclose(found.predict(masks), value, rtol=1e-9, atol=1e-20)
    assert all(abs(i.value) <= 1e-9 * abs(value) for i in found.top(5))
    assert found.faithfulness == 1.0


@pytest.mark.parametrize("max_order", [1, 2, 3])
@pytest.mark.parametrize("num_players", [6, 7, 8])
def test_nearly_all_masks_are_not_all_of_them(num_players: int, max_order: int) -> None:
    """Where no uniform mask is left, coded ones tell the faithfulness."""
    for missing in range(1, 5):
        for seed in range(3):
            table = np.random.default_rng(seed).normal(size=2**num_players)
            found = explain(
                lambda masks, table=table: table[masks @ (1 << np.arange(num_players))],
                players=num_players,
                method=Spex(max_order=max_order),
                budget=2**num_players - missing,
                seed=seed,
            )
            assert found.status is not Status.EXACT
            assert np.isfinite(found.standard_errors).all()
            assert found.faithfulness < 1.0


def test_what_one_ablation_contradicts_is_not_said_to_be_exact() -> None:
    """The intact mask is in no group, and not among those that are held out."""
    found = explained(lambda m: m[:, 0] & m[:, 1] | m.all(axis=1) * 2, 40, 1200)
    assert found.intact[0] == 3
    assert "left nothing over" not in found.provenance.reason


@pytest.mark.parametrize("constant", [1e15, 1e50, -1e90])
def test_a_huge_constant_output_does_not_disturb_another(constant: float) -> None:
    def both(masks: np.ndarray) -> np.ndarray:
        rest = masks[:, 3] + 2.0 * masks[:, [1, 2, 7]].all(axis=1)
        return np.stack([np.full(len(masks), constant), rest], axis=1)

    found = explained(both, 40, 600)
    assert found.faithfulness == 1.0
    alone = explained(lambda masks: both(masks)[:, 1], 40, 600)
    assert found.discoveries == alone.discoveries


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_constant_output_does_not_disturb_another(budget: int) -> None:
    def both(masks: np.ndarray) -> np.ndarray:
        return np.stack([np.full(len(masks), 5e6), masks[:, 3] * 1e-3], axis=1)

    found = explained(both, 40, budget)
    masks = np.random.default_rng(0).random((100, 40)) < 0.5
    predicted = found.predict(masks)
    assert np.allclose(predicted[:, 0], 5e6)
    assert np.allclose(predicted[:, 1], masks[:, 3] * 1e-3, atol=1e-9)


@pytest.mark.parametrize("num_players", [6, 20, 40, 1000])
@pytest.mark.parametrize("player", [0, 3, -1])
def test_one_player_that_decides_all_is_all_there_is(
    num_players: int, player: int
) -> None:
    smallest = Spex().min_budget(num_players)
    for budget in (smallest, min(2**num_players - 4, 600)):
        found = explained(lambda m: 3.0 * m[:, player], num_players, budget)
        terms = strong_terms(found)
        assert terms == pytest.approx({(): 1.5, (player % num_players,): -1.5})


@pytest.mark.parametrize("budget", [300, 1000])
def test_players_that_do_the_same_are_given_the_same(budget: int) -> None:
    found = explained(lambda m: m[:, 0].astype(float) + m[:, 1], 40, budget)
    assert strong_terms(found) == pytest.approx({(): 1.0, (0,): -0.5, (1,): -0.5})


@pytest.mark.parametrize(("copies", "budget"), [(2, 300), (2, 1000), (3, 1000)])
def test_a_copy_that_must_be_kept_with_the_original_is_found_beside_it(
    copies: int, budget: int
) -> None:
    """All of them or nothing: 2^-c for every subset, with the sign of its size."""
    found = explained(lambda m: m[:, 5 : 5 + copies].all(axis=1), 40, budget)
    subsets = every_mask(copies)
    expected = {
        tuple((5 + np.flatnonzero(row)).tolist()): (-1.0) ** row.sum() / 2**copies
        for row in subsets
    }
    assert strong_terms(found) == pytest.approx(expected)


@pytest.mark.parametrize("budget", [300, 1000])
def test_either_of_two_copies_is_enough(budget: int) -> None:
    found = explained(lambda m: 2.0 * (m[:, 5] | m[:, 9]) + m[:, 1], 40, budget)
    expected = {(): 2.0, (1,): -0.5, (5,): -0.5, (9,): -0.5, (5, 9): -0.5}
    assert strong_terms(found) == pytest.approx(expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    def broken(masks: np.ndarray) -> np.ndarray:
        return np.where(masks[:, 0] & masks[:, 1], bad, 1.0)

    with pytest.raises(OracleValueError):
        explained(broken, 40, 300)


@pytest.mark.parametrize("max_order", [0, -3])
def test_an_order_below_one_is_refused(max_order: int) -> None:
    with pytest.raises(MethodError, match="at least 1"):
        Spex(max_order=max_order)
    with pytest.raises(MethodError, match="at least 1"):
        explain(
            lambda m: m[:, 0],
            players=40,
            method="spex",
            budget=300,
            max_order=max_order,
        )


def test_an_order_above_the_number_of_players_is_all_orders() -> None:
    found = explain(
        lambda m: m.all(axis=1), players=7, method=Spex(max_order=50), budget=100
    )
    assert found.spent == 100
    assert max(map(len, found.fourier.supports)) <= 7


@pytest.mark.parametrize("method", ["spex", Spex()])
def test_more_players_than_the_largest_field_are_refused(method: str | Spex) -> None:
    with pytest.raises(MethodError, match="more than the"):
        explain(lambda m: m[:, 0], players=2**Field.LARGEST, method=method, budget=9999)


def test_auto_never_chooses_a_code_that_does_not_exist() -> None:
    """The budget would pay for 2^6 bins a group."""
    assert choose("auto", 2**Field.LARGEST, 20_000, 5).name == "proxyspex"


@pytest.mark.parametrize(("num_players", "budget"), [(8, 200), (10, 900)])
def test_noise_is_not_discovered_where_masks_repeat(
    num_players: int, budget: int
) -> None:
    """Near all 2^n masks, which the groups then share."""
    bits = 1 << np.arange(num_players)
    for seed in range(3):
        table = np.random.default_rng(seed).normal(size=2**num_players)
        found = explain(
            lambda masks, table=table: table[masks.astype(int) @ bits],
            players=num_players,
            method="spex",
            budget=budget,
            seed=seed,
        )
        said = re.search(r"(\d+) terms are", found.provenance.reason)
        assert said is not None
        assert int(said[1]) <= 6


def test_a_method_object_is_exact_where_all_masks_fit() -> None:
    found = explain(
        lambda masks: np.sin(masks @ np.arange(1.0, 8.0)),
        players=7,
        budget=500,
        method=Spex(),
    )
    assert (found.spent, found.status) == (128, Status.EXACT)
