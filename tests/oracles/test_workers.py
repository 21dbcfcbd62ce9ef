"""Workers change who evaluates and when, and no value; a killed one loses only its own.

Functions that go to workers are made within functions, so that they are sent whole:
workers cannot import this file.
"""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from oracles import (
    FunctionOracle,
    InputError,
    Ledger,
    ModelError,
    Oracle,
    PaidOracle,
    StoppedRun,
    UnansweredError,
    run,
)
from oracles.data import DataOracle, FunctionTrainer, LogisticHead, Targets
from oracles.features import text_oracle
from oracles.workers import Workers
from oracles.workers.sharing import cut

ray = pytest.importorskip("ray", reason='needs pip install "spex-explain[ray]"')

COUNT = Targets(None, None, ids=("size", "draw"))
PLAYERS = 16
ALL = np.random.default_rng(0).random((40, PLAYERS)) < 0.5
POISON = ALL[11]
Train = Callable[[np.ndarray, int, Any], list[float]]


@pytest.fixture(scope="module")
def ray_runs() -> Iterator[None]:
    """Ray for all tests of this file, since it takes seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        yield
        with warnings.catch_warnings():
            # Ray does not wait for the processes it ends
            warnings.simplefilter("ignore", ResourceWarning)
            ray.shutdown()
            gc.collect()


def retrained(log: Path, at: Callable[[list[int]], None] = lambda _: None) -> Any:
    """A data oracle that trains one by one and writes down each training it begins.

    Args:
        log: where it writes the process and the examples.
        at: called with the examples, in the middle of each training.
    """

    def train(indices: np.ndarray, seed: int, points: Any) -> list[float]:
        with log.open("a") as lines:
            lines.write(f"{os.getpid()} {indices.tolist()}\n")
        at(indices.tolist())
        return [float(len(indices)), float(np.random.default_rng(seed).normal())]

    return DataOracle(FunctionTrainer(train, PLAYERS, "counted"), COUNT)


def quiet(log: Path) -> Any:
    return retrained(log.with_suffix(".plain"))


def trainings(log: Path) -> tuple[set[int], Counter[str]]:
    """The processes that trained, and how often each subset was begun."""
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    return {int(pid) for pid, _ in lines}, Counter(subset for _, subset in lines)


def name_of(mask: np.ndarray) -> str:
    return str(np.flatnonzero(mask).tolist())


def killer_of(mask: np.ndarray, flag: Path | None = None) -> Callable[..., None]:
    """Kills the process that trains on this mask: once if there is a flag."""
    poison = np.flatnonzero(mask).tolist()

    def kill(subset: list[int]) -> None:
        if subset == poison and not (flag and flag.exists()):
            if flag:
                flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


def digits() -> DataOracle:
    data = load_digits()
    trainer = LogisticHead(data.data[:PLAYERS] / 16, data.target[:PLAYERS] % 2)
    return DataOracle(trainer, Targets(data.data[-5:] / 16, data.target[-5:] % 2))


def review() -> Oracle:
    words = "one of the best and most moving films that I have not seen this long year"
    return text_oracle(words, "sentiment", segments="word")


@pytest.mark.usefixtures("ray_runs")
@pytest.mark.parametrize(
    ("make", "count"), [(digits, 2), pytest.param(review, 1, marks=pytest.mark.slow)]
)
def test_values_are_those_without_workers(
    make: Callable[[], Oracle], count: int
) -> None:
    oracle = make()
    assert len(oracle.players) == PLAYERS
    with Workers(oracle, count) as spread:
        values = spread.evaluate(ALL)
        assert spread.evaluate(ALL[:0]).shape == (0, len(oracle.outputs))
    # other company in a batch: the solver's tolerance, and float32
    assert np.allclose(values, oracle.evaluate(ALL), atol=1e-3)


@pytest.mark.usefixtures("ray_runs")
def test_trainings_are_shared_out_and_their_ledger_is_the_oracles(
    tmp_path: Path,
) -> None:
    log, seen = tmp_path / "log", []
    oracle = retrained(log, at=lambda _: time.sleep(0.02))
    with Ledger(tmp_path / "l") as ledger, Workers(oracle, 2) as spread:
        assert isinstance(spread, Oracle)
        assert isinstance(spread, PaidOracle)
        assert spread.description == oracle.description
        found = run(
            spread, ALL, ledger=ledger, progress=lambda done, _: seen.append(done)
        )
        assert run(oracle, ALL, ledger=ledger).paid == 0
    processes, subsets = trainings(log)
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert set(subsets.values()) == {1}
    assert seen == list(range(41))  # each is committed by itself
    assert np.array_equal(found.values, quiet(log).evaluate(ALL))


@pytest.mark.usefixtures("ray_runs")
def test_a_killed_worker_costs_only_its_own_training(tmp_path: Path) -> None:
    log = tmp_path / "log"
    oracle = retrained(log, at=killer_of(POISON, flag=tmp_path / "killed"))
    with Workers(oracle, 2) as spread:
        values = run(spread, ALL).values
    _, subsets = trainings(log)
    assert subsets - Counter(set(subsets)) == {name_of(POISON): 1}
    assert np.array_equal(values, quiet(log).evaluate(ALL))


@pytest.mark.usefixtures("ray_runs")
def test_workers_killed_from_outside_are_replaced(tmp_path: Path) -> None:
    log = tmp_path / "log"
    oracle = retrained(log, at=lambda _: time.sleep(0.02))

    def kill_the_last(done: int, total: int) -> None:
        if done in (5, 20):
            line = log.read_text().splitlines()[-1]
            os.kill(int(line.split()[0]), signal.SIGKILL)

    with Workers(oracle, 2) as spread:
        values = run(spread, ALL, progress=kill_the_last).values
    processes, subsets = trainings(log)
    assert len(processes) >= 3
    assert sum(subsets.values()) <= len(ALL) + 2
    assert np.array_equal(values, quiet(log).evaluate(ALL))
    for process in processes:
        wait_for_end(process)


def wait_for_end(process: int) -> None:
    for _ in range(600):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError(f"process {process} is left")


@pytest.mark.usefixtures("ray_runs")
def test_a_mask_that_always_kills_is_named_and_everything_else_is_kept(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    oracle = retrained(log, at=killer_of(POISON))
    with Ledger(tmp_path / "l") as ledger, Workers(oracle, 2) as spread:
        with pytest.raises(StoppedRun, match=r"row 11: 3 workers died on it") as stop:
            run(spread, ALL, ledger=ledger)
        assert isinstance(stop.value.__cause__, UnansweredError)
        assert stop.value.done == len(ALL) - 1
        assert len(ledger.masks(oracle.fingerprint, PLAYERS)) == len(ALL) - 1
    _, subsets = trainings(log)
    assert subsets - Counter(set(subsets)) == {name_of(POISON): 2}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_runs")
def test_workers_that_die_of_everything_end_the_run(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def die(masks: np.ndarray) -> np.ndarray:
        with log.open("a") as lines:
            lines.write("died\n")
        os.kill(os.getpid(), signal.SIGKILL)
        return masks[:, 0]

    with (
        Workers(FunctionOracle(die, PLAYERS), 2) as spread,
        pytest.raises(StoppedRun, match="die whatever they are given") as stop,
    ):
        run(spread, ALL)
    assert type(stop.value.__cause__) is ModelError
    assert len(log.read_text().splitlines()) < len(ALL)


@pytest.mark.usefixtures("ray_runs")
def test_failed_trainings_are_those_without_workers(tmp_path: Path) -> None:
    bad = {name_of(ALL[row]) for row in (3, 30)}

    def fail(subset: list[int]) -> None:
        if str(subset) in bad:
            raise np.linalg.LinAlgError("Singular matrix")

    oracle, answered = retrained(tmp_path / "log", at=fail), []
    with pytest.raises(UnansweredError) as alone:
        oracle.evaluate(ALL)
    with Workers(oracle, 2) as spread:
        answers = spread.evaluate_each(ALL)
        with pytest.raises(UnansweredError) as shared:
            answered.extend(row for rows, _ in answers for row in rows)
        found = run(spread, ALL, most_unanswered=0.1)
    assert shared.value.failures == alone.value.failures
    assert str(shared.value) == str(alone.value)
    assert sorted({3, 30, *answered}) == list(range(len(ALL)))
    assert found.unanswered.tolist() == [3, 30]


@pytest.mark.usefixtures("ray_runs")
def test_a_models_error_on_one_mask_comes_through_after_everything_else(
    tmp_path: Path,
) -> None:
    poison = POISON.copy()

    def size(masks: np.ndarray) -> np.ndarray:
        if (masks == poison).all(axis=1).any():
            raise ModelError("The server has gone.")
        return masks.sum(axis=1)

    oracle = FunctionOracle(size, PLAYERS, fingerprint="size")
    with Ledger(tmp_path / "l") as ledger, Workers(oracle, 2) as spread:
        with pytest.raises(StoppedRun, match="The server has gone") as stop:
            run(spread, ALL, ledger=ledger)
        assert type(stop.value.__cause__) is ModelError
        assert len(ledger.masks(oracle.fingerprint, PLAYERS)) == len(ALL) - 1


@pytest.mark.usefixtures("ray_runs")
def test_a_mistake_in_the_oracle_ends_it_at_once(tmp_path: Path) -> None:
    def wrong(indices: np.ndarray, seed: int, points: Any) -> list[float]:
        time.sleep(0.02)
        return [0.0, 0.0, 0.0]

    oracle = DataOracle(FunctionTrainer(wrong, PLAYERS, "wrong"), COUNT)
    with Workers(oracle, 2) as spread, pytest.raises(StoppedRun, match=r"shape \(3,\)"):
        run(spread, ALL)
    broken = FunctionOracle(lambda masks: masks.sum(axis="rows"), PLAYERS)
    with Workers(broken, 2) as spread, pytest.raises(TypeError, match="str"):
        run(spread, ALL)


@pytest.mark.usefixtures("ray_runs")
def test_ctrl_c_and_giving_up_leave_workers_that_can_go_on(tmp_path: Path) -> None:
    oracle = retrained(tmp_path / "log", at=lambda _: time.sleep(0.02))
    rows: list[int] = []
    with Workers(oracle, 2) as spread:
        answers = spread.evaluate_each(ALL)
        rows += next(answers)[0]
        with pytest.raises(KeyboardInterrupt):
            rows.extend(interrupted(answers))
        assert 1 <= len(set(rows)) < len(ALL)
        answers = spread.evaluate_each(ALL)
        next(answers)
        answers.close()
        assert np.array_equal(spread.evaluate(ALL), oracle.evaluate(ALL))


def interrupted(answers: Any) -> Iterator[int]:
    """Rows that are still answered after Ctrl-C."""
    yield from answers.throw(KeyboardInterrupt)[0]
    for rows, _ in answers:
        yield from rows


@pytest.mark.usefixtures("ray_runs")
def test_workers_share_the_cores() -> None:
    def threads(masks: np.ndarray) -> np.ndarray:
        from threadpoolctl import threadpool_info

        most = max(pool["num_threads"] for pool in threadpool_info())
        return np.full(len(masks), most)

    with Workers(FunctionOracle(threads, 3), 2) as spread:
        found = spread.evaluate(np.ones((4, 3), dtype=bool))
    assert (found == min(2, os.cpu_count() or 1)).all()  # Ray has 4 CPUs here


@pytest.mark.usefixtures("ray_runs")
def test_what_cannot_work_is_refused_before_anything_is_evaluated() -> None:
    def limited(oracle: Oracle) -> str:
        with Workers(oracle, 1) as spread:
            spread.evaluate(np.ones((1, 2), dtype=bool))
        raise AssertionError

    lock = threading.Lock()
    oracle = FunctionOracle(lambda masks: masks.sum(axis=1), 2)
    with pytest.raises(InputError, match="count=0"):
        Workers(oracle, 0)
    with pytest.raises(InputError, match="with Workers"):
        Workers(oracle, 1).evaluate(np.ones((1, 2), dtype=bool))
    with pytest.raises(InputError, match="4 CPUs"), Workers(oracle, 5):
        pass
    with pytest.raises(InputError, match="already runs"):
        Workers(oracle, 1, address="ray://nowhere:1").__enter__()
    with pytest.raises(InputError, match="cannot be pickled"):
        limited(FunctionOracle(lambda masks: lock and masks.sum(axis=1), 2))


def test_batches_are_all_rows_once_and_never_grow() -> None:
    for rows, workers in [(0, 1), (1, 3), (128, 2), (128, 64), (1000, 7)]:
        batches = [list(batch.rows) for batch in cut(rows, workers)]
        assert [row for batch in batches for row in batch] == list(range(rows))
        sizes = list(map(len, batches))
        assert sizes == sorted(sizes, reverse=True)
        assert not sizes or sizes[0] <= -(-rows // (2 * workers))


ALONE = """
import sys, time
import numpy as np
from oracles import Ledger, run
from oracles.data import DataOracle, FunctionTrainer, Targets
from oracles.workers import Workers

def train(indices, seed, points):
    time.sleep(0.05)
    return [len(indices)]

targets = Targets(None, None, ids=("size",))
oracle = DataOracle(FunctionTrainer(train, 16, "slow"), targets)
masks = np.random.default_rng(0).random((2000, 16)) < 0.5
with Ledger(sys.argv[1]) as ledger, Workers(oracle, 2) as spread:
    run(spread, masks, ledger=ledger, progress=lambda done, _: print(done, flush=True))
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.slow
def test_ctrl_c_keeps_what_was_answered_and_leaves_no_process(tmp_path: Path) -> None:
    mark = f"SPEX_TEST={tmp_path}"
    name, value = mark.split("=")
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE, str(tmp_path / "l")],
        env={**os.environ, name: value},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 10:
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate()
    assert "InterruptedRun: Stopped after" in errors
    with Ledger(tmp_path / "l") as ledger:
        kept = int(errors.split("Stopped after ")[1].split()[0])
        assert 10 <= kept < 2000
        written = ledger._db.execute("SELECT count(*) FROM ablations").fetchone()[0]
        assert written == kept
    for left in marked(mark):
        wait_for_end(left)


def marked(mark: str) -> list[int]:
    """Processes with this in their environment, the children's children included."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in environment.split(b"\0"):
            found.append(int(folder.name))
    return found
