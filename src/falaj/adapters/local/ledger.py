"""The ledger in one SQLite file: every commit is on the disk before it returns, and several processes may write at once."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from falaj.adapters.local.evidence import read_evidence
from falaj.adapters.local.keys import LedgerKeys
from falaj.adapters.local.sqlite import Connections, border, prepare
from falaj.core.codec import canonical, encode
from falaj.core.errors import Bug, Conflict, NotFound, Unavailable
from falaj.core.event import Change, Event
from falaj.core.leaf import event_of, leaf_of
from falaj.core.merkle import Frontier, inclusion_proof, leaf_hash, verify_inclusion
from falaj.core.moments import iso
from falaj.core.note import Statement, write_note
from falaj.core.ref import Ref
from falaj.core.succession import ROTATE, rotations
from falaj.ports.evidence import Evidence
from falaj.ports.ledger import Checkpoint, Proof, Transaction

_PAGE = 500
_LAST = "\U0010ffff"
_LEAF = "coalesce(CAST(leaf AS BLOB), x'')"  # whatever somebody may have put there from outside
_EVERY = f"SELECT seq, {_LEAF} FROM events ORDER BY seq"  # noqa: S608  # made of this file's own texts
_ROTATIONS = f"SELECT {_LEAF} FROM events WHERE verb = ? AND seq < ? ORDER BY seq"  # noqa: S608  # as above
_LOOK = "`falaj audit verify` shows where."


class SqliteLedger:
    """`vkey` is the text that others need to check this ledger's checkpoints: that of its first key."""

    capabilities = frozenset({"durable", "shared", "rotates"})

    def __init__(self, path: Path, key_path: Path, origin: str = "falaj/local", *, busy_seconds: float = 30.0) -> None:
        self._path, self._origin, self._busy_seconds = Path(path), origin, busy_seconds
        self._keys = LedgerKeys(Path(key_path), origin)
        if self._path.is_file() and self._path.stat().st_size and not self._keys.exist():
            # A new key would turn every checkpoint that was signed so far into a forgery.
            raise Conflict(f"The ledger {path} has lost its key {key_path}.", "restore the key from a backup.")
        self.vkey = self._keys.first()
        prepare(self._path, busy_seconds)
        self._connections = Connections(self._path, busy_seconds)
        self._writing = threading.Lock()
        self._here = threading.local()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._write() as (connection, frontier):
            tx = _SqliteTransaction(self._path, connection, frontier)
            try:
                yield tx
            finally:
                tx.is_open = False
            if tx.failure is not None:  # half of an append must not be committed, even where its error was caught
                raise tx.failure

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        with border(self._path), self._connections.one() as connection:
            return _get(connection, kind, key)

    def find(self, kind: str, *, prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
        with border(self._path), self._connections.one() as connection:
            return _find(connection, kind, prefix)

    def events(self, *, after: int = -1, verb: str = "", subject: Ref | None = None) -> Iterator[Event]:
        where, args = _filter(verb, subject)
        for leaf in self._pages(where, after, args):
            yield event_of(leaf)

    def leaves(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        where, args = ("", []) if end is None else (" AND seq < ?", [end])
        yield from self._pages(where, start - 1, args)

    def checkpoint(self) -> Checkpoint:
        with self._write() as (connection, frontier):
            with border(self._path):
                found = connection.execute("SELECT size, root, note FROM checkpoints ORDER BY size DESC LIMIT 1").fetchone()
            if found is not None and found[0] > frontier.size:
                raise Conflict(f"The ledger {self._path} is shorter than its checkpoint of {found[0]} events.", _LOOK)
            statement = Statement(self._origin, frontier.size, frontier.root())
            if found is not None and found[0] == frontier.size:
                if found[1] != statement.root:
                    raise Conflict(f"The ledger {self._path} was changed after its checkpoint of {found[0]} events.", _LOOK)
                return _checkpoint(found)
            with border(self._path):
                covered = 0 if found is None else found[0]
                rows = connection.execute(_ROTATIONS, (ROTATE, covered)).fetchall()
            key = self._keys.signer(rotations(event_of(leaf) for (leaf,) in rows))
            note = write_note(str(statement), self._origin, key.public_key, key.sign)
            with border(self._path):
                connection.execute("INSERT INTO checkpoints VALUES(?, ?, ?)", (statement.size, statement.root, note))
            return Checkpoint(self._origin, statement.size, statement.root, note)

    def checkpoints(self) -> list[Checkpoint]:
        with border(self._path), self._connections.one() as connection:
            return [_checkpoint(row) for row in connection.execute("SELECT size, root, note FROM checkpoints ORDER BY size")]

    def prove(self, seq: int) -> Proof:
        leaf = next(self.leaves(seq, seq + 1), None) if seq >= 0 else None
        if leaf is None:
            raise NotFound(f"The ledger has no event {seq}.", "falaj audit history")
        checkpoint = next((c for c in reversed(self.checkpoints()) if c.size > seq), None) or self.checkpoint()
        with border(self._path), self._connections.one() as connection:
            rows = connection.execute("SELECT CAST(leaf_hash AS BLOB) FROM events WHERE seq < ? ORDER BY seq", (checkpoint.size,))
            hashes = [row[0] for row in rows]
        path = tuple(inclusion_proof(hashes, seq)) if len(hashes) == checkpoint.size else ()
        if not verify_inclusion(leaf_hash(leaf), seq, checkpoint.size, path, checkpoint.root):
            raise Conflict(f"Event {seq} is not what its checkpoint of {checkpoint.size} events covers.", _LOOK, seq=seq)
        return Proof(seq, leaf, path, checkpoint)

    def rebuild(self) -> None:
        with self._write() as (connection, _frontier), border(self._path):
            connection.execute("DELETE FROM records")
            for seq, leaf in connection.execute(_EVERY):
                _apply(connection, seq, event_of(leaf).changes)

    def evidence(self) -> AbstractContextManager[Evidence]:
        """Everything that is stored, as of now, for an audit."""
        return read_evidence(self._path)

    def close(self) -> None:
        self._connections.close()

    @contextmanager
    def _write(self) -> Iterator[tuple[sqlite3.Connection, Frontier]]:
        """The write lock, first among the threads of this process, then among processes; commits at the end."""
        if getattr(self._here, "writes", False):
            raise Bug("A transaction was opened inside a transaction of the same thread.", "use the one that is open.")
        if not self._writing.acquire(timeout=self._busy_seconds):
            raise Unavailable(f"The ledger {self._path} is held by another thread.", "try again.")
        self._here.writes = True
        try:
            with self._connections.one() as connection:
                yield from self._committing(connection)
        finally:
            self._here.writes = False
            self._writing.release()

    def _committing(self, connection: sqlite3.Connection) -> Iterator[tuple[sqlite3.Connection, Frontier]]:
        try:
            with border(self._path):
                connection.execute("BEGIN IMMEDIATE")
                frontier = _frontier(connection, self._path)
            before = frontier.size
            yield connection, frontier
            with border(self._path):
                if frontier.size != before:
                    connection.execute("UPDATE frontier SET size = ?, peaks = ?", (frontier.size, b"".join(frontier.peaks)))
                connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")

    def _pages(self, where: str, after: int, args: list[Any]) -> Iterator[bytes]:
        """Leaves page by page, so that a slow reader holds neither a connection nor the write-ahead log."""
        # `where` is one of this file's own texts; what the caller gave stands in `args`.
        query = f"SELECT seq, {_LEAF} FROM events WHERE seq > ?{where} ORDER BY seq LIMIT {_PAGE}"  # noqa: S608
        while True:
            with border(self._path), self._connections.one() as connection:
                rows = connection.execute(query, (after, *args)).fetchall()
            yield from (leaf for _seq, leaf in rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]


class _SqliteTransaction:
    def __init__(self, path: Path, connection: sqlite3.Connection, frontier: Frontier) -> None:
        self._path, self._connection, self._frontier = path, connection, frontier
        self.is_open = True
        self.failure: Exception | None = None

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        with border(self._path):
            return _get(self._usable(), kind, key)

    def find(self, kind: str, *, prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
        with border(self._path):
            return _find(self._usable(), kind, prefix)

    def append(self, event: Event) -> Event:
        connection = self._usable()
        event = replace(event, seq=self._frontier.size)
        leaf = leaf_of(event)
        hashed = leaf_hash(leaf)
        row = (event.seq, leaf, hashed, event.verb, str(event.subject), iso(event.at))
        try:
            with border(self._path):
                connection.execute("INSERT INTO events VALUES(?, ?, ?, ?, ?, ?)", row)
                _apply(connection, event.seq, event.changes)
        except Exception as exc:
            self.failure = exc
            raise
        self._frontier.append(hashed)
        return event

    def _usable(self) -> sqlite3.Connection:
        if not self.is_open:
            raise Bug("A transaction was used after its end.", "read and append inside the block.")
        return self._connection


def _frontier(connection: sqlite3.Connection, path: Path) -> Frontier:
    row = connection.execute("SELECT size, peaks, (SELECT coalesce(max(seq), -1) + 1 FROM events) FROM frontier").fetchone()
    size, peaks, events = row if row is not None else (0, b"", -1)
    if size != events or not isinstance(size, int) or not isinstance(peaks, bytes) or len(peaks) != 32 * size.bit_count():
        raise Conflict(f"The ledger {path} was changed from outside: it has {events} events and counts {size}.", _LOOK)
    return Frontier(size, [peaks[at : at + 32] for at in range(0, len(peaks), 32)])


def _get(connection: sqlite3.Connection, kind: str, key: str) -> Mapping[str, Any] | None:
    row = connection.execute("SELECT body FROM records WHERE kind = ? AND key = ?", (kind, key)).fetchone()
    return None if row is None else _read(row[0])


def _find(connection: sqlite3.Connection, kind: str, prefix: str) -> list[tuple[str, Mapping[str, Any]]]:
    query = "SELECT key, body FROM records WHERE kind = ? AND key >= ? AND key <= ? ORDER BY key"
    return [(key, _read(body)) for key, body in connection.execute(query, (kind, prefix, prefix + _LAST))]


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as exc:
        raise Conflict("A record of the ledger was changed from outside.", _LOOK) from exc


def _apply(connection: sqlite3.Connection, seq: int, changes: Iterable[Change]) -> None:
    for change in changes:
        if change.body is None:
            connection.execute("DELETE FROM records WHERE kind = ? AND key = ?", (change.kind, change.key))
        else:
            body = canonical(encode(change.body))
            connection.execute("INSERT OR REPLACE INTO records VALUES(?, ?, ?, ?)", (change.kind, change.key, body, seq))


def _filter(verb: str, subject: Ref | None) -> tuple[str, list[Any]]:
    where, args = "", list[Any]()
    if verb.endswith("."):
        where, args = " AND verb >= ? AND verb < ?", [verb, verb[:-1] + "/"]  # '/' follows '.'
    elif verb:
        where, args = " AND verb = ?", [verb]
    if subject is not None and subject.version is None:
        where += " AND (subject = ? OR (subject >= ? AND subject < ?))"
        args += [str(subject), f"{subject}@", f"{subject}A"]  # 'A' follows '@'
    elif subject is not None:
        where += " AND subject = ?"
        args.append(str(subject))
    return where, args


def _checkpoint(row: tuple[int, bytes, str]) -> Checkpoint:
    size, root, note = row
    return Checkpoint(str(note).partition("\n")[0], size, root, str(note))
