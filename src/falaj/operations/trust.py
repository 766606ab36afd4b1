"""What can be done about trust: keys, the audit trail, the trace of one prediction; and the platform's own pulse."""

from __future__ import annotations

import base64
from collections import deque
from typing import Any

from falaj.core.errors import InvalidInput
from falaj.core.ref import Ref
from falaj.operations.operation import Argument, Asked, Operation, Subject

KEY_NAME = Subject("key", "the name of the person or program that gets it")
KEY_ID = Subject("key", "the id of a key; falaj key list shows them")
PREDICTION = Subject("prediction", "the id that came with the prediction")
SEQ = Subject("event", "the number of an event, counted from 0")


def _create(asked: Asked) -> Any:
    """The endpoints learn of the key before the answer leaves, so that it can be used at once."""
    app = asked.app
    text = app.keys.create(asked.actor, asked.about, roles=asked["roles"], kind=asked["kind"])
    app.host.allow(app.access.allowed())
    return {"name": asked.about.name, "roles": asked["roles"], "key": text, "note": "shown once; keep it where secrets are kept"}


def _revoke(asked: Asked) -> Any:
    app = asked.app
    app.keys.revoke(asked.actor, asked.about)
    app.host.allow(app.access.allowed())
    return {"revoked": asked.about}


def _audit(asked: Asked) -> Any:
    return asked.app.audit.verify(remembered=asked["remembered"])


def _prove(asked: Asked) -> Any:
    """Base64 for bytes, as in C2SP's own texts; `note` is the signed checkpoint."""
    if not asked.about.name.isdigit():
        raise InvalidInput(f"{asked.about.name!r} is no event's number.", "falaj audit history <reference> shows them.")
    proof = asked.app.audit.prove(int(asked.about.name))
    return {
        "index": proof.index,
        "leaf": proof.leaf.decode(),
        "path": [base64.b64encode(node).decode() for node in proof.path],
        "checkpoint": proof.checkpoint.note,
    }


def _history(asked: Asked) -> Any:
    """The newest last, and at most `limit` of them."""
    app, of = asked.app, asked["of"]
    found = app.audit.history(Ref.parse(of)) if of else app.ledger.events()
    newest = deque(found, maxlen=max(asked["limit"], 0))
    return [
        {"seq": e.seq, "at": e.at, "actor": str(e.actor), "verb": e.verb, "subject": e.subject, "facts": e.facts} for e in newest
    ]


def _checkpoint(asked: Asked) -> Any:
    made = asked.app.audit.checkpoint(asked.actor, Ref("ledger", "local"))
    return {"size": made.size, "origin": made.origin, "note": made.note}


def _status(asked: Asked) -> Any:
    app = asked.app
    if asked["at"] is not None:
        return app.governance.as_of(asked["at"])
    return {
        "project": app.settings.name,
        "zone": app.settings.zone,
        "clock": app.settings.clock,
        "now": app.kernel.now(),
        "runs": [run.id for run in app.pipelines.live()],
        "endpoints": [name for name, _ in app.ledger.find("endpoint")],
        "out_of_use": [name for name, body in app.ledger.find("endpoint") if body["wanted"].get("killed")],
        "rollouts": [body["ref"] for _, body in app.ledger.find("rollout") if body["ended_at"] is None],
        "experiments": [body["ref"] for _, body in app.ledger.find("experiment") if body["ended_at"] is None],
        "open_alerts": [alert.ref for alert in app.alerts.all() if alert.state != "resolved"],
    }


OPERATIONS: tuple[Operation, ...] = (
    Operation("key", "list", "Every key that was ever made, without its secret.", lambda a: a.app.keys.listing(), changes=False),
    Operation(
        "key",
        "create",
        "Makes a key; its text is shown once.",
        _create,
        KEY_NAME,
        (
            Argument("roles", "what it may do, as in ml_engineer,approver", "list", required=True),
            Argument("kind", "who holds it", default="person", one_of=("person", "service")),
        ),
    ),
    Operation("key", "revoke", "Shuts a key out, from its next call on.", _revoke, KEY_ID),
    Operation(
        "audit",
        "verify",
        "Whether the ledger is whole, question by question.",
        _audit,
        arguments=(Argument("remembered", "the text of a checkpoint that was kept elsewhere"),),
        changes=False,
    ),
    Operation("audit", "prove", "A proof that an event is in the ledger, for a stranger.", _prove, SEQ, changes=False),
    Operation(
        "audit",
        "history",
        "What was ever done, to one thing or to all.",
        _history,
        arguments=(
            Argument("of", "a reference, as in model/delay@7; without it, everything"),
            Argument("limit", "how many events, counted from the newest", "integer", 100),
        ),
        changes=False,
    ),
    Operation("audit", "checkpoint", "Signs the ledger as it is; keep the text somewhere else.", _checkpoint),
    Operation(
        "prediction",
        "trace",
        "One prediction, back to the rows, the code, the people and the approvals.",
        lambda a: a.app.trace.trace(a.about.name, a["endpoint"]),
        PREDICTION,
        (Argument("endpoint", "which endpoint made it, where that is not plain"),),
        changes=False,
        asks="audit.read",
    ),
    Operation(
        "status",
        "show",
        "What is running, served, rolled out and wrong: right now, or as it was.",
        _status,
        arguments=(Argument("at", "as it was at that time, from the ledger's events alone", "time"),),
        changes=False,
        asks="run.read",
    ),
    Operation(
        "worker",
        "tick",
        "Does what is due now: schedules, runs, rollouts, monitors, seals.",
        lambda a: a.app.worker.tick(a["now"] or a.app.kernel.now()),
        arguments=(Argument("now", "the time that it is (under the replay clock)", "time"),),
        actions=(),
    ),
)
