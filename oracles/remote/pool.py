"""Many tasks in threads, their results as they come, and none lost when one fails."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event

import numpy as np

from oracles.base import Values

GRACE_SECONDS = 5.0  # how long Ctrl-C waits for answers that are on their way

Task = tuple[Sequence[int], Callable[[], np.ndarray]]
"""Rows (r,), and a function that finds the one value (k,) of all of them."""

Answered = tuple[Sequence[int], Values]
"""Rows (r,) and their values (r, k)."""


def as_answered(
    tasks: Sequence[Task], concurrency: int, stop: Event
) -> Generator[Answered, None, None]:
    """Rows and values as tasks finish; after a failure, of those under way, then raise.

    A part may come twice if KeyboardInterrupt is thrown in while it is handed over.

    Args:
        tasks: what to do.
        concurrency: how many at a time.
        stop: set as soon as no task should begin or wait any more.
    """
    pool = ThreadPoolExecutor(concurrency)
    pending = {pool.submit(task): rows for rows, task in tasks}
    ready: list[tuple[Sequence[int], np.ndarray]] = []
    failure: BaseException | None = None
    try:
        while pending and failure is None:
            try:
                wait(pending, return_when=FIRST_COMPLETED)
                failure = _collect(pending, ready)
                if ready:
                    yield _together(ready)
                    ready = []
            except KeyboardInterrupt as interrupt:
                failure = interrupt
        if failure is None:
            return
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        under_way = [future for future in pending if not future.cancelled()]
        is_user = isinstance(failure, KeyboardInterrupt)
        wait(under_way, timeout=GRACE_SECONDS if is_user else None)
        _collect(pending, ready)
        if ready:
            yield _together(ready)
        raise failure
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _collect(
    pending: dict[Future[np.ndarray], Sequence[int]],
    ready: list[tuple[Sequence[int], np.ndarray]],
) -> BaseException | None:
    """Move what is finished from `pending` to `ready`; the first failure, if any."""
    failure = None
    for future in [future for future in pending if future.done()]:
        if not future.cancelled():
            error = future.exception()
            if error is None:
                ready.append((pending[future], future.result()))
            failure = failure or error
        del pending[future]  # last, so that an interrupt loses nothing
    return failure


def _together(ready: list[tuple[Sequence[int], np.ndarray]]) -> Answered:
    rows = [row for where, _ in ready for row in where]
    return rows, np.stack([value for where, value in ready for _ in where])
