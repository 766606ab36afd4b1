"""Approvals: who said yes to what, by name; enough people, and the right ones, before anything happens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from falaj.core.decision import Check, Decision, Verdict
from falaj.core.errors import InvalidInput
from falaj.core.ref import Ref
from falaj.stages.action import Act, Draft

MOST_WORDS = 500
"""A reason is read by people, and kept for ever."""


def approve(draft: Draft, act: Act, subject: Ref, reason: str) -> None:
    """Keeps that the actor said yes; once a person, however often it is said."""
    body = {"ref": str(subject), "by": act.actor.name, "roles": list(act.actor.roles), "at": act.now, "reason": reason}
    draft.put("approval", f"{subject}|{act.actor.name}", body)


def approvers(found: Iterable[tuple[str, Mapping[str, Any]]], but: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """name → roles of everybody who said yes, without those in `but`, whose yes does not count."""
    without = set(but)
    return {str(body["by"]): tuple(body["roles"]) for _, body in found if body["by"] not in without}


def enough(subject: Ref, rule: str, said: Mapping[str, tuple[str, ...]], *, needed: int = 2, role: str = "") -> Decision:
    """Allow once so many different people said yes, one of them with that role; until then hold."""
    names = ", ".join(sorted(said)) or "nobody"
    checks = [Check("approvals", f"{needed} different people", f"{len(said)}: {names}", True if len(said) >= needed else None)]
    if role:
        having = sorted(name for name, roles in said.items() if role in roles)
        checks.append(Check("role", f"one of them {role}", ", ".join(having) or "none", True if having else None))
    is_enough = all(check.passed for check in checks)
    reason = f"approved by {names}" if is_enough else f"{names} so far; somebody else has to say the same"
    return Decision(subject, rule, "allow" if is_enough else "hold", tuple(checks), reason=reason)


def by_person(act: Act, subject: Ref, what: str) -> Decision:
    """A program places, releases, grants and erases nothing by its own will, whatever its roles are: deny."""
    is_person = act.actor.kind == "person"
    check = Check("person", f"a person {what}", str(act.actor), is_person)
    verdict: Verdict = "allow" if is_person else "deny"
    return Decision(subject, act.verb, verdict, (check,), act.actor, act.now, "" if is_person else f"only a person {what}")


def words(text: str, what: str = "reason") -> str:
    """A text that stays in the ledger for ever. Raises InvalidInput where it is none, or long enough to hold a file."""
    told = text.strip()
    if not told or len(told) > MOST_WORDS or not told.isprintable():
        raise InvalidInput(
            f"The {what} must be one line of 1 to {MOST_WORDS} letters.", "name a case or a ticket; never a person's own data."
        )
    return told
