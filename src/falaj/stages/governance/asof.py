"""What was so at any moment in the past, from the ledger's events alone: a pure fold, which asks no record and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from falaj.core.event import Change, Event
from falaj.core.moments import iso
from falaj.core.skim import took_ms
from falaj.stages.vouching import opens

Body = Mapping[str, Any]
SIDE = frozenset({"standby", "shadow"})
"""Roles that answer nobody."""


@dataclass(frozen=True, slots=True)
class Written:
    """Who wrote a record last, in which event."""

    seq: int
    at: datetime
    by: str
    verb: str


@dataclass(slots=True)
class State:
    """Every record as it read then, and who had written it."""

    records: dict[tuple[str, str], Body] = field(default_factory=dict)
    written: dict[tuple[str, str], Written] = field(default_factory=dict)
    events: int = 0
    last: datetime | None = None
    """The time of the last event that counts."""
    policy_set: str = ""
    """The digest, or its beginning, of the policies that were asked last; empty where no event says so."""

    def add(self, event: Event) -> None:
        by = Written(event.seq, event.at, str(event.actor), event.verb)
        for change in event.changes:
            key = change.kind, change.key
            if change.body is None:
                self.records.pop(key, None)
                self.written.pop(key, None)
            else:
                self.records[key], self.written[key] = change.body, by
        self.events, self.last = self.events + 1, event.at
        self.policy_set = set_of(event) or self.policy_set

    def find(self, kind: str) -> list[tuple[str, Body]]:
        """Keys and bodies of one kind, in the keys' order."""
        return sorted(((key, body) for (found, key), body in self.records.items() if found == kind), key=lambda pair: pair[0])


@dataclass(frozen=True, slots=True)
class Term:
    """A time in which one model answered callers of one endpoint in one role; open where `until` is None."""

    endpoint: str
    model: str
    role: str
    digest: str
    """Of the weights."""
    release: str
    since: datetime
    by: str
    event: int
    verb: str
    policy_set: str = ""
    """Of the event that began it, where that says."""
    until: datetime | None = None
    ended_by: str = ""
    ended_verb: str = ""

    @property
    def is_open(self) -> bool:
        return self.until is None


def committed_at(event: Event) -> datetime:
    """When the event came into the ledger, to the second: from then on what it changed was so."""
    return event.at + timedelta(milliseconds=max(took_ms(event.facts), 0))


def until(events: Iterable[Event], at: datetime) -> Iterator[Event]:
    """The events that had been committed at that moment.

    An event's time is when its action was asked for, and one that trained for an hour is committed an hour later: `took_ms` says
    how much later, where it is a second or more. Leaves stand in the order in which they were committed. So the first event that
    was committed later than `at` ends what counts: whatever stands behind it came later too, whatever time it carries.
    """
    for event in events:
        if committed_at(event) > at:
            return
        yield event


def state_at(events: Iterable[Event], at: datetime) -> State:
    """The records as they read at that moment, from all events in order."""
    state = State()
    for event in until(events, at):
        state.add(event)
    return state


def terms(events: Iterable[Event]) -> list[Term]:
    """Who answered when, in the order in which it began. An endpoint that is out of use has nobody who answers."""
    found: list[Term] = []
    live: dict[tuple[str, str, str], int] = {}
    for event in events:
        for change in event.changes:
            if change.kind != "endpoint":
                continue
            now = {(change.key, arm["model"], arm["role"]): arm for arm in answering(change.body)}
            for key in [key for key in live if key[0] == change.key and key not in now]:
                place = live.pop(key)
                found[place] = _ended(found[place], event)
            for key, arm in now.items():
                if key not in live:
                    live[key] = len(found)
                    found.append(_begun(change.key, arm, event))
    return found


def history(events: Iterable[Event], name: str) -> list[dict[str, Any]]:
    """Who put which version of a model where, and when, oldest first: registered, approved, answering, taken out, named."""
    rows: list[tuple[datetime, int, dict[str, Any]]] = []
    kept = list(events)
    for term in terms(kept):
        if term.model.partition("@")[0] == f"model/{name}":
            rows.append((term.since, term.event, _came(term)))
            if term.until is not None:
                rows.append((term.until, term.event, _left(term)))
    for event in kept:
        for change in event.changes:
            what = _NOTED.get(change.kind)
            if what and change.key.partition("@")[0] in (name, f"model/{name}") and change.body is not None:
                rows.append((event.at, event.seq, _row(event, what, change)))
    return [row for _, _, row in sorted(rows, key=lambda found: found[:2])]


_NOTED: Mapping[str, str] = {
    "model": "registered",
    "approval": "approved",
    "objection": "objected to",
    "alias": "named",
    "test": "tested",
    "dpia": "assessed",
}


def _row(event: Event, what: str, change: Change) -> dict[str, Any]:
    body = change.body or {}
    model = body.get("model") or body.get("ref") or str(event.subject)
    more = {"alias": change.key.partition("@")[2]} if change.kind == "alias" else {}
    at, by = iso(event.at), str(event.actor)
    return {"at": at, "what": what, "model": model, **more, "by": by, "verb": event.verb, "event": event.seq}


def _came(term: Term) -> dict[str, Any]:
    where = {"endpoint": term.endpoint, "role": term.role, "weights": term.digest}
    at = iso(term.since)
    return {"at": at, "what": "answers", "model": term.model, **where, "by": term.by, "verb": term.verb, "event": term.event}


def _left(term: Term) -> dict[str, Any]:
    where = {"endpoint": term.endpoint, "role": term.role, "weights": term.digest}
    at = iso(term.until) if term.until else None
    return {"at": at, "what": "answers no more", "model": term.model, **where, "by": term.ended_by, "verb": term.ended_verb}


def answering(endpoint: Body | None) -> list[Body]:
    """The arms of an endpoint's record that answer callers who ask for none by name."""
    wanted = (endpoint or {}).get("wanted") or {}
    if wanted.get("killed"):
        return []
    return [arm for arm in wanted.get("arms", ()) if arm["role"] not in SIDE and arm["share"] > 0]


def told(state: State, open_terms: Iterable[Term], at: datetime) -> dict[str, Any]:
    """What a person asks about that moment: what served and who put it there, what was under way, open and allowed."""
    serving: dict[str, list[Term]] = {}
    for term in open_terms:
        serving.setdefault(term.endpoint, []).append(term)
    return {
        "at": iso(at),
        "events": state.events,
        "last_event": iso(state.last) if state.last else None,
        "endpoints": [_endpoint(key, body, serving.get(key, [])) for key, body in state.find("endpoint")],
        "champions": {key: _who(state, "alias", key) | {"model": body["model"]} for key, body in state.find("alias")},
        "models": [
            {"model": body.get("ref"), "weights": (body.get("asset") or {}).get("digest"), "gate": body.get("gate")}
            for _, body in state.find("model")
        ],
        "approvals": [key for key, _ in state.find("approval")],
        "tiers": {key: body.get("tier") for key, body in state.find("tier")},
        "rollouts": [body["ref"] for _, body in state.find("rollout") if body.get("ended_at") is None],
        "experiments": [body["ref"] for _, body in state.find("experiment") if body.get("ended_at") is None],
        "open_alerts": [
            {"alert": body.get("ref"), "title": body.get("title"), "state": body.get("state")}
            for _, body in state.find("alert") if body.get("state") != "resolved"
        ],
        "keys": [
            {name: body.get(name) for name in ("id", "name", "kind", "roles")}
            for _, body in state.find("key") if opens(body)
        ],
        "policy_set": state.policy_set or None,
        "datasets": {key: body.get("version") for key, body in state.find("head")},
    }  # fmt: skip


def _endpoint(name: str, body: Body, serving: list[Term]) -> dict[str, Any]:
    wanted = body["wanted"]
    shares = {(arm["model"], arm["role"]): arm["share"] for arm in wanted["arms"]}
    return {
        "endpoint": f"endpoint/{name}",
        "out_of_use": dict(wanted.get("killed") or {}) or None,
        "serving": [
            {
                "model": term.model, "role": term.role, "share": shares.get((term.model, term.role)), "weights": term.digest,
                "release": term.release, "since": iso(term.since), "by": term.by, "event": term.event,
                "policy_set": term.policy_set or None,
            }
            for term in serving
        ],
        "rollout": body.get("rollout"),
        "experiment": body.get("experiment"),
    }  # fmt: skip


def _who(state: State, kind: str, key: str) -> dict[str, Any]:
    written = state.written[kind, key]
    return {"since": iso(written.at), "by": written.by, "event": written.seq}


def set_of(event: Event) -> str:
    """Which policies allowed an event, as its facts say, or the decisions that it keeps."""
    policy = event.facts.get("policy")
    if isinstance(policy, Mapping) and policy.get("set"):
        return str(policy["set"])
    found = [str(c.body["policy_set"]) for c in event.changes if c.kind == "decision" and c.body and c.body.get("policy_set")]
    return found[-1] if found else ""


def _begun(endpoint: str, arm: Body, event: Event) -> Term:
    by, policies = str(event.actor), set_of(event)
    where = arm["model"], arm["role"], arm["digest"], arm["release"]
    return Term(endpoint, *where, since=committed_at(event), by=by, event=event.seq, verb=event.verb, policy_set=policies)


def _ended(term: Term, event: Event) -> Term:
    return replace(term, until=committed_at(event), ended_by=str(event.actor), ended_verb=event.verb)
