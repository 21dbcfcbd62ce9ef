"""An oracle whose masks are evaluated by several processes."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, Self

import numpy as np

from oracles.base import Masks, Oracle, PaidOracle, Values, check_masks
from oracles.errors import InputError
from oracles.workers.crew import Crew
from oracles.workers.sharing import Sharing, cut
from oracles.workers.worker import Answers


class Workers:
    """Another oracle, evaluated by several processes at a time.

    with Workers(oracle, 4) as spread:
        explanation = spex.explain(spread, budget=800)

    Values are those of the oracle itself, up to what it owes to a mask's company, and
    so are names, fingerprint and ledger entries. It is a `PaidOracle`, whatever the
    oracle is: values are committed as they come. Workers share the cores: each has
    cores / count threads; and the GPUs, if there are any.

    A worker that dies is replaced, and what it had not answered is evaluated again:
    where the oracle answers mask by mask, that is one mask. Rows on which three workers
    died are given up, and reported after everything else has been answered.

    Args:
        oracle: sent to the workers by pickle. A remote model's is better left as it
            is: it asks for many answers at a time itself, and counts them.
        count: how many workers, 1 or more; each has a copy of the oracle.
        address: of a running Ray cluster, such as "ray://host:10001", on which the
            oracle's code is installed; by default Ray is started on this machine, or
            used as it is if it already runs in this process.

    Raises:
        InputError: count is below 1. On entering: the oracle cannot be pickled, or
            there are fewer CPUs than workers.
        ModelError: on entering: Ray is missing or cannot be reached.
    """

    def __init__(
        self, oracle: Oracle, count: int, *, address: str | None = None
    ) -> None:
        if count < 1:
            raise InputError(f"count={count}; there is at least one worker.")
        self._oracle, self._count, self._address = oracle, count, address
        self._crew: Crew | None = None

    def __enter__(self) -> Self:
        self._crew = Crew(self._oracle, self._count, self._address)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    @property
    def players(self) -> Sequence[str]:
        """The oracle's own."""
        return self._oracle.players

    @property
    def outputs(self) -> Sequence[str]:
        """The oracle's own."""
        return self._oracle.outputs

    @property
    def fingerprint(self) -> str:
        """The oracle's own: workers change no value."""
        return self._oracle.fingerprint

    @property
    def description(self) -> Mapping[str, Any]:
        """The oracle's own."""
        return self._oracle.description

    def check_affordable(self, masks: Masks) -> None:
        """The oracle's own check, if it has one.

        Raises:
            InputError: they cost more than the oracle may spend.
        """
        if isinstance(self._oracle, PaidOracle):
            self._oracle.check_affordable(masks)

    def evaluate(self, masks: Masks) -> Values:
        """Values (m, k), when the last one has come.

        Raises: as `evaluate_each`.
        """
        places: list[int] = []
        parts: list[Values] = []
        with closing(self.evaluate_each(masks)) as answers:
            for rows, values in answers:
                places += rows
                parts.append(values)
        if not parts:
            return np.empty((0, len(self.outputs)))
        return np.concatenate(parts)[np.argsort(places)]

    def evaluate_each(self, masks: Masks) -> Answers:
        """Rows and their values as workers answer them, in any order.

        On Ctrl-C, what has been answered is handed over and the rest is dropped.

        Raises:
            InputError: the workers have not been started.
            UnansweredError: the oracle has no value for some masks, or workers died on
                them again and again; all others were answered.
            ModelError: the oracle failed on some masks; all others were answered. Or it
                failed, or workers died, on so many that the rest was not asked.
            Exception: any other error of the oracle's, as soon as what was under way
                has been answered.
        """
        masks = check_masks(masks, len(self.players))
        if self._crew is None:
            raise InputError(
                "the workers have not been started. Use them in a with statement: "
                "with Workers(oracle, 4) as spread: ..."
            )
        batches = cut(len(masks), self._count)
        yield from Sharing(self._crew, masks, batches).answers()
