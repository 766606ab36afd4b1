"""What must hold of a ledger that nobody has tampered with, asked of its evidence alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import islice

from falaj.core.decision import Check, Decision, judge
from falaj.core.errors import FalajError
from falaj.core.leaf import Entry
from falaj.core.merkle import EMPTY_ROOT, Frontier
from falaj.core.moments import moment, short
from falaj.core.note import Statement, Verifier
from falaj.core.ref import Ref
from falaj.core.skim import entries_of
from falaj.core.succession import Succession
from falaj.ports.evidence import Evidence, StoredEvent
from falaj.ports.ledger import Checkpoint
from falaj.stages.governance.clock import Clock

LEDGER = Ref("ledger", "local")
_AT_ONCE = 4096
"""Hashes that go into the tree together: a few at a time would cost as much for the call as for the hashing."""
_READ_TOGETHER = 64
_SHORT = 256
"""Bytes of a body that is kept as it is: most are written over before they are compared, and never need a digest."""
_UNSEEN = (
    "Not compared with a remembered checkpoint: a tail that was cut off together with its checkpoints cannot be seen from "
    "inside. Keep a checkpoint somewhere else and give it here."
)


@dataclass(slots=True)
class Walk:
    """What one pass over the events finds: the first fault of each kind, the state that follows, the roots in question."""

    sizes: frozenset[int]
    covered: int = 0
    """How many events are under some checkpoint."""
    events: int = 0
    faults: dict[str, str] = field(default_factory=dict)
    state: dict[tuple[str, str], bytes | str] = field(default_factory=dict)
    """The body that each record must have, as `held` says it."""
    roots: dict[int, bytes] = field(default_factory=dict)
    frontier: Frontier = field(default_factory=Frontier)
    uncovered_since: str | None = None
    """The time of the first event that is under no checkpoint, where it could be read."""
    clock: Clock = field(default_factory=Clock)

    def over(self, events: Iterable[StoredEvent]) -> None:
        """Takes the events in order. What the store raises meanwhile is a fault of theirs."""
        hashes: list[bytes] = []
        self._mark(hashes)
        source, broken = iter(events), None
        while broken is None:
            some: list[StoredEvent] = []
            try:
                some.extend(islice(source, _READ_TOGETHER))
            except FalajError as exc:
                broken = exc
            if not some:
                break
            for stored, entry in zip(some, entries_of([stored[1] for stored in some]), strict=True):
                self._step(stored, entry, hashes)
        if broken is not None:
            self.fault("sequence", f"event {self.events} cannot be read from the store: {broken.message}")
        self.frontier.extend(hashes)

    def fault(self, name: str, text: str) -> None:
        self.faults.setdefault(name, text)

    def check(self, name: str, wanted: str, seen: str) -> Check:
        return Check(name, wanted, self.faults.get(name, seen), name not in self.faults)

    def _step(self, stored: StoredEvent, entry: Entry | FalajError, hashes: list[bytes]) -> None:
        seq, leaf, stored_hash, verb, subject, at = stored
        if seq != self.events:
            self.fault("sequence", f"event {self.events} is missing or out of place, number {seq} stands there")
        hashed = sha256(b"\x00" + leaf).digest()  # as `leaf_hash`, whose call alone costs a tenth of the step
        if hashed != stored_hash:
            self.fault("hashes", f"event {seq} does not have the hash that is stored for it")
        if isinstance(entry, FalajError):
            self.fault("leaves", f"event {seq} cannot be read: {entry.message}")
        else:
            told_seq, told_verb, told_subject, told_at, changes, took_ms = entry
            if self.events == self.covered:
                self.uncovered_since = told_at
            if told_seq != seq:
                self.fault("leaves", f"event {seq} says of itself that it is number {told_seq}")
            if told_verb != verb or told_subject != subject or told_at != at:
                self.fault("leaves", f"event {seq} is filed under another verb, subject or time than it says")
            for kind, key, body in changes:
                if body is None:
                    self.state.pop((kind, key), None)
                else:
                    self.state[kind, key] = held(body)
            if took_ms or told_at < self.clock.latest:
                self.clock.tick(seq, told_at, took_ms)
            else:
                self.clock.latest = told_at  # nearly always so; the call would cost as much as the comparison
        hashes.append(hashed)
        self.events += 1
        if len(hashes) == _AT_ONCE or self.events in self.sizes:
            self._mark(hashes)

    def _mark(self, hashes: list[bytes]) -> None:
        self.frontier.extend(hashes)
        hashes.clear()
        if self.events in self.sizes:
            self.roots[self.events] = self.frontier.root()


def verify(
    evidence: Evidence,
    verifier: Verifier | Succession,
    *,
    now: datetime,
    remembered: str | None = None,
    max_age: timedelta = timedelta(days=1),
) -> Decision:
    """Whether the ledger is whole, each question a Check that names the first event or record that is not.

    `remembered` is the text of an earlier checkpoint that was kept outside; without it the reason says what was not looked at.
    """
    faults: dict[str, str] = {}
    checkpoints = _checkpoints(evidence, faults)
    kept = _statement(remembered, verifier) if remembered is not None else None
    sizes = frozenset({c.size for c in checkpoints} | ({kept.size} if isinstance(kept, Statement) else set()))
    walk = Walk(sizes, max((c.size for c in checkpoints), default=0), faults=faults)
    walk.over(evidence.events())
    _compare_edge(evidence, walk)
    _compare_checkpoints(checkpoints, verifier, walk)
    _compare_records(evidence, walk)
    checks = [
        walk.check("sequence", "events 0, 1, 2 … without a gap", f"{walk.events} events"),
        walk.check("leaves", "every event readable and filed as it says", f"{walk.events} events"),
        walk.check("hashes", "every event with the hash that is stored for it", f"{walk.events} events"),
        walk.check("edge", "as many events under the same root as the ledger counts", f"{walk.events} events"),
        walk.check("checkpoints", "every checkpoint signed and true", f"{len(checkpoints)} checkpoints"),
        walk.check("records", "the state that follows from the events", f"{len(walk.state)} records"),
        walk.clock.check(now, max_age),
        _age(walk, now, max_age),
    ]
    if remembered is not None:
        checks.append(_remembered(kept, walk))
    return Decision(LEDGER, "audit", judge(checks), tuple(checks), None, now, "" if remembered is not None else _UNSEEN)


def _checkpoints(evidence: Evidence, faults: dict[str, str]) -> list[Checkpoint]:
    try:
        return evidence.checkpoints()
    except FalajError as exc:
        faults["checkpoints"] = f"they cannot be read: {exc.message}"
        return []


def _statement(note: str, verifier: Verifier | Succession) -> Statement | str:
    try:
        return verifier.open(note)
    except FalajError as exc:
        return exc.message


def _compare_edge(evidence: Evidence, walk: Walk) -> None:
    try:
        size, root = evidence.edge()
    except FalajError as exc:
        walk.fault("edge", exc.message)
        return
    if size != walk.events:
        first = min(size, walk.events)
        walk.fault("edge", f"the ledger counts {size} events, there are {walk.events}: they differ from event {first} on")
    elif root != walk.frontier.root():
        walk.fault("edge", f"the {size} events have another root than the ledger keeps for them")


def _compare_checkpoints(checkpoints: list[Checkpoint], verifier: Verifier | Succession, walk: Walk) -> None:
    good = 0
    for checkpoint in checkpoints:
        told = _statement(checkpoint.note, verifier)
        if isinstance(told, str):
            walk.fault("checkpoints", f"the checkpoint of {checkpoint.size} events: {told}")
        elif (told.size, told.root) != (checkpoint.size, checkpoint.root):
            walk.fault("checkpoints", f"the checkpoint of {checkpoint.size} events was signed with another size or root")
        else:
            walk.faults.update({} if "checkpoints" in walk.faults else _mismatch(told, walk, good, "checkpoints"))
            good = told.size


def _mismatch(told: Statement, walk: Walk, good: int, name: str) -> Mapping[str, str]:
    if told.size > walk.events:
        return {name: f"event {walk.events} and what followed is gone: {told.size} events were signed, there are {walk.events}"}
    if walk.roots.get(told.size, EMPTY_ROOT) != told.root:
        return {name: f"an event from {good} to {told.size - 1} was changed: {told.size} events had another root when signed"}
    return {}


def _remembered(kept: Statement | str | None, walk: Walk) -> Check:
    wanted = "an extension of the remembered checkpoint"
    if not isinstance(kept, Statement):
        return Check("remembered", wanted, str(kept), False)
    fault = _mismatch(kept, walk, 0, "remembered").get("remembered")
    return Check("remembered", wanted, fault or f"it extends the {kept.size} events that were remembered", fault is None)


def _compare_records(evidence: Evidence, walk: Walk) -> None:
    missing = dict(walk.state)
    try:
        for record in evidence.records():
            wanted = missing.pop((record.kind, record.key), None)
            if wanted is None:
                walk.fault("records", f"the record {record.kind} {record.key!r} follows from no event")
            elif wanted != held(record.body):
                walk.fault("records", f"the record {record.kind} {record.key!r} reads otherwise than its last event says")
    except FalajError as exc:
        walk.fault("records", f"they cannot be read: {exc.message}")
    if missing:
        kind, key = min(missing)
        walk.fault("records", f"the record {kind} {key!r} is missing")


def held(body: bytes) -> bytes | str:
    """A short body itself, of another its digest as a text, which no body is equal to."""
    return body if len(body) < _SHORT else sha256(body).hexdigest()


def _age(walk: Walk, now: datetime, max_age: timedelta) -> Check:
    """Events that no checkpoint covers could still be rewritten; they may not stay so for long."""
    covered = walk.covered
    wanted = f"no event older than {short(max_age)} without a checkpoint"
    if covered >= walk.events:
        return Check("age", wanted, f"all {walk.events} events are under a checkpoint", True)
    since = None if walk.uncovered_since is None else moment(walk.uncovered_since)
    age = "an unknown time" if since is None else f"{max(0, round((now - since).total_seconds()))}s"
    passed = True if since is not None and now - since <= max_age else None
    return Check("age", wanted, f"{walk.events - covered} events from {covered} on are under none, the first since {age}", passed)
