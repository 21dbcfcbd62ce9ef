"""The workers' processes: started, called, waited for, and replaced when they die."""

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from oracles.base import Masks, Oracle
from oracles.errors import InputError, ModelError
from oracles.workers.worker import Part, Worker

MOST_FAILED_STARTS = 3
"""Workers that may die in a row before they have loaded the oracle."""


class Died(Exception):
    """A worker's process ended while it was at work; says how, as Ray has it."""


class Call(NamedTuple):
    """Something a worker was asked to do; `reference` is Ray's, of what it returns."""

    worker: Any
    reference: Any


class Crew:
    """Ray, started if it does not run yet, and a number of workers with an oracle.

    Args:
        oracle: pickled once, and loaded by every worker.
        count: how many workers.
        address: of a running cluster; None starts Ray on this machine.

    Attributes:
        idle: workers that have loaded the oracle and wait for work.
    """

    def __init__(self, oracle: Oracle, count: int, address: str | None) -> None:
        self._ray = _import_ray()
        pickled = self._pickle(oracle)
        self._count = count
        self._closing = ExitStack()
        self.idle: list[Any] = []
        self._starting: list[Call] = []
        self._workers: list[Any] = []
        self._failed_starts = 0
        try:
            self._connect(count, address)
            self._share_out(count)
            self._pickled = self._ray.put(pickled)
            self._fill()
        except BaseException:
            self.close()
            raise

    def _pickle(self, oracle: Oracle) -> bytes:
        try:
            return self._ray.cloudpickle.dumps(oracle)
        except Exception as error:  # a __reduce__ may raise anything
            raise InputError(
                f"the oracle, a {type(oracle).__name__}, cannot be sent to workers, as "
                f"it cannot be pickled ({error}). Open files, connections and locks "
                "cannot."
            ) from error

    def _connect(self, count: int, address: str | None) -> None:
        ray = self._ray
        if ray.is_initialized():
            if address is not None:
                raise InputError(
                    f"address={address!r}, but Ray already runs in this process. Leave "
                    "the address out to use that, or call ray.shutdown() first."
                )
            return
        self._closing.callback(ray.shutdown)
        where = {"address": address} if address else _on_this_machine(count)
        try:
            ray.init(**where, log_to_driver=False, logging_level="ERROR")
        except (OSError, ImportError, RuntimeError, ValueError) as error:
            raise ModelError(
                f"Ray cannot be started, or reached at address={address!r}: {error} An "
                "address is that of a cluster begun with `ray start --head`; without "
                "one, workers run on this machine."
            ) from error

    def _share_out(self, count: int) -> None:
        """Settle what each worker may take of the machine, or of the cluster."""
        found = self._ray.cluster_resources()
        cpus, gpus = int(found.get("CPU", 0)), int(found.get("GPU", 0))
        if count > cpus:
            raise InputError(
                f"count={count} workers, and the cluster has {cpus} CPUs; each needs "
                "one."
            )
        self._threads = max(1, cpus // count)
        options: dict[str, Any] = {"num_cpus": 1, "scheduling_strategy": "SPREAD"}
        if gpus:  # several share one where there are more workers than GPUs
            options["num_gpus"] = 1 / math.ceil(count / gpus)
        self._remote = self._ray.remote(**options)(Worker)

    def _fill(self) -> None:
        """Start workers until there are as many as there should be."""
        while len(self._workers) < self._count:
            worker = self._remote.remote()
            self._workers.append(worker)
            reference = worker.load.remote(self._pickled, self._threads)
            self._starting.append(Call(worker, reference))

    def begin(self, masks: Masks) -> Call:
        """Ask an idle worker for the first part of a batch."""
        worker = self.idle.pop()
        return Call(worker, worker.begin.remote(masks))

    def go_on(self, call: Call) -> Call:
        """Ask the worker of this call for the next part."""
        return Call(call.worker, call.worker.go_on.remote())

    def wait(self, calls: Sequence[Call]) -> Call | None:
        """One of the calls that has ended, or None when a worker came or went instead.

        Raises:
            ModelError: workers die before they have loaded the oracle.
        """
        self._fill()
        waiting = [*calls, *self._starting]
        ended, _ = self._ray.wait([call.reference for call in waiting], num_returns=1)
        call = waiting[[call.reference for call in waiting].index(ended[0])]
        if call not in self._starting:
            return call
        self._starting.remove(call)
        self._settle_start(call)
        return None

    def _settle_start(self, call: Call) -> None:
        errors = self._ray.exceptions
        try:
            self._ray.get(call.reference)
        except errors.RayTaskError as error:
            raise ModelError(
                f"a worker cannot load the oracle: {cause_of(error)} Its code must be "
                "installed where the workers run, in the same versions."
            ) from error
        except errors.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                raise ModelError(
                    f"{self._failed_starts} workers in a row died while they loaded "
                    f"the oracle ({first_line(error)}). Each needs memory of its own: "
                    "take fewer."
                ) from error
            self.dismiss(call.worker)
        else:
            self._failed_starts = 0
            self.idle.append(call.worker)

    def ended(self, calls: Sequence[Call]) -> list[Call]:
        """Those of the calls that have ended by now."""
        if not calls:
            return []
        references = [call.reference for call in calls]
        ended, _ = self._ray.wait(references, num_returns=len(calls), timeout=0)
        return [call for call in calls if call.reference in ended]

    def part_of(self, call: Call) -> Part:
        """What a call that has ended came to.

        Raises:
            Died: the worker's process ended.
            Exception: whatever the oracle raised.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(call.reference)
        except errors.RayTaskError as error:
            raise cause_of(error) from error
        except errors.RayError as error:
            raise Died(first_line(error)) from error

    def dismiss(self, worker: Any) -> None:
        """Forget a dead worker; another takes its place when one is needed."""
        self._workers.remove(worker)
        self._ray.kill(worker)

    def dismiss_all(self) -> None:
        """Kill all workers, whatever they do; others take their place when needed."""
        while self._workers:
            self._ray.kill(self._workers.pop())
        self.idle, self._starting, self._failed_starts = [], [], 0

    def close(self) -> None:
        """Kill all workers, and stop Ray if it was started here."""
        with self._closing:
            self.dismiss_all()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ModelError(
            'workers need Ray; install it with pip install "spex-explain[ray]".'
        ) from None
    return ray


def _on_this_machine(count: int) -> dict[str, Any]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read by the processes Ray starts
    return {
        "address": "local",
        "num_cpus": max(count, os.cpu_count() or 1),
        "include_dashboard": False,
    }


def cause_of(error: Any) -> Exception:
    """What was raised in a worker, as far as it could be sent from there."""
    cause = error.cause
    return cause if isinstance(cause, Exception) else error


def first_line(error: Exception) -> str:
    """Of a message of Ray's, which fills a screen."""
    return str(error).strip().partition("\n")[0]
