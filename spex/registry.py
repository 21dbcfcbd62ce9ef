"""Methods by name, and the choice of one.

A method is registered as an entry point of the group `spex.methods`, so that other
packages can add theirs; proxyspex is one of them.
"""

from dataclasses import dataclass
from importlib.metadata import entry_points
from math import ceil, log2
from typing import Any

from spex.coded.field import Field
from spex.coded.shapes import shape_for, smallest_budget
from spex.errors import BudgetError, MethodError
from spex.exact import Exact
from spex.guided import Guided
from spex.method import Learner, Method

GROUP = "spex.methods"
LEARNER = "proxyspex"  # learns from masks of any design
MAX_ORDER = 5  # largest interaction looked for, by default
SPEX_B = 6  # from 2^6 bins a group on, coded designs resolve what trees blur


@dataclass(frozen=True)
class Choice:
    """A method, its name, and why it was chosen."""

    method: Method[Any]
    name: str
    reason: str


def choose(
    method: str | Method[Any], num_players: int, budget: int, max_order: int
) -> Choice:
    """The method to use for this many players and ablations.

    All 2^n masks within the budget make any named method exact. "auto" otherwise takes
    proxyspex, which needs the fewest ablations, until the budget pays for a coded
    design of 2^6 bins a group.

    Raises:
        MethodError: no method of that name, or an object that is not a method.
        BudgetError: the budget is below what the method can use.
    """
    if max_order < 1:
        raise MethodError(f"max_order={max_order} must be at least 1.")
    if not isinstance(method, str):
        return _given(_checked(method), num_players, budget)
    names = method_names()
    if method not in ("auto", *names):
        raise MethodError(
            f"method={method!r} is not known. Choose from auto, {', '.join(names)}."
        )
    if method != "exact" and num_players < 63 and 2**num_players <= budget:
        asked = "" if method == "auto" else f" instead of {method}"
        reason = f"all 2^{num_players} masks fit in the budget"
        return Choice(Exact(), "exact", reason + asked)
    name, reason = method, "asked for"
    if method == "auto":
        name, reason = _automatic(num_players, budget, max_order)
    chosen = _checked(load_method(name, max_order))
    needed = min(chosen.min_budget(num_players), 2 ** min(num_players, 62))
    if budget < needed:
        raise BudgetError(
            f"budget={budget} is below the {needed} ablations that {name} needs for "
            f"{num_players} players and interactions up to order {max_order}. Pass "
            f"budget={needed} or more, a smaller max_order, or another method."
        )
    return Choice(chosen, name, reason)


def choose_learner(
    method: str | Method[Any], num_players: int, distinct: int, max_order: int
) -> tuple[Learner, str, str]:
    """A method that learns from given masks, so many of them distinct; name and reason.

    Raises:
        MethodError: no method of that name, or it needs masks of its own.
        BudgetError: fewer masks than it can learn from.
    """
    method = LEARNER if method == "auto" else method
    if isinstance(method, str) and method not in method_names():
        known = ", ".join(method_names())
        raise MethodError(f"method={method!r} is not known. Choose from {known}.")
    if num_players < 63 and distinct == 2**num_players:
        return Exact(), "exact", f"all 2^{num_players} masks were given"
    name = method if isinstance(method, str) else type(method).__name__
    found = _checked(
        load_method(method, max_order) if isinstance(method, str) else method
    )
    if not isinstance(found, Learner):
        raise MethodError(
            f"method={name!r} needs masks of its own design, and these were given. Use "
            "'proxyspex', or spex.explain with an oracle."
        )
    if isinstance(found, Exact):
        raise MethodError(
            f"method='exact' needs all 2^{num_players} masks, and {distinct} distinct "
            "ones were given. Use 'proxyspex'."
        )
    needed = min(found.min_budget(num_players), 2 ** min(num_players, 62))
    if distinct < needed:
        raise BudgetError(
            f"masks has {distinct} distinct rows, below the {needed} that {name} needs "
            f"for {num_players} players. Ablate more."
        )
    return found, name, "masks and values were given"


def least_budget(method: str | Method[Any], num_players: int, max_order: int) -> int:
    """The least budget a method that `choose` accepts can use; "auto" has none."""
    chosen = load_method(method, max_order) if isinstance(method, str) else method
    return int(min(chosen.min_budget(num_players), 2 ** min(num_players, 62)))


def _given(method: Method[Any], num_players: int, budget: int) -> Choice:
    """A method passed as an object, unless all masks fit in the budget."""
    name = type(method).__name__
    needed = min(method.min_budget(num_players), 2 ** min(num_players, 62))
    if num_players < 63 and 2**num_players <= budget:
        reason = f"all 2^{num_players} masks fit in the budget instead of {name}"
        return Choice(Exact(), "exact", reason)
    if budget < needed:
        raise BudgetError(
            f"budget={budget} is below the {needed} ablations that {name} needs for "
            f"{num_players} players. Pass budget={needed} or more."
        )
    return Choice(method, name, _told(method))


def _told(method: Method[Any]) -> str:
    """What an object is, as no name says why it was chosen."""
    if isinstance(method, Guided):
        return f"{type(method.method).__name__} with a first guess"
    return "with settings of its own"


def _automatic(num_players: int, budget: int, max_order: int) -> tuple[str, str]:
    """The method that explains most for this budget, and why."""
    has_code = num_players.bit_length() <= Field.LARGEST
    if has_code and budget >= smallest_budget(num_players, max_order):
        shape = shape_for(num_players, max_order, budget)
        if min(shape.bs) >= SPEX_B:
            return "spex", f"the budget pays for {2 ** min(shape.bs)} bins a group"
    return "proxyspex", "the most faithful for a budget of this size"


def continued(method: str | Method[Any], earlier: str) -> str | Method[Any]:
    """The method to go on with: the earlier one's, unless another is asked for.

    Raises:
        MethodError: the earlier one was an object, which has to be passed again.
    """
    if method != "auto" or earlier == "exact":
        return method
    if earlier not in method_names():
        raise MethodError(
            f"earlier was made by an object, {earlier}. Pass it as method again."
        )
    return earlier


def method_names() -> list[str]:
    """Names of all installed methods."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def default_budget(num_players: int) -> int:
    """4 n log2 n ablations, within 100 and 5,000, and at most all 2^n.

    The middle of the range 2 to 8 times n log2 n studied in the ProxySPEX paper
    (Butler et al. 2025, section 4).
    """
    wanted = ceil(4 * num_players * log2(max(2, num_players)))
    bounded = min(max(wanted, 100), 5000)
    return min(bounded, 2 ** min(num_players, 20))


def load_method(name: str, max_order: int = MAX_ORDER, **settings: Any) -> Any:
    """An installed method by its name, with settings of its own if it has any."""
    (point,) = (p for p in entry_points(group=GROUP) if p.name == name)
    return point.load()(max_order=max_order, **settings)


def _checked(method: Any) -> Method[Any]:
    missing = [
        name
        for name in ("min_budget", "plan", "recover")
        if not callable(getattr(method, name, None))
    ]
    if missing or isinstance(method, type):
        raise MethodError(
            f"method={method!r} is not a method: it "
            f"{'lacks ' + ', '.join(missing) if missing else 'is a class'}. Pass a "
            "name, or an object as described by spex.Method."
        )
    return method
