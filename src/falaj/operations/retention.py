"""What can be done about keeping: terms, what is past its time, legal holds, waivers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from falaj.core.moments import iso
from falaj.operations.operation import Argument, Asked, Operation, Subject

if TYPE_CHECKING:
    from falaj.privacy import Privacy
    from falaj.stages.privacy.rules import Ruling

HOLD = Subject("hold", "a name for it, as in case-17; falaj hold list shows them")
WAIVER = Subject("waiver", "a name for it, as in audit-2027; falaj waiver list shows them")
REASON = Argument("reason", "why, for whoever asks later; a case or a ticket, never a person's data", required=True)
SCOPE = "all, or what it holds: dataset/trips, model/delay@7, endpoint/delay, export/…"
EXPIRES = ("retention.apply", "dataset.expire", "model.expire", "predictions.expire", "export.expire")


def privacy(asked: Asked) -> Privacy:
    return asked.app.governance.privacy


def _plan(asked: Asked) -> Any:
    return shown(privacy(asked).retention.plan(), int(asked["limit"]))


def shown(rulings: list[Ruling], limit: int) -> dict[str, Any]:
    """How many things are in which state, and those that are due or kept against their ceiling one by one."""
    counts = Counter(ruling.state for ruling in rulings)
    told = [ruling for ruling in rulings if ruling.decision.verdict != "hold" or ruling.limits.conflicts]
    return {
        "counts": {state: counts[state] for state in ("due", "held", "floor", "in use", "kept")},
        "items": [
            {
                "what": ruling.item.ref, "state": ruling.state, "rows": ruling.item.rows, "reason": ruling.decision.reason,
                "classes": sorted(ruling.item.classes), "conflicts": list(ruling.limits.conflicts),
            }
            for ruling in told[:limit]
        ],
        "more": max(len(told) - limit, 0),
    }  # fmt: skip


def _apply(asked: Asked) -> Any:
    done = privacy(asked).retention.carry_out(asked.actor, most=int(asked["most"]))
    return {"removed": list(done.removed), "left_over": done.left_over, "refused": dict(done.refused)}


def _place(asked: Asked) -> Any:
    """A person is given in the body alone, and known by token from here on."""
    scope = str(privacy(asked).subjects.subject(asked["person"])) if asked["person"] else asked["scope"]
    return privacy(asked).holds.place(asked.actor, asked.about, scope=scope, reason=asked["reason"], until=asked["until"])


def _ask(asked: Asked) -> Any:
    return privacy(asked).waivers.ask(
        asked.actor, asked.about, name=asked["class"], floor=asked["floor"], reason=asked["reason"], until=asked["until"]
    )


def _listed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: iso(v) if hasattr(v, "isoformat") else v for name, v in row.items()} for row in rows]


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "retention",
        "show",
        "How long each class of things is kept, with the status and the instrument of each value.",
        lambda a: privacy(a).retention.show(),
        changes=False,
    ),
    Operation(
        "retention",
        "plan",
        "What is past its time, what may not be removed yet and why. Removes nothing.",
        _plan,
        arguments=(Argument("limit", "so many things one by one", "integer", 100),),
        changes=False,
    ),
    Operation(
        "retention",
        "apply",
        "Removes what is past its time and what nothing forbids to remove, each with an event.",
        _apply,
        arguments=(Argument("most", "at most so many things", "integer", 10_000),),
        actions=EXPIRES,
        plan=lambda a: shown(privacy(a).retention.plan(), 100),
    ),
    Operation(
        "hold",
        "list",
        "Every legal hold, and whether it holds now.",
        lambda a: _listed(privacy(a).holds.listing()),
        changes=False,
    ),
    Operation(
        "hold",
        "place",
        "Keeps what is in its scope from being deleted or erased.",
        _place,
        HOLD,
        (
            Argument("scope", SCOPE, default="all"),
            Argument("person", "the person whose data is held, instead of a scope", hidden=True),
            REASON,
            Argument("until", "when it ends by itself", "time", required=True),
        ),
    ),
    Operation(
        "hold",
        "release",
        "Says that the hold may go; it goes once two people said so.",
        lambda a: privacy(a).holds.release(a.actor, a.about, reason=a["reason"]),
        HOLD,
        (REASON,),
    ),
    Operation(
        "waiver",
        "list",
        "Every waiver of a floor, and whether it counts now.",
        lambda a: _listed(privacy(a).waivers.listing()),
        changes=False,
    ),
    Operation(
        "waiver",
        "ask",
        "Asks that a floor be lowered for a while; it counts once two others, one of them the dpo, granted it.",
        _ask,
        WAIVER,
        (
            Argument("class", "the class of things; falaj retention show lists them", required=True),
            Argument("floor", "the floor instead, as in 1y", required=True),
            REASON,
            Argument("until", "when it ends, within 90 days", "time", required=True),
        ),
    ),
    Operation(
        "waiver",
        "grant",
        "Says yes to a waiver that somebody else asked for.",
        lambda a: privacy(a).waivers.grant(a.actor, a.about, reason=a["reason"]),
        WAIVER,
        (REASON,),
    ),
)
