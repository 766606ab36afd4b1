"""One SQLite file as a ledger keeps it: its tables, its connections, and the words in which it fails."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from falaj.core.errors import Bug, Conflict, FalajError, InvalidInput, Unavailable

APPLICATION = 0x66616C61  # "fala"
VERSION = 1

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS events(
        seq INTEGER PRIMARY KEY, leaf BLOB NOT NULL, leaf_hash BLOB NOT NULL,
        verb TEXT NOT NULL, subject TEXT NOT NULL, at TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS events_by_verb ON events(verb, seq)",
    "CREATE INDEX IF NOT EXISTS events_by_subject ON events(subject, seq)",
    """CREATE TABLE IF NOT EXISTS records(
        kind TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, seq INTEGER NOT NULL,
        PRIMARY KEY(kind, key)) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS checkpoints(size INTEGER PRIMARY KEY, root BLOB NOT NULL, note TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS frontier(id INTEGER PRIMARY KEY CHECK(id = 0), size INTEGER NOT NULL, peaks BLOB NOT NULL)",
    "INSERT OR IGNORE INTO frontier VALUES(0, 0, x'')",
    # Not a defence against who owns the file, only against a slip: the hashes are the defence.
    """CREATE TRIGGER IF NOT EXISTS events_never_change BEFORE UPDATE ON events
        BEGIN SELECT RAISE(ABORT, 'events are only ever appended'); END""",
    """CREATE TRIGGER IF NOT EXISTS events_never_go BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'events are only ever appended'); END""",
    # REPLACE deletes without a delete trigger, so an insert may only be the next seq.
    """CREATE TRIGGER IF NOT EXISTS events_have_no_gap BEFORE INSERT ON events
        WHEN NEW.seq <> (SELECT coalesce(max(seq), -1) + 1 FROM events)
        BEGIN SELECT RAISE(ABORT, 'events are only ever appended'); END""",
    """CREATE TRIGGER IF NOT EXISTS checkpoints_never_change BEFORE UPDATE ON checkpoints
        BEGIN SELECT RAISE(ABORT, 'checkpoints are only ever added'); END""",
    """CREATE TRIGGER IF NOT EXISTS checkpoints_never_go BEFORE DELETE ON checkpoints
        BEGIN SELECT RAISE(ABORT, 'checkpoints are only ever added'); END""",
)

_MADE = re.compile(r"IF NOT EXISTS (\w+)")

_DAMAGED = "restore the file from a backup; `falaj audit verify` shows what can still be trusted."
_FULL = "free some space: until then it can only be read; writing goes on by itself as soon as there is room."
_WORDS: dict[int, tuple[type[FalajError], str, str]] = {
    sqlite3.SQLITE_BUSY: (Unavailable, "is held by another process", "try again; if it lasts, look for a process that hangs."),
    sqlite3.SQLITE_LOCKED: (Unavailable, "is held by another process", "try again; if it lasts, look for a process that hangs."),
    sqlite3.SQLITE_FULL: (Unavailable, "cannot grow: the disk is full", _FULL),
    sqlite3.SQLITE_IOERR: (Unavailable, "could not be read or written", "check the disk's space and state."),
    sqlite3.SQLITE_READONLY: (InvalidInput, "may not be written", "check who owns the file and its folder."),
    sqlite3.SQLITE_PERM: (InvalidInput, "may not be opened", "check who owns the file and its folder."),
    sqlite3.SQLITE_CANTOPEN: (InvalidInput, "cannot be opened", "check that its folder exists and may be written."),
    sqlite3.SQLITE_NOTADB: (InvalidInput, "is not a ledger", "name the file ledger.db of a project's state folder."),
    sqlite3.SQLITE_TOOBIG: (InvalidInput, "cannot hold a value of that size", "keep the content as a blob."),
    sqlite3.SQLITE_CORRUPT: (Conflict, "is damaged", _DAMAGED),
    sqlite3.SQLITE_CONSTRAINT: (Conflict, "refused the change", _DAMAGED),
    sqlite3.SQLITE_ERROR: (Conflict, "is not laid out as a ledger", _DAMAGED),
    sqlite3.SQLITE_MISMATCH: (Conflict, "is not laid out as a ledger", _DAMAGED),
}


@contextmanager
def border(path: Path) -> Iterator[None]:
    """SQLite's words and the operating system's become falaj's own."""
    try:
        yield
    except sqlite3.Error as exc:
        code = getattr(exc, "sqlite_errorcode", None)
        if code is None:  # misuse, such as a connection that was closed meanwhile
            raise Unavailable(f"The ledger {path} is closed.", "open it again.") from exc
        kind, what, hint = _WORDS.get(code & 0xFF, (Unavailable, "did not answer", "try again."))
        raise kind(f"The ledger {path} {what}: {exc}.", hint) from exc
    except UnicodeEncodeError as exc:
        raise InvalidInput("A name holds half of a surrogate pair, which no text can carry.") from exc
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(f"The ledger {path} cannot grow: {exc.strerror}.", _FULL) from exc
        raise InvalidInput(f"The ledger {path} cannot be opened: {exc.strerror}.", "check who owns its folder.") from exc


class _Connection(sqlite3.Connection):
    file: tuple[int, int] | None = None
    """Device and inode of what was opened."""


class Connections:
    """Open connections to one file, lent to one thread at a time; as many as were ever needed at once.

    A file that was taken away or replaced meanwhile is noticed when a connection is next asked for: what would be written to
    it could be found by nobody later.
    """

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self._pid = os.getpid()

    @contextmanager
    def one(self) -> Iterator[_Connection]:
        connection = self.take()
        try:
            yield connection
        finally:
            self.give(connection)

    def close(self) -> None:
        """Idle connections close now, those that are lent when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def take(self) -> _Connection:
        if os.getpid() != self._pid:
            raise Bug("A ledger was carried over a fork, which SQLite does not survive.", "open it again in the child process.")
        with self._lock:
            if self._closed:
                raise Unavailable(f"The ledger {self.path} is closed.", "open it again.")
            now, stale = _file(self.path), list[_Connection]()
            while self._idle:
                connection = self._idle.pop()
                if now is not None and connection.file == now:
                    return connection
                stale.append(connection)
        for connection in stale:
            connection.close()
        if now is None:
            raise Unavailable(f"The ledger {self.path} is gone.", "bring the file back, or the disk that it is on.")
        return connect(self.path, self._busy_seconds)

    def give(self, connection: _Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


def _file(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect(path: Path, busy_seconds: float) -> _Connection:
    """A connection for reading and writing a file that is there; what it commits is on the disk when it says so."""
    address = f"file:{quote(str(path.resolve()))}?mode=rw"
    with border(path):
        connection = sqlite3.connect(
            address, uri=True, timeout=busy_seconds, isolation_level=None, check_same_thread=False, factory=_Connection
        )
        connection.file = _file(path)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
        except BaseException:
            connection.close()
            raise
    return connection


def prepare(path: Path, busy_seconds: float) -> None:
    """Makes the file, readable by its owner only, and its tables, unless they are there."""
    with border(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = connect(path, busy_seconds)
    try:
        with border(path):
            _check_kind(connection, path)
            if _is_complete(connection):
                return  # nothing is written, so that a ledger on a full disk can be opened and read
            write_ahead(connection, busy_seconds)
            connection.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
    finally:
        connection.close()


def _check_kind(connection: sqlite3.Connection, path: Path) -> None:
    # The tables first: another process that makes them right now commits its mark with them.
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION and tables:
        raise InvalidInput(f"{path} is a database of another program.", "name the file ledger.db of a project's state folder.")
    if version > VERSION:
        raise InvalidInput(f"{path} was written by a newer falaj (layout {version}, not {VERSION}).", "pip install -U falaj")


def _is_complete(connection: sqlite3.Connection) -> bool:
    """Whether every table, index and trigger is there, and the frontier in its table."""
    wanted = {found[1] for statement in SCHEMA if (found := _MADE.search(statement))}
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    is_wal = connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    return wanted <= there and version == VERSION and is_wal and bool(connection.execute("SELECT 1 FROM frontier").fetchone())


def write_ahead(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Changing the journal does not wait for the busy timeout where two processes do it at once, so it is tried again here."""
    until = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)
