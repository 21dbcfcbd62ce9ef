"""Drops, stalls, garbage and refusals: what is sent again, what is kept, what is said.

The server is a process of its own, reached over sockets; see cache_server.py.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oracles import (
    InputError,
    InterruptedRun,
    Ledger,
    LedgerError,
    PaidOracle,
    StoppedRun,
    run,
)
from oracles.features.prompts.prompt import TextPrompt, text_prompt
from oracles.remote import Endpoint, RemoteError, RemoteOracle, completions_oracle

from .conftest import QUESTION, STORY, Server, running_server

MASKS = np.array([[i >> j & 1 for j in range(6)] for i in range(64)], dtype=bool)
"""All of six players; 64 texts, as no two of the sentences are alike."""
UNAUTHORISED = {"kind": "status", "status": 401}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries that hardly wait; how long they do has a test of its own."""
    monkeypatch.setattr("oracles.remote.session.FIRST_WAIT_SECONDS", 0.01)


def oracle_of(server: Server, **limits: object) -> RemoteOracle:
    prompt = text_prompt(STORY, segments="sentence", suffix=QUESTION)
    endpoint = server.endpoint(**limits)
    return completions_oracle(prompt, endpoint, continuation="Oslo")


@pytest.fixture(scope="module")
def expected(running: Server) -> np.ndarray:
    running.set()
    return oracle_of(running).evaluate(MASKS)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop"},
        {"kind": "half"},
        {"kind": "garbage"},
        {"kind": "stall", "seconds": 2},
        *({"kind": "status", "status": code} for code in (429, 500, 502, 503, 504)),
        {"kind": "status", "status": 200, "body": {"error": {"code": 502}}},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}",
)
def test_what_may_pass_is_sent_again(
    server: Server, expected: np.ndarray, fault: dict
) -> None:
    timeout = 0.7 if fault["kind"] == "stall" else 60
    oracle = oracle_of(server, timeout_seconds=timeout)
    server.set(faults=[fault])
    assert np.array_equal(oracle.evaluate(MASKS[:3]), expected[:3])
    assert len(server.requests()) == 4


@pytest.mark.usefixtures("hasty")
def test_an_answer_that_trickles_is_given_up_in_time(server: Server) -> None:
    oracle = oracle_of(server, timeout_seconds=0.3)
    server.set(faults=[{"kind": "drip", "seconds": 0.2}])  # for four seconds
    started = time.monotonic()
    oracle.evaluate(MASKS[:1])
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 302])
def test_what_will_not_pass_is_sent_once(server: Server, status: int) -> None:
    oracle = oracle_of(server)
    server.set(always={"kind": "status", "status": status}, after=0)
    with pytest.raises(RemoteError, match=str(status)) as caught:
        oracle.evaluate(MASKS[:1])
    assert caught.value.status == status
    assert len(server.requests()) == 1


def test_a_lack_of_credit_is_not_waited_for(server: Server) -> None:
    oracle = oracle_of(server)
    error = {"message": "You exceeded your quota.", "code": "insufficient_quota"}
    server.set(always={"kind": "status", "status": 429, "body": {"error": error}})
    with pytest.raises(RemoteError, match="exceeded your quota"):
        oracle.evaluate(MASKS[:1])
    assert len(server.requests()) == 1


def test_waits_between_retries_double(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oracles.remote.session.FIRST_WAIT_SECONDS", 0.2)
    oracle = oracle_of(server)
    server.set(faults=[{"kind": "drop"}] * 3)
    oracle.evaluate(MASKS[:1])
    waits = np.diff([request["time"] for request in server.requests()])
    # 0.2 s, 0.4 s, 0.8 s, each less up to half by jitter, and what sending varies
    assert waits[0] > 0.05
    assert waits[2] > 0.35


@pytest.mark.usefixtures("hasty")
def test_retries_end_and_the_message_has_the_servers_words(server: Server) -> None:
    oracle = oracle_of(server, max_retries=1)
    server.set(always={"kind": "garbage"})
    with pytest.raises(RemoteError, match=r"Bad gateway.*sent 2 times"):
        oracle.evaluate(MASKS[:1])
    assert len(server.requests()) == 2


def test_retry_after_holds_every_request(server: Server) -> None:
    oracle = oracle_of(server, concurrency=4)
    wait = {"kind": "status", "status": 429, "headers": {"Retry-After": "0.8"}}
    server.set(faults=[wait], delay=0.05)
    oracle.evaluate(MASKS[:20])
    times = np.sort([request["time"] for request in server.requests()])
    gaps = np.diff(times)
    assert gaps.max() > 0.5  # less what sending varies
    # those before it were under way, or next when the wait was asked for
    assert gaps.argmax() < 8


@pytest.mark.parametrize("asked", ["0", "-1", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_server_that_asks_for_no_wait_is_waited_for_as_any_other(
    server: Server, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr("oracles.remote.session.FIRST_WAIT_SECONDS", 0.2)
    oracle = oracle_of(server)
    wait = {"kind": "status", "status": 429, "headers": {"Retry-After": asked}}
    server.set(faults=[wait] * 3)
    oracle.evaluate(MASKS[:1])
    waits = np.diff([request["time"] for request in server.requests()])
    assert waits[0] > 0.05
    assert waits[2] > 0.35


def test_a_server_that_asks_for_an_hour_is_not_waited_for(server: Server) -> None:
    oracle = oracle_of(server)
    headers = {"Retry-After": "3600"}
    server.set(always={"kind": "status", "status": 429, "headers": headers})
    with pytest.raises(RemoteError, match="asks to wait 3600 seconds"):
        oracle.evaluate(MASKS[:1])


def _closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_server_that_is_not_there_is_named_at_once(
    host: str, prompt: TextPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    url = f"http://{host}:{_closed_port()}/v1"
    endpoint = Endpoint(model="cache", base_url=url, max_requests=3)
    with pytest.raises(RemoteError, match=f"no server at {url} .*Start it") as caught:
        completions_oracle(prompt, endpoint, continuation="Oslo")
    message = str(caught.value)
    assert "sent" not in message  # again
    assert "use chat_oracle" not in message  # it would fail as well


@pytest.mark.usefixtures("hasty")
def test_a_server_that_goes_away_is_asked_again() -> None:
    with running_server() as server:
        oracle = oracle_of(server, max_retries=3)
    with pytest.raises(RemoteError, match=r"no connection.*any more.*sent 4 times"):
        oracle.evaluate(MASKS[:1])
    assert oracle.spent().requests == 6
    assert oracle.spent().answered == 2


def test_requests_under_way_are_bounded_and_the_bound_is_used(server: Server) -> None:
    oracle = oracle_of(server, concurrency=3)
    server.set(delay=0.05)
    oracle.evaluate(MASKS[:12])
    assert server.log()["most"] == 3


def test_requests_a_minute_are_bounded_and_spaced(server: Server) -> None:
    oracle = oracle_of(server, requests_per_minute=400)
    server.set()
    oracle.evaluate(MASKS[:9])
    times = np.sort([request["time"] for request in server.requests()])
    assert times[-1] - times[0] > 1.1  # eight gaps of 0.15 s, less what sending varies


@pytest.mark.usefixtures("hasty")
def test_the_cap_holds_with_retries_and_threads(server: Server) -> None:
    oracle = oracle_of(server, max_requests=30, concurrency=8)
    half = [{"kind": "drop"}, {"kind": "status", "status": 429}] * 40
    server.set(faults=half)
    with pytest.raises(InputError, match="max_requests=30 have been sent"):
        oracle.evaluate(MASKS[:20])
    assert len(server.requests()) == 28  # two probes went before
    assert oracle.account["requests"] == 30


def test_a_run_beyond_the_cap_is_refused_before_it_starts(server: Server) -> None:
    oracle = oracle_of(server, max_requests=40)
    server.set()
    with pytest.raises(InputError, match=r"64 requests.*max_requests=40.*38 left"):
        run(oracle, MASKS)
    assert server.requests() == []
    assert run(oracle, MASKS[:38]).paid == 38


def test_nothing_more_is_sent_once_the_ledger_cannot_be_written(
    server: Server, tmp_path: Path
) -> None:
    oracle = oracle_of(server, concurrency=2)
    server.set(delay=0.05)
    ledger = Ledger(tmp_path / "l")
    ledger.write(oracle.fingerprint, np.ones((1, 6), bool), np.zeros((1, 1)))
    with pytest.raises(LedgerError) as caught:
        run(oracle, MASKS[:60], ledger=ledger, progress=lambda *_: ledger.close())
    sent = len(server.requests())
    time.sleep(0.3)
    assert len(server.requests()) <= sent + 2 < 20
    assert caught.value.__traceback__ is not None  # and so all its frames


@pytest.mark.usefixtures("hasty")
def test_a_cap_that_retries_used_up_ends_the_run_with_what_was_paid_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.modules["oracles.run"], "BATCH_SIZE", 32)
    oracle = oracle_of(server, max_requests=2 + 64 + 5)
    server.set(faults=[{"kind": "drop"}] * 10)
    with Ledger(tmp_path / "l") as ledger:
        with pytest.raises(StoppedRun, match=r"27 left.*after 32 of 64.*goes on"):
            run(oracle, MASKS, ledger=ledger)
        assert len(server.requests()) == 42
        assert run(oracle_of(server), MASKS, ledger=ledger).paid == 32


def test_a_remote_oracle_is_a_paid_oracle(server: Server) -> None:
    assert isinstance(oracle_of(server), PaidOracle)


@pytest.mark.parametrize("after", [0, 17])
def test_a_run_goes_on_from_the_ledger_where_the_server_failed(
    server: Server, expected: np.ndarray, after: int, tmp_path: Path
) -> None:
    oracle = oracle_of(server)
    server.set(always=UNAUTHORISED, after=after, delay=0.01)
    with Ledger(tmp_path / "l") as ledger:
        with pytest.raises(StoppedRun, match="pays only for the rest") as stop:
            run(oracle, MASKS, ledger=ledger)
        assert stop.value.done == server.log()["answered"] == after
        assert f"after {after} of 64" in str(stop.value)
        assert isinstance(stop.value.__cause__, RemoteError)
        server.set()
        result = run(oracle_of(server), MASKS, ledger=ledger)
    assert np.array_equal(result.values, expected)
    assert server.log()["answered"] == 64 - after + 2
    server.set(always=UNAUTHORISED)
    with pytest.raises(StoppedRun, match="pass a ledger"):
        run(oracle, MASKS)


@pytest.mark.parametrize("during_write", [False, True])
def test_ctrl_c_loses_no_answer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during_write: bool
) -> None:
    oracle = oracle_of(server, concurrency=5)
    server.set(delay=0.05)
    write = Ledger.write

    def interrupted(self: Ledger, *batch: object) -> None:
        write(self, *batch)  # type: ignore[arg-type]
        if len(self.masks(oracle.fingerprint, 6)) > 20 and not struck:
            struck.append(True)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)  # where the interrupt arrives

    struck: list[bool] = []
    timer = threading.Timer(0.25, os.kill, (os.getpid(), signal.SIGINT))
    if during_write:
        monkeypatch.setattr(Ledger, "write", interrupted)
    else:
        timer.start()
    with Ledger(tmp_path / "l") as ledger:
        with pytest.raises(InterruptedRun, match="pays only for the rest") as stop:
            run(oracle, MASKS, ledger=ledger)
        timer.join(timeout=1) if timer.is_alive() else None
        kept = len(ledger.masks(oracle.fingerprint, 6))
    assert 5 <= kept < 64
    assert stop.value.done == kept == server.log()["answered"]


KILLED = """
import sys, numpy as np
from oracles import Ledger, run
from tests.oracles.remote.conftest import Server
from tests.oracles.remote.test_failures import MASKS, oracle_of
oracle = oracle_of(Server(int(sys.argv[1])), concurrency=4)
with Ledger(sys.argv[2]) as ledger:
    run(oracle, MASKS, ledger=ledger)
"""


def test_a_killed_process_loses_only_what_was_under_way(
    server: Server, tmp_path: Path
) -> None:
    server.set(delay=0.05)
    port = server.url.split(":")[2].split("/")[0]
    command = [sys.executable, "-c", KILLED, port, str(tmp_path / "l")]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 20
    while server.log()["answered"] < 24 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    oracle = oracle_of(server)
    answered = server.log()["answered"] - 4  # less the probes of both
    with Ledger(tmp_path / "l") as ledger:
        kept = len(ledger.masks(oracle.fingerprint, 6))
    assert 15 < kept < 64
    # four on their way, and as many that had come and were not yet written
    assert answered - 8 <= kept <= answered


def test_equal_prompts_are_asked_about_once(server: Server) -> None:
    prompt = text_prompt("no no no", segments="word", suffix="Answer:")
    oracle = completions_oracle(prompt, server.endpoint(), continuation="no")
    server.set()
    masks = np.array([[i >> j & 1 for j in range(3)] for i in range(8)], dtype=bool)
    values = oracle.evaluate(masks)[:, 0]
    assert len(server.requests()) == 4
    assert len(set(values)) == 4
    assert values[1] == values[2] == values[4]


def test_connections_are_not_closed_while_one_is_opened(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[socket.socket] = []
    connect = socket.create_connection

    def slowly(*arguments: Any, **settings: Any) -> socket.socket:
        one = connect(*arguments, **settings)
        opened.append(one)
        time.sleep(0.1 * len(opened))
        return one

    oracle = oracle_of(server, concurrency=4)
    monkeypatch.setattr(socket, "create_connection", slowly)
    answers = oracle.evaluate_each(MASKS)
    next(answers)
    answers.close()
    assert [one.fileno() for one in opened] == [-1] * 4
