"""The runner: asks an oracle for the values of masks, and pays for each mask once."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from oracles.base import (
    Ablations,
    Masks,
    Oracle,
    PaidOracle,
    Values,
    check_masks,
    distinct_masks,
)
from oracles.errors import (
    InputError,
    InterruptedRun,
    ModelError,
    OracleValueError,
    StoppedRun,
    UnansweredError,
)
from oracles.ledger import Ledger

BATCH_SIZE = 128
"""Masks given to the oracle, and committed to the ledger, at a time."""

LARGEST = 1e100
"""Values beyond this overflow when they are squared."""

Progress = Callable[[int, int], None]
"""Called as progress(done, total), in distinct ablations, whenever some are done."""


@dataclass(frozen=True)
class Run:
    """What came back from one run.

    Attributes:
        values: shape (m, k), one row for each mask asked for, duplicates included.
        spent: distinct ablations among the masks asked for.
        paid: distinct ablations evaluated now; the rest were known.
        seconds: wall-clock time of the run.
        unanswered: rows of the masks asked for that have no value; theirs are NaN.
        reasons: why, of each distinct one.
    """

    values: Values
    spent: int
    paid: int
    seconds: float
    unanswered: NDArray[np.int64]
    reasons: tuple[str, ...]

    @property
    def statement(self) -> str:
        """How many ablations have no value, in a sentence; "" if none."""
        if not self.reasons:
            return ""
        return (
            f"{len(self.reasons)} of {self.spent} ablations were left out, as there is "
            f"no value for them whatever was tried (first: {self.reasons[0]})"
        )


def run(
    oracle: Oracle,
    masks: Masks,
    *,
    ledger: Ledger | None = None,
    earlier: Ablations | None = None,
    most_unanswered: float = 0.0,
    progress: Progress | None = None,
) -> Run:
    """Evaluate an oracle on masks, each distinct mask at most once.

    Batches are cut from the distinct masks in order of first appearance, before what
    the ledger knows is taken out: a run that was killed and started again asks the
    oracle for the very batches it had left, and so ends with the same values.

    Args:
        oracle: the system to ask.
        masks: shape (m, n); duplicates are asked for once.
        ledger: where values are looked up first and committed before use.
        earlier: of the same oracle; what it holds is not asked for again.
        most_unanswered: the part of the distinct masks, or one if that is less than
            one, that a `PaidOracle` may have no value for without ending the run; of 0,
            none may.
        progress: told how many distinct ablations are known, at the start and then
            after every batch, or every answer of a `PaidOracle`.

    Raises:
        MaskError: masks are not boolean (m, n).
        InputError: a ledger is given for an oracle without a fingerprint.
        OracleValueError: the oracle's values are not finite or have a wrong shape.
        LedgerError: the ledger cannot be read or written.
        StoppedRun: a `PaidOracle` failed, or has no value for more masks than it may;
            what it had answered is in the ledger.
        InterruptedRun: Ctrl-C; what the ledger has is kept.
    """
    started = time.perf_counter()
    masks = check_masks(masks, len(oracle.players))
    if ledger is not None and not oracle.fingerprint:
        raise InputError(
            "a ledger needs an oracle with a fingerprint, and a plain callable has "
            "none. Pass oracles.FunctionOracle(function, players, fingerprint=...) "
            "with a text that names this function, its data and its settings."
        )
    first, place = distinct_masks(masks)
    distinct = masks[first]
    known = {} if earlier is None else _remembered(earlier, distinct)
    if ledger is not None:
        known |= ledger.read(oracle.fingerprint, distinct)
    paid = len(distinct) - len(known)
    if paid and isinstance(oracle, PaidOracle):
        unknown = np.array([row not in known for row in range(len(distinct))])
        oracle.check_affordable(distinct[unknown])
    allowed = max(1, int(most_unanswered * len(distinct))) if most_unanswered else 0
    allowed = min(allowed, len(distinct) - 1)
    kept = _Kept(oracle, distinct, known, ledger, progress, allowed)
    kept.tell()
    try:
        for rows in _batches(len(distinct)):
            missing = np.array([row for row in rows if row not in known], dtype=int)
            if len(missing):
                _ask(oracle, missing, kept)
    except KeyboardInterrupt:
        if ledger is None:
            raise InterruptedRun(len(known), len(distinct), None) from None
        # a batch may have been written and not yet noted
        saved = ledger.read(oracle.fingerprint, distinct)
        raise InterruptedRun(len(saved), len(distinct), ledger.path) from None
    seconds = time.perf_counter() - started
    return kept.as_run(place, paid, seconds)


@dataclass(frozen=True)
class _Kept:
    """The distinct masks and what is known of them, by row, in memory and ledger."""

    oracle: Oracle
    masks: Masks
    known: dict[int, Values]
    ledger: Ledger | None
    progress: Progress | None
    allowed: int  # masks without a value
    failed: dict[int, str] = field(default_factory=dict)

    def add(self, rows: NDArray[np.int64], values: Values) -> None:
        """Check and keep the values of some rows; they may have been kept before."""
        batch = self.masks[rows]
        values = check_values(values, batch, self.oracle)
        _check_same_width(values, self.known)
        if self.ledger is not None:
            self.ledger.write(self.oracle.fingerprint, batch, values)
        self.known.update(zip(rows.tolist(), values, strict=True))
        self.tell()

    def tell(self) -> None:
        if self.progress is not None:
            self.progress(len(self.known) + len(self.failed), len(self.masks))

    def give_up(self, rows: NDArray[np.int64], error: UnansweredError) -> None:
        """Note which of these rows have no value.

        Raises:
            StoppedRun: there are too many.
        """
        self.failed.update({int(rows[f.row]): f.reason for f in error.failures})
        if len(self.failed) > self.allowed:
            all_of_them = UnansweredError(self.failed, len(self.masks))
            raise self.stopped(all_of_them) from error
        self.tell()

    def as_run(self, place: NDArray[np.int64], paid: int, seconds: float) -> Run:
        """Values of all masks asked for, by each one's place among the distinct."""
        none = np.full(len(next(iter(self.known.values()))), np.nan)
        rows = range(len(self.masks))
        values = np.stack([self.known.get(row, none) for row in rows])[place]
        unanswered = np.flatnonzero(np.isin(place, list(self.failed)))
        reasons = tuple(self.failed.values())
        return Run(values, len(rows), paid, seconds, unanswered, reasons)

    def stopped(self, reason: ModelError | InputError) -> StoppedRun:
        path = None if self.ledger is None else self.ledger.path
        return StoppedRun(reason, len(self.known), len(self.masks), path)


def _ask(oracle: Oracle, rows: NDArray[np.int64], kept: _Kept) -> None:
    """Have the oracle evaluate some rows, and keep what it says."""
    if not isinstance(oracle, PaidOracle):
        kept.add(rows, oracle.evaluate(kept.masks[rows]))
        return
    with closing(oracle.evaluate_each(kept.masks[rows])) as answers:
        _keep(answers, rows, kept)


def _keep(
    answers: Generator[tuple[Sequence[int], Values], None, None],
    rows: NDArray[np.int64],
    kept: _Kept,
) -> None:
    """Keep answers as they come; of a failure or Ctrl-C, what came until then."""
    places: Sequence[int] = []
    values: Values = np.empty((0, 0))
    try:
        for places, values in answers:
            kept.add(rows[list(places)], values)
    except UnansweredError as error:
        kept.give_up(rows, error)
    except (ModelError, InputError) as error:
        raise kept.stopped(error) from error
    except KeyboardInterrupt:
        # it may have come while these were being kept, or with more on the way
        if len(places):
            kept.add(rows[list(places)], values)
        with suppress(KeyboardInterrupt, StopIteration, ModelError, InputError):
            places, values = answers.throw(KeyboardInterrupt)
            kept.add(rows[list(places)], values)
            for places, values in answers:
                kept.add(rows[list(places)], values)
        raise


def _remembered(earlier: Ablations, masks: Masks) -> dict[int, Values]:
    """Values of the masks that are among the earlier ones, by row."""
    count = len(earlier.masks)
    first, place = distinct_masks(np.concatenate([earlier.masks, masks]))
    source = first[place[count:]]
    rows = np.flatnonzero(source < count).tolist()
    return {row: earlier.values[source[row]] for row in rows}


def _batches(count: int) -> list[range]:
    return [
        range(start, min(start + BATCH_SIZE, count))
        for start in range(0, count, BATCH_SIZE)
    ]


def check_values(values: Values, masks: Masks, oracle: Oracle) -> Values:
    """Return `values` if they are finite and of shape (m, k) for these masks.

    Raises:
        OracleValueError: wrong shape, or values that are not finite; names the masks.
    """
    values = np.asarray(values, dtype=np.float64)
    width = len(oracle.outputs) or (values.shape[1] if values.ndim == 2 else 1)
    if values.shape != (len(masks), width) or width == 0:
        raise OracleValueError(
            f"the oracle returned values of shape {values.shape} for {len(masks)} "
            f"masks; expected ({len(masks)}, {width}), one row for each mask and one "
            "column for each output."
        )
    bad = ~(np.abs(values) <= LARGEST).all(axis=1)  # NaN compares as False
    if bad.any():
        raise OracleValueError(_name_bad_masks(values[bad], masks[bad], oracle))
    return values


def _check_same_width(values: Values, known: dict[int, np.ndarray]) -> None:
    width = len(next(iter(known.values()), values[0]))
    if values.shape[1] != width:
        raise OracleValueError(
            f"the oracle returned {values.shape[1]} outputs after batches with {width}."
            " Every mask needs the same outputs."
        )


def _name_bad_masks(values: Values, masks: Masks, oracle: Oracle) -> str:
    shown = []
    for value, mask in list(zip(values, masks, strict=True))[:3]:
        removed = np.flatnonzero(~mask)
        names = ", ".join(f"{i} ({oracle.players[i]!r})" for i in removed[:8])
        more = f" and {len(removed) - 8} more" if len(removed) > 8 else ""
        shown.append(f"{value.tolist()} with players removed: {names or 'none'}{more}")
    return (
        f"the oracle returned values that are not finite, or beyond {LARGEST:g}, for "
        f"{len(masks)} masks: "
        + "; ".join(shown)
        + ". Values must be finite for every mask, the empty one included; earlier "
        "batches are kept if a ledger was given."
    )
