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
    InputError,
    InterruptedRun,
    LedgerError,
    MaskError,
    ModelError,
    OracleError,
    OracleValueError,
    StoppedRun,
)
from oracles.function import FunctionOracle
from oracles.ledger import Ledger
from oracles.run import Progress, Run, run

__all__ = [
    "Ablations",
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
    "Values",
    "averaged",
    "check_masks",
    "distinct_masks",
    "fingerprint_of",
    "run",
]
