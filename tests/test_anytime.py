"""Stopping at a target, and going on afterwards."""

import numpy as np
import pytest
from numpy.typing import NDArray

from oracles import FunctionOracle, Masks
from spex import MethodError, explain
from spex.testing import planted


def counted(truth: object, asked: list[int]) -> FunctionOracle:
    def game(masks: Masks) -> NDArray[np.float64]:
        asked.append(len(masks))
        return truth(masks)  # type: ignore[operator]

    return FunctionOracle(game, 20)


def test_it_stops_when_the_interval_clears_the_target() -> None:
    asked: list[int] = []
    found = explain(counted(planted(20), asked), budget=3000, target_r2=0.8)
    assert found.faithfulness.low > 0.8
    assert sum(asked) == found.spent == found.provenance.paid < 1500
    assert "clears it" in found.provenance.reason


def test_it_goes_on_later_paying_only_the_difference() -> None:
    asked: list[int] = []
    oracle = counted(planted(20), asked)
    few = explain(oracle, budget=3000, target_r2=0.5)
    paid = sum(asked)
    more = explain(oracle, budget=600, earlier=few)
    assert more.spent == 600
    assert sum(asked) == 600
    assert more.provenance.paid == 600 - paid
    assert more.faithfulness > few.faithfulness


def test_it_goes_on_to_a_higher_target() -> None:
    asked: list[int] = []
    oracle = counted(planted(20), asked)
    few = explain(oracle, budget=3000, target_r2=0.5)
    more = explain(oracle, budget=3000, earlier=few, target_r2=0.9)
    assert more.spent > few.spent
    assert more.faithfulness.low > 0.9
    assert sum(asked) == more.spent


def test_all_masks_are_not_paid_for_where_few_are_enough() -> None:
    found = explain(
        lambda masks: masks @ np.arange(1.0, 13.0),
        players=12,
        budget=5000,
        target_r2=0.5,
    )
    assert found.spent < 200


def test_noise_ends_it_before_the_budget_is_spent() -> None:
    rng = np.random.default_rng(0)
    asked: list[int] = []
    found = explain(
        counted(lambda masks: rng.normal(size=(len(masks), 1)), asked),
        budget=20000,
        target_r2=0.8,
    )
    assert sum(asked) == found.spent < 3000
    assert "no longer help" in found.provenance.reason


def test_a_target_that_is_never_reached_costs_the_budget() -> None:
    asked: list[int] = []
    found = explain(counted(planted(20), asked), budget=100, target_r2=0.999)
    assert sum(asked) == found.spent == 100
    assert "the budget is spent" in found.provenance.reason


@pytest.mark.parametrize("target", [1.0, 2.0, float("nan")])
def test_a_target_that_is_no_r_squared_is_refused(target: float) -> None:
    with pytest.raises(MethodError, match="target_r2"):
        explain(planted(20), players=20, target_r2=target)
