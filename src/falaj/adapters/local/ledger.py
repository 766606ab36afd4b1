"""The ledger in one SQLite file: every commit is on the disk before it returns, and several processes may write at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from falaj.adapters.ledgers.batch import LOOK, Batch, Records, body_of, states
from falaj.adapters.ledgers.group import Group
from falaj.adapters.local.evidence import read_evidence
from falaj.adapters.local.keys import LedgerKeys
from falaj.adapters.local.sqlite import Connections, border, prepare
from falaj.adapters.local.turn import Turn
from falaj.core.errors import Conflict, NotFound
from falaj.core.event import Event
from falaj.core.leaf import event_of
from falaj.core.merkle import Frontier, inclusion_proof, leaf_hash, verify_inclusion
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


class SqliteLedger:
    """`vkey` is the text that others need to check this ledger's checkpoints: that of its first key; empty where that is gone.

    Without its key the ledger is read as ever, and takes no more events until the key is back and it is opened again.
    """

    capabilities = frozenset({"durable", "shared", "rotates"})

    def __init__(self, path: Path, key_path: Path, origin: str = "falaj/local", *, busy_seconds: float = 30.0) -> None:
        self._path, self._origin, self._busy_seconds = Path(path), origin, busy_seconds
        self._keys, self._key_path = LedgerKeys(Path(key_path), origin), Path(key_path)
        # A new key would turn every checkpoint that was signed so far into a forgery.
        self._is_lost = self._path.is_file() and self._path.stat().st_size > 0 and not self._keys.exist()
        self.vkey = "" if self._is_lost else self._keys.first()
        prepare(self._path, busy_seconds)
        self._connections = Connections(self._path, busy_seconds)
        self._turn = Turn(self._path, busy_seconds)
        self._group = Group(str(path), self._begin, busy_seconds)

    def transaction(self) -> AbstractContextManager[Transaction]:
        return self._group.transaction()

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        with border(self._path), self._connections.one() as connection:
            stored = _get(connection, kind, key)
        return None if stored is None else body_of(stored)

    def find(self, kind: str, *, prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
        with border(self._path), self._connections.one() as connection:
            stored = _find(connection, kind, prefix)
        return [(key, body_of(body)) for key, body in stored]

    def events(self, *, after: int = -1, verb: str = "", subject: Ref | None = None) -> Iterator[Event]:
        where, args = _filter(verb, subject)
        for leaf in self._pages(where, after, args):
            yield event_of(leaf)

    def leaves(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        where, args = ("", []) if end is None else (" AND seq < ?", [end])
        yield from self._pages(where, start - 1, args)

    def checkpoint(self) -> Checkpoint:
        with self._group.alone() as batch:
            connection, frontier = self._lent(batch), batch.frontier
            with border(self._path):
                found = connection.execute("SELECT size, root, note FROM checkpoints ORDER BY size DESC LIMIT 1").fetchone()
            if found is not None and found[0] > frontier.size:
                raise Conflict(f"The ledger {self._path} is shorter than its checkpoint of {found[0]} events.", LOOK)
            statement = Statement(self._origin, frontier.size, frontier.root())
            if found is not None and found[0] == frontier.size:
                if found[1] != statement.root:
                    raise Conflict(f"The ledger {self._path} was changed after its checkpoint of {found[0]} events.", LOOK)
                return _checkpoint(found)
            with border(self._path):
                covered = 0 if found is None else found[0]
                rows = connection.execute(_ROTATIONS, (ROTATE, covered)).fetchall()
            self._need_key()
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
            raise Conflict(f"Event {seq} is not what its checkpoint of {checkpoint.size} events covers.", LOOK, seq=seq)
        return Proof(seq, leaf, path, checkpoint)

    def rebuild(self) -> None:
        with self._group.alone() as batch, border(self._path):
            connection = self._lent(batch)
            connection.execute("DELETE FROM records")
            for records in states(leaf for _seq, leaf in connection.execute(_EVERY)):
                _apply(connection, records)

    def evidence(self) -> AbstractContextManager[Evidence]:
        """Everything that is stored, as of now, for an audit."""
        return read_evidence(self._path)

    def close(self) -> None:
        self._connections.close()
        self._turn.close()

    def _begin(self) -> Batch:
        """The write lock among processes, and where the ledger ends."""
        self._need_key()
        store = _SqliteStore(self._path, self._connections, self._turn)
        return Batch(store, store.begin())

    def _need_key(self) -> None:
        """Raises Conflict where the key is gone: what nobody can sign is not written, and still read."""
        if self._is_lost:
            raise Conflict(f"The ledger {self._path} has lost its key {self._key_path}.", "restore the key from a backup.")

    @staticmethod
    def _lent(batch: Batch) -> sqlite3.Connection:
        assert isinstance(batch.store, _SqliteStore)
        return batch.store.connection

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


class _SqliteStore:
    """One write transaction of the file."""

    def __init__(self, path: Path, connections: Connections, turn: Turn) -> None:
        self._path, self._connections, self._turn = path, connections, turn
        self.connection = connections.take()
        self._is_held = True

    def begin(self) -> Frontier:
        try:
            with border(self._path):
                self._turn.take()
                self.connection.execute("BEGIN IMMEDIATE")
                return _frontier(self.connection, self._path)
        except BaseException:
            self.rollback()
            raise

    def get(self, kind: str, key: str) -> bytes | None:
        with border(self._path):
            return _get(self.connection, kind, key)

    def find(self, kind: str, prefix: str) -> list[tuple[str, bytes]]:
        with border(self._path):
            return _find(self.connection, kind, prefix)

    def commit(self, batch: Batch) -> None:
        run, frontier = self.connection, batch.frontier
        with border(self._path):
            if batch.rows:
                run.executemany("INSERT INTO events VALUES(?, ?, ?, ?, ?, ?)", batch.rows)
                _apply(run, batch.records)
                run.execute("UPDATE frontier SET size = ?, peaks = ?", (frontier.size, b"".join(frontier.peaks)))
            run.execute("COMMIT")
        self._end()

    def rollback(self) -> None:
        if self._is_held and self.connection.in_transaction:
            with suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")
        self._end()

    def _end(self) -> None:
        if self._is_held:  # once only: the turn may be another group's by now
            self._is_held = False
            self._connections.give(self.connection)
            self._turn.give()


def _frontier(connection: sqlite3.Connection, path: Path) -> Frontier:
    row = connection.execute("SELECT size, peaks, (SELECT coalesce(max(seq), -1) + 1 FROM events) FROM frontier").fetchone()
    size, peaks, events = row if row is not None else (0, b"", -1)
    if size != events or not isinstance(size, int) or not isinstance(peaks, bytes) or len(peaks) != 32 * size.bit_count():
        raise Conflict(f"The ledger {path} was changed from outside: it has {events} events and counts {size}.", LOOK)
    return Frontier(size, [peaks[at : at + 32] for at in range(0, len(peaks), 32)])


def _get(connection: sqlite3.Connection, kind: str, key: str) -> bytes | None:
    row = connection.execute("SELECT body FROM records WHERE kind = ? AND key = ?", (kind, key)).fetchone()
    return None if row is None else row[0]


def _find(connection: sqlite3.Connection, kind: str, prefix: str) -> list[tuple[str, bytes]]:
    query = "SELECT key, body FROM records WHERE kind = ? AND key >= ? AND key <= ? ORDER BY key"
    return connection.execute(query, (kind, prefix, prefix + _LAST)).fetchall()


def _apply(connection: sqlite3.Connection, records: Records) -> None:
    for kind, found in records.items():
        gone = [(kind, key) for key, (body, _) in found.items() if body is None]
        written = [(kind, key, body, seq) for key, (body, seq) in found.items() if body is not None]
        connection.executemany("DELETE FROM records WHERE kind = ? AND key = ?", gone)
        connection.executemany("INSERT OR REPLACE INTO records VALUES(?, ?, ?, ?)", written)


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
