"""The ledger: an ablation once paid for is never lost or paid for twice.

One SQLite file holds the values of any number of oracles, keyed by the oracle's
fingerprint and the packed mask. Batches are committed before anyone uses them, in
write-ahead mode, so a killed process loses at most the batch in flight and several
processes may share a file.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from oracles.base import Masks, Values
from oracles.errors import LedgerError

APPLICATION_ID = 0x53504558  # "SPEX": tells our files from other SQLite files
BUSY_SECONDS = 60.0


def _m001_initial(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE oracles (id INTEGER PRIMARY KEY, fingerprint TEXT UNIQUE NOT"
        " NULL, num_players INTEGER NOT NULL, num_outputs INTEGER NOT NULL) STRICT"
    )
    db.execute(
        "CREATE TABLE ablations (oracle INTEGER NOT NULL REFERENCES oracles,"
        " mask BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (oracle, mask))"
        " STRICT, WITHOUT ROWID"
    )


MIGRATIONS = [_m001_initial]
"""Schema changes in order; a file's `user_version` counts those it has had."""


class Ledger:
    """A SQLite file of ablations and their values.

    A mask is stored as `np.packbits` of its row, a value row as little-endian float64.

    Args:
        path: the file; made if it does not exist.

    Raises:
        LedgerError: the file is corrupt, not a ledger, from a newer version, or its
            folder cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._explaining_errors():
            self._db = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None
            )
            self._open()

    def _open(self) -> None:
        with self._transaction():  # of several openers, one makes the tables
            self._refuse_foreign()
            self._migrate()
        self._write_ahead()
        self._db.execute("PRAGMA synchronous = FULL")

    def _refuse_foreign(self) -> None:
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != APPLICATION_ID and tables:
            raise LedgerError(
                f"{self.path} is a SQLite file of another program, not a ledger. "
                "Name a new file."
            )

    def _write_ahead(self) -> None:
        # changing the mode does not wait for other connections as all else does
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _migrate(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise LedgerError(
                f"{self.path} has schema {version}; this version of spex reads up to "
                f"{len(MIGRATIONS)}. Upgrade spex or name a new file."
            )
        for migration in MIGRATIONS[version:]:
            migration(self._db)
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def read(self, fingerprint: str, masks: Masks) -> dict[int, np.ndarray]:
        """Row number in `masks` -> stored value row (k,), for the rows known.

        Raises:
            LedgerError: the file is corrupt, or holds this fingerprint with another
                number of players.
        """
        with self._explaining_errors():
            query = "SELECT id, num_players, num_outputs FROM oracles"
            query += " WHERE fingerprint = ?"
            row = self._db.execute(query, (fingerprint,)).fetchone()
            if row is None:
                return {}
            oracle, num_players, num_outputs = row
            self._check_shape((num_players, num_outputs), (masks.shape[1], num_outputs))
            rows = self._db.execute(
                "SELECT mask, value FROM ablations WHERE oracle = ?", (oracle,)
            )
            known = dict(rows.fetchall())
        keys = map(bytes, np.packbits(masks, axis=1))
        return {
            number: self._decoded(known[key], num_outputs)
            for number, key in enumerate(keys)
            if key in known
        }

    def masks(self, fingerprint: str, num_players: int) -> Masks:
        """All masks whose values are known, in the order of their bits: (m, n).

        Raises:
            LedgerError: the file is corrupt.
        """
        with self._explaining_errors():
            query = "SELECT mask FROM ablations JOIN oracles ON id = oracle"
            query += " WHERE fingerprint = ? AND num_players = ? ORDER BY mask"
            rows = self._db.execute(query, (fingerprint, num_players)).fetchall()
        width = (num_players + 7) // 8
        packed = np.frombuffer(b"".join(row[0] for row in rows), dtype=np.uint8)
        bits = np.unpackbits(packed.reshape(-1, width), axis=1, count=num_players)
        return bits.astype(bool)

    def _decoded(self, value: bytes, num_outputs: int) -> np.ndarray:
        is_whole = len(value) == 8 * num_outputs
        numbers = np.frombuffer(value if is_whole else b"", dtype="<f8")
        if not is_whole or not np.isfinite(numbers).all():
            raise LedgerError(
                f"{self.path} holds a damaged value. Name a new file, or restore this "
                "one from a copy."
            )
        return numbers

    def write(self, fingerprint: str, masks: Masks, values: Values) -> None:
        """Commit one batch; rows already there are left as they are.

        Raises:
            LedgerError: the file cannot be written, or holds this fingerprint with
                another number of players or outputs.
        """
        with self._explaining_errors(), self._transaction():
            oracle = self._oracle(fingerprint, (masks.shape[1], values.shape[1]))
            packed = np.packbits(masks, axis=1)
            self._db.executemany(
                "INSERT OR IGNORE INTO ablations VALUES (?, ?, ?)",
                (
                    (oracle, mask.tobytes(), value.astype("<f8").tobytes())
                    for mask, value in zip(packed, values, strict=True)
                ),
            )

    def _oracle(self, fingerprint: str, shape: tuple[int, int]) -> int | None:
        """The oracle's row id, made if it is new; its shape (n, k) is checked."""
        query = "SELECT id, num_players, num_outputs FROM oracles WHERE fingerprint = ?"
        row = self._db.execute(query, (fingerprint,)).fetchone()
        if row is None:
            insert = "INSERT INTO oracles VALUES (NULL, ?, ?, ?)"
            return self._db.execute(insert, (fingerprint, *shape)).lastrowid
        self._check_shape(row[1:], shape)
        return int(row[0])

    def _check_shape(self, known: tuple[int, int], shape: tuple[int, int]) -> None:
        if tuple(known) != shape:
            raise LedgerError(
                f"{self.path} holds this oracle with {known[0]} players and {known[1]} "
                f"outputs; it now has {shape[0]} and {shape[1]}. Its fingerprint does "
                "not tell two systems apart: give it another, or name a new file."
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _explaining_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerError(
                f"{self.path} cannot be used as a ledger ({error}). Name a new file in "
                "a folder that can be written, or restore this one from a copy."
            ) from error

    def close(self) -> None:
        """Close the file; committed rows are safe with or without this."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
