"""What a budget buys, told before any ablation is paid for."""

from dataclasses import dataclass

from spex.coded.codes import check_field
from spex.coded.shapes import (
    Shape,
    budget_for,
    num_uniform,
    shape_for,
    shapes,
    smallest_budget,
)
from spex.errors import BudgetError
from spex.registry import choose, default_budget

NUM_LARGER = 4  # budgets told beyond the one asked about


@dataclass(frozen=True)
class CodedOutlook:
    """What SPEX makes of a budget, at least: masks that repeat are not paid for.

    Attributes:
        budget: ablations.
        shape: of the coded design, the last complete stage; its `bs`, `t`,
            `num_delays` and `num_bins` are the published b, t, P and C 2^b.
        num_uniform: masks for checking and regression.
        num_terms: terms of order up to t that noise-free peeling can be expected to
            find, `shapes.LOAD` for each bin.
    """

    budget: int
    shape: Shape
    num_uniform: int

    @property
    def num_terms(self) -> int:
        """Terms that can be expected."""
        return self.shape.num_terms


@dataclass(frozen=True)
class Outlook:
    """What a budget buys.

    Attributes:
        num_players, max_order: of the game.
        budget: ablations.
        method: what "auto" takes.
        reason: why.
        coded: what SPEX would make of the budget, and of the next larger ones that
            buy a higher order or more bins; the first is of `budget` unless that is too
            small for SPEX. Empty where all masks fit in the budget.
    """

    num_players: int
    max_order: int
    budget: int
    method: str
    reason: str
    coded: tuple[CodedOutlook, ...]


def outlook(num_players: int, budget: int | None = None, max_order: int = 5) -> Outlook:
    """What a budget buys for a game of so many players.

    Args:
        num_players: at least 1.
        budget: by default what `explain` takes by default.
        max_order: largest interaction.

    Raises:
        BudgetError: no players, or a budget that no method can use.
        MethodError: more players than there are codes for, or a bad max_order.

    >>> view = outlook(100, 2000)
    >>> view.method, view.coded[0].shape.bs, view.coded[0].num_terms
    ('proxyspex', (4, 4, 3), 48)
    """
    if num_players < 1:
        raise BudgetError(f"{num_players} players are none. Pass at least 1.")
    check_field(num_players)
    budget = default_budget(num_players) if budget is None else budget
    choice = choose("auto", num_players, budget, max_order)
    budgets = [budget, *_larger(num_players, max_order, budget)]
    if choice.name == "exact":
        budgets = []
    smallest = smallest_budget(num_players, max_order)
    return Outlook(
        num_players,
        max_order,
        budget,
        choice.name,
        choice.reason,
        tuple(_coded(num_players, max_order, b) for b in budgets if b >= smallest),
    )


def _coded(num_players: int, max_order: int, budget: int) -> CodedOutlook:
    shape = shape_for(num_players, max_order, budget)
    return CodedOutlook(budget, shape, num_uniform(budget - 1))


def _larger(num_players: int, max_order: int, budget: int) -> list[int]:
    """The next budgets that complete a stage with all groups of one size."""
    most = 2 ** min(num_players, 40)
    found: list[int] = []
    for shape in shapes(num_players, max_order):
        needed = budget_for(shape)
        if len(found) == NUM_LARGER or needed >= most:
            break
        if needed > budget and min(shape.bs) == max(shape.bs):
            found.append(needed)
    return found
