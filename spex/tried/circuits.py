"""Circuits: few components that, working alone, do what the whole model does.

How much of it is measured by faithfulness, (m(C) - m(none)) / (m(all) - m(none)) with
m(C) the output where only C works (Mueller et al. 2025, MIB: A Mechanistic
Interpretability Benchmark). A circuit is a small set that the surrogate says reaches a
level of it; pruning keeps the best set of a given size. Both are then run: players that
a circuit does as well without are left out of it, and sets next to a pruned one are
tried. What is proven is proven of the surrogate; of the model is known what was
measured.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import copysign, inf, isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles import InputError, Ledger, Masks, Oracle
from spex.components import components_of
from spex.errors import SearchError
from spex.explanation import Explanation
from spex.search import Found, best_subset, smallest_sufficient
from spex.spectrum import Support
from spex.tried.ablated import values_without
from spex.tried.proposals import Aim
from spex.tried.removals import predicted
from spex.tried.trials import Explained, Trial, Trials

CIRCUIT, PRUNED = "circuit", "pruned"
TRIES = 3
"""Sets run for one circuit, each farther beyond the level than those that missed it,
before sizes are bisected."""

ROUNDS = 4
"""So many times n sets are run, at most, to leave players out of one circuit."""

PRUNINGS = 16
"""So many times the number of pruned models sets are tried, at most, besides those that
the surrogate takes for the best."""

PRUNING_ROUNDS = 3  # each but the first takes as long as the recovery did

SHORT = 1e-5  # of the behaviour: a search goes up to a millionth of the effects
NEGLIGIBLE = 1e-9  # of the values at the two ends: no scale to measure a part on


@dataclass(frozen=True)
class Circuit:
    """Players that work alone, what was asked of them, and what came of it.

    Attributes:
        kind: "circuit", a small set for a level of faithfulness; or "pruned", the best
            set with a part of the components removed.
        asked: that level, or that part, 0 to 1.
        output: the output it is about.
        players: those that work, increasing.
        predicted: value of the output with just these.
        measured: value of the output when just these worked; None if there was none.
        faithfulness: of what was measured: 1 as the intact model, 0 as none of it.
        tried: sets that were run to find it, itself included.
        is_smallest: of a circuit: by the surrogate no smaller set reaches the level. Of
            a pruned set: by the surrogate none of this size does more, nor does any
            that was run. Proven of the surrogate, which may be wrong about the model.
        is_minimal: of a circuit: no player can be left out of it. Measured: the sets
            with one player less were run, and each falls short of the level; sets
            without several of the players were not.
    """

    kind: str
    asked: float
    output: int
    players: Support
    predicted: float
    measured: float | None
    faithfulness: float | None
    tried: int = 1
    is_smallest: bool = False
    is_minimal: bool = False

    @property
    def is_reached(self) -> bool:
        """Whether a circuit, when it was run, did as much as was asked."""
        return self.faithfulness is not None and self.faithfulness >= self.asked - SHORT

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Circuit":
        """From what `Provenance.circuits` holds."""
        return cls(**{**data, "players": tuple(data["players"])})

    def to_json(self) -> dict[str, Any]:
        """As JSON-ready data; the inverse of `from_json`."""
        return {**asdict(self), "players": list(self.players)}


def check_asked(levels: Iterable[float], sparsities: Iterable[float]) -> None:
    """Refuse what cannot be asked for, before anything is paid.

    Raises:
        InputError: a level of faithfulness or a part to prune out of range.
    """
    for level in levels:
        if not 0 < level <= 1:
            raise InputError(
                f"circuit level {level:g} is out of range: it is a part of what the "
                "intact model does. Pass a number above 0, up to 1, such as 0.9."
            )
    for part in sparsities:
        if not 0 < part < 1:
            raise InputError(
                f"prune {part:g} is out of range: it is the part of the components "
                "that is removed. Pass a number between 0 and 1, such as 0.5."
            )


def find_circuits(
    oracle: Oracle,
    explanation: Explanation,
    *,
    levels: Sequence[float] = (0.9,),
    sparsities: Sequence[float] = (0.25, 0.5, 0.75),
    output: int = 0,
    ledger: Ledger | None = None,
    time_limit: float = 10.0,
) -> list[Circuit]:
    """Small circuits for levels of faithfulness, and the best pruned models.

    Every set proposed is run, which is an ablation beyond the budget unless it is
    known. A circuit that falls short of its level when it is run is given up for one
    that the surrogate takes farther by as much as it was wrong. After `TRIES` of them,
    or where the surrogate knows none, the number of players is bisected, with the best
    set of each size run: log2 n sets more, and everything if nothing less will do.

    From a set that reaches the level each player is then left out by itself, and those
    without which it still does are left out together, as many as can be in the order
    of what they cost, again and again, in at most `ROUNDS` * n runs. So no player of
    the result can be left out (`Circuit.is_minimal`, measured). That there is no
    smaller set (`is_smallest`) is proven of the surrogate only, and not claimed where
    it was found wrong on the way.

    A pruned model is the best of those of its size that were ablated before, the one
    that the surrogate says does most, and more that are tried (`spex.tried.trials`), at
    most `PRUNINGS` for each of the sparsities on average.

    Args:
        oracle: the one explained.
        explanation: of a component oracle, or of any other.
        levels: of faithfulness, above 0 and up to 1.
        sparsities: parts of the components that are removed, between 0 and 1. Of a
            mixed oracle every segment is kept.
        output: which of the k outputs.
        ledger: where ablations are kept.
        time_limit: seconds, about, for each search.

    Returns:
        Circuits that reach the levels, in their order, then pruned models in the order
        of the sparsities.

    Raises:
        InputError: levels or sparsities out of range, another oracle than the one
            explained, or an output that is the same with all players and with none.
        OracleError: it failed; see `oracles.errors`.
    """
    check_asked(levels, sparsities)
    search = _Search(oracle, explanation, output, ledger, time_limit)
    circuits = [search.circuit(level) for level in levels]
    return circuits + search.pruned(sparsities)


def with_circuits(explanation: Explanation, circuits: Sequence[Circuit]) -> Explanation:
    """The explanation with circuits among what it says of itself, so that they are
    saved and shown."""
    noted = [circuit.to_json() for circuit in circuits]
    made = replace(explanation.provenance, circuits=noted)
    return replace(explanation, provenance=made)


def circuits_of(explanation: Explanation) -> list[Circuit]:
    """What `with_circuits` noted."""
    return [Circuit.from_json(noted) for noted in explanation.provenance.circuits]


class _Search:
    """Searches on the surrogate of one output, each result run by the oracle."""

    def __init__(
        self,
        oracle: Oracle,
        explanation: Explanation,
        output: int,
        ledger: Ledger | None,
        time_limit: float,
    ) -> None:
        self._oracle, self._explanation, self._ledger = oracle, explanation, ledger
        self._output, self._limit = output, time_limit
        self._everyone = range(len(explanation.players))
        none, every = self._measured([(), tuple(self._everyone)])
        size = max(1.0, abs(none or 0.0), abs(every or 0.0))
        if none is None or every is None or abs(every - none) <= NEGLIGIBLE * size:
            raise InputError(
                f"{explanation.outputs[output]} is {every} with all players and {none} "
                "with none, so that there is no scale for what a circuit does. Leave "
                "circuits and pruning out, or explain another behaviour."
            )
        self._none, self._gap = none, every - none

    def circuit(self, level: float) -> Circuit:
        """A set that reaches a level of faithfulness, without what it needs not."""
        return self._without_idle(self._proposed(level))

    def _proposed(self, level: float) -> Circuit:
        """The smallest set that reaches the level by the surrogate and when run."""
        threshold = self._none + level * self._gap
        margin, tried = 0.0, 0
        while tried < TRIES:
            found = self._sufficient(threshold, margin)
            if found is None:
                break
            tried += 1
            circuit = self._run(CIRCUIT, level, found.kept, found.value)
            if circuit.is_reached:
                # with a margin, smaller sets may reach the level by the surrogate
                is_proven = margin == 0 and found.at_least == len(found.kept)
                return replace(circuit, tried=tried, is_smallest=is_proven)
            if circuit.measured is not None:  # the same set does not go that far
                margin = abs(found.value - circuit.measured)
        return self._bisected(level, tried)

    def _without_idle(self, circuit: Circuit) -> Circuit:
        """The circuit without players that it reaches its level without."""
        left = ROUNDS * len(self._everyone)
        while circuit.is_reached and 0 < len(circuit.players) <= left:
            fewer = self._less(circuit, [(player,) for player in circuit.players])
            left -= len(fewer)
            costs = {
                player: -(one.faithfulness or 0.0)
                for player, one in zip(circuit.players, fewer, strict=True)
                if one.is_reached
            }
            if not costs:
                # what could not be measured may reach it
                is_minimal = all(one.measured is not None for one in fewer)
                tried = circuit.tried + len(fewer)
                return replace(circuit, tried=tried, is_minimal=is_minimal)
            idle = sorted(costs, key=lambda player: costs[player])
            joint = [tuple(idle[:count]) for count in range(2, len(idle) + 1)][:left]
            fewer += self._less(circuit, joint)
            left -= len(joint)
            reached = [one for one in fewer if one.is_reached]
            best = min(
                reached, key=lambda one: (len(one.players), -(one.faithfulness or 0.0))
            )
            circuit = replace(best, tried=circuit.tried + len(fewer))
        return circuit

    def _less(self, circuit: Circuit, without: Sequence[Support]) -> list[Circuit]:
        """The circuit without these or those of its players, run together."""
        sets = [
            tuple(player for player in circuit.players if player not in some)
            for some in without
        ]
        return [
            self._told(circuit.kind, circuit.asked, kept, self._predicted(kept), value)
            for kept, value in zip(sets, self._measured(sets), strict=True)
        ]

    def _bisected(self, level: float, tried: int) -> Circuit:
        """The best set of a size that reaches the level where half as many do not."""
        low, high = 0, len(self._everyone)
        every = tuple(self._everyone)
        reached = self._run(CIRCUIT, level, every, self._none + self._gap)
        while high - low > 1:
            size = (low + high) // 2
            circuit = self._best(CIRCUIT, level, size, self._everyone)
            tried += 1
            if circuit.is_reached:
                reached, high = circuit, size
            else:
                low = size
        return replace(reached, tried=max(tried, 1), is_smallest=False)

    def pruned(self, sparsities: Sequence[float]) -> list[Circuit]:
        """The best sets run of those that leave parts of the components out."""
        removable = sorted(components_of(self._explanation)) or list(self._everyone)
        found = []
        for part in sparsities:
            count = min(max(round(part * len(removable)), 1), len(removable))
            size = len(self._everyone) - count
            found.append(self._best(PRUNED, part, size, removable))
        if not found:
            return []
        masks = np.array([self._mask(circuit.players) for circuit in found])
        values = np.array([one.measured for one in found], dtype=np.float64)
        known = self._explanation.ablations
        if known is not None:
            masks = np.concatenate([known.masks, masks])
            values = np.append(known.values[:, self._output], values)
        aims = [Aim(len(one.players), copysign(inf, self._gap)) for one in found]
        learn = Explained(self._explanation, self._output)
        trials = Trials(aims, masks, values, learn, self._values, removable)
        trials.run(PRUNINGS * len(aims), PRUNING_ROUNDS)
        return [self._better(*pair) for pair in zip(found, trials.best(), strict=True)]

    def _better(self, circuit: Circuit, trial: Trial | None) -> Circuit:
        """What was tried, where that is not the circuit itself."""
        if trial is None:
            return circuit
        tried = circuit.tried + trial.tried
        if circuit.measured is not None and trial.measured == circuit.measured:
            return replace(circuit, tried=tried)  # of its equals it may be proven best
        value = self._predicted(trial.players)
        better = self._told(
            circuit.kind, circuit.asked, trial.players, value, trial.measured
        )
        return replace(better, tried=tried)

    def _best(
        self, kind: str, asked: float, size: int, removable: Collection[int]
    ) -> Circuit:
        """The set of a size that the surrogate says does most, run."""
        found = best_subset(
            self._explanation.fourier,
            size,
            output=self._output,
            largest=self._gap > 0,
            removable=removable,
            time_limit=self._limit,
        )
        best = self._run(kind, asked, found.kept, self._predicted(found.kept))
        return replace(best, is_smallest=found.is_proven)

    def _sufficient(self, threshold: float, margin: float) -> Found | None:
        try:
            return smallest_sufficient(
                self._explanation.fourier,
                threshold,
                output=self._output,
                empty=self._none,
                margin=margin,
                time_limit=self._limit,
            )
        except SearchError:  # no end within the time limit
            return None

    def _run(self, kind: str, asked: float, kept: Support, value: float) -> Circuit:
        [measured] = self._measured([kept])
        return self._told(kind, asked, kept, value, measured)

    def _told(
        self,
        kind: str,
        asked: float,
        kept: Support,
        value: float,
        measured: float | None,
    ) -> Circuit:
        part = None if measured is None else (measured - self._none) / self._gap
        return Circuit(kind, asked, self._output, kept, value, measured, part)

    def _predicted(self, kept: Support) -> float:
        return predicted(self._explanation, self._removed(kept), self._output)

    def _measured(self, sets: Sequence[Support]) -> list[float | None]:
        """Value of the output with just the players of each set, run together."""
        removed = [self._removed(kept) for kept in sets]
        values = values_without(
            self._oracle, self._explanation, removed, ledger=self._ledger
        )[:, self._output]
        return [None if isnan(value) else value for value in values.tolist()]

    def _values(self, masks: Masks) -> NDArray[np.float64]:
        """What masks (m, n) turn out to do, (m,); NaN where there is no value."""
        sets = [tuple(np.flatnonzero(mask).tolist()) for mask in masks]
        return np.array(self._measured(sets), dtype=np.float64)

    def _mask(self, kept: Support) -> NDArray[np.bool_]:
        return np.isin(self._everyone, kept)

    def _removed(self, kept: Support) -> Support:
        return tuple(sorted(set(self._everyone) - set(kept)))
