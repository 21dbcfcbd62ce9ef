"""Oracles turn masks into values, and pay for each ablation once.

The engines that load models (`oracles.features`) need the `text` extra and import
torch only when they are used.
"""

from oracles.base import (
    Ablations,
    Masks,
    Oracle,
    PaidOracle,
    Values,
    averaged,
    check_masks,
    distinct_masks,
    fingerprint_of,
)
from oracles.errors import (
    Failure,
    InputError,
    InterruptedRun,
    LedgerError,
    MaskError,
    ModelError,
    OracleError,
    OracleValueError,
    StoppedRun,
    UnansweredError,
)
from oracles.function import FunctionOracle
from oracles.ledger import Ledger
from oracles.run import Progress, Run, run

__all__ = [
    "Ablations",
    "Failure",
    "FunctionOracle",
    "InputError",
    "InterruptedRun",
    "Ledger",
    "LedgerError",
    "MaskError",
    "Masks",
    "ModelError",
    "Oracle",
    "OracleError",
    "OracleValueError",
    "PaidOracle",
    "Progress",
    "Run",
    "StoppedRun",
    "UnansweredError",
    "Values",
    "averaged",
    "check_masks",
    "distinct_masks",
    "fingerprint_of",
    "run",
]
