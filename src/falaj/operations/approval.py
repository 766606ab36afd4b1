"""What people can say about a model: approve it, object, take that back, and how much of it the model needs."""

from __future__ import annotations

from typing import Any

from falaj.operations.models import EITHER, MODEL, VERSION
from falaj.operations.operation import Argument, Asked, Operation

_REASON = Argument("reason", "why, for whoever asks later", required=True)


def _standing(asked: Asked) -> Any:
    return asked.app.registry.approvals.show(asked.about)


def _approve(asked: Asked) -> Any:
    return asked.app.registry.approvals.approve(asked.actor, asked.about, reason=asked["reason"])


def _object(asked: Asked) -> Any:
    asked.app.registry.approvals.object(asked.actor, asked.about, reason=asked["reason"])
    return {"objected": asked.about, "by": asked.actor.name}


def _withdraw(asked: Asked) -> Any:
    taken = asked.app.registry.approvals.withdraw(
        asked.actor, asked.about, reason=asked["reason"], what=asked["what"] or "", name=asked["name"] or ""
    )
    return {"withdrawn": taken, "of": asked["name"] or asked.actor.name, "about": asked.about}


def _tier(asked: Asked) -> Any:
    asked.app.registry.approvals.tier(asked.actor, asked.about, tier=asked["tier"], responsible=asked["responsible"])
    return {"model": asked.about, "tier": asked["tier"], "responsible": asked["responsible"]}


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "model", "standing", "The people around a version: authors, approvals, objections.", _standing, VERSION, changes=False
    ),
    Operation(
        "model", "approve", "Your word that a version may answer people; not for its authors.", _approve, VERSION, (_REASON,)
    ),
    Operation(
        "model", "object", "Speaks against a model or a version: none of it is promoted then.", _object, EITHER, (_REASON,)
    ),
    Operation(
        "model",
        "withdraw",
        "Takes your approval or objection back.",
        _withdraw,
        EITHER,
        (
            _REASON,
            Argument("what", "only the one of them", one_of=("approval", "objection")),
            Argument("name", "somebody else's, who is no longer here (for the dpo)"),
        ),
    ),
    Operation(
        "model",
        "tier",
        "How much a model matters, and so how many people must approve it; who answers for it.",
        _tier,
        MODEL,
        (
            Argument("tier", "tier1: two approvals, tier2: one", required=True, one_of=("tier1", "tier2")),
            Argument("responsible", "who in the house answers for it, by their name here", required=True),
        ),
    ),
)
