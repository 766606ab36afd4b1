"""One question to the policies, in Cedar's terms: who, what, about which thing, and where."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from falaj.core.actor import Actor
from falaj.core.ref import Ref

KINDS = ("person", "service", "system")
HERE = "local"
"""The zone of what says no other: where this installation stands."""
LABELS = ("authors", "approvals", "classes", "held", "purposes", "state", "tier", "zone")
"""Labels that policies may read; others are left out, so that nothing rests on them."""


@dataclass(frozen=True, slots=True)
class Question:
    """`principal`, `resource` and `context` hold attributes as JSON values; what is not known is not in them."""

    actor: str
    roles: tuple[str, ...]
    verb: str
    subject: str
    within: str
    """The bare ref, of which `subject` is a version."""
    principal: Mapping[str, Any]
    resource: Mapping[str, Any]
    context: Mapping[str, Any]

    @property
    def request(self) -> dict[str, Any]:
        return {
            "principal": {"type": "Actor", "id": self.actor},
            "action": {"type": "Action", "id": self.verb},
            "resource": {"type": "Ref", "id": self.subject},
            "context": dict(self.context),
        }

    @property
    def entities(self) -> list[dict[str, Any]]:
        above = [{"type": "Ref", "id": self.within}] if self.within != self.subject else []
        return [
            {
                "uid": {"type": "Actor", "id": self.actor},
                "attrs": dict(self.principal),
                "parents": [{"type": "Role", "id": role} for role in self.roles],
            },
            {"uid": {"type": "Ref", "id": self.subject}, "attrs": dict(self.resource), "parents": above},
        ]


def question(actor: Actor, verb: str, subject: Ref, labels: Mapping[str, Any], place: tuple[str, str]) -> Question:
    """`place`: the installation's own zone and the purpose that holds where a call names none, empty where there is none."""
    zone, usual = place
    known = {name: labels[name] for name in LABELS if labels.get(name) is not None}
    if known.get("zone") == HERE:
        known["zone"] = zone
    resource = {"kind": subject.kind, "name": subject.name, **known}
    if subject.version is not None:
        resource["version"] = subject.version
    if _texts(known.get("approvals")) and _texts(known.get("authors")):
        resource["approvers"] = len(set(known["approvals"]) - set(known["authors"]))
    purpose = labels.get("purpose") or usual
    return Question(
        str(actor),
        tuple(actor.roles),
        verb,
        str(subject),
        str(subject.bare),
        {"name": actor.name, "kind": actor.kind, "zone": zone if actor.zone == HERE else actor.zone},
        {name: list(value) if isinstance(value, (tuple, set, frozenset)) else value for name, value in resource.items()},
        {"zone": zone, **({"purpose": purpose} if purpose else {})},
    )


def against(actor: Any, subject: Any, labels: Any, roles: Collection[str]) -> str:
    """What makes it no question at all, or an empty text."""
    given = actor.roles
    for reason, holds in (
        ("the actor has no name", not isinstance(actor.name, str) or not actor.name),
        (f"{actor.kind!r} is no kind of actor", actor.kind not in KINDS),
        ("the actor has no zone", not isinstance(actor.zone, str) or not actor.zone),
        ("the actor's grant is not a text", not isinstance(actor.grant, str)),
        ("the actor's roles are not a list", not isinstance(given, (tuple, list))),
        ("the subject is no reference", not isinstance(subject, Ref) or not str(subject)),
        ("the labels are not readable", not isinstance(labels, Mapping)),
    ):
        if holds:
            return reason
    if not given:
        return "the actor has no role"
    unknown = [role for role in given if role not in roles]
    return f"{unknown[0]!r} is no role that the policy knows" if unknown else ""


def _texts(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(item, str) for item in value)
