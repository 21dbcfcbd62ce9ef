"""The smallest removals that flip a prediction when a model is trained again.

A surrogate learned from masks that keep half extrapolates to removals of a few players,
and rankings that need no ablations know nothing of sizes. So what they propose is
measured, and the search goes on from that: each ranking's first players are removed, as
many as it seems to take, until no ranking promises a smaller set that flips; then
players are given back that it flips without. One training says what becomes of every
output, so that all outputs learn from the sets of each.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import ceil, isnan, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracles import InputError, Ledger, Oracle, Progress
from spex.explanation import Explanation
from spex.influence import MARGIN, measured
from spex.spectrum import Support
from spex.tried.chains import LESS, Chain, chain_of, mixed
from spex.tried.evidence import Evidence
from spex.tried.proposals import mean_effects
from spex.tried.removals import Removal, flips, predicted, told_noise

TRIES = 10
"""Sets ablated for each output, on average: what one leaves, others may use."""

GIVEN_BACK = 4  # the part of a set that is given back at first

Array = NDArray[np.float64]


def checked_flips(
    oracle: Oracle,
    explanation: Explanation,
    outputs: Iterable[int] | None = None,
    *,
    guesses: Sequence[Any] = (),
    tries: int = TRIES,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
    total_time: float = 120.0,
) -> list[Removal]:
    """The smallest removals found, by measuring, that take margins across 0.

    The surrogate proposes what `flips` does, and then the players of the largest mean
    effects; each guess its highest; and all together the highest of the sum, in which
    each counts by its spread. Where the noise of a value is known, sets that go beyond
    0 by its standard deviation are preferred to those that just cross it: of many sets
    that are tried some cross it by chance.

    Args:
        oracle: the one explained.
        explanation: of a data oracle.
        outputs: which outputs; by default all that are margins.
        guesses: what keeping each player adds to each output, (n, k) each, in any
            units, as `DataOracle.influence` and `DataOracle.similarity` tell.
        tries: ablations beyond the budget, in `tries` times the number of outputs that
            are searched for; none is spent on what is known. `Removal.tried` says how
            many sets were asked for each. A noise that is not known costs a few more.
        ledger: where ablations are kept.
        progress: called as progress(done, total), in ablations, after each round.
        total_time: seconds, about, for the surrogate's proposals.

    Returns:
        For each output the smallest set that flips it, of all that is known; else what
        came nearest. Outputs that neither the surrogate nor a set tried flips have
        none; of those not decided in time, which no guess helps with, the removal has
        no players.

    Raises:
        InputError: another oracle than the one explained, guesses that are not (n, k),
            or fewer tries than one.
        OracleError: it failed; see `oracles.errors`.
    """
    if tries < 1:
        raise InputError(f"tries={tries} must be at least 1.")
    search = FlipSearch(
        oracle, explanation, outputs, guesses=guesses, total_time=total_time
    )
    search.run(tries * len(search.outputs), ledger=ledger, progress=progress)
    return told_noise(oracle, explanation, search.removals())


class FlipSearch:
    """The search of `checked_flips`, which see, with all that it measured."""

    def __init__(
        self,
        oracle: Oracle,
        explanation: Explanation,
        outputs: Iterable[int] | None = None,
        *,
        guesses: Sequence[Any] = (),
        total_time: float = 120.0,
    ) -> None:
        every = range(len(explanation.outputs)) if outputs is None else outputs
        wanted = [one for one in every if measured(explanation, one) == MARGIN]
        tables = [_checked(guess, explanation) for guess in guesses]
        self._evidence = Evidence(oracle, explanation)
        proposed = {
            one.output: one for one in flips(explanation, wanted, total_time=total_time)
        }
        self._searches = {
            output: _Search(
                self._evidence,
                explanation,
                output,
                proposed.get(output),
                [table[:, output] for table in tables],
            )
            for output in wanted
        }

    @property
    def outputs(self) -> tuple[int, ...]:
        """Those that are searched for."""
        return tuple(self._searches)

    @property
    def spent(self) -> int:
        """Sets measured that were not known."""
        return self._evidence.spent

    def run(
        self,
        budget: int,
        *,
        ledger: Ledger | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Measure so many sets at the most, in rounds with one for each output.

        Raises:
            OracleError: the oracle failed.
        """
        waiting = {one: one.proposals() for one in self._searches.values()}
        while waiting and self.spent < budget:
            proposed = {one: next(sets, None) for one, sets in waiting.items()}
            asked = {one: players for one, players in proposed.items() if players}
            waiting = {one: waiting[one] for one in asked}
            self._ask(asked, budget - self.spent, ledger)
            if progress is not None:
                progress(self.spent, budget)

    def _ask(
        self, asked: dict["_Search", Support], most: int, ledger: Ledger | None
    ) -> None:
        """Measure what is asked; if it is too much, where nothing flips yet first."""
        order = sorted(asked, key=lambda one: one.smallest() is not None)
        sets = [*dict.fromkeys(asked[one] for one in order)][:most]
        self._evidence.measure(sets, ledger)
        for one in order:
            one.tried += [asked[one]] if asked[one] in sets else []

    def removals(self) -> list[Removal]:
        """What `checked_flips` returns, without noise."""
        found = [one.removal() for one in self._searches.values()]
        return [one for one in found if one is not None]

    def of_size(self, output: int, size: int) -> Support:
        """So many players whose removal should take an output far.

        The smallest set that flips it, if it has no more than `size` players, and the
        next of the ranking that sums up the surrogate and all guesses; else its first.
        """
        return self._searches[output].of_size(size)


class _Search:
    """Of one output; gains say how far it is from having flipped."""

    def __init__(
        self,
        evidence: Evidence,
        explanation: Explanation,
        output: int,
        proposed: Removal | None,
        guesses: Sequence[Array],
    ) -> None:
        self._evidence, self._explanation = evidence, explanation
        self._output, self._proposed = output, proposed
        self._side = 1 if explanation.intact[output] > 0 else -1
        floor = explanation.noise_floor
        self._noise = 0.0 if floor is None else sqrt(float(floor[output]))
        effects = [
            self._side * each
            for each in (mean_effects(explanation.fourier, output), *guesses)
        ]
        self._effects = mixed(effects)
        self._chains = self._ranked(effects)
        self.tried: list[Support] = []

    def _ranked(self, effects: Sequence[Array]) -> list[Chain]:
        """A chain for the surrogate, for each guess, and for all together."""
        players = () if self._proposed is None else self._proposed.players
        intact = self._gain(float(self._explanation.intact[self._output]))
        least = ceil(LESS * len(players)) or None
        chains = [chain_of(effects[0], players, len(players) or None, intact)]
        others = [self._effects, *effects[1:]] if effects[1:] else []
        return chains + [chain_of(each, (), least, intact) for each in others]

    def proposals(self) -> Iterator[Support]:
        """Sets to be measured, each of which was before the next is asked for."""
        yield from self._crossed()
        yield from self._given_back()

    def _crossed(self) -> Iterator[Support]:
        """Sizes of each chain, the most promising first, until none promises less
        than what flips already."""
        while True:
            best = self.smallest()
            most = len(self._explanation.players) if best is None else len(best)
            sizes = [chain.next_size(most - 1) for chain in self._chains]
            promising = [
                (chain.crossing(), place, size)
                for place, (chain, size) in enumerate(
                    zip(self._chains, sizes, strict=True)
                )
                if size is not None and (best is None or chain.crossing() < most)
            ]
            if not promising:
                return
            _, place, size = min(promising)
            players = self._chains[place].first(size)
            if self._evidence.values(players) is None:
                yield players
            self._chains[place].gains[size] = self._gain(self._value(players))

    def _given_back(self) -> Iterator[Support]:
        """The smallest set that flips with some players kept, those that seem to do
        least first, in ever smaller parts (Zeller & Hildebrandt 2002)."""
        best = self.smallest()
        part = 0 if best is None else max(len(best) // GIVEN_BACK, 1)
        while part and (best := self.smallest()) is not None:
            order = sorted(best, key=lambda player: self._effects[player])
            fewer = (
                tuple(sorted({*order} - {*order[start : start + part]}))
                for start in range(0, len(order), part)
            )
            unknown = (
                some for some in fewer if some and self._evidence.values(some) is None
            )
            some = next(unknown, None)
            if some is None:
                part //= 2
            else:
                yield some

    def _value(self, players: Support) -> float:
        """Of a set that was asked for, NaN if it has none."""
        values = self._evidence.values(players)
        assert values is not None
        return float(values[self._output])

    def _gain(self, value: float) -> float:
        """Below 0 the output has flipped, beyond its noise; without a value it has
        just not."""
        return 0.0 if isnan(value) else self._side * value + self._noise

    def _nearness(self, players: Support) -> tuple[bool, float]:
        """The smaller the nearer a set came to flipping."""
        value = self._value(players)
        return isnan(value), self._gain(value)

    def smallest(self) -> Support | None:
        """The smallest set known that flips it, beyond its noise if it can be told."""
        return self._evidence.smallest(self._gains() + self._noise)

    def _gains(self) -> Array:
        return self._side * self._evidence.column(self._output)

    def removal(self) -> Removal | None:
        """The smallest set that flips it, else what came nearest if some should."""
        proposed = self._proposed
        best = self.smallest() or self._evidence.smallest(self._gains())
        if best is None:
            if proposed is None or not self.tried:
                return proposed
            best = min(self.tried, key=self._nearness)
        value = self._value(best)
        is_proposed = proposed is not None and proposed.players == best
        return Removal(
            self._output,
            best,
            predicted(self._explanation, best, self._output),
            is_smallest=is_proposed and proposed is not None and proposed.is_smallest,
            measured=None if isnan(value) else value,
            tried=len(self.tried),
        )

    def of_size(self, size: int) -> Support:
        """As `FlipSearch.of_size`."""
        best = self.smallest()
        first = best if best is not None and len(best) <= size else ()
        ranked = np.argsort(-self._effects, kind="stable").tolist()
        return tuple(sorted([*dict.fromkeys([*first, *ranked])][:size]))


def _checked(guess: Any, explanation: Explanation) -> Array:
    """A guess as numbers (n, k).

    Raises:
        InputError: it is of another shape, or not finite.
    """
    table = np.asarray(guess, dtype=np.float64)
    shape = (len(explanation.players), len(explanation.outputs))
    if table.shape != shape or not np.isfinite(table).all():
        raise InputError(
            f"a guess of shape {table.shape} is not what keeping each player adds to "
            f"each output: expected finite numbers of shape {shape}."
        )
    return table
