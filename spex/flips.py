"""Removals that flip a prediction when a model is trained again, not by the surrogate.

A surrogate learned from masks that keep half extrapolates to removals of a few
players, and may be wrong there. Where a removal does not flip, the measured shortfall
says by how much, and the search is made again with that as its margin.
"""

from collections.abc import Iterable
from dataclasses import replace

from oracles import Ledger, Oracle, Progress
from spex.explanation import Explanation
from spex.influence import (
    Removal,
    check_removals,
    flips,
    has_flipped,
    least_margin,
)

TRIES = 3
"""Sets ablated for one output, each farther beyond 0 than those that missed it."""


def checked_flips(
    oracle: Oracle,
    explanation: Explanation,
    outputs: Iterable[int] | None = None,
    *,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
    total_time: float = 120.0,
) -> list[Removal]:
    """What `flips` proposes, ablated, and proposed again where it does not flip.

    Each set proposed costs an ablation beyond the budget, `TRIES` for an output at the
    most; `Removal.tried` counts them.

    Args:
        oracle: the one explained.
        explanation: of a data oracle.
        outputs: which outputs; by default all that are margins.
        ledger: where ablations are kept.
        progress: called as progress(done, total), in each round.
        total_time: seconds, about, for the searches of each round.

    Returns:
        As `flips`, with what was measured: of the first set that flips, else of the
        last that has a value. Those not decided in time are not ablated.

    Raises:
        InputError: another oracle than the one explained.
        OracleError: it failed; see `oracles.errors`.
    """
    proposed = flips(explanation, outputs, total_time=total_time)
    best = {removal.output: removal for removal in proposed}
    waiting = [removal for removal in proposed if removal.is_decided]
    for left in reversed(range(TRIES)):
        checked = check_removals(
            oracle, explanation, waiting, ledger=ledger, progress=progress
        )
        for removal in checked:
            best[removal.output] = _better(best[removal.output], removal)
        margins = {
            removal.output: _shortfall(explanation, removal)
            for removal in checked
            if has_flipped(explanation, removal) is False
        }
        if not left or not margins:
            break
        again = flips(explanation, margins, margin=margins, total_time=total_time)
        # with such a margin, smaller sets may flip by the surrogate
        waiting = [
            replace(removal, is_smallest=False, tried=best[removal.output].tried)
            for removal in again
            if removal.is_decided
        ]
    return [*best.values()]


def _better(before: Removal, removal: Removal) -> Removal:
    """The later one, unless just the earlier one has a value."""
    if removal.measured is None and before.measured is not None:
        return replace(before, tried=removal.tried)
    return removal


def _shortfall(explanation: Explanation, removal: Removal) -> float:
    """How far the surrogate was wrong, so that the same set is not proposed again."""
    wrong = abs((removal.measured or 0.0) - removal.predicted)
    return wrong + least_margin(explanation, removal.output)
