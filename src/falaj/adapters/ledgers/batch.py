"""Batch: what several transactions have written and not yet committed, in memory until it goes to the store in one piece."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from falaj.core.errors import Bug, Conflict
from falaj.core.event import Event
from falaj.core.leaf import Entry, written
from falaj.core.merkle import Frontier, leaf_hash
from falaj.core.skim import entry_of

_AT_ONCE = 4096
LOOK = "`falaj audit verify` shows where."


class Row(NamedTuple):
    """One event as it is stored."""

    seq: int
    leaf: bytes
    leaf_hash: bytes
    verb: str
    subject: str
    at: str


Records = dict[str, dict[str, tuple[bytes | None, int]]]
"""By kind and key: the canonical bytes of the body, None where the record is gone, and the event that says so."""


class Store(Protocol):
    """A database whose write lock is held, from its beginning to `commit` or `rollback`."""

    def get(self, kind: str, key: str) -> bytes | None: ...

    def find(self, kind: str, prefix: str) -> list[tuple[str, bytes]]: ...

    def commit(self, batch: Batch) -> None:
        """Writes the batch, durably before it returns. Raises a FalajError where nothing of it is kept."""
        ...

    def rollback(self) -> None:
        """Gives the write lock back. Never raises."""
        ...


@dataclass(slots=True)
class Batch:
    """Seen by the transactions of the same group that come later, and by nobody else."""

    store: Store
    frontier: Frontier
    rows: list[Row] = field(default_factory=list)
    records: Records = field(default_factory=dict)
    size: int = 0
    """Bytes of all leaves."""
    check: Callable[[Entry], None] | None = None
    """Raises InvalidInput for an event that this store could not keep: better now than at the commit that others share."""

    def take(self, tx: BatchTransaction) -> None:
        """What the transaction wrote belongs to the batch from now on."""
        self.rows += tx.rows
        self.frontier.extend([row.leaf_hash for row in tx.rows])
        self.size += sum(len(row.leaf) for row in tx.rows)
        for kind, found in tx.records.items():
            self.records.setdefault(kind, {}).update(found)


class BatchTransaction:
    """One block's own writes. Until the batch takes them they are nobody else's, so that a block that raises leaves nothing."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.rows: list[Row] = []
        self.records: Records = {}
        self.is_open = True

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        self._check()
        for held in (self.records, self._batch.records):
            if key in held.get(kind, ()):
                body, _ = held[kind][key]
                return None if body is None else body_of(body)
        stored = self._batch.store.get(kind, key)
        return None if stored is None else body_of(stored)

    def find(self, kind: str, *, prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
        self._check()
        found: dict[str, bytes | None] = dict(self._batch.store.find(kind, prefix))
        for held in (self._batch.records, self.records):
            found.update((key, body) for key, (body, _) in held.get(kind, {}).items() if key.startswith(prefix))
        return [(key, body_of(body)) for key, body in sorted(found.items(), key=lambda item: item[0]) if body is not None]

    def append(self, event: Event) -> Event:
        self._check()
        seq = self._batch.frontier.size + len(self.rows)
        event = Event(event.verb, event.subject, event.actor, event.at, event.facts, event.changes, event.trace, seq)
        leaf, entry = written(event)
        if self._batch.check is not None:
            self._batch.check(entry)
        for kind, key, body in entry.changes:
            self.records.setdefault(kind, {})[key] = body, event.seq
        self.rows.append(Row(event.seq, leaf, leaf_hash(leaf), entry.verb, entry.subject, entry.at))
        return event

    def _check(self) -> None:
        if not self.is_open:
            raise Bug("A transaction was used after its end.", "read and append inside the block.")


def body_of(stored: bytes) -> Any:
    """The record's body, new for whoever asks. Raises Conflict where it is not JSON."""
    try:
        return json.loads(stored)
    except ValueError as exc:
        raise Conflict("A record of the ledger was changed from outside.", LOOK) from exc


def states(leaves: Iterable[bytes]) -> Iterator[Records]:
    """What the leaves, from the first one on, make of the records: a few thousand at a time, to be applied in order.

    Raises InvalidInput for a leaf that is none.
    """
    records: Records = {}
    for seq, leaf in enumerate(leaves):
        for kind, key, body in entry_of(leaf).changes:
            records.setdefault(kind, {})[key] = body, seq
        if seq % _AT_ONCE == _AT_ONCE - 1:
            yield records
            records = {}
    yield records
