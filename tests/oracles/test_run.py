"""The runner pays for each mask once and lets nothing bad through."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from oracles import (
    FunctionOracle,
    InputError,
    InterruptedRun,
    Ledger,
    MaskError,
    OracleValueError,
    run,
)
from oracles.testing import OracleContract


class Counting:
    """A sum over kept players that remembers every mask it was asked for."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def __call__(self, masks: np.ndarray) -> np.ndarray:
        self.asked += [row.tobytes() for row in masks]
        return masks @ np.arange(1.0, masks.shape[1] + 1)


class TestFunctionOracle(OracleContract):
    def make_oracle(self) -> FunctionOracle:
        return FunctionOracle(Counting(), ["a", "b", "c"], fingerprint="sum")


@settings(max_examples=50, deadline=None)
@given(
    arrays(bool, st.tuples(st.integers(1, 300), st.integers(1, 20))),
)
def test_every_distinct_mask_is_asked_for_once(masks: np.ndarray) -> None:
    function = Counting()
    result = run(FunctionOracle(function, masks.shape[1]), masks)
    distinct = len(np.unique(masks, axis=0))
    assert len(function.asked) == len(set(function.asked)) == distinct
    assert result.spent == result.paid == distinct
    assert np.array_equal(result.values[:, 0], Counting()(masks))


def test_a_ledger_saves_every_ablation_the_second_time(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((400, 9)) < 0.5
    function = Counting()
    oracle = FunctionOracle(function, 9, fingerprint="sum")
    with Ledger(tmp_path / "l") as ledger:
        first = run(oracle, masks, ledger=ledger)
        asked = len(function.asked)
        second = run(oracle, masks, ledger=ledger)
    assert len(function.asked) == asked == first.paid
    assert second.paid == 0
    assert second.spent == first.spent
    assert np.array_equal(first.values, second.values)


def test_a_ledger_needs_a_fingerprint(tmp_path: Path) -> None:
    function = Counting()
    with Ledger(tmp_path / "l") as ledger, pytest.raises(InputError, match="fingerpr"):
        run(FunctionOracle(function, 2), np.ones((1, 2), bool), ledger=ledger)
    assert function.asked == []


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.ones((2, 3)), "dtype float64"),
        (np.ones(3, bool), r"shape \(3,\)"),
        (np.ones((2, 4), bool), r"expected \(m, 3\)"),
    ],
)
def test_bad_masks_are_refused_before_anything_is_asked(
    masks: np.ndarray, message: str
) -> None:
    function = Counting()
    with pytest.raises(MaskError, match=message):
        run(FunctionOracle(function, 3), masks)
    assert function.asked == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_names_the_masks(bad: float) -> None:
    def function(masks: np.ndarray) -> np.ndarray:
        return np.where(masks[:, 1], 1.0, bad)

    masks = np.array([[True, True], [True, False]])
    oracle = FunctionOracle(function, ["first", "second"])
    with pytest.raises(OracleValueError, match=r"removed: 1 \('second'\)"):
        run(oracle, masks)


@pytest.mark.parametrize(
    "function",
    [lambda m: np.ones(len(m) + 1), lambda m: np.ones((len(m), 1, 1)), lambda m: 1.0],
)
def test_values_of_the_wrong_shape_are_refused(function: object) -> None:
    with pytest.raises(OracleValueError, match="shape"):
        run(FunctionOracle(function, 2), np.ones((3, 2), bool))  # type: ignore[arg-type]


def test_a_change_in_the_number_of_outputs_is_refused() -> None:
    def function(masks: np.ndarray) -> np.ndarray:
        return np.ones((len(masks), 1 if masks[0, 0] else 2))

    masks = np.random.default_rng(0).random((512, 16)) < 0.5
    masks[0, 0], masks[128, 0] = True, False
    with pytest.raises(OracleValueError, match="outputs after batches"):
        run(FunctionOracle(function, 16), masks)


def test_progress_ends_at_the_total() -> None:
    seen: list[tuple[int, int]] = []
    masks = np.random.default_rng(0).random((300, 12)) < 0.5
    run(
        FunctionOracle(Counting(), 12), masks, progress=lambda d, t: seen.append((d, t))
    )
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1] == len(np.unique(masks, axis=0))
    assert seen == sorted(seen)


def test_an_interrupted_run_says_what_was_kept(tmp_path: Path) -> None:
    function = Counting()

    def stopping(masks: np.ndarray) -> np.ndarray:
        if len(function.asked) >= 128:
            raise KeyboardInterrupt
        return function(masks)

    masks = np.random.default_rng(0).random((400, 20)) < 0.5
    oracle = FunctionOracle(stopping, 20, fingerprint="sum")
    with Ledger(tmp_path / "l") as ledger:
        with pytest.raises(InterruptedRun, match="128 of 400") as stop:
            run(oracle, masks, ledger=ledger)
        assert stop.value.ledger_path == tmp_path / "l"
        assert run(
            FunctionOracle(function, 20, fingerprint="sum"), masks, ledger=ledger
        )
    assert len(function.asked) == len(set(function.asked))
    with pytest.raises(InterruptedRun, match="nothing was kept"):
        run(FunctionOracle(stopping, 20), masks)


def test_an_oracle_without_players_is_refused() -> None:
    with pytest.raises(InputError, match="at least one player"):
        FunctionOracle(Counting(), players=0)
