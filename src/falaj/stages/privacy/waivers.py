"""Waivers: a floor lowered for a while, by two people, one of them the data protection officer; and told each time it counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from falaj.core.decision import Decision
from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.core.moments import iso, moment
from falaj.core.ref import Ref
from falaj.stages.action import Act, Kernel, action
from falaj.stages.privacy import approvals
from falaj.stages.privacy.periods import NEVER, period
from falaj.stages.privacy.rules import Waiver
from falaj.stages.privacy.terms import Term

LONGEST = timedelta(days=90)
"""A waiver that runs for longer is a change of the rule, and belongs where the rule is."""
NEEDED = 2
OFFICER = "dpo"


def granted(found: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Waiver]:
    """The waivers that enough people granted, over or not: whether one counts is asked for a moment."""
    return [
        Waiver(key, body["class"], period(body["floor"]), moment(body["granted_at"]), moment(body["until"]))
        for key, body in found
        if body["granted_at"] is not None
    ]


class Waivers:
    """`terms`: what can be waived."""

    def __init__(self, kernel: Kernel, terms: tuple[Term, ...]) -> None:
        self.kernel = kernel
        self.terms = terms

    @action("waiver.ask")
    def ask(self, act: Act, subject: Ref, *, name: str, floor: str, reason: str, until: datetime) -> Decision:
        """Asks that the class may be deleted after `floor` already. It counts for nothing until it is granted.

        Denied where there is no such floor, where it would not lower it, and for what is kept for ever. Raises InvalidInput
        for an end that is past or more than 90 days away, NotFound for an unknown class, Conflict for a name that is taken.
        """
        reason, wanted = approvals.words(reason), period(floor)
        _refuse_long(act.now, until)
        floors = [term.floor.period for term in self.terms if term.name == name and term.floor is not None]
        if not floors:
            raise NotFound.named("class with a floor", name, [term.name for term in self.terms if term.floor is not None])
        decision = approvals.by_person(act, subject, "asks for a waiver")
        longest = max(each.after(act.now, is_floor=True) for each in floors)
        if decision.allowed and longest == NEVER:
            decision = Decision(subject, act.verb, "deny", (), act.actor, act.now, f"{name} is kept for ever; nobody waives that")
        elif decision.allowed and wanted.after(act.now, is_floor=True) >= longest:
            decision = Decision(subject, act.verb, "deny", (), act.actor, act.now, f"{wanted} lowers no floor of {name}")
        with act.change() as draft:
            if decision.allowed:
                if draft.get("waiver", subject.name) is not None:
                    raise Conflict(f"There is a {subject} already.", "give this one another name: falaj waiver list")
                body = {
                    "ref": str(subject), "class": name, "floor": str(wanted), "reason": reason, "by": act.actor.name,
                    "at": act.now, "until": until, "granted_at": None,
                }  # fmt: skip
                draft.put("waiver", subject.name, body)
            draft.decide(decision)
            draft.note(**{"class": name}, floor=str(wanted), until=until, reason=reason, verdict=decision.verdict)
        return decision

    @action("waiver.grant")
    def grant(self, act: Act, subject: Ref, *, reason: str) -> Decision:
        """Says yes to it. It counts once two people other than who asked said so, one of them the data protection officer.

        Raises NotFound, or Conflict where it is over or was granted before.
        """
        reason = approvals.words(reason)
        decision = approvals.by_person(act, subject, "grants a waiver")
        with act.change() as draft:
            body = draft.get("waiver", subject.name)
            if body is None:
                raise NotFound.named("waiver", subject.name, [key for key, _ in draft.tx.find("waiver")])
            if body["granted_at"] is not None or moment(body["until"]) <= act.now:
                raise Conflict(f"{subject} was granted before, or is over.", "falaj waiver list")
            if decision.allowed and act.actor.name == body["by"]:
                decision = Decision(subject, act.verb, "deny", (), act.actor, act.now, "nobody grants what they asked for")
            if decision.allowed:
                approvals.approve(draft, act, subject, reason)
                said = approvals.approvers(draft.tx.find("approval", prefix=f"{subject}|"), but=[body["by"]])
                said[act.actor.name] = act.actor.roles
                decision = approvals.enough(subject, "grant", said, needed=NEEDED, role=OFFICER)
                if decision.allowed:
                    draft.put("waiver", subject.name, {**body, "granted_at": act.now})
            draft.decide(decision)
            draft.note(**{"class": body["class"]}, reason=reason, verdict=decision.verdict)
        return decision

    def granted(self) -> list[Waiver]:
        return granted(self.kernel.ledger.find("waiver"))

    def listing(self) -> list[dict[str, Any]]:
        """Every waiver that was ever asked for, and whether it counts now."""
        now, counting = self.kernel.now(), {waiver.id: waiver for waiver in self.granted()}
        return [
            {**body, "counts": key in counting and counting[key].counts(now)} for key, body in self.kernel.ledger.find("waiver")
        ]


def _refuse_long(now: datetime, until: datetime) -> None:
    if not now < until <= now + LONGEST:
        raise InvalidInput(
            f"The waiver would end at {iso(until)}.",
            f"give an --until within {LONGEST.days} days: a longer one changes the rule.",
        )
