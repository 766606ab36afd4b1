"""What can be done about oneself, and about break-glass access: who am I, log out, take a role in an emergency, review that."""

from __future__ import annotations

from typing import Any

from falaj.core.ref import Ref
from falaj.operations.operation import Argument, Asked, Operation, Subject
from falaj.upkeep import WORKER

ACCESS = Subject("access", "the id of an access; falaj access list shows them")
_REASON = Argument("reason", "why, for whoever asks later", required=True)


def _show(asked: Asked) -> Any:
    actor = asked.actor
    return {"name": actor.name, "kind": actor.kind, "roles": actor.roles, "zone": actor.zone, "grant": actor.grant or None}


def _logout(asked: Asked) -> Any:
    app = asked.app
    app.access.tokens.logout(asked.actor, asked.about)
    app.host.allow(app.access.allowed())
    return {
        "logged_out": asked.actor.name,
        "note": "tokens that were made until now open nothing; a key is revoked by falaj key revoke",
    }


def _elevate(asked: Asked) -> Any:
    """The alert follows at once; where that fails the worker opens it, so that none is taken in silence."""
    app = asked.app
    made = app.access.elevations.elevate(
        asked.actor, asked.about, roles=asked["roles"], reason=asked["reason"], span=asked["span"]
    )
    app.alerts.raise_from(WORKER, app.access.elevations.state(Ref("access", made["id"])))
    return {"access": f"access/{made['id']}", **{name: made[name] for name in ("roles", "until", "review_by")}}


def _revoke(asked: Asked) -> Any:
    asked.app.access.elevations.revoke(asked.actor, asked.about, reason=asked["reason"] or "")
    return {"revoked": asked.about}


def _review(asked: Asked) -> Any:
    app = asked.app
    app.access.elevations.review(asked.actor, asked.about, verdict=asked["verdict"], reason=asked["reason"])
    opened = (app.alerts.open_for(f"{rule}|{asked.about}") for rule in ("break-glass", "break-glass-overdue"))
    for alert in filter(None, opened):
        app.alerts.resolve(WORKER, alert.ref, reason=f"reviewed by {asked.actor.name}: {asked['verdict']}")
    return app.access.elevations.state(asked.about)


OPERATIONS: tuple[Operation, ...] = (
    Operation("identity", "show", "Who you are here, and with which roles.", _show, changes=False),
    Operation("identity", "logout", "Shuts out every token of yours that was made until now.", _logout),
    Operation(
        "access",
        "list",
        "Every access that was taken in an emergency, and who reviewed it.",
        lambda a: a.app.access.elevations.listing(),
        changes=False,
    ),
    Operation(
        "access",
        "elevate",
        "Takes a role in an emergency, for some hours; somebody else has to review it.",
        _elevate,
        arguments=(
            Argument("roles", "which roles, as in operator", "list", required=True),
            Argument("reason", "the emergency, with the number of its incident", required=True),
            Argument("span", "for how long, 4h at most", "span", "1h"),
        ),
    ),
    Operation("access", "revoke", "Ends such an access, from the next call on.", _revoke, ACCESS, (Argument("reason", "why"),)),
    Operation(
        "access",
        "review",
        "Says whether such an access was justified; not for whoever took it.",
        _review,
        ACCESS,
        (
            Argument("verdict", "justified, or unjustified, which ends it", required=True, one_of=("justified", "unjustified")),
            _REASON,
        ),
    ),
)
