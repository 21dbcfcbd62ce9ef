"""Retraining on many subsets, leaving out those that cannot be trained on."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oracles.base import Ablations, Masks, Values, check_masks, distinct_masks
from oracles.data.oracle import DataOracle, UntrainableError
from oracles.errors import StoppedRun
from oracles.ledger import Ledger
from oracles.run import BATCH_SIZE, Progress, run

MOST_FAILED = 0.1  # of the subsets; beyond that it is the trainer that is at fault


@dataclass(frozen=True, eq=False)
class Retrained:
    """What came back from retraining.

    Attributes:
        ablations: the distinct masks that could be trained on, and their values.
        failed: the masks that could not, (f, n).
        reasons: why, f of them.
    """

    ablations: Ablations
    failed: Masks
    reasons: tuple[str, ...]

    @property
    def statement(self) -> str:
        """How many subsets were left out, in a sentence; "" if none."""
        if not self.reasons:
            return ""
        asked = len(self.reasons) + len(self.ablations.masks)
        return (
            f"{len(self.reasons)} of {asked} subsets were left out, as training failed "
            f"on them with every seed tried (first: {self.reasons[0]})"
        )


def retrain(
    oracle: DataOracle,
    masks: Masks,
    *,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
) -> Retrained:
    """Values of all masks that can be trained on, for `spex.explain_values`.

    Like `oracles.run`, apart from a training that fails: that ends a run, while here
    its subset is left out and reported.

    Raises:
        UntrainableError: more than a tenth of the subsets failed.
        LedgerError: the ledger cannot be read or written.
        InterruptedRun: Ctrl-C; what the ledger has is kept.
    """
    masks = check_masks(masks, len(oracle.players))
    masks = masks[distinct_masks(masks)[0]]
    with tempfile.TemporaryDirectory() as folder:
        # what a batch answered before it failed is read back from a ledger
        book = Ledger(Path(folder) / "ledger.db") if ledger is None else ledger
        try:
            return _retrained(oracle, masks, book, progress)
        finally:
            if ledger is None:
                book.close()


def _retrained(
    oracle: DataOracle, masks: Masks, book: Ledger, progress: Progress | None
) -> Retrained:
    failed: dict[int, str] = {}
    values: list[Values] = [np.empty((0, len(oracle.outputs)))]
    for start in range(0, len(masks), BATCH_SIZE):
        batch = masks[start : start + BATCH_SIZE]
        bad = _failures(oracle, batch, book)
        failed |= {start + row: why for row, why in bad.items()}
        if len(failed) > max(1, MOST_FAILED * len(masks)):
            raise UntrainableError.of_rows(failed, len(masks))
        good = batch[[row for row in range(len(batch)) if row not in bad]]
        if len(good):
            values.append(run(oracle, good, ledger=book).values)
        if progress is not None:
            progress(start + len(batch), len(masks))
    is_good = ~np.isin(np.arange(len(masks)), list(failed))
    made = Ablations(masks[is_good], np.concatenate(values), oracle.fingerprint)
    return Retrained(made, masks[~is_good], tuple(failed.values()))


def _failures(oracle: DataOracle, masks: Masks, book: Ledger) -> dict[int, str]:
    """Train on every mask; which rows failed, and why."""
    known = book.read(oracle.fingerprint, masks)
    missing = [row for row in range(len(masks)) if row not in known]
    try:
        run(oracle, masks, ledger=book)
    except StoppedRun as stopped:
        if not isinstance(stopped.__cause__, UntrainableError):
            raise
        failures = stopped.__cause__.failures
        return {missing[failure.row]: failure.reason for failure in failures}
    return {}
