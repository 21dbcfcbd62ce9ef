"""The few players that are best kept alone: a small training set that does most."""

import time

from spex.explanation import Explanation
from spex.influence import LOSS, measured
from spex.search import best_subset
from spex.tried.removals import SUBSET, Removal, predicted


def best_subsets(
    explanation: Explanation,
    size: int,
    *,
    time_limit: float = 10.0,
    total_time: float = 120.0,
) -> list[Removal]:
    """For each output, all but the `size` players that, kept alone, are best for it.

    Best is the largest value by the surrogate, or the smallest loss. Predicted is what
    was measured with all players, changed as the surrogate says.

    Args:
        explanation: of a data oracle, or of any other.
        size: how many players are kept, 1 to n - 1.
        time_limit: seconds, about, for each output.
        total_time: seconds, about, for all of them.

    Returns:
        Removals of kind "subset", one for each output, not checked yet. `is_smallest`
        is whether the surrogate knows no better set of this size, proven.

    Raises:
        SearchError: no such size.
    """
    deadline = time.perf_counter() + total_time
    count = len(explanation.outputs)
    found = []
    for output in range(count):
        share = (deadline - time.perf_counter()) / (count - output)
        best = best_subset(
            explanation.fourier,
            size,
            output=output,
            largest=measured(explanation, output) != LOSS,
            time_limit=min(time_limit, max(share, 0.0)),
        )
        value = predicted(explanation, best.removed, output)
        found.append(Removal(output, best.removed, value, best.is_proven, kind=SUBSET))
    return found
