"""Masks shared out among workers, and what becomes of a batch whose worker dies."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from oracles.base import Masks
from oracles.errors import ModelError, UnansweredError
from oracles.workers.crew import Call, Crew, Died
from oracles.workers.worker import Answers, Part

MOST_DEATHS = 3
"""Workers that may die on the same rows."""

MOST_GIVEN_UP = 3
"""Rows that workers die on, or that a model fails on, before all else is given up."""


@dataclass
class Batch:
    """Rows for one worker.

    Attributes:
        rows: as they are given out.
        deaths: how many workers have died on them.
        answered: those that have values.
    """

    rows: Sequence[int]
    deaths: int = 0
    answered: set[int] = field(default_factory=set)

    @property
    def left(self) -> list[int]:
        """Rows without values."""
        return [row for row in self.rows if row not in self.answered]


def cut(num_rows: int, num_workers: int) -> list[Batch]:
    """Batches of rows, each half a worker's share of what is left, to single ones.

    Large ones suit oracles that evaluate many masks together, and small ones at the
    end let workers finish together (guided self-scheduling, Polychronopoulos & Kuck
    1987). They are the same in every run, whichever worker is faster.
    """
    batches, start = [], 0
    while start < num_rows:
        size = -(-(num_rows - start) // (2 * num_workers))
        batches.append(Batch(range(start, start + size)))
        start += size
    return batches


class Sharing:
    """One array of masks being answered by a crew.

    Args:
        crew: whose idle workers are used.
        masks: shape (m, n).
        batches: of its rows.
    """

    def __init__(self, crew: Crew, masks: Masks, batches: Sequence[Batch]) -> None:
        self._crew, self._masks = crew, masks
        self._todo = deque(batches)
        self._under_way: dict[Call, Batch] = {}
        self._answered: deque[tuple[Sequence[int], np.ndarray]] = deque()
        self._reasons: dict[int, str] = {}
        self._given_up = 0
        self._error: Exception | None = None
        self._is_over = False

    def answers(self) -> Answers:
        """Rows and values as they come; at the end, what went wrong is raised.

        Raises:
            UnansweredError: the oracle has no value for some rows, or workers died on
                them again and again; all others were answered.
            ModelError: the oracle failed on some rows; all others were answered. Or
                workers die whatever they are given, or at their start.
            Exception: another error of the oracle's.
        """
        is_done = False
        try:
            while self._todo or self._under_way:
                self._give_out()
                call = self._crew.wait(list(self._under_way))
                if call is not None:
                    self._settle(call)
                self._give_out()  # before what came is handed over, which takes time
                yield from self._hand_over()
            is_done = True
        except KeyboardInterrupt:
            for call in self._crew.ended(list(self._under_way)):
                self._settle(call)
            yield from self._hand_over()
            raise
        finally:
            if not is_done:
                self._crew.dismiss_all()
        if self._error is not None:
            raise self._error
        if self._reasons:
            reasons = dict(sorted(self._reasons.items()))
            raise UnansweredError(reasons, len(self._masks))

    def _give_out(self) -> None:
        while self._todo and self._crew.idle:
            batch = self._todo.popleft()
            call = self._crew.begin(self._masks[list(batch.rows)])
            self._under_way[call] = batch

    def _hand_over(self) -> Answers:
        while self._answered:
            # Ctrl-C may be thrown in here: what may not have arrived is kept
            yield self._answered[0]
            self._answered.popleft()

    def _settle(self, call: Call) -> None:
        """Take in what a call came to, and have its worker go on."""
        batch = self._under_way[call]
        try:
            part = self._crew.part_of(call)
        except Died as death:
            self._crew.dismiss(call.worker)
            self._again(batch, death)
        except Exception as error:
            self._crew.idle.append(call.worker)
            self._again(batch, error)
        else:
            self._take(part, batch)
            if part.is_last or self._is_over or not batch.left:
                self._crew.idle.append(call.worker)
            else:
                self._under_way[self._crew.go_on(call)] = batch
        del self._under_way[call]

    def _take(self, part: Part, batch: Batch) -> None:
        rows = [batch.rows[row] for row in part.rows]
        if rows:
            self._answered.append((rows, np.array(part.values)))
            batch.answered.update(rows)
        self._reasons |= {batch.rows[row]: why for row, why in part.reasons.items()}

    def _again(self, batch: Batch, error: Exception) -> None:
        """Give out again what was not answered, or give it up."""
        if self._is_over:
            return
        if isinstance(error, Died):
            self._bury(batch, error)
        elif not isinstance(error, ModelError):
            self._stop(error)  # it is no fault of these masks alone
        elif len(batch.left) > 1:
            self._todo.extend(Batch([row], batch.deaths) for row in batch.left)
        else:
            self._error = self._error or error
            self._give_up(error)

    def _bury(self, batch: Batch, death: Died) -> None:
        """Give a dead worker's rows to another; then one by one; then give them up."""
        deaths = batch.deaths + 1
        if deaths == 1:
            self._todo.appendleft(Batch(batch.left, deaths))
        elif deaths < MOST_DEATHS:
            self._todo.extend(Batch([row], deaths) for row in batch.left)
        else:
            why = f"{deaths} workers died on it, one after the other. {death}"
            self._reasons |= dict.fromkeys(batch.left, why)
            kept = self._masks[batch.rows[0]].sum()
            self._give_up(
                ModelError(
                    f"workers die whatever they are given, last on row {batch.rows[0]} "
                    f"of {len(self._masks)}, a mask of {kept} players. {death} If "
                    "memory runs out, take fewer workers."
                )
            )

    def _give_up(self, error: ModelError) -> None:
        """Count a row that is given up; too many, and it is not the rows' fault."""
        self._given_up += 1
        if self._given_up > MOST_GIVEN_UP:
            self._stop(error)

    def _stop(self, error: Exception) -> None:
        self._todo.clear()
        self._is_over = True
        self._error = self._error or error
