"""The ledger in memory, for tests and for trying things out: the same tree and the same checkpoints, gone with the process."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from falaj.core.codec import canonical, encode
from falaj.core.errors import Bug, NotFound, Unavailable
from falaj.core.event import Event
from falaj.core.leaf import event_of, leaf_of
from falaj.core.merkle import Frontier, inclusion_proof, leaf_hash
from falaj.core.moments import iso
from falaj.core.note import Statement, vkey, write_note
from falaj.core.ref import Ref
from falaj.ports.evidence import Evidence, StoredEvent, StoredRecord
from falaj.ports.ledger import Checkpoint, Proof, Transaction

_Records = dict[tuple[str, str], bytes]


class MemoryLedger:
    capabilities: frozenset[str] = frozenset()

    def __init__(self, origin: str = "falaj/memory", *, busy_seconds: float = 30.0) -> None:
        self._origin, self._busy_seconds = origin, busy_seconds
        self._key = Ed25519PrivateKey.generate()
        self._public_key = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.vkey = vkey(origin, self._public_key)
        self._events: list[StoredEvent] = []
        self._records: _Records = {}
        self._checkpoints: dict[int, Checkpoint] = {}
        self._frontier = Frontier()
        self._writing = threading.Lock()
        self._changing = threading.Lock()
        """Held for the moment in which a commit shows, so that no reader sees half of it."""
        self._here = threading.local()
        self._closed = False

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        if self._closed:
            raise Unavailable("The ledger is closed.", "open it again.")
        if getattr(self._here, "writes", False):
            raise Bug("A transaction was opened inside a transaction of the same thread.", "use the one that is open.")
        if not self._writing.acquire(timeout=self._busy_seconds):
            raise Unavailable("The ledger is held by another thread.", "try again.")
        self._here.writes = True
        tx = _MemoryTransaction(len(self._events), self._records)
        try:
            yield tx
            self._commit(tx)
        finally:
            tx.is_open = False
            self._here.writes = False
            self._writing.release()

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        with self._changing:
            return _get(self._records, kind, key)

    def find(self, kind: str, *, prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
        with self._changing:
            return _find(self._records, kind, prefix)

    def events(self, *, after: int = -1, verb: str = "", subject: Ref | None = None) -> Iterator[Event]:
        position = max(after + 1, 0)
        while position < len(self._events):
            stored = self._events[position]
            if _matches(stored, verb, subject):
                yield event_of(stored.leaf)
            position += 1

    def leaves(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        for stored in self._events[max(start, 0) : end if end is None else max(end, 0)]:
            yield stored.leaf

    def checkpoint(self) -> Checkpoint:
        with self.transaction():
            statement = Statement(self._origin, self._frontier.size, self._frontier.root())
            if statement.size not in self._checkpoints:
                note = write_note(str(statement), self._origin, self._public_key, self._key.sign)
                self._checkpoints[statement.size] = Checkpoint(self._origin, statement.size, statement.root, note)
            return self._checkpoints[statement.size]

    def checkpoints(self) -> list[Checkpoint]:
        return [self._checkpoints[size] for size in sorted(self._checkpoints)]

    def prove(self, seq: int) -> Proof:
        if not 0 <= seq < len(self._events):
            raise NotFound(f"The ledger has no event {seq}.")
        checkpoint = next((c for c in reversed(self.checkpoints()) if c.size > seq), None) or self.checkpoint()
        hashes = [stored.leaf_hash for stored in self._events[: checkpoint.size]]
        return Proof(seq, self._events[seq].leaf, tuple(inclusion_proof(hashes, seq)), checkpoint)

    def rebuild(self) -> None:
        with self.transaction():
            records: _Records = {}
            for stored in self._events:
                _apply(records, event_of(stored.leaf))
            with self._changing:
                self._records = records

    @contextmanager
    def evidence(self) -> Iterator[Evidence]:
        with self._changing:
            edge = (self._frontier.size, self._frontier.root())
            held = _MemoryEvidence(list(self._events), dict(self._records), self.checkpoints(), edge)
        yield held

    def close(self) -> None:
        self._closed = True

    def _commit(self, tx: _MemoryTransaction) -> None:
        with self._changing:
            self._records = tx.records
            for stored in tx.appended:
                self._events.append(stored)
                self._frontier.append(stored.leaf_hash)


class _MemoryTransaction:
    def __init__(self, size: int, records: _Records) -> None:
        self._size = size
        self.records = dict(records)
        self.appended: list[StoredEvent] = []
        self.is_open = True

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        self._usable()
        return _get(self.records, kind, key)

    def find(self, kind: str, *, prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
        self._usable()
        return _find(self.records, kind, prefix)

    def append(self, event: Event) -> Event:
        self._usable()
        event = replace(event, seq=self._size + len(self.appended))
        leaf = leaf_of(event)
        _apply(self.records, event)
        self.appended.append(StoredEvent(event.seq, leaf, leaf_hash(leaf), event.verb, str(event.subject), iso(event.at)))
        return event

    def _usable(self) -> None:
        if not self.is_open:
            raise Bug("A transaction was used after its end.", "read and append inside the block.")


class _MemoryEvidence:
    def __init__(
        self, events: list[StoredEvent], records: _Records, checkpoints: list[Checkpoint], edge: tuple[int, bytes]
    ) -> None:
        self._events, self._records, self._checkpoints, self._edge = events, records, checkpoints, edge

    def events(self) -> Iterator[StoredEvent]:
        return iter(self._events)

    def records(self) -> Iterator[StoredRecord]:
        return (StoredRecord(kind, key, self._records[kind, key]) for kind, key in sorted(self._records))

    def checkpoints(self) -> list[Checkpoint]:
        return self._checkpoints

    def edge(self) -> tuple[int, bytes]:
        return self._edge


def _get(records: _Records, kind: str, key: str) -> Mapping[str, Any] | None:
    body = records.get((kind, key))
    found: Mapping[str, Any] | None = None if body is None else json.loads(body)
    return found


def _find(records: _Records, kind: str, prefix: str) -> list[tuple[str, Mapping[str, Any]]]:
    keys = sorted(key for found, key in records if found == kind and key.startswith(prefix))
    return [(key, json.loads(records[kind, key])) for key in keys]


def _apply(records: _Records, event: Event) -> None:
    for change in event.changes:
        if change.body is None:
            records.pop((change.kind, change.key), None)
        else:
            records[change.kind, change.key] = canonical(encode(change.body))


def _matches(stored: StoredEvent, verb: str, subject: Ref | None) -> bool:
    if verb and stored.verb != verb and not (verb.endswith(".") and stored.verb.startswith(verb)):
        return False
    if subject is None or stored.subject == str(subject):
        return True
    return subject.version is None and stored.subject.startswith(f"{subject}@")
