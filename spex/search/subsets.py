"""The best subset of a size, and the smallest removal that flips a value."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spex.errors import SearchError
from spex.search.climb import filled, swapped, thinned
from spex.search.goal import Bools, Goal
from spex.search.program import program
from spex.search.table import MOST_TABLED, best_in_table, fewest_in_table
from spex.spectrum import SparseFourier, Support


@dataclass(frozen=True)
class Found:
    """A set of players that a search proposes.

    Its value is the surrogate's: ask the oracle for the mask that keeps `kept` before
    relying on it.

    Attributes:
        kept, removed: players, increasing; together all of them.
        value: of the surrogate with just `kept`.
        bound: no set of as many players does better than this, proven; equal to
            `value` where the set is proven best.
        at_least: no fewer players, removed or, where that is asked for, kept, do what
            was asked, proven.
        is_proven: whether it is the best set there is, up to a millionth of the
            effects.
    """

    kept: Support
    removed: Support
    value: float
    bound: float
    at_least: int
    is_proven: bool


def best_subset(
    fourier: SparseFourier,
    size: int,
    *,
    output: int = 0,
    largest: bool = True,
    removable: Collection[int] | None = None,
    time_limit: float = 10.0,
) -> Found:
    """The subset of `size` kept players with the largest surrogate value.

    All others are ablated. The most harmful removal of r players is that of
    `size=n - r` with `largest=False`.

    >>> either = {(): 0.75, (0,): -0.25, (1,): -0.25, (0, 1): -0.25}
    >>> best_subset(SparseFourier.from_dict(3, either), 1, largest=False).kept
    (2,)

    Args:
        fourier: the surrogate.
        size: how many players are kept, from those not removable to n.
        output: which of the k outputs.
        largest: False for the smallest value.
        removable: players that may be ablated, all by default; others are kept.
        time_limit: seconds, about, after which the best set so far is returned.

    Raises:
        SearchError: no such size or output, or more than 18 players and a term of more
            than 12.
        SupportError: `removable` names a player there is not.
    """
    goal = Goal.of(fourier, output, removable)
    if not largest:
        goal = goal.reversed()
    removed = fourier.num_players - size
    if not 0 <= removed <= goal.num_free:
        least = fourier.num_players - goal.num_free
        raise SearchError(
            f"size={size} cannot be kept: {goal.num_free} of {fourier.num_players} "
            f"players may be removed. Pass {least} to {fourier.num_players}."
        )
    return _best(goal, removed, removed, time.perf_counter() + time_limit)


def smallest_flip(
    fourier: SparseFourier,
    threshold: float = 0.0,
    *,
    output: int = 0,
    removable: Collection[int] | None = None,
    intact: float | None = None,
    margin: float = 0.0,
    time_limit: float = 10.0,
) -> Found | None:
    """The fewest players whose removal takes the value across a threshold.

    From above it to `threshold - margin` or less, or, where the full input's value is
    not above it, to more than `threshold + margin`; among sets of the same size, the
    one that goes farthest. A millionth of the largest effect makes no difference.

    >>> either = {(): 0.75, (0,): -0.25, (1,): -0.25, (0, 1): -0.25}
    >>> smallest_flip(SparseFourier.from_dict(3, either), 0.5).removed
    (0, 1)

    Args:
        fourier: the surrogate.
        threshold: in units of the output.
        output: which of the k outputs.
        removable: players that may be removed, all by default; others are kept.
        intact: measured value of the full input. The surrogate is shifted to agree
            with it: a removal then changes this value by what the surrogate says.
        margin: how far beyond the threshold the value is to go, at least 0. With some
            of the surrogate's error as a margin, more of the sets found flip indeed.
        time_limit: seconds, about, after which the best set so far is returned.

    Returns:
        The set; None if, proven, there is none.

    Raises:
        SearchError: no such output, threshold or margin, more than 18 players and a
            term of more than 12, or neither a set nor a proof within the time limit.
        SupportError: `removable` names a player there is not.
    """
    if not 0 <= margin < np.inf:
        raise SearchError(f"margin={margin} is not a distance. Pass 0 or more.")
    if not np.isfinite(threshold):
        raise SearchError(f"threshold={threshold} cannot be crossed; pass a number.")
    goal = Goal.of(fourier, output, removable)
    full = goal.gain(np.ones(goal.num_free, dtype=bool))
    if intact is not None:
        goal = replace(goal, constant=goal.constant + intact - full)
        full = intact
    if full > threshold + goal.slack:
        goal, target = goal.reversed(), margin - threshold
    else:
        target = threshold + margin + 3 * goal.slack
    return _flip(goal, target - goal.slack, time.perf_counter() + time_limit)


def smallest_sufficient(
    fourier: SparseFourier,
    threshold: float,
    *,
    output: int = 0,
    empty: float | None = None,
    margin: float = 0.0,
    time_limit: float = 10.0,
) -> Found | None:
    """The fewest players that, kept alone, take the value across a threshold.

    Across as in `smallest_flip`, but away from where the value is with no player kept:
    a smallest circuit, or a smallest part of a prompt that still brings the answer.

    >>> both = {(): 0.25, (0,): -0.25, (1,): -0.25, (0, 1): 0.25}
    >>> smallest_sufficient(SparseFourier.from_dict(3, both), 0.5).kept
    (0, 1)

    Args:
        fourier: the surrogate.
        threshold: in units of the output.
        output: which of the k outputs.
        empty: measured value with no player kept; the surrogate is shifted to agree.
        margin: how far beyond the threshold the value is to go, at least 0.
        time_limit: seconds, about, after which the best set so far is returned.

    Returns:
        The set, its `at_least` proven for those kept; None if, proven, there is none.

    Raises:
        SearchError: as `smallest_flip`.
    """
    signs = np.array([(-1.0) ** len(support) for support in fourier.supports])
    mirrored = replace(fourier, coefficients=fourier.coefficients * signs[:, None])
    found = smallest_flip(
        mirrored,
        threshold,
        output=output,
        intact=empty,
        margin=margin,
        time_limit=time_limit,
    )
    if found is None:
        return None
    return replace(found, kept=found.removed, removed=found.kept)


def _best(
    goal: Goal,
    num_removed: int,
    at_least: int,
    deadline: float,
    known: Sequence[Bools] = (),
) -> Found:
    """The best with so many removed; `known` are some such masks."""
    if goal.num_free <= MOST_TABLED:
        best = best_in_table(goal, num_removed)
        return _found(goal, best, goal.gain(best), at_least)
    if goal.is_additive:  # one by one is exact
        best = thinned(goal, num_removed)
        return _found(goal, best, goal.gain(best), at_least)
    num_kept = goal.num_free - num_removed
    starts = [thinned(goal, num_removed), filled(goal, num_kept), *known]
    left = deadline - time.perf_counter()
    mask, bound = program(goal).largest_gain(num_kept, left)
    if mask is not None:
        starts.append(mask)
    best = max((swapped(goal, start) for start in starts), key=goal.gain)
    return _found(goal, best, bound, at_least)


def _flip(goal: Goal, gain: float, deadline: float) -> Found | None:
    """The fewest removed for a gain, and of these the best."""
    if goal.num_free <= MOST_TABLED:
        fewest = fewest_in_table(goal, gain)
        return None if fewest is None else _best(goal, fewest, fewest, deadline)
    quick = thinned(goal, goal.num_free, gain)
    masks = [quick] if goal.gain(quick) >= gain else []
    # fewer than a quick search takes: mostly the relaxation alone rules that out
    most = int((~quick).sum()) - len(masks)
    if goal.is_additive:  # one by one is exact
        mask, at_least, is_none = None, 0, True
    else:
        left = deadline - time.perf_counter()
        mask, at_least, is_none = program(goal).fewest_removed(gain, most, left)
    if is_none:
        at_least = most + 1
    if mask is not None:
        masks.append(mask)
    if not masks and is_none:
        return None
    if not masks:
        raise SearchError(
            "time_limit ended the search with neither a set that flips the value nor "
            "a proof that there is none. Raise it, or let fewer players be removed."
        )
    fewest = min(int((~mask).sum()) for mask in masks)
    known = [mask for mask in masks if (~mask).sum() == fewest]
    return _best(goal, fewest, min(at_least, fewest), deadline, known)


def _found(goal: Goal, mask: Bools, bound: float, at_least: int) -> Found:
    """The set; a bound that the solver cannot tell from its gain is the gain."""
    gain = goal.gain(mask)
    if bound <= gain + goal.slack:
        bound = gain
    removed = goal.free[~mask]
    kept = np.setdiff1d(np.arange(goal.num_players), removed)
    return Found(
        kept=tuple(kept.tolist()),
        removed=tuple(removed.tolist()),
        value=goal.sign * gain,
        bound=goal.sign * bound,
        at_least=at_least,
        is_proven=bound == gain and at_least == len(removed),
    )
