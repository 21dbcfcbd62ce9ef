"""What can go wrong while asking a system for its values.

    OracleError
    ├── MaskError          masks of the wrong type or shape           (ValueError)
    ├── OracleValueError   values that are not finite or misshapen    (ValueError)
    ├── InputError         a text, segment or target that cannot be   (ValueError)
    ├── ModelError         a model that cannot be found or loaded     (ValueError)
    │   └── UnansweredError    or that has no value for some masks
    ├── LedgerError        a file that is not a usable ledger         (OSError)
    └── StoppedRun         a model that failed in the middle of a run (RuntimeError)
    InterruptedRun         Ctrl-C during a run            (KeyboardInterrupt)

Each message says what was given, what is allowed and what to do about it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class OracleError(Exception):
    """Root of every error raised by the `oracles` package."""


class MaskError(OracleError, ValueError):
    """Masks are not a boolean (m, n) array for this oracle's n players."""


class OracleValueError(OracleError, ValueError):
    """An oracle returned values that are not finite or have the wrong shape."""


class InputError(OracleError, ValueError):
    """The text, its segments or the target asked for cannot be explained."""


class ModelError(OracleError, ValueError):
    """A model could not be found, reached or loaded."""


@dataclass(frozen=True)
class Failure:
    """A mask an oracle has no value for.

    Attributes:
        row: its row among the masks asked for.
        reason: why the last attempt failed.
    """

    row: int
    reason: str


class UnansweredError(ModelError):
    """An oracle has no value for some masks, whatever it tried; it answered all others.

    Attributes:
        failures: which, by row of the masks asked for, and why.
    """

    def __init__(self, reasons: Mapping[int, str], asked: int) -> None:
        self.failures = tuple(Failure(row, why) for row, why in reasons.items())
        first = self.failures[0]
        super().__init__(
            f"there is no value for {len(self.failures)} of {asked} ablations, "
            f"whatever was tried; of that in row {first.row}: {first.reason}"
        )


class LedgerError(OracleError, OSError):
    """A ledger file is corrupt, foreign or cannot be written."""


class StoppedRun(OracleError, RuntimeError):
    """A run was ended by its model; says why, and what was kept.

    Its `__cause__` is the oracle's own error.

    Attributes:
        done: distinct ablations known when the run stopped.
        total: distinct ablations the run wanted.
        ledger_path: where they are kept, or None if nothing keeps them.
    """

    def __init__(
        self, reason: OracleError, done: int, total: int, ledger_path: Path | None
    ) -> None:
        self.done = done
        self.total = total
        self.ledger_path = ledger_path
        super().__init__(f"{reason} {_stopped(done, total, ledger_path)}")


class InterruptedRun(KeyboardInterrupt):
    """A run was stopped by the user; says what was kept.

    Attributes:
        done: distinct ablations known when the run stopped.
        total: distinct ablations the run wanted.
        ledger_path: where they are kept, or None if nothing keeps them.
    """

    def __init__(self, done: int, total: int, ledger_path: Path | None) -> None:
        self.done = done
        self.total = total
        self.ledger_path = ledger_path
        super().__init__(_stopped(done, total, ledger_path))


def _stopped(done: int, total: int, ledger_path: Path | None) -> str:
    if ledger_path is None:
        kept = "nothing was kept: pass a ledger to keep ablations across runs"
    else:
        kept = (
            f"{done} are kept in {ledger_path}; "
            "the same call goes on from there and pays only for the rest"
        )
    return f"Stopped after {done} of {total} ablations; {kept}."
