"""Removals: examples that a model is trained again without, proposed by a surrogate.

A removal is proposed for one output, and says what the surrogate predicts; checked, it
says what was measured, too.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import sqrt
from typing import Any

import numpy as np

from oracles import Ledger, Oracle, Progress
from spex.errors import SearchError
from spex.explanation import Explanation
from spex.influence import MARGIN, measured
from spex.search import smallest_flip
from spex.spectrum import Support
from spex.tried.ablated import noise_without, values_without

FLIP, SUBSET = "flip", "subset"  # kinds of removals
NOISE_MASKS = 10  # of the removals, on which the noise is measured
LEAST_MARGIN = 0.01  # of an output's standard deviation: less is no crossing


@dataclass(frozen=True)
class Removal:
    """Players whose removal a search proposes, and what came of it.

    Attributes:
        output: the output it is about.
        players: what is removed, increasing; none where the search came to no end.
        predicted: value of the output without them.
        is_smallest: whether the surrogate needs no smaller set, proven.
        measured: value of the output when they were really removed; None before
            `check_removals`, or if there was no value.
        noise: standard deviation of a single measured value; None if it is not known.
        tried: sets that the oracle was asked for to find it; 0 before `check_removals`,
            or where what was known, or asked for another output, told it.
        kind: "flip", which is to take the output across 0; or "subset", everything but
            the players that are best kept alone.
    """

    output: int
    players: Support
    predicted: float
    is_smallest: bool = False
    measured: float | None = None
    noise: float | None = None
    tried: int = 0
    kind: str = FLIP

    @property
    def is_decided(self) -> bool:
        """Whether a search found it; else it was ended by its time limit."""
        return bool(self.players)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Removal":
        """From what `Provenance.removals` holds."""
        return cls(**{**data, "players": tuple(data["players"])})

    def to_json(self) -> dict[str, Any]:
        """As JSON-ready data; the inverse of `from_json`."""
        return {**asdict(self), "players": list(self.players)}


def flips(
    explanation: Explanation,
    outputs: Iterable[int] | None = None,
    *,
    margin: float | Mapping[int, float] | None = None,
    time_limit: float = 10.0,
    total_time: float = 120.0,
) -> list[Removal]:
    """For each output, the fewest players whose removal takes a margin across 0.

    With two classes that flips the prediction; with more it takes the right class's
    probability below, or above, a half. Some player is always kept: a model trained on
    nothing predicts nothing.

    Args:
        explanation: of a data oracle.
        outputs: which outputs; by default all that are margins. Others cannot be
            flipped and are left out.
        margin: how far beyond 0 the surrogate's value is to go, or that for each
            output; by default the standard deviation of its errors, so that more of
            the removals flip indeed. It is `least_margin` or more in any case.
        time_limit: seconds, about, for each output.
        total_time: seconds, about, for all of them: what is left is shared out among
            the outputs to come.

    Returns:
        Removals not checked yet. One of no players is of an output that was not
        decided in time; outputs that no removal is predicted to take that far beyond 0
        have none.
    """
    every = range(len(explanation.outputs)) if outputs is None else outputs
    wanted = [output for output in every if measured(explanation, output) == MARGIN]
    margins = margin if isinstance(margin, Mapping) else dict.fromkeys(wanted, margin)
    deadline = time.perf_counter() + total_time
    found = []
    for place, output in enumerate(wanted):
        share = (deadline - time.perf_counter()) / (len(wanted) - place)
        limit = min(time_limit, max(share, 0.0))
        flip = _flip(explanation, output, margins[output], limit)
        if flip is not None:
            found.append(flip)
    return found


def _flip(
    explanation: Explanation, output: int, margin: float | None, time_limit: float
) -> Removal | None:
    """What takes an output across 0; None if, proven of the surrogate, nothing does."""
    intact = float(explanation.intact[output])
    beyond = surrogate_error(explanation, output) if margin is None else margin
    undecided = Removal(output, (), intact)
    try:
        flip = smallest_flip(
            explanation.fourier,
            output=output,
            intact=intact,
            margin=max(beyond, least_margin(explanation, output)),
            time_limit=time_limit,
        )
    except SearchError:
        return undecided
    if flip is None:
        return None
    is_smallest = flip.at_least == len(flip.removed)
    if not flip.kept:  # nothing is left to train on
        return None if is_smallest else undecided
    return Removal(output, flip.removed, flip.value, is_smallest)


def least_margin(explanation: Explanation, output: int) -> float:
    """What an output has to be beyond 0 at the least, lest rounding be a crossing."""
    variance = float(explanation.energy_by_order[1:, output].sum())
    return LEAST_MARGIN * sqrt(variance)


def predicted(explanation: Explanation, players: Support, output: int = 0) -> float:
    """An output without these players: as measured with all, changed as predicted."""
    masks = np.ones((2, len(explanation.players)), dtype=bool)
    masks[1, list(players)] = False
    whole, without = explanation.fourier(masks)[:, output]
    return float(explanation.intact[output] + without - whole)


def check_removals(
    oracle: Oracle,
    explanation: Explanation,
    removals: Sequence[Removal],
    *,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
) -> list[Removal]:
    """Ablate just what each removal proposes: what happened, beside what was predicted.

    Each costs an ablation beyond the budget, and an oracle that measures its own noise
    a few more; what the ledger or the explanation holds is free.

    Args:
        oracle: the one explained.
        explanation: what the removals were proposed by.
        removals: such as `flips` finds.
        ledger: where ablations are kept.
        progress: called as progress(done, total); the full input, which is known, is
            among them.

    Returns:
        The removals with what was measured, and the noise if it can be told. One for
        which the oracle has no value whatever is tried has none.

    Raises:
        InputError: another oracle than the one explained.
        OracleError: it failed; see `oracles.errors`.
    """
    sets = [removal.players for removal in removals]
    values = values_without(oracle, explanation, sets, ledger=ledger, progress=progress)
    found = [
        replace(
            removal,
            measured=None if np.isnan(row).any() else float(row[removal.output]),
            tried=removal.tried + 1,
        )
        for removal, row in zip(removals, values, strict=True)
    ]
    return told_noise(oracle, explanation, found)


def told_noise(
    oracle: Oracle, explanation: Explanation, removals: Sequence[Removal]
) -> list[Removal]:
    """Removals with the standard deviation of a single value, if it can be told.

    An oracle that measures its own noise does so where some of them have a value.
    """
    sets = [one.players for one in removals if one.measured is not None]
    noise = noise_without(oracle, explanation, sets[:NOISE_MASKS])
    if noise is None:
        return list(removals)
    return [replace(one, noise=float(noise[one.output])) for one in removals]


def has_flipped(explanation: Explanation, removal: Removal) -> bool | None:
    """Whether the output measured is on the other side of 0; None if none was.

    0 itself is on no side: what is above 0 has to go below it, all else above.
    """
    if removal.measured is None:
        return None
    is_above = bool(explanation.intact[removal.output] > 0)
    return removal.measured < 0 if is_above else removal.measured > 0


def kept_of(explanation: Explanation, removal: Removal) -> Support:
    """The players that a removal leaves."""
    everyone = range(len(explanation.players))
    return tuple(sorted(set(everyone) - set(removal.players)))


def with_removals(explanation: Explanation, removals: Sequence[Removal]) -> Explanation:
    """The explanation with removals among what it says of itself, so that they are
    saved and shown."""
    noted = [removal.to_json() for removal in removals]
    made = replace(explanation.provenance, removals=noted)
    return replace(explanation, provenance=made)


def removals_of(explanation: Explanation) -> list[Removal]:
    """What `with_removals` noted."""
    return [Removal.from_json(noted) for noted in explanation.provenance.removals]


def surrogate_error(explanation: Explanation, output: int) -> float:
    """Standard deviation of the surrogate's errors over masks like those ablated."""
    explained = float(explanation.energy_by_order[1:, output].sum())
    r2 = min(max(explanation.faithfulness.per_output[output], 0.5), 1.0)
    return sqrt(explained * (1 - r2) / r2)
