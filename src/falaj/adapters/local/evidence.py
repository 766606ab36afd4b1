"""What stands in a ledger file, read without trusting it: also from a copy that somebody has edited."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from falaj.adapters.local.sqlite import border
from falaj.core.errors import Conflict, NotFound
from falaj.core.merkle import Frontier
from falaj.ports.evidence import StoredEvent, StoredRecord
from falaj.ports.ledger import Checkpoint


@contextmanager
def read_evidence(path: Path) -> Iterator[SqliteEvidence]:
    """Opens a ledger file for reading only, at one moment. Needs no key. Raises NotFound where there is no file."""
    if not path.is_file():
        raise NotFound(f"There is no ledger {path}.", "name the file ledger.db of a project's state folder.")
    with border(path):
        connection = _open(path)
    try:
        yield SqliteEvidence(path, connection)
    finally:
        connection.close()


class SqliteEvidence:
    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path, self._connection = path, connection

    def events(self) -> Iterator[StoredEvent]:
        query = "SELECT seq, leaf, leaf_hash, verb, subject, at FROM events ORDER BY seq"
        for rows in self._pages(query):
            yield from map(_event, rows)

    def records(self) -> Iterator[StoredRecord]:
        for kind, key, body in self._rows("SELECT kind, key, body FROM records ORDER BY kind, key"):
            yield StoredRecord(_text(_bytes(kind)), _text(_bytes(key)), _bytes(body))

    def checkpoints(self) -> list[Checkpoint]:
        found = []
        for size, root, note in self._rows("SELECT size, root, note FROM checkpoints ORDER BY size"):
            text = _text(_bytes(note))
            found.append(Checkpoint(text.partition("\n")[0], size if isinstance(size, int) else -1, _bytes(root), text))
        return found

    def edge(self) -> tuple[int, bytes]:
        for size, peaks in self._rows("SELECT size, peaks FROM frontier"):
            joined = _bytes(peaks)
            if not isinstance(size, int) or size < 0 or len(joined) != 32 * size.bit_count():
                break
            return size, Frontier(size, [joined[at : at + 32] for at in range(0, len(joined), 32)]).root()
        raise Conflict(f"The ledger {self._path} does not say where it ends.")

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        for rows in self._pages(query):
            yield from rows

    def _pages(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
        with border(self._path):
            cursor = self._connection.execute(query)
        while True:
            with border(self._path):
                rows = cursor.fetchmany(500)
            if not rows:
                return
            yield rows


_stored: Callable[[Sequence[Any]], StoredEvent] = StoredEvent._make
"""As the constructor, for a third of the time: an audit makes one for each event."""


def _event(row: tuple[Any, ...]) -> StoredEvent:
    seq, leaf, hashed, verb, subject, at = row
    if type(leaf) is type(hashed) is type(verb) is type(subject) is type(at) is bytes and type(seq) is int:
        return _stored(
            (
                seq,
                leaf,
                hashed,
                verb.decode("utf-8", "replace"),
                subject.decode("utf-8", "replace"),
                at.decode("utf-8", "replace"),
            )
        )
    # Somebody has put a number or nothing there.
    named = [_text(_bytes(value)) for value in row[3:]]
    return StoredEvent(seq if isinstance(seq, int) else -1, _bytes(leaf), _bytes(hashed), *named)


def _open(path: Path) -> sqlite3.Connection:
    address = f"file:{quote(str(path.resolve()))}?mode=ro"
    try:
        return _begin(address)
    except sqlite3.OperationalError:
        # A copy on a read-only medium: SQLite cannot make the files it shares a live database with. Without a log there is
        # nothing to share, and the file can be read as it stands.
        if path.with_name(path.name + "-wal").exists():
            raise
        return _begin(address + "&immutable=1")


def _begin(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(address, uri=True, timeout=30.0, isolation_level=None, check_same_thread=False)
    try:
        connection.text_factory = bytes  # what is no UTF-8 shall not stop the audit
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # the moment begins with the first read
    except BaseException:
        connection.close()
        raise
    return connection


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
