"""Many tasks in threads, their results as they come, and none lost when one fails."""

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from threading import Event, Thread

import numpy as np

from oracles.base import Values
from oracles.errors import UnansweredError
from oracles.remote.wire import LackingError

GRACE_SECONDS = 5.0  # how long a stop waits for answers that are on their way
MOST_LACKING = 10  # answers without what was asked for; with more it is not by chance

Task = tuple[Sequence[int], Callable[[], np.ndarray]]
"""Rows (r,), and a function that finds the one value (k,) of all of them."""

Answered = tuple[Sequence[int], Values]
"""Rows (r,) and their values (r, k)."""


def as_answered(
    tasks: Sequence[Task], concurrency: int, stop: Event
) -> Generator[Answered, None, None]:
    """Rows and values as tasks finish; after a failure, of those under way, then raise.

    A few tasks may end in a LackingError, as when one prompt of many is filtered.
    A part may come twice if KeyboardInterrupt is thrown in while it is handed over.

    Args:
        tasks: what to do.
        concurrency: how many at a time.
        stop: set as soon as no task should begin or wait any more.

    Raises:
        UnansweredError: a few tasks did, after all others.
    """
    work = _Work(tasks, stop)
    threads = [
        # not of an executor: Python would wait for those at its end
        Thread(target=work.go_on, daemon=True)
        for _ in range(min(concurrency, len(tasks)))
    ]
    failure: BaseException | None = None
    handed = 0
    try:
        for thread in threads:
            thread.start()
        while failure is None and handed + len(work.lacking) < len(tasks):
            work.news.wait()
            work.news.clear()
            failure = next(iter(work.failures), None)
            finished = len(work.finished)
            if finished > handed:
                yield _together(work.finished[handed:finished])
                handed = finished
    except KeyboardInterrupt as interrupt:
        failure = interrupt
    except GeneratorExit:  # connections are closed next: not while one is opened
        _join(threads, stop, GRACE_SECONDS)
        raise
    finally:
        stop.set()
    if failure is None and work.lacking:
        failure = UnansweredError(
            work.lacking_rows, sum(len(rows) for rows, _ in tasks)
        )
    if failure is None:
        return
    is_user = isinstance(failure, KeyboardInterrupt)
    try:
        _join(threads, stop, GRACE_SECONDS if is_user else None)
    except KeyboardInterrupt as impatience:
        failure = impatience
    if len(work.finished) > handed:
        yield _together(work.finished[handed:])
    raise failure


class _Work:
    """Tasks, and what came of them.

    Attributes:
        finished: rows and the value of every task that has one.
        lacking: rows of those that a server answered without what they need, and why.
        failures: of the others, the first being the reason to stop.
        news: set whenever either grows.
    """

    def __init__(self, tasks: Sequence[Task], stop: Event) -> None:
        self._left, self._stop = deque(tasks), stop
        self.finished: list[tuple[Sequence[int], np.ndarray]] = []
        self.lacking: list[tuple[Sequence[int], str]] = []
        self.failures: list[BaseException] = []
        self.news = Event()

    def go_on(self) -> None:
        """Do tasks until none is left or one fails; several threads may."""
        while not self._stop.is_set():
            try:
                rows, task = self._left.popleft()
            except IndexError:
                return
            try:
                self.finished.append((rows, task()))
            except BaseException as error:  # of any kind, or nobody would hear of it
                if isinstance(error, LackingError) and len(self.lacking) < MOST_LACKING:
                    self.lacking.append((rows, str(error)))
                else:
                    self.failures.append(error)
                    self._stop.set()
            self.news.set()

    @property
    def lacking_rows(self) -> dict[int, str]:
        """Rows without a value, and why."""
        return {row: reason for rows, reason in self.lacking for row in rows}


def _join(threads: Sequence[Thread], stop: Event, seconds: float | None) -> None:
    """Have those that were started stop, and wait at most so long in all."""
    stop.set()
    end = None if seconds is None else time.monotonic() + seconds
    for thread in threads:
        if thread.ident is not None:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))


def _together(finished: Sequence[tuple[Sequence[int], np.ndarray]]) -> Answered:
    rows = [row for where, _ in finished for row in where]
    return rows, np.stack([value for where, value in finished for _ in where])
