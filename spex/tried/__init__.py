"""Sets of players that are run: removals that flip an output, circuits, best subsets.

What a surrogate proposes is right on average and may be wrong where it is asked to go
farthest. So it is ablated, beyond the budget of the explanation, and the search goes on
from what was measured.
"""

from spex.tried.circuits import Circuit, find_circuits
from spex.tried.flips import checked_flips
from spex.tried.proposals import Aim
from spex.tried.removals import Removal, check_removals
from spex.tried.subsets import best_subsets
from spex.tried.trials import Trial, best_tried

__all__ = [
    "Aim",
    "Circuit",
    "Removal",
    "Trial",
    "best_subsets",
    "best_tried",
    "check_removals",
    "checked_flips",
    "find_circuits",
]
