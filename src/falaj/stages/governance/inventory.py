"""The model inventory: every version that ever was, made here or by others, with its steps, its people and what is overdue.

What the CBUAE Model Management Standards ask for in 4.4: current and past models, third parties' among them, a new id for each
recalibration, and for each step of the life cycle its date, the responsible person of the house and the validations before it.
From the ledger's events alone. Nothing removes a version from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from falaj.core.codec import digest_of
from falaj.core.event import Event
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.stages.governance.asof import State, Term, terms
from falaj.stages.registry.demands import BUILT_IN, Ceiling, Demands, Window
from falaj.stages.registry.impact import assessment, classes_of, test_checks
from falaj.stages.rollouts.kills import drill_due

Body = Mapping[str, Any]
STEPS: Mapping[str, str] = {
    # the verb of an event about a version, its candidate or its run: the step of the life cycle that it is
    "run.start": "development",
    "model.train": "development",
    "model.evaluate": "validation",
    "model.test": "validation",
    "model.dpia": "validation",
    "model.register": "development",
    "model.approve": "approval",
    "model.object": "approval",
    "model.withdraw": "approval",
    "model.promote": "approval",
}
_ENDS = "retirement"


@dataclass(frozen=True, slots=True)
class Facts:
    """One reading of all events."""

    state: State
    terms: tuple[Term, ...]
    about: Mapping[str, tuple[Event, ...]]
    """By the subject of the events that are steps of a life cycle."""
    now: datetime
    of: Mapping[str, tuple[Term, ...]] = field(default_factory=dict)
    demands: Demands = BUILT_IN

    def get(self, kind: str, key: str) -> Body | None:
        return self.state.records.get((kind, key))


def read(events: Iterable[Event], now: datetime, demands: Demands = BUILT_IN) -> Facts:
    """Everything that the inventory is made of, from all events in order; and what the packs in force demand."""
    kept, state, about = list(events), State(), dict[str, list[Event]]()
    for event in kept:
        state.add(event)
        if event.verb in STEPS:
            about.setdefault(str(event.subject), []).append(event)
    served, of = terms(kept), dict[str, list[Term]]()
    for term in served:
        of.setdefault(term.model, []).append(term)
    lists = {key: tuple(found) for key, found in about.items()}
    return Facts(state, tuple(served), lists, now, {key: tuple(found) for key, found in of.items()}, demands)


def inventory(facts: Facts) -> list[dict[str, Any]]:
    """A row for each version, by name and then in the order in which they came."""
    own = [_own(facts, Ref.parse(body["ref"]), body) for _, body in facts.state.find("model")]
    foreign = [_foreign(facts, Ref.parse(body["ref"]), body) for _, body in facts.state.find("declared")]
    return sorted((*own, *foreign), key=lambda row: _order(row["model"]))


def short(row: Body) -> dict[str, Any]:
    """What fits into a table."""
    overdue = [found["what"] for found in row["overdue"]]
    conflicts = ", ".join(found["path"] for found in row["demands"].get("conflicts", ()))
    shown = ("model", "origin", "tier", "risk", "owner", "status", "since")
    return {
        **{name: row[name] for name in shown},
        "overdue": ", ".join(overdue),
        "missing": ", ".join(row["missing"]),
        "conflicts": conflicts,
    }


def version_id(facts: Facts, record: Body) -> str:
    """What a version is: the digest of its weights, code, data and configuration. Whatever of them differs, it is another."""
    asset = record["asset"]
    labels = asset.get("labels") or {}
    config = ("training", "recipe", "params", "seed", "threshold", "format", "environment")
    data = {str(ref): (facts.get("asset", str(ref)) or {}).get("digest") for ref in asset.get("inputs") or ()}
    return digest_of({
        "weights": asset["digest"], "code": labels.get("code"), "data": data,
        "config": {name: labels.get(name) for name in config},
    })  # fmt: skip


def _own(facts: Facts, model: Ref, record: Body) -> dict[str, Any]:
    said = facts.get("description", str(model.bare)) or {}
    tier = facts.get("tier", str(model.bare)) or {}
    status, since, until = _status(facts, model, record)
    steps = list(_steps(facts, model, record, {**_responsible(said, tier)}))
    row = {
        "model": str(model), "origin": "own", "id": version_id(facts, record), "weights": record["asset"]["digest"],
        "purpose": said.get("purpose"), "risk": said.get("risk"), "owner": said.get("owner") or tier.get("responsible"),
        "tier": tier.get("tier"), "oversight": said.get("oversight"), "lawful_basis": said.get("lawful_basis") or None,
        "purposes": list(said.get("purposes") or ()), "status": status, "since": since, "until": until,
        "endpoints": sorted({term.endpoint for term in facts.of.get(str(model), ())}),
        "steps": steps, "tests": _tests(facts, model), "gate": record.get("gate"),
        "classes": sorted(classes_of(facts.get, record)),
    }  # fmt: skip
    return {
        **row, "demands": _demands(facts.demands, str(row["tier"] or "")), "overdue": list(_overdue(facts, model, record, row)),
        "missing": _missing(row),
    }  # fmt: skip


def _foreign(facts: Facts, model: Ref, body: Body) -> dict[str, Any]:
    tier = facts.get("tier", str(model.bare)) or {}
    newer = facts.get("declared", f"{model.name}@{int(model.version or 0) + 1}")
    by = {"by": body["by"], "responsible": body["owner"]}
    steps = [{"step": "development", "what": "model.declare", "at": body["at"], **by, "validated": []}]
    row = {
        "model": str(model), "origin": "third party", "id": body["id"], "weights": None, "purpose": body["purpose"],
        "risk": body["risk"], "owner": body["owner"], "tier": tier.get("tier"), "oversight": None, "lawful_basis": None,
        "purposes": [], "status": "retired" if newer else "declared", "since": body["at"],
        "until": newer["at"] if newer else None, "endpoints": [], "steps": steps, "tests": {}, "gate": None, "classes": [],
        "vendor": body["vendor"], "vendor_version": body["version"], "where": body["where"],
    }  # fmt: skip
    return {**row, "demands": {}, "overdue": [], "missing": [name for name in ("tier",) if not row[name]]}


def _status(facts: Facts, model: Ref, record: Body) -> tuple[str, Any, Any]:
    """What it is, since when, and until when it was."""
    found = facts.of.get(str(model), ())
    standing = facts.get("standing", f"{model.name}@{model.version}") or {}
    if standing.get("state") == "quarantined":
        return "quarantined", standing.get("at"), None
    if live := [term for term in found if term.is_open]:
        return "in production", iso(min(term.since for term in live)), None
    if found:
        last = max(found, key=lambda term: (term.until, term.event))
        ended = iso(last.until) if last.until else None
        is_out = any(
            (body["wanted"].get("killed") or {}) and any(arm["model"] == str(model) for arm in body["wanted"]["arms"])
            for _, body in facts.state.find("endpoint")
        )
        return ("out of use" if is_out else "retired"), ended, ended
    test = facts.get("test", f"{model.name}@{model.version}|validation")
    is_validated = test is not None and test["verdict"] == "allow"
    return ("validated", test["at"], None) if test and is_validated else ("in development", record.get("created_at"), None)


def _steps(facts: Facts, model: Ref, record: Body, responsible: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """In order; each with the validations that had been passed before it."""
    about = [str(model), str(record.get("candidate") or ""), f"run/{record['run']}" if record.get("run") else ""]
    found = [event for ref in filter(None, about) for event in facts.about.get(ref, ())]
    passed: list[str] = []
    rows: list[tuple[datetime, int, dict[str, Any]]] = []
    for event in sorted(found, key=lambda event: event.seq):
        rows.append((event.at, event.seq, _step(event, responsible) | {"validated": list(passed)}))
        passed += _passed(event)
    for term in facts.of.get(str(model), ()):
        where = {"endpoint": term.endpoint, "role": term.role, "validated": list(passed)}
        began = _moved("deployment", term.verb, (term.since, term.by), responsible)
        rows.append((term.since, term.event, began | where))
        if term.until is not None:
            ended = _moved(_ENDS, term.ended_verb, (term.until, term.ended_by), responsible)
            rows.append((term.until, term.event, ended | where))
    yield from (row for _, _, row in sorted(rows, key=lambda row: row[:2]))


def _moved(step: str, verb: str, who: tuple[datetime, str], responsible: Mapping[str, str]) -> dict[str, Any]:
    at, by = who
    return {"step": step, "what": verb, "at": iso(at), "by": by, "responsible": responsible.get(step) or _person(by)}


def _step(event: Event, responsible: Mapping[str, str]) -> dict[str, Any]:
    return _moved(STEPS[event.verb], event.verb, (event.at, str(event.actor)), responsible) | {"event": event.seq}


def _passed(event: Event) -> list[str]:
    if event.verb == "model.evaluate":
        return ["gate"] if event.facts.get("verdict") == "allow" else []
    if event.verb == "model.test" and event.facts.get("verdict") == "allow":
        return [str(event.facts.get("kind"))]
    return []


def _responsible(said: Body, tier: Body) -> dict[str, str]:
    """By step; who owns the model answers for whatever nobody else does. Nobody where neither was said."""
    steps = (*dict.fromkeys(STEPS.values()), "deployment", "monitoring", _ENDS)
    owner = said.get("owner") or tier.get("responsible")
    return {**({step: str(owner) for step in steps} if owner else {}), **(said.get("responsible") or {})}


def _person(by: str) -> str | None:
    """A program answers for nothing."""
    kind, _, name = by.partition(":")
    return name if kind == "person" else None


def _tests(facts: Facts, model: Ref) -> dict[str, Body]:
    prefix = f"{model.name}@{model.version}|"
    return {key.rpartition("|")[2]: body for key, body in facts.state.find("test") if key.startswith(prefix)}


def _overdue(facts: Facts, model: Ref, record: Body, row: Body) -> Iterator[dict[str, Any]]:
    """Of versions in production, and of those that could go there; what was retired owes nothing."""
    if row["status"] not in ("in production", "out of use", "validated", "in development"):
        return
    tier = str(row["tier"] or "")
    if tier in facts.demands.windows:
        for window, check in test_checks(model, facts.demands.windows[tier], row["tests"], facts.now):
            if not check.passed:
                yield {"what": check.name, "wanted": check.wanted, "seen": check.seen, "status": window.status}
        dpia = facts.get("dpia", f"{model.name}@{model.version}")
        needed = assessment(tier, str(record["asset"]["digest"]), row["classes"], dpia)
        if needed is not None and not needed.passed:
            yield {"what": "dpia", "wanted": needed.wanted, "seen": needed.seen, "status": "assumed"}
    if row["status"] != "in production":
        return
    every = facts.demands.drill
    for endpoint in row["endpoints"]:
        last = facts.get("drill", endpoint)
        if drill_due(last, facts.now, every.span):
            seen = f"the last was {last['verdict']} at {last['at']}" if last else "never"
            yield {
                "what": f"drill of {endpoint}",
                "wanted": f"every {every.span.days} days ({every.told})",
                "seen": seen,
                "status": every.status,
            }


def _demands(demands: Demands, tier: str) -> dict[str, Any]:
    """What is asked of a version of that tier, where that stands, how sure it is; and where the packs contradict each other."""
    asked: dict[str, Window | Ceiling] = {**demands.windows.get(tier, {}), "drill": demands.drill, "kill": demands.slo}
    told = {
        name: {"within_s": int(found.span.total_seconds()), "status": found.status, "instrument": found.instrument}
        for name, found in asked.items()
    }
    return {**told, "conflicts": [{"path": one.path, "reason": one.reason} for one in demands.conflicts]}


def _missing(row: Body) -> list[str]:
    """What the standards ask for and nobody has said."""
    missing = [name for name in ("tier", "purpose", "risk", "owner", "oversight") if not row[name]]
    return missing + (["responsible"] if any(not step["responsible"] for step in row["steps"]) else [])


def _order(model: str) -> tuple[str, int]:
    name, _, version = model.rpartition("@")
    return name, int(version)
