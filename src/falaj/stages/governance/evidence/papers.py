"""The papers of an archive, as JSON: each figure is either quoted with the event that says it, or plainly not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from falaj.core.moments import iso
from falaj.stages.governance.evidence.gather import PEOPLE, RECEIPTS, Gathered, owned
from falaj.stages.governance.evidence.legal import legal_of
from falaj.stages.registry.impact import classes_of, stated

Body = Mapping[str, Any]
_PEOPLES = ("subject.", "receipt.", "transfer.")
"""Beginnings of verbs by which people were erased, their receipts issued, and data let go abroad."""


def papers(found: Gathered, row: Body) -> dict[str, Any]:
    """File name → what it says. `row`: the version's row of the inventory."""
    model, record = found.model, found.record
    key, run = f"{model.name}@{model.version}", f"run/{record['run']}"
    return {
        "model/inventory.json": row,
        "people/approvals.json": people(found),
        "tests/decisions.json": {
            "gate": found.cite("decision", f"{record.get('candidate')}|gate"),
            "approval": found.cite("decision", f"{model}|approval"),
            "tests": found.cites("test", found.keys("test", f"{key}|")),
            "dpia": found.cite("dpia", key),
        },
        "data/lineage.json": lineage(found, run),
        "serving/terms.json": [
            {
                "endpoint": term.endpoint, "role": term.role, "release": term.release, "weights": term.digest,
                "since": iso(term.since), "by": term.by, "verb": term.verb, "event": term.event,
                "policy_set": term.policy_set or None, "until": iso(term.until) if term.until else None,
                "ended_by": term.ended_by or None, "ended_verb": term.ended_verb or None,
            }
            for term in found.terms
        ],
        "serving/rollouts.json": found.cites("rollout", [
            name for name, body in found.state.find("rollout") if str(model) in (body["champion"], body["challenger"])
        ]),
        "serving/releases.json": found.cites("release", [
            name for name, body in found.state.find("release") if body["model"] == str(model)
        ]),
        "serving/kill_switch.json": {
            "kills": found.cites("kill", sorted({term.endpoint for term in found.terms})),
            "drills": found.cites("drill", sorted({term.endpoint for term in found.terms})),
        },
        "monitoring/summary.json": monitoring(found),
        "legal/ropa.json": ropa(found, row),
        "legal/residency.json": _events(found, "zone.attest") or "not known: no zone was attested",
        "legal/receipts.json": _receipts(found),
        "legal/records.json": {
            kind: found.cites(kind, keys) for kind, keys in legal_of(found.state, (found.model, found.snapshots)).items()
        },
    }  # fmt: skip


def people(found: Gathered) -> dict[str, Any]:
    """Every record that people wrote about the version or its model, as it reads; and who did each step."""
    return {
        kind: found.cites(kind, [key for key, _ in found.state.find(kind) if owned(kind, key, found.model)]) for kind in PEOPLE
    } | {"alias": found.cites("alias", [key for key, body in found.state.find("alias") if body["model"] == str(found.model)])}


def lineage(found: Gathered, run: str) -> list[dict[str, Any]]:
    """From the version back to the rows: each hop with its record and the event that wrote it."""
    record = found.record
    labels = record["asset"].get("labels") or {}
    return [
        {"hop": "model", "record": found.cite("model", f"{found.model.name}@{found.model.version}")},
        {"hop": "candidate", "record": found.cite("asset", str(record.get("candidate")))},
        {"hop": "training run", "run": run, "record": found.cite("run", str(record.get("run"))), "code": labels.get("code")},
        {"hop": "recipe", "record": found.cite("recipe", str(labels.get("recipe")))},
        {"hop": "snapshots", "records": found.cites("asset", found.snapshots)},
        {
            "hop": "contracts and source rows",
            "decisions": found.cites("decision", [f"{snapshot}|contract" for snapshot in found.snapshots]),
        },
    ]


def monitoring(found: Gathered) -> dict[str, Any]:
    """As the last look left it, of the endpoints where it answered."""
    quoted = found.cites("monitor", sorted({term.endpoint for term in found.terms}))
    own = [one for one in quoted if one["body"].get("model") == str(found.model)]
    return {"monitors": own or "not known: no monitor has this version as the one that it watches"}


def ropa(found: Gathered, row: Body) -> dict[str, Any]:
    """An extract for the record of processing; what nobody has said is said to be missing."""
    record = found.record
    zones = sorted({str((found.state.records.get(("asset", s)) or {}).get("zone", "local")) for s in found.snapshots})
    return {
        "processing": str(found.model), "purpose": row["purpose"] or "missing", "purposes": row["purposes"] or "missing",
        "lawful_basis": row["lawful_basis"] or "missing", "responsible": row["owner"] or "missing",
        "classes_of_data": sorted(classes_of(found.get, record)) or "none are stated", "zones": zones,
        "recipients": [f"callers of endpoint/{name}" for name in row["endpoints"]],
        "human_oversight": row["oversight"] or "missing", "datasets": [_processed(found, name) for name in found.snapshots],
    }  # fmt: skip


def _processed(found: Gathered, snapshot: str) -> dict[str, Any]:
    """What the record of processing says of a snapshot behind the version; what nobody has stated is missing."""
    asset = found.get("asset", snapshot) or {}
    labels = asset.get("labels") or {}
    return {
        "dataset": snapshot, "zone": asset.get("zone") or "missing", "owner": labels.get("owner") or "missing",
        "purposes": labels.get("purposes") or "missing", "classes": sorted(stated(labels)) or "none are stated",
        "rows": labels.get("rows"), "removed": found.get("expired", snapshot) is not None,
    }  # fmt: skip


def _events(found: Gathered, verb: str) -> list[dict[str, Any]]:
    return [
        {"event": e.seq, "verb": e.verb, "at": iso(e.at), "by": str(e.actor), "subject": str(e.subject), "facts": dict(e.facts)}
        for e in found.events if e.verb == verb
    ]  # fmt: skip


def _receipts(found: Gathered) -> Any:
    verbs = sorted({event.verb for event in found.events if event.verb.startswith((*RECEIPTS, *_PEOPLES))})
    return [one for verb in verbs for one in _events(found, verb)] or "none: nothing about its data was held, removed or erased"
