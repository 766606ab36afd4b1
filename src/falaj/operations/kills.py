"""What can be done to end the use of an endpoint at once: take it out, take it back, and drill that."""

from __future__ import annotations

from typing import Any

from falaj.operations.operation import Argument, Asked, Operation, Subject

ENDPOINT = Subject("endpoint", "an endpoint that the project declares, as in delay")
_REASON = Argument("reason", "why, for whoever asks later", required=True)


def _kill(asked: Asked) -> Any:
    seen = asked.app.governance.stopping().kill(asked.actor, asked.about, reason=asked["reason"])
    return {
        "endpoint": asked.about,
        "out_of_use": True,
        "confirmed_ms": seen.confirmed_ms,
        "last_answer_ms": seen.last_answer_ms,
        **({"problem": seen.problem} if seen.problem else {}),
        "next": f"another person: falaj endpoint revive {asked.about.name} --reason <why>",
    }


def _revive(asked: Asked) -> Any:
    return asked.app.governance.kills.revive(asked.actor, asked.about, reason=asked["reason"])


def _drill(asked: Asked) -> Any:
    return asked.app.governance.kills.drill(asked.actor, asked.about, confirm=asked["confirm"])


OPERATIONS: tuple[Operation, ...] = (
    Operation("endpoint", "kill", "Ends the use of an endpoint at once: nothing is predicted.", _kill, ENDPOINT, (_REASON,)),
    Operation("endpoint", "revive", "Takes it back into use, on another person's word.", _revive, ENDPOINT, (_REASON,)),
    Operation(
        "endpoint",
        "drill",
        "Measures the kill switch on a throwaway copy, and keeps the record.",
        _drill,
        ENDPOINT,
        (Argument("confirm", "the endpoint's own name: not a copy but the endpoint itself, for a moment", default=""),),
    ),
)
