"""Subset search as a mixed-integer linear program, solved by HiGHS through SciPy.

After the integer program of Butler et al. 2025, App. A.3, with a tighter relaxation:
x_i in {0, 1} says whether player i is kept, and every support S that lies in no other
brings weights w_a >= 0 of the 2^|S| patterns a of its players, tied to them by

    sum_a w_a = 1,   sum_{a: a_i = 1} w_a = x_i   for i in S

so that the value of all terms inside S is linear in w. This is the convex hull of their
joint values (Sherali & Adams 1990), where one product for each Moebius monomial is far
from it: with supports that form no cycles the relaxation of the unconstrained problem
has no gap.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from spex.errors import SearchError
from spex.exact import every_mask, walsh_hadamard
from spex.search.goal import TOLERANCE, Array, Bools, Goal
from spex.search.table import MOST_TABLED
from spex.spectrum import Support

MOST_ORDER = 12  # of a term: 2^12 patterns
LEAST_SECONDS = 0.1
INFEASIBLE = 2  # SciPy's status


@dataclass(frozen=True, eq=False)
class Program:
    """Columns: x of the free players, then the weights of each support's patterns.

    Attributes:
        goal: what is to be large.
        gain: of each column, in units of the goal's scale.
        constant: the rest of the gain, in the same units.
        ties: rows of equations.
        right: ties @ columns = right.
    """

    goal: Goal
    gain: Array
    constant: float
    ties: sparse.csr_array
    right: Array

    def largest_gain(self, num_kept: int, seconds: float) -> tuple[Bools | None, float]:
        """The best mask that keeps so many, if one was found, and a bound of gains."""
        mask, bound, _ = self._solve(-self.gain, (num_kept, num_kept), seconds)
        return mask, (self.constant - bound) * self.goal.scale

    def fewest_removed(
        self, gain: float, most: int, seconds: float
    ) -> tuple[Bools | None, int, bool]:
        """The mask that removes fewest players, `most` or less, for a gain.

        Returns:
            The mask, if one was found; a lower bound of how many are removed; whether
            it is proven that there is no mask.
        """
        num_free = self.goal.num_free
        least = optimize.LinearConstraint(
            self.gain[None], gain / self.goal.scale - self.constant, np.inf
        )
        cost = -self._is_player.astype(float)
        kept = (num_free - most, num_free)
        mask, bound, is_none = self._solve(cost, kept, seconds, least)
        at_least = num_free + max(bound, -num_free)
        return mask, int(np.ceil(at_least - TOLERANCE)), is_none

    @property
    def _is_player(self) -> Bools:
        return np.arange(len(self.gain)) < self.goal.num_free

    def _solve(
        self,
        cost: Array,
        kept: tuple[int, int],
        seconds: float,
        *limits: optimize.LinearConstraint,
    ) -> tuple[Bools | None, float, bool]:
        """Minimise a cost: a mask, a lower bound, and whether there is proven none."""
        is_player = self._is_player
        result = optimize.milp(
            cost,
            integrality=is_player.astype(int),
            bounds=optimize.Bounds(0, 1),
            constraints=[
                optimize.LinearConstraint(is_player[None].astype(float), *kept),
                optimize.LinearConstraint(self.ties, self.right, self.right),
                *limits,
            ],
            options={"time_limit": max(seconds, LEAST_SECONDS), "mip_rel_gap": 0.0},
        )
        mask = None if result.x is None else result.x[is_player] > 0.5
        bound = result.mip_dual_bound
        is_none = result.status == INFEASIBLE
        return mask, -np.inf if bound is None else float(bound), is_none


def program(goal: Goal) -> Program:
    """The program of a goal.

    Raises:
        SearchError: a term of more than 12 players.
    """
    longest = max(map(len, goal.supports), default=0)
    if longest > MOST_ORDER:
        raise SearchError(
            f"a term of {longest} players is too large to search with {goal.num_free} "
            f"removable players: the largest is {MOST_ORDER}. Drop such terms, or let "
            f"at most {MOST_TABLED} players be removed."
        )
    blocks = _blocks(goal)
    right = [np.eye(1, len(players) + 1)[0] for players, _ in blocks]
    single = np.zeros(goal.num_free)  # F of order 1, whose character is 1 - 2 x
    for support, coefficient in zip(goal.supports, goal.coefficients, strict=True):
        if len(support) == 1:
            single[support[0]] = coefficient
    gain = np.concatenate([-2 * single, *(values for _, values in blocks)])
    return Program(
        goal=goal,
        gain=gain / goal.scale,
        constant=(goal.constant + single.sum()) / goal.scale,
        ties=_ties([players for players, _ in blocks], goal.num_free),
        right=np.concatenate([np.zeros(0), *right]),
    )


def _blocks(goal: Goal) -> list[tuple[Support, Array]]:
    """Supports that lie in no other, and the value of all terms inside by pattern.

    A term that lies in several is counted in the first.
    """
    blocks: list[tuple[Support, Array]] = []
    containing: list[set[int]] = [set() for _ in range(goal.num_free)]
    for row in sorted(range(len(goal.supports)), key=lambda r: -len(goal.supports[r])):
        support = goal.supports[row]
        if len(support) == 1:
            break
        homes = set.intersection(*(containing[i] for i in support))
        if not homes:
            homes = {len(blocks)}
            for i in support:
                containing[i] |= homes
            blocks.append((support, np.zeros(2 ** len(support))))
        players, table = blocks[min(homes)]
        table[sum(1 << players.index(i) for i in support)] = goal.coefficients[row]
    return [(players, walsh_hadamard(table)) for players, table in blocks]


def _ties(blocks: list[Support], num_free: int) -> sparse.csr_array:
    """Rows: weights of all patterns; of those with player i kept, less x_i."""
    row, column = 0, num_free
    places: list[NDArray[np.int64]] = [np.zeros((2, 0), dtype=np.int64)]
    entries = [np.zeros(0)]
    for players in blocks:
        patterns = every_mask(len(players))
        counted = np.vstack([np.ones(len(patterns), dtype=bool), patterns.T])
        weights = np.array(counted.nonzero()) + np.array([[row], [column]])
        own = np.array([row + 1 + np.arange(len(players)), players], dtype=np.int64)
        places += [weights, own]
        entries += [np.ones(weights.shape[1]), -np.ones(len(players))]
        row += len(players) + 1
        column += len(patterns)
    shape = (row, column)
    return sparse.csr_array((np.concatenate(entries), np.hstack(places)), shape)
