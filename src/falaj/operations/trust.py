"""What can be done about trust: keys, the trace of one prediction; and what is running right now."""

from __future__ import annotations

from typing import Any

from falaj.operations.operation import Argument, Asked, Operation, Subject

KEY_NAME = Subject("key", "the name of the person or program that gets it")
KEY_ID = Subject("key", "the id of a key; falaj key list shows them")
PREDICTION = Subject("prediction", "the id that came with the prediction")


def _create(asked: Asked) -> Any:
    """The endpoints learn of the key before the answer leaves, so that it can be used at once."""
    app = asked.app
    text = app.keys.create(asked.actor, asked.about, roles=asked["roles"], kind=asked["kind"])
    app.host.allow(app.access.allowed())
    made = {"name": asked.about.name, "roles": asked["roles"], "key": text, "standing": app.keys.standing(text)}
    return made | {
        "note": "shown once; keep it where secrets are kept" + waits(made["standing"], f"key confirm {text.split('_')[1]}")
    }


def _confirm(asked: Asked) -> Any:
    app = asked.app
    standing = app.keys.confirm(asked.actor, asked.about, reason=asked["reason"])
    app.host.allow(app.access.allowed())
    return {"confirmed": asked.about, "standing": standing}


def waits(standing: str, command: str) -> str:
    """What is still to be done about it, to be said behind a semicolon."""
    from falaj.stages.vouching import FIRST, PENDING

    told = {
        PENDING: f"; it opens nothing until another approver, auditor or dpo says: falaj {command}",
        FIRST: "; it was made on your word alone, as there is nobody yet who could confirm it",
    }
    return told.get(standing, "")


def _revoke(asked: Asked) -> Any:
    app = asked.app
    app.keys.revoke(asked.actor, asked.about)
    app.host.allow(app.access.allowed())
    return {"revoked": asked.about}


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
    Operation(
        "key",
        "confirm",
        "Another person's word that a key's holder is to approve, audit or protect data.",
        _confirm,
        KEY_ID,
        (Argument("reason", "how you know who holds it", required=True),),
    ),
    Operation("key", "revoke", "Shuts a key out, from its next call on.", _revoke, KEY_ID),
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
