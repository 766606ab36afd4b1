"""Proofs: that a record reads as its last event says, and that this event is under a checkpoint that a trusted key signed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from falaj.core.codec import canonical, encode
from falaj.core.decision import Check
from falaj.core.errors import FalajError
from falaj.core.event import Event
from falaj.core.leaf import event_of
from falaj.core.merkle import EMPTY_ROOT, Frontier, leaf_hash, node_hash, verify_inclusion
from falaj.core.note import Statement, Verifier
from falaj.core.succession import Succession
from falaj.ports.evidence import Evidence, StoredEvent

_TEXT = rb'"(?:[^"\\]|\\.)*"'
_CHANGE = re.compile(rb'"key":(' + _TEXT + rb'),"kind":(' + _TEXT + rb")")
"""How a change ends in canonical JSON, where names are in order. Hits are only candidates: each is decoded before it counts."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A record with the event behind it. `body` is what the event says, where there is one: the record is only its copy."""

    kind: str
    key: str
    body: Mapping[str, Any] | None
    event: Event | None
    check: Check

    @property
    def who(self) -> str | None:
        return str(self.event.actor) if self.event else None


class Tree:
    """Every level of a Merkle tree, so that many proofs cost little; paths are those of RFC 6962, section 2.1.1."""

    def __init__(self, hashes: Iterable[bytes]) -> None:
        self.levels = [list(hashes)]
        while len(row := self.levels[-1]) > 1:
            pairs = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
            self.levels.append(pairs + row[len(row) & ~1 :])

    def path(self, index: int) -> list[bytes]:
        """The audit path of a leaf. Raises IndexError outside the tree."""
        if not 0 <= index < len(self.levels[0]):
            raise IndexError(f"leaf {index} of {len(self.levels[0])}")
        found = []
        for row in self.levels[:-1]:
            if (sibling := index ^ 1) < len(row):
                found.append(row[sibling])
            index >>= 1
        return found


@dataclass(slots=True)
class Proofs:
    """One moment of a ledger, as evidence: hashes as they are stored, leaves as they are, and the newest signed statement."""

    events: list[StoredEvent]
    records: Mapping[tuple[str, str], bytes]
    signed: Statement | None
    note: str
    """The signed text of the checkpoint that everything is proven against."""
    faults: list[str] = field(default_factory=list)
    _tree: Tree = field(default_factory=lambda: Tree(()))
    _where: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=dict)
    """(kind, key) → (place of the event, where in its leaf) of what looks like a change of that record."""

    @classmethod
    def read(cls, evidence: Evidence, verifier: Verifier | Succession) -> Proofs:
        """Never raises for what is stored: what cannot be read is a fault."""
        faults: list[str] = []
        events = _all(evidence.events, faults)
        records = {(record.kind, record.key): record.body for record in _all(evidence.records, faults)}
        signed, note = _newest(evidence, verifier, events, faults)
        proofs = cls(events, records, signed, note, faults)
        proofs._tree = Tree(stored.leaf_hash for stored in events[: signed.size if signed else 0])
        for place, stored in enumerate(events):
            for hit in _CHANGE.finditer(stored.leaf):
                key = _pair(hit)
                if key is not None:
                    proofs._where.setdefault(key, []).append((place, hit.start()))
        return proofs

    def record(self, kind: str, key: str) -> Proven:
        """The record, the last event that wrote it, and whether they agree and are proven. Neither of them is a failed check."""
        name, wanted = f"{kind} {key}", "as its last event says, and that event under the signed checkpoint"
        raw = self.records.get((kind, key))
        found = self._last(kind, key)
        if found is None:
            seen = "no event and no record" if raw is None else "a record that follows from no event"
            return Proven(kind, key, _json(raw), None, Check(name, wanted, seen, False))
        event, body, place = found
        if event is None:
            seen = f"event {place}, which wrote it, cannot be read"
            return Proven(kind, key, _json(raw), None, Check(name, wanted, seen, False))
        fault = self._fault(place) or _differs(raw, body)
        passed = None if fault == _NOT_YET else not fault
        told = f"event {event.seq}, {event.verb} by {event.actor}"
        seen = f"{told}: {fault}" if fault else f"{told}, proven"
        return Proven(kind, key, body, event, Check(name, wanted, seen, passed))

    def has(self, kind: str, key: str) -> bool:
        return (kind, key) in self.records or (kind, key) in self._where

    def names(self, kind: str) -> list[str]:
        """Keys of the records of a kind."""
        return sorted(key for found, key in self.records if found == kind)

    def history(self, kind: str, key: str) -> list[tuple[Event, Mapping[str, Any] | None]]:
        """Every event that wrote the record, with what it wrote; those that cannot be read are passed over."""
        found = []
        for place, _ in self._where.get((kind, key), ()):
            event = _read(self.events[place])
            changes = [c for c in event.changes if (c.kind, c.key) == (kind, key)] if event else []
            if event is not None and changes:
                found.append((event, changes[-1].body))
        return found

    def about(self, verb: str, subject: str) -> list[Event]:
        found = [_read(stored) for stored in self.events if stored.verb == verb and stored.subject == subject]
        return [event for event in found if event is not None]

    def event(self, seq: int) -> Check:
        """Whether an event is under the signed checkpoint."""
        fault = self._fault(seq) if 0 <= seq < len(self.events) else "there is no such event"
        return Check(f"event {seq}", "under the signed checkpoint", fault or "proven", None if fault == _NOT_YET else not fault)

    def whole(self) -> tuple[Check, ...]:
        """Whether everything else in the ledger is what it was, too; each check names the first place that is not.

        Bytes are compared, nothing is decoded: what an audit takes seconds for takes a trace a moment.
        """
        count = len(self.events)
        odd = next((i for i, e in enumerate(self.events) if e.seq != i or not _is_filed(e)), None)
        changed = next((i for i, e in enumerate(self.events) if leaf_hash(e.leaf) != e.leaf_hash), None)
        record = next((f"{kind} {key!r}" for kind, key in self._odd_records()), None)
        found = (
            ("events", "0, 1, 2 … each filed as it says", odd, f"event {odd} is missing, out of place or filed otherwise"),
            ("hashes", "every event with its hash", changed, f"event {changed} was changed"),
            ("checkpoints", "signed, and true of the events", *(self.faults[:1] * 2 or (None, ""))),
            ("records", "as the last event about each says", record, f"the record {record} reads otherwise, or is missing"),
        )
        return tuple(
            Check(name, wanted, f"{count} events" if bad is None else told, bad is None) for name, wanted, bad, told in found
        )

    def _odd_records(self) -> Iterator[tuple[str, str]]:
        for found, places in self._where.items():
            place, start = places[-1]
            raw, leaf = self.records.get(found), self.events[place].leaf
            body = b'{"body":' + (raw if raw is not None else b"null") + b","
            if leaf[max(start - len(body), 0) : start] != body:
                last = self._last(*found)
                if last is not None and (last[0] is None or _differs(raw, last[1])):
                    yield found
        yield from (found for found in self.records if found not in self._where)

    def _last(self, kind: str, key: str) -> tuple[Event | None, Mapping[str, Any] | None, int] | None:
        """(event, what it wrote, place); the event is None where it cannot be read: an earlier one must not stand in for it."""
        for place, _ in reversed(self._where.get((kind, key), ())):
            event = _read(self.events[place])
            if event is None:
                return None, None, place
            for change in reversed(event.changes):
                if (change.kind, change.key) == (kind, key):
                    return event, change.body, place
        return None

    def _fault(self, place: int) -> str:
        """Empty where the event at that place is proven."""
        stored = self.events[place]
        if self.signed is None:
            return "no checkpoint with a good signature covers it"
        if place >= self.signed.size:
            return _NOT_YET
        if place >= len(self._tree.levels[0]) or len(self._tree.levels[0]) != self.signed.size:
            return f"{self.signed.size} events were signed, {len(self._tree.levels[0])} are there"
        hashed = leaf_hash(stored.leaf)
        if hashed != stored.leaf_hash:
            return "it was changed: it has another hash than was stored for it"
        if not verify_inclusion(hashed, place, self.signed.size, self._tree.path(place), self.signed.root):
            return f"it is not under the signed root of {self.signed.size} events"
        return ""


_NOT_YET = "no checkpoint covers it yet"


def _newest(
    evidence: Evidence, verifier: Verifier | Succession, events: Sequence[StoredEvent], faults: list[str]
) -> tuple[Statement | None, str]:
    """The largest statement whose signature is good; every other is looked at, too."""
    good: tuple[Statement | None, str] = (None, "")
    try:
        checkpoints = {checkpoint.size: checkpoint for checkpoint in evidence.checkpoints()}
    except FalajError as exc:
        faults.append(f"the checkpoints cannot be read: {exc.message}")
        return good
    roots = _roots(events, checkpoints)
    for size, checkpoint in sorted(checkpoints.items()):
        try:
            told = verifier.open(checkpoint.note)
        except FalajError as exc:
            faults.append(f"the checkpoint of {size} events: {exc.message}")
            continue
        good = (told, checkpoint.note)
        if (told.size, told.root) != (size, checkpoint.root) or roots.get(size) != told.root:
            faults.append(f"the checkpoint of {size} events was signed for others than are there")
    if good[0] is None:
        faults.append("no checkpoint has a good signature")
    return good


def _roots(events: Sequence[StoredEvent], sizes: Container[int]) -> dict[int, bytes]:
    frontier, roots = Frontier(), {0: EMPTY_ROOT}
    for stored in events:
        frontier.append(stored.leaf_hash)
        if frontier.size in sizes:
            roots[frontier.size] = frontier.root()
    return roots


def _is_filed(stored: StoredEvent) -> bool:
    """Whether the columns beside a leaf say what it says itself; names stand in order in canonical JSON."""
    try:
        subject, verb, at = (canonical(value) for value in (stored.subject, stored.verb, stored.at))
    except FalajError:
        return False
    own = b',"seq":%d,"subject":%b,"trace":' % (stored.seq, subject)
    return own in stored.leaf and stored.leaf.endswith(b'"verb":%b}' % verb) and b',"at":%b,"changes":' % at in stored.leaf


def _all(read: Any, faults: list[str]) -> list[Any]:
    found: list[Any] = []
    try:
        found.extend(read())
    except FalajError as exc:
        faults.append(exc.message)
    return found


def _pair(hit: re.Match[bytes]) -> tuple[str, str] | None:
    try:
        return str(json.loads(hit[2])), str(json.loads(hit[1]))
    except ValueError:
        return None


def _read(stored: StoredEvent) -> Event | None:
    try:
        return event_of(stored.leaf)
    except FalajError:
        return None


def _json(raw: bytes | None) -> Mapping[str, Any] | None:
    try:
        body = json.loads(raw) if raw else None
    except ValueError:
        return None
    return body if isinstance(body, Mapping) else None


def _differs(raw: bytes | None, body: Mapping[str, Any] | None) -> str:
    if body is None:
        return "it was removed" if raw is None else "a record stands there that the event removed"
    if raw is None:
        return "the record itself is missing"
    wanted = hashlib.sha256(canonical(encode(body))).digest()
    return "" if hashlib.sha256(raw).digest() == wanted else "the record reads otherwise than the event says"
