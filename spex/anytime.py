"""Stopping by itself: budgets that grow until the explanation is good enough."""

from dataclasses import replace

from spex.errors import MethodError
from spex.explanation import Explanation

ANYTIME = "proxyspex"
"""What "auto" means here: designs of different methods do not contain each other."""

FIRST = 50  # ablations of the first stage, or as many as the method needs
GROWTH = 1.5
PATIENCE = 3  # stages, 3.4 times the ablations, in which it has to get better
LITTLE = 0.01  # of R^2: less in so many stages is no help


class Stages:
    """Budgets one after another, each design within the next.

    Args:
        target: R^2 that the interval has to clear; None for one stage with all.
        budget: the last one.
        smallest: that the method can use, or what an earlier explanation spent.

    Raises:
        MethodError: the target is not below 1.
    """

    def __init__(self, target: float | None, budget: int, smallest: int) -> None:
        if target is not None and not target < 1:
            raise MethodError(
                f"target_r2={target} cannot be cleared: R^2 is at most 1. Pass a "
                "number below 1, such as 0.9."
            )
        self.target = target
        self.budget = budget
        first = budget if target is None else max(FIRST, smallest)
        self.current = min(first, budget)
        self.is_over = False
        self._seen: list[float] = []
        self._why = ""
        self._paid = 0
        self._seconds = 0.0

    def note(self, found: Explanation) -> None:
        """Go on to the next budget, or be over."""
        fit, made = found.faithfulness, found.provenance
        self._paid += made.paid
        self._seconds += made.ablation_seconds
        if made.paid:  # what was known before does not tell a trend
            self._seen.append(float(fit))
        if self.target is not None and fit.low > self.target:
            self._why = f"R² {fit:.3f} ({fit.low:.3f} to {fit.high:.3f}) clears it"
        elif self._is_level():
            self._why = "more ablations no longer help"
        self.is_over = bool(self._why) or self.current == self.budget
        if not self.is_over:
            self.current = min(self.budget, round(GROWTH * self.current))

    def _is_level(self) -> bool:
        past = self._seen[-1 - PATIENCE :]
        return len(past) > PATIENCE and max(past[1:]) < past[0] + LITTLE

    def explained(self, found: Explanation) -> Explanation:
        """The last stage's explanation, which says why it was the last."""
        if self.target is None:
            return found
        why = self._why or "the budget is spent"
        made = found.provenance
        reason = (
            f"{made.reason}; stopped at {made.budget} of {self.budget} ablations, with "
            f"target R² {self.target:g}: {why}"
        )
        whole = replace(
            made, reason=reason, paid=self._paid, ablation_seconds=self._seconds
        )
        return replace(found, provenance=whole)
