"""What runs in a worker's process: an oracle, asked for one part at a time."""

import os
import sys
from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np

from oracles.base import Masks, Oracle, PaidOracle, Values
from oracles.errors import UnansweredError

Answers = Generator[tuple[Sequence[int], Values], None, None]
"""Rows (r,) of the masks asked for, and their values (r, k)."""


class Part(NamedTuple):
    """What an oracle answered at a time.

    Attributes:
        rows: of the batch's masks, (r,).
        values: shape (r, k).
        reasons: why there is no value, by row of the batch's masks.
        is_last: whether no more comes of this batch.
    """

    rows: Sequence[int]
    values: Values
    reasons: dict[int, str]
    is_last: bool


class Worker:
    """Holds an oracle and answers for batches of masks.

    A batch is answered in parts, as the oracle answers it: so what a worker had
    answered is not lost when it dies.
    """

    def load(self, pickled: bytes, threads: int) -> None:
        """Take an oracle in; numerical libraries are given at most so many threads."""
        from ray import cloudpickle

        threads = min(threads, os.cpu_count() or 1)
        for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
            os.environ[f"{library}_NUM_THREADS"] = str(threads)
        # bytes of the process that runs these workers, never of a file; not left to
        # Ray, whose arrays are shared and cannot be written to
        self._oracle: Oracle = cloudpickle.loads(pickled)
        _limit_threads(threads)

    def begin(self, masks: Masks) -> Part:
        """The first part of a new batch."""
        self._answers = _answers(self._oracle, masks)
        return self.go_on()

    def go_on(self) -> Part:
        """The next part of the batch."""
        none = np.empty((0, 0))
        try:
            rows, values = next(self._answers)
        except StopIteration:
            return Part((), none, {}, is_last=True)
        except UnansweredError as error:
            reasons = {failure.row: failure.reason for failure in error.failures}
            return Part((), none, reasons, is_last=True)
        return Part([int(row) for row in rows], values, {}, is_last=False)


def _answers(oracle: Oracle, masks: Masks) -> Answers:
    if isinstance(oracle, PaidOracle):
        yield from oracle.evaluate_each(masks)
    else:
        yield range(len(masks)), oracle.evaluate(masks)


def _limit_threads(threads: int) -> None:
    """Of the libraries loaded by now; later ones read the environment."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
