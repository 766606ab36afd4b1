"""Legal holds: what somebody may have to prove is neither deleted nor erased, until two people let it go."""

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

SCOPES = ("dataset", "quarantine", "model", "candidate", "endpoint", "predictions", "export", "subject")
EVERYTHING = "all"
WARNED = timedelta(days=14)
"""So long before a hold ends by itself somebody is told."""


def is_active(hold: Mapping[str, Any], now: datetime) -> bool:
    return hold["state"] == "placed" and now < moment(hold["until"])


def means(scope: str, refs: Iterable[Ref], *, has_people: bool = False) -> bool:
    """Whether a hold of that scope means something that goes by these names.

    Where the rows of one person are is not known without asking every store, so that a hold on a person holds whatever may
    have people in it.
    """
    if scope == EVERYTHING:
        return True
    wanted = Ref.parse(scope)
    if wanted.kind == "subject" and has_people:
        return True
    return any(wanted == ref or (wanted.version is None and wanted == ref.bare) for ref in refs)


def holding(
    holds: Iterable[tuple[str, Mapping[str, Any]]], refs: Iterable[Ref], now: datetime, *, has_people: bool = False
) -> list[str]:
    """The holds that keep it, by their names."""
    names = list(refs)
    return [body["ref"] for _, body in holds if is_active(body, now) and means(body["scope"], names, has_people=has_people)]


class Holds:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    @action("hold.place")
    def place(self, act: Act, subject: Ref, *, scope: str, reason: str, until: datetime) -> Decision:
        """Holds everything in the scope from now on: `all`, or a reference with or without a version.

        Raises InvalidInput for a scope that cannot be held or an end that is past, Conflict where the hold was placed before.
        """
        scope, reason = _scope(scope), approvals.words(reason)
        if until <= act.now:
            raise InvalidInput(f"The hold would end at {iso(until)}, which is past.", "give a later --until.")
        decision = approvals.by_person(act, subject, "places a hold")
        with act.change() as draft:
            if decision.allowed:
                if draft.get("hold", subject.name) is not None:
                    raise Conflict(f"There is a {subject} already.", "give this one another name: falaj hold list")
                body = {
                    "ref": str(subject), "scope": scope, "of": scope, "reason": reason, "by": act.actor.name, "at": act.now,
                    "until": until, "state": "placed",
                }  # fmt: skip
                draft.put("hold", subject.name, body)
            draft.decide(decision)
            draft.note(scope=scope, reason=reason, until=until, verdict=decision.verdict)
        return decision

    @action("hold.release")
    def release(self, act: Act, subject: Ref, *, reason: str) -> Decision:
        """Says that the hold may go. It goes once two different people said so; until then the answer is `hold`.

        Raises NotFound, or Conflict where it was released before.
        """
        reason = approvals.words(reason)
        refused = approvals.by_person(act, subject, "releases a hold")
        with act.change() as draft:
            body = draft.get("hold", subject.name)
            if body is None:
                raise NotFound.named("hold", subject.name, [key for key, _ in draft.tx.find("hold")])
            if body["state"] != "placed":
                raise Conflict(f"{subject} was released already.", "falaj hold list")
            decision = refused
            if refused.allowed:
                approvals.approve(draft, act, subject, reason)
                said = approvals.approvers(draft.tx.find("approval", prefix=f"{subject}|"))
                decision = approvals.enough(subject, "release", {**said, act.actor.name: act.actor.roles})
                if decision.allowed:
                    draft.put("hold", subject.name, {**body, "state": "released", "released_at": act.now})
            draft.decide(decision)
            draft.note(scope=body["scope"], reason=reason, verdict=decision.verdict)
        return decision

    @action("hold.end")
    def end(self, act: Act, subject: Ref) -> None:
        """Records that a hold is over by its own date, so that policy, which knows no time, lets go of it too."""
        with act.change() as draft:
            body = draft.get("hold", subject.name)
            if body is not None and body["state"] == "placed" and moment(body["until"]) <= act.now:
                draft.put("hold", subject.name, {**body, "state": "ended", "ended_at": act.now})

    def over(self, now: datetime) -> list[Ref]:
        """The holds whose date has come and of which that was not recorded yet."""
        found = self.kernel.ledger.find("hold")
        return [Ref.parse(body["ref"]) for _, body in found if body["state"] == "placed" and moment(body["until"]) <= now]

    def listing(self) -> list[dict[str, Any]]:
        """Every hold that was ever placed, with whether it holds now."""
        now = self.kernel.now()
        return [{**body, "holds": is_active(body, now)} for _, body in self.kernel.ledger.find("hold")]

    def holding(self, refs: Iterable[Ref], *, has_people: bool = False) -> list[str]:
        """The holds that keep it now."""
        return holding(self.kernel.ledger.find("hold"), refs, self.kernel.now(), has_people=has_people)

    def ending(self, now: datetime) -> list[str]:
        """A line for each hold that ends by itself within two weeks: what it held may be deleted then."""
        return [
            f"{body['ref']} on {body['scope']} ends by itself at {body['until']}"
            for _, body in self.kernel.ledger.find("hold")
            if is_active(body, now) and moment(body["until"]) - now <= WARNED
        ]


def _scope(text: str) -> str:
    if text == EVERYTHING:
        return text
    ref = Ref.parse(text)
    if ref.kind not in SCOPES:
        raise InvalidInput(f"A {ref.kind} cannot be held.", f"all, or one of {', '.join(SCOPES)}, as in dataset/trips.")
    return str(ref)
