"""What stands in a ledger's tables, read without trusting it, at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from falaj.adapters.postgres.links import Links
from falaj.core.errors import Conflict
from falaj.core.merkle import Frontier
from falaj.ports.evidence import StoredEvent, StoredRecord
from falaj.ports.ledger import Checkpoint

_AT_ONCE = 2000


class PostgresEvidence:
    """On a connection whose transaction reads repeatably."""

    def __init__(self, links: Links, link: Any) -> None:
        self._links, self._link = links, link
        self._cursors = 0

    def events(self) -> Iterator[StoredEvent]:
        for row in self._rows("select seq, leaf, leaf_hash, verb, subject, at from events order by seq"):
            yield StoredEvent(*row)

    def records(self) -> Iterator[StoredRecord]:
        for row in self._rows("select kind, key, body from records order by kind, key"):
            yield StoredRecord(*row)

    def checkpoints(self) -> list[Checkpoint]:
        rows = self._rows("select size, root, note from checkpoints order by size")
        return [Checkpoint(note.partition("\n")[0], size, root, note) for size, root, note in rows]

    def edge(self) -> tuple[int, bytes]:
        for size, peaks in self._rows("select size, peaks from frontier"):
            if size < 0 or len(peaks) != 32 * size.bit_count():
                break
            return size, Frontier(size, [peaks[at : at + 32] for at in range(0, len(peaks), 32)]).root()
        raise Conflict(f"The ledger at {self._links.place} does not say where it ends.")

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Through a cursor, so that neither side holds all of it; a query that fails leaves the others as they are."""
        self._cursors += 1
        name = f"c{self._cursors}"
        self._run("savepoint evidence")
        try:
            self._run(f"declare {name} no scroll cursor for {query}")
            while rows := self._run(f"fetch {_AT_ONCE} from {name}"):
                yield from rows
        except Conflict:
            self._run("rollback to evidence")
            raise
        self._run(f"close {name}")

    def _run(self, statement: str) -> Any:
        with self._links.border():
            return self._link.run(statement)
