"""The runner commits what a paid oracle answers as it comes, whatever happens then."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from oracles import (
    InputError,
    InterruptedRun,
    Ledger,
    ModelError,
    OracleValueError,
    StoppedRun,
    run,
)
from oracles.testing import OracleContract

MASKS = np.array([[i >> j & 1 for j in range(8)] for i in range(256)], dtype=bool)


class Metered:
    """A sum over kept players, answered a few rows at a time, back to front.

    Args:
        limit: ablations it may be asked for.
        at: called with the number answered so far, before every part.
    """

    players = tuple("abcdefgh")
    outputs = ("sum",)
    fingerprint = "metered"
    description: ClassVar = {"kind": "example"}

    def __init__(
        self, limit: int = 1000, at: Callable[[int], None] = lambda _: None
    ) -> None:
        self.limit, self.at, self.answered = limit, at, 0

    def check_affordable(self, masks: np.ndarray) -> None:
        if len(masks) > self.limit:
            raise InputError(f"{len(masks)} are too many")

    def evaluate_each(
        self, masks: np.ndarray
    ) -> Generator[tuple[list[int], np.ndarray], None, None]:
        left = list(range(len(masks)))
        try:
            while left:
                self.at(self.answered)
                rows = [left.pop() for _ in range(min(3, len(left)))]
                self.answered += len(rows)
                yield rows, self.value(masks[rows])
        except KeyboardInterrupt:
            for row in left[-2:]:  # they were under way
                self.answered += 1
                yield [row], self.value(masks[[row]])
            raise

    def value(self, masks: np.ndarray) -> np.ndarray:
        return (masks @ np.arange(1.0, 9.0))[:, None]

    def evaluate(self, masks: np.ndarray) -> np.ndarray:
        values = np.empty((len(masks), 1))
        for rows, some in self.evaluate_each(masks):
            values[rows] = some
        return values


class TestMetered(OracleContract):
    def make_oracle(self) -> Metered:
        return Metered()


def raising(error: BaseException, after: int) -> Callable[[int], None]:
    def at(answered: int) -> None:
        if answered >= after:
            raise error

    return at


def test_parts_in_any_order_become_the_values() -> None:
    seen: list[int] = []
    result = run(Metered(), MASKS, progress=lambda done, _: seen.append(done))
    assert np.array_equal(result.values, Metered().value(MASKS))
    assert len(seen) == 1 + 2 * 43  # 128 masks are 43 parts of three
    assert seen == sorted(seen)


def test_what_cannot_be_afforded_is_refused_with_what_is_known_taken_out(
    tmp_path: Path,
) -> None:
    with Ledger(tmp_path / "l") as ledger:
        oracle = Metered(limit=200)
        with pytest.raises(InputError, match="256 are too many"):
            run(oracle, MASKS, ledger=ledger)
        assert oracle.answered == 0
        run(oracle, MASKS[:100], ledger=ledger)
        assert run(oracle, MASKS, ledger=ledger).paid == 156


@pytest.mark.parametrize("error", [ModelError("It broke."), InputError("It is full.")])
def test_a_failure_keeps_what_was_answered_and_says_how_to_go_on(
    error: Exception, tmp_path: Path
) -> None:
    failing = Metered(at=raising(error, after=150))
    whole = Metered()
    with Ledger(tmp_path / "l") as ledger:
        with pytest.raises(StoppedRun, match=r"It .* after 152 of 256") as stop:
            run(failing, MASKS, ledger=ledger)
        assert stop.value.__cause__ is error
        assert (stop.value.done, stop.value.total) == (152, 256)
        assert stop.value.ledger_path == tmp_path / "l"
        result = run(whole, MASKS, ledger=ledger)
    assert failing.answered + whole.answered == 256
    assert np.array_equal(result.values, whole.value(MASKS))


def test_without_a_ledger_a_failure_says_that_nothing_was_kept() -> None:
    failing = Metered(at=raising(ModelError("It broke."), after=150))
    with pytest.raises(StoppedRun, match="pass a ledger") as stop:
        run(failing, MASKS)
    assert stop.value.ledger_path is None


def test_ctrl_c_while_waiting_keeps_what_was_under_way(tmp_path: Path) -> None:
    oracle = Metered(at=raising(KeyboardInterrupt(), after=20))
    with Ledger(tmp_path / "l") as ledger, pytest.raises(InterruptedRun) as stop:
        run(oracle, MASKS, ledger=ledger)
    assert stop.value.done == oracle.answered == 21 + 2


@pytest.mark.parametrize("is_written", [False, True])
def test_ctrl_c_while_a_part_is_written_keeps_it_and_what_was_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    oracle, write = Metered(), Ledger.write
    calls: list[int] = []

    def interrupted(self: Ledger, *batch: object) -> None:
        calls.append(1)
        if len(calls) != 5 or is_written:
            write(self, *batch)  # type: ignore[arg-type]
        if len(calls) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "write", interrupted)
    with Ledger(tmp_path / "l") as ledger, pytest.raises(InterruptedRun) as stop:
        run(oracle, MASKS, ledger=ledger)
    assert stop.value.done == oracle.answered == 15 + 2


def test_a_bad_value_is_named_and_the_parts_before_it_are_kept(tmp_path: Path) -> None:
    oracle = Metered()
    value = oracle.value
    oracle.value = lambda masks: np.where(  # type: ignore[method-assign]
        oracle.answered == 30, np.nan, value(masks)
    )
    with Ledger(tmp_path / "l") as ledger:
        with pytest.raises(OracleValueError, match="not finite"):
            run(oracle, MASKS, ledger=ledger)
        assert len(ledger.masks("metered", 8)) == 27
