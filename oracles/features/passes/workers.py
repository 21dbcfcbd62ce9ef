"""Running batches: on how many threads, and what happens when memory runs out.

On a CPU the batches run side by side, on one thread each if there are enough of them.
Threads inside an operation wait for one another at every operation's end; with small
models that costs much, and with other programs on the same cores nearly everything
(benchmarks/throughput.py).
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from oracles.errors import ModelError

Result = TypeVar("Result")
Batch = list[int]
"""Numbers of the sequences that go through the model together."""


@dataclass
class _Room:
    """Into how many parts a batch has to be cut to fit in memory, as learned so far."""

    parts: int = 1


def run_batches(
    batches: Sequence[Batch], work: Callable[[Batch], Result], device: Any
) -> list[tuple[Batch, Result]]:
    """What `work` makes of every batch, in order; called in inference mode.

    A batch that does not fit in memory is cut in halves, and so are those after it: the
    batches that come back may be smaller than those given.

    Args:
        batches: none empty.
        work: called from several threads at once on a CPU.
        device: where the model is.

    Raises:
        ModelError: one sequence alone does not fit in memory.
    """
    room = _Room()
    threads = num_workers(device)
    workers = min(threads, len(batches))
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

    while True:
        parts = min(room.parts, len(batch))
        try:
            with torch.inference_mode():
                return [(part, work(part)) for part in _cut(batch, parts)]
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if parts == len(batch):
                raise ModelError(
                    "one prompt alone does not fit in memory beside the model. "
                    "Shorten the prompt, load the model in fewer bits (dtype, "
                    "quantisation), or use a machine with more memory."
                ) from error
        # here the failed pass's tensors are no longer held by its error
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
    phrases = ("out of memory", "not enough memory", "can't allocate memory")
    return any(phrase in told for phrase in phrases)
