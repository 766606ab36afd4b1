"""The role table asked alone, without packs: whatever it does not say is denied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from falaj.adapters.local.roles import CALLS, GROUPS, KINDS, OPEN, READS, ROLES, VERBS
from falaj.core.actor import Actor
from falaj.core.decision import Check, Decision
from falaj.core.ref import Ref

__all__ = ["CALLS", "GROUPS", "READS", "ROLES", "VERBS", "RolePolicy"]


class RolePolicy:
    """Deny comes first: one thing that speaks against it is enough, whatever else speaks for it."""

    verbs = VERBS

    def __init__(self, *, zone: str = "local") -> None:
        """`zone`: where this installation stands, and with it whoever and whatever is `local`."""
        self.zone = zone

    def decide(self, actor: Actor, verb: str, subject: Ref, labels: Mapping[str, Any]) -> Decision:
        try:
            reason = _against(actor, verb, subject, labels) or self._elsewhere(actor, labels)
        except Exception as exc:
            reason = f"the policy could not be evaluated ({type(exc).__name__})"
        if reason:
            return _ruling(actor, subject, Check("policy", f"a role that may {verb}", reason, False), reason)
        granting = sorted(role for role in actor.roles if verb in ROLES[role])
        reason = f"the role {granting[0]} may {verb}"
        return _ruling(actor, subject, Check("policy", f"a role that may {verb}", reason, True), reason)

    def _elsewhere(self, actor: Actor, labels: Mapping[str, Any]) -> str:
        if "zone" not in labels:
            return ""
        seen, own = (self.zone if zone == "local" else zone for zone in (labels["zone"], actor.zone))
        return "" if seen == own else f"the subject is in the zone {seen!r}, the actor in {own!r}"


def _against(actor: Any, verb: Any, subject: Any, labels: Any) -> str:
    """What speaks against it, or an empty text. Everything is looked at, so that nothing that is missing passes unseen."""
    roles, zone = actor.roles, actor.zone
    for reason, holds in (
        ("the actor has no name", not isinstance(actor.name, str) or not actor.name),
        (f"{actor.kind!r} is no kind of actor", actor.kind not in KINDS),
        ("the actor has no zone", not isinstance(zone, str) or not zone),
        ("the actor's grant is not a text", not isinstance(actor.grant, str)),
        ("the actor's roles are not a list", not isinstance(roles, (tuple, list))),
        ("the subject is no reference", not isinstance(subject, Ref) or not str(subject)),
        ("the labels are not readable", not isinstance(labels, Mapping)),
        (f"{verb!r} is no verb that the policy knows", verb not in VERBS),
    ):
        if holds:
            return reason
    if not roles:
        return "the actor has no role"
    unknown = [role for role in roles if role not in ROLES]
    if unknown:
        return f"{unknown[0]!r} is no role that the policy knows"
    if zone == "unknown" and not set(labels.get("classes", ())) <= OPEN:
        return "nobody knows where the actor asks from, and the subject is not for everybody"
    if "caller" in roles and verb not in CALLS:
        return "a caller may only call endpoints"
    if not any(verb in ROLES[role] for role in roles):
        return f"none of the roles {', '.join(sorted(roles))} may {verb}"
    return ""


def _ruling(actor: Any, subject: Any, check: Check, reason: str) -> Decision:
    return Decision(subject, "policy", "allow" if check.passed else "deny", (check,), actor, None, reason)
