"""The ledger keeps what was paid for, and nothing else."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from oracles import Ledger, LedgerError
from oracles.ledger import MIGRATIONS


def _masks(count: int = 5, num_players: int = 11) -> np.ndarray:
    return np.random.default_rng(0).random((count, num_players)) < 0.5


def test_what_was_written_is_read_back_exactly(tmp_path: Path) -> None:
    masks = _masks()
    values = np.random.default_rng(1).normal(size=(5, 3))
    with Ledger(tmp_path / "a.sqlite") as ledger:
        ledger.write("one", masks, values)
    with Ledger(tmp_path / "a.sqlite") as ledger:
        known = ledger.read("one", masks)
    assert {row: v.tolist() for row, v in known.items()} == dict(
        enumerate(values.tolist())
    )


def test_oracles_are_never_mixed(tmp_path: Path) -> None:
    with Ledger(tmp_path / "a.sqlite") as ledger:
        ledger.write("one", _masks(), np.ones((5, 1)))
        assert ledger.read("other", _masks()) == {}


def test_a_value_once_written_stays(tmp_path: Path) -> None:
    with Ledger(tmp_path / "a.sqlite") as ledger:
        ledger.write("one", _masks(), np.ones((5, 1)))
        ledger.write("one", _masks(), np.zeros((5, 1)))
        assert ledger.read("one", _masks())[0].tolist() == [1.0]


def test_two_connections_share_a_file(tmp_path: Path) -> None:
    with Ledger(tmp_path / "a") as writer, Ledger(tmp_path / "a") as reader:
        writer.write("one", _masks(), np.ones((5, 1)))
        assert len(reader.read("one", _masks())) == 5


@pytest.mark.parametrize(("num_players", "width"), [(12, 1), (11, 2)])
def test_a_fingerprint_with_another_shape_is_refused(
    tmp_path: Path, num_players: int, width: int
) -> None:
    with Ledger(tmp_path / "a") as ledger:
        ledger.write("one", _masks(), np.ones((5, 1)))
        with pytest.raises(LedgerError, match="does not tell two systems apart"):
            ledger.write("one", _masks(num_players=num_players), np.ones((5, width)))


def test_a_file_that_is_not_sqlite_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, keep them " * 100)
    with pytest.raises(LedgerError, match="cannot be used as a ledger"):
        Ledger(path)
    assert path.read_text().startswith("these are my notes")


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "theirs.sqlite") as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(LedgerError, match="another program"):
        Ledger(tmp_path / "theirs.sqlite")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path / "a").close()
    with sqlite3.connect(tmp_path / "a") as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(LedgerError, match="Upgrade spex"):
        Ledger(tmp_path / "a")


def test_a_corrupt_ledger_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with Ledger(path) as ledger:
        ledger.write("one", _masks(2000, 64), np.ones((2000, 1)))
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(bytes(data))
    with pytest.raises(LedgerError, match=str(path)), Ledger(path) as ledger:
        ledger.read("one", _masks(2000, 64))


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="missing"):
        Ledger(tmp_path / "missing" / "a")


def test_the_schema_is_pinned(tmp_path: Path) -> None:
    Ledger(tmp_path / "a").close()
    with sqlite3.connect(tmp_path / "a") as db:
        names = [r[0] for r in db.execute("SELECT name FROM sqlite_master")]
        columns = [r[1] for r in db.execute("PRAGMA table_info(ablations)")]
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert {"oracles", "ablations"} <= set(names)
    assert columns == ["oracle", "mask", "value"]


KILLED = """
import json, os, sys, time
import numpy as np, spex
from oracles import FunctionOracle

folder, budget = sys.argv[1], 1500
log = open(os.path.join(folder, "calls"), "ab", buffering=0)

def value(masks):
    time.sleep(0.15)
    for row in np.packbits(masks, axis=1):
        log.write(row.tobytes().hex().encode() + b"\\n")
    return masks @ np.arange(14.0) + 5 * (masks[:, 2] & masks[:, 7])

oracle = FunctionOracle(value, 14, fingerprint="a slow sum")
e = spex.explain(oracle, budget=budget, ledger=os.path.join(folder, "ledger"), seed=4)
json.dump([e.spent, e.provenance.paid, e.to_json()["fourier"]], sys.stdout)
"""


def test_a_killed_run_pays_for_nothing_twice_and_ends_the_same(tmp_path: Path) -> None:
    """SIGKILL in the middle, then the same call again, against one never killed."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    whole.mkdir()
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(killed)])
    while not (killed / "calls").exists() or _lines(killed) < 500:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with sqlite3.connect(killed / "ledger") as db:
        kept = {r[0].hex() for r in db.execute("SELECT mask FROM ablations")}
    before = _lines(killed)
    again = subprocess.check_output([sys.executable, "-c", KILLED, str(killed)])
    straight = subprocess.check_output([sys.executable, "-c", KILLED, str(whole)])
    asked_again = (killed / "calls").read_text().split()[before:]
    assert len(kept) >= 384
    assert not kept & set(asked_again)
    spent, paid, spectrum = json.loads(again)
    assert (spent, paid) == (1500, 1500 - len(kept))
    assert spectrum == json.loads(straight)[2]


def _lines(folder: Path) -> int:
    return (folder / "calls").read_bytes().count(b"\n")


OPENED = """
import sys, time
from oracles import Ledger
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
Ledger(sys.argv[1]).close()
"""


def test_processes_that_open_a_new_file_together_all_can(tmp_path: Path) -> None:
    for number in range(3):
        start = str(time.time() + 1.5)
        command = [sys.executable, "-c", OPENED, str(tmp_path / f"l{number}"), start]
        openers = [subprocess.Popen(command) for _ in range(6)]
        assert [opener.wait(timeout=60) for opener in openers] == [0] * 6


def test_reading_checks_the_number_of_players_and_every_value(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        ledger.write("one", _masks(num_players=14), np.ones((5, 1)))
        with pytest.raises(LedgerError, match="14 players"):
            ledger.read("one", _masks(num_players=15))
    for damaged in (b"xx", np.array([np.nan]).tobytes()):
        with sqlite3.connect(tmp_path / "l") as db:
            db.execute("UPDATE ablations SET value = ?", (damaged,))
        ledger = Ledger(tmp_path / "l")
        with pytest.raises(LedgerError, match="damaged value"):
            ledger.read("one", _masks(num_players=14))
        ledger.close()
