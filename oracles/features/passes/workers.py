"""Running batches: on how many threads, and what happens when memory runs out.

On a CPU the batches run side by side, on one thread each if there are enough of them.
Threads inside an operation wait for one another at every operation's end; with small
models that costs much, and with other programs on the same cores nearly everything
(benchmarks/throughput.py).
"""

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from oracles.errors import ModelError

Result = TypeVar("Result")
Batch = list[int]
"""Numbers of the sequences that go through the model together."""


@dataclass
class _Room:
    """What is known of the memory that workers share.

    Attributes:
        workers: how many run side by side.
        parts: into how many a batch has to be cut to fit, as learned so far.
    """

    workers: int
    parts: int = 1
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _inside: int = 0
    _is_taken: bool = False

    @contextmanager
    def entered(self, *, alone: bool) -> Iterator[None]:
        """Beside others, or with all others outside."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_taken)
            self._is_taken = alone
            self._inside += not alone
            self._changed.wait_for(lambda: not (alone and self._inside))
        try:
            yield
        finally:
            with self._changed:
                self._inside -= not alone
                self._is_taken = self._is_taken and not alone
                self._changed.notify_all()


def run_batches(
    batches: Sequence[Batch], work: Callable[[Batch], Result], device: Any
) -> list[tuple[Batch, Result]]:
    """What `work` makes of every batch, in order; called in inference mode.

    A batch that does not fit in memory is cut in halves, and so are those after it: the
    batches that come back may be smaller than those given. One sequence that does not
    fit beside what other threads hold is tried again without them.

    Args:
        batches: none empty.
        work: called from several threads at once on a CPU.
        device: where the model is.

    Raises:
        ModelError: one sequence alone does not fit in memory.
    """
    threads = num_workers(device)
    workers = min(threads, len(batches))
    room = _Room(workers)
    if workers < 2:
        return [done for batch in batches for done in _fitted(batch, work, room)]
    with _threads_inside(threads // workers), ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(_fitted, batch, work, room) for batch in batches]
        try:
            return [done for future in futures for done in future.result()]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def num_workers(device: Any) -> int:
    """How many batches run side by side if there are as many."""
    import torch

    return torch.get_num_threads() if torch.device(device).type == "cpu" else 1


@contextmanager
def _threads_inside(count: int) -> Iterator[None]:
    """With so many threads inside each operation."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fitted(
    batch: Batch, work: Callable[[Batch], Result], room: _Room
) -> list[tuple[Batch, Result]]:
    """What `work` makes of a batch, cut as small as memory wants it."""
    import torch

    is_alone = False
    while True:
        parts = min(room.parts, len(batch))
        try:
            with torch.inference_mode(), room.entered(alone=is_alone):
                return [(part, work(part)) for part in _cut(batch, parts)]
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            is_smallest = parts == len(batch)
            if is_smallest and (is_alone or room.workers < 2):
                raise ModelError(
                    "one prompt alone does not fit in memory beside the model. "
                    "Shorten the prompt, load the model in fewer bits (dtype, "
                    "quantisation), or use a machine with more memory."
                ) from error
        # here the failed pass's tensors are no longer held by its error
        is_alone = is_smallest
        if not is_smallest:
            room.parts = max(room.parts, 2 * parts)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _cut(batch: Batch, parts: int) -> list[Batch]:
    size = -(-len(batch) // parts)
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def _is_out_of_memory(error: Exception) -> bool:
    """Also what a CPU's allocator and accelerators' own libraries say."""
    import torch

    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    told = str(error).lower()
    phrases = [
        "out of memory",
        "not enough memory",
        "can't allocate memory",
        "status_alloc_failed",  # of cuBLAS and cuDNN
    ]
    return any(phrase in told for phrase in phrases)
