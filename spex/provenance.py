"""How an explanation came about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How an explanation came about, enough to repeat it.

    Attributes:
        method: the method's name.
        reason: why that method, and what it chose on the way.
        budget: distinct ablations allowed.
        spent: distinct ablations used, known ones included.
        paid: of those, evaluated in this run; the rest were known.
        seed: of the design and of the recovery.
        max_order: largest interaction asked for.
        ablation_seconds, recovery_seconds: wall-clock time of the two steps.
        subject: the oracle's description.
        versions: of the packages that matter.
        removals: what was proposed to be removed, and what came of it, as
            `spex.tried.removals.Removal` has it.
        circuits: what was proposed to work alone, and what came of it, as
            `spex.tried.circuits.Circuit` has it.
    """

    method: str
    reason: str
    budget: int
    spent: int
    paid: int
    seed: int
    max_order: int
    ablation_seconds: float
    recovery_seconds: float
    subject: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    removals: Sequence[Mapping[str, Any]] = ()
    circuits: Sequence[Mapping[str, Any]] = ()
