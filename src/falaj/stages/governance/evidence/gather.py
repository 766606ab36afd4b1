"""Which events an archive about one version holds: whatever made it, judged it, let it pass, served it or took it out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from falaj.core.errors import NotFound
from falaj.core.event import Event
from falaj.core.ref import Ref
from falaj.stages.governance.asof import State, Term, committed_at, terms
from falaj.stages.governance.evidence.legal import legal_of

Body = Mapping[str, Any]
PEOPLE = ("tier", "description", "approval", "objection", "test", "dpia")
"""Kinds of records about a version or its model that people write. An archive holds every event that wrote or removed one."""
RECEIPTS = ("dataset.expire", "model.expire", "model.mark", "model.quarantine", "model.justify", "retention.", "hold.")
"""Beginnings of verbs by which a model or data behind it was held, withheld or removed."""
DEEPEST = 64
"""Snapshots of snapshots, so deep."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """`events`: those that belong to the version, in order. `state`: all records as the last event left them."""

    model: Ref
    record: Body
    events: tuple[Event, ...]
    state: State
    terms: tuple[Term, ...]
    """When it answered, and where."""
    snapshots: tuple[str, ...]
    """Every dataset snapshot that it was made of, the nearest first."""
    held: frozenset[int]
    """The numbers of the events."""

    def get(self, kind: str, key: str) -> Body | None:
        return self.state.records.get((kind, key))

    def cite(self, kind: str, key: str) -> dict[str, Any] | None:
        """A record as it reads, with the event that says so; None where there is none, or its event is not in the archive."""
        body = self.state.records.get((kind, key))
        if body is None:
            return None
        seq = self.state.written[kind, key].seq
        return {"kind": kind, "key": key, "event": seq, "body": body} if seq in self.held else None

    def cites(self, kind: str, keys: Iterable[str]) -> list[dict[str, Any]]:
        return [cited for key in keys if (cited := self.cite(kind, key)) is not None]

    def keys(self, kind: str, *prefixes: str) -> list[str]:
        return [key for key, _ in self.state.find(kind) if key.startswith(prefixes)]


def gather(events: Sequence[Event], model: Ref) -> Gathered:
    """From all events in order. Raises NotFound for a version that none of them registered."""
    state = State()
    for event in events:
        state.add(event)
    key = f"{model.name}@{model.version}"
    record = state.records.get(("model", key))
    if record is None:
        raise NotFound.named("model", str(model), [f"model/{known}" for known, _ in state.find("model")])
    served = tuple(term for term in terms(events) if term.model == str(model))
    snapshots = tuple(_snapshots(state, record))
    held = frozenset(_wanted(events, state, model, (record, served, snapshots)))
    kept = tuple(event for event in events if event.seq in held)
    return Gathered(model, record, kept, state, served, snapshots, held)


def owned(kind: str, key: str, model: Ref) -> bool:
    """Whether a record that people write is about this version, or about its model as a whole."""
    subject = key.partition("|")[0].removeprefix("model/")
    return kind in PEOPLE and subject in (model.name, f"{model.name}@{model.version}")


def _wanted(
    events: Sequence[Event], state: State, model: Ref, about: tuple[Body, Sequence[Term], Sequence[str]]
) -> Iterator[int]:
    record, served, snapshots = about
    subjects = {str(model), str(record.get("candidate") or ""), f"run/{record['run']}" if record.get("run") else ""}
    subjects |= {f"rollout/{key}" for key, body in state.find("rollout") if str(model) in (body["champion"], body["challenger"])}
    endpoints = {term.endpoint for term in served}
    turns = {term.event for term in served}
    ends = {(term.endpoint, term.until, term.ended_verb) for term in served if term.until is not None}
    bare = {snapshot.partition("@")[0] for snapshot in snapshots}
    attested, pointed = "", dict[str, str | None]()
    legal = {(kind, key) for kind, keys in legal_of(state, (model, snapshots)).items() for key in keys}
    for event in events:
        subject = str(event.subject)
        if event.verb == "evidence.make":  # that somebody looked at it is not about it
            continue
        is_moved = False  # an alias came to it, or left it: also without any endpoint
        for change in event.changes:
            if change.kind == "alias":
                left, pointed[change.key] = pointed.get(change.key), (change.body or {}).get("model")
                is_moved = is_moved or str(model) in (left, pointed[change.key])
        is_end = any(
            change.kind == "endpoint" and (change.key, committed_at(event), event.verb) in ends for change in event.changes
        )
        if (
            subject in subjects
            or event.seq in turns
            or is_end
            or is_moved
            or (event.verb in ("endpoint.kill", "endpoint.revive", "endpoint.drill") and event.subject.name in endpoints)
            or any(owned(change.kind, change.key, model) or (change.kind, change.key) in legal for change in event.changes)
            or (event.verb.startswith(RECEIPTS) and subject.partition("@")[0] in bare | {str(model.bare)})
        ):
            yield event.seq
        if event.verb == "zone.attest":
            attested = str(event.seq)
    yield from _writers(state, model, (record, endpoints, snapshots))
    if attested:
        yield int(attested)


def _writers(state: State, model: Ref, about: tuple[Body, set[str], Sequence[str]]) -> Iterator[int]:
    """The events that wrote what an archive quotes."""
    record, endpoints, snapshots = about
    labels = record["asset"].get("labels") or {}
    candidate = str(record.get("candidate"))
    quoted = [("recipe", str(labels.get("recipe"))), ("asset", candidate), ("model", f"{model.name}@{model.version}")]
    quoted += [("asset", snapshot) for snapshot in snapshots]
    quoted += [("decision", f"{snapshot}|contract") for snapshot in snapshots]
    quoted += [("monitor", endpoint) for endpoint in endpoints]
    quoted += [("endpoint", endpoint) for endpoint in endpoints]
    quoted += [("alias", key) for key, body in state.find("alias") if body["model"] == str(model)]
    quoted += [("release", key) for key, body in state.find("release") if body["model"] == str(model)]
    for key in quoted:
        if key in state.written:
            yield state.written[key].seq


def _snapshots(state: State, record: Body) -> Iterator[str]:
    seen: dict[str, None] = {}
    level = [str(ref) for ref in record["asset"].get("inputs") or ()]
    for _ in range(DEEPEST):
        level = [ref for ref in dict.fromkeys(level) if ref not in seen]
        seen.update(dict.fromkeys(level))
        level = [str(ref) for one in level for ref in (state.records.get(("asset", one)) or {}).get("inputs") or ()]
    yield from (ref for ref in seen if ref.startswith("dataset/"))
