"""Break-glass access: in an emergency a person takes a role for some hours, says why, and answers for it to somebody else."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from falaj.core.actor import Actor
from falaj.core.decision import Check, Decision
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound
from falaj.core.moments import iso, moment
from falaj.core.ref import Ref
from falaj.stages.action import Act, Kernel, action

LONGEST = timedelta(hours=4)
"""An emergency that goes on longer is asked for again, after somebody has looked at the first."""
REVIEWED_WITHIN = timedelta(hours=72)
_REVIEWERS = frozenset({"approver", "auditor", "dpo"})
_REASON = 2000


def is_live(record: Mapping[str, Any] | None, now: datetime) -> bool:
    """Whether the access gives anything at `now`."""
    return record is not None and record["ended_at"] is None and moment(record["since"]) <= now < moment(record["until"])


def is_overdue(record: Mapping[str, Any], now: datetime) -> bool:
    """Whether somebody should have looked at it by now."""
    return record["review"] is None and now >= moment(record["review_by"])


def elevated(actor: Actor, record: Mapping[str, Any] | None, now: datetime) -> Actor:
    """The actor with what the access gives; only a person is ever given anything, and only their own."""
    if record is None or actor.kind != "person" or record["name"] != actor.name or not is_live(record, now):
        return actor
    roles = tuple(dict.fromkeys((*actor.roles, *record["roles"])))
    return replace(actor, roles=roles, grant=f"access/{record['id']}")


def state_of(record: Mapping[str, Any], now: datetime) -> Decision:
    """What is to be said of it: reviewed is an allow, anything else opens an alert or keeps one open."""
    ref = Ref("access", str(record["id"]))
    review = record["review"]
    seen = review["verdict"] if review else ("overdue" if is_overdue(record, now) else "not yet")
    check = Check("review", f"by another person until {record['review_by']}", seen, review is not None)
    what = f"{record['name']} took {', '.join(record['roles'])} until {record['until']}: {record['reason'][:300]}"
    if review is not None:
        return Decision(ref, "break-glass", "allow", (check,), None, now, f"reviewed by {review['by']}: {review['verdict']}")
    if is_overdue(record, now):
        what = f"nobody has reviewed it within {REVIEWED_WITHIN // timedelta(hours=1)} h; {what}"
    return Decision(ref, "break-glass", "deny", (check,), None, now, what)


@dataclass(frozen=True, slots=True)
class Elevations:
    """Records: `access` by id; `elevation` by the person's name, the newest one, which each of their calls is looked up in."""

    kernel: Kernel
    wall: Callable[[], datetime]
    """The machine's clock: an emergency ends in real time, also where the past is lived through."""
    grantable: Collection[str]
    """Roles that may be taken; never one that approves, audits or reviews."""
    random: Callable[[int], bytes] = secrets.token_bytes

    @action("access.elevate")
    def elevate(self, act: Act, subject: Ref, *, roles: Sequence[str], reason: str, span: timedelta) -> dict[str, Any]:
        """Gives the caller these roles for `span`, 4 h at most, from the next call on; every event done under it carries its id.

        Raises InvalidInput for a span that is too long, no reason or a role that cannot be taken, Denied for a program, Conflict
        while an earlier access of the same person is under way or waits for its review longer than it may.
        """
        asked = tuple(dict.fromkeys(roles)) if not isinstance(roles, str) else ()
        if not asked or not set(asked) <= set(self.grantable) - _REVIEWERS:
            raise InvalidInput(
                f"{', '.join(asked) or 'No role'} cannot be taken.", f"there is: {', '.join(sorted(self.grantable))}."
            )
        if not timedelta(minutes=1) <= span <= LONGEST:
            raise InvalidInput(f"An access cannot last {span}.", "write a span from 1m to 4h.")
        if not reason.strip() or len(reason) > _REASON:
            raise InvalidInput("An emergency needs its reason.", '--reason "…", with the number of the incident.')
        if act.actor.kind != "person":
            raise Denied(f"{act.actor} is no person, and nobody could ask it why.", "log in, or use a key of a person.")
        now = self.wall()
        body = {
            "id": self.random(6).hex(), "name": act.actor.name, "roles": asked, "reason": reason, "since": iso(now),
            "until": iso(now + span), "review_by": iso(now + REVIEWED_WITHIN), "ended_at": None, "review": None,
        }  # fmt: skip
        with act.change(Ref("access", str(body["id"]))) as draft:
            for _, other in draft.tx.find("access"):
                if other["name"] == act.actor.name and (is_live(other, now) or is_overdue(other, now)):
                    what = "is under way" if is_live(other, now) else "was never reviewed"
                    raise Conflict(f"access/{other['id']} of {act.actor.name} {what}.", f"falaj access review {other['id']}")
            draft.put("access", str(body["id"]), body)
            draft.put("elevation", act.actor.name, body)
            draft.note(roles=asked, until=body["until"], reason=reason)
        return body

    @action("access.revoke")
    def revoke(self, act: Act, subject: Ref, *, reason: str = "") -> None:
        """Ends it now: the next call has the ordinary roles. One's own, or anybody's for whoever reviews or runs the place.

        For one that is over that changes nothing. Raises NotFound, Denied.
        """
        record = self._record(subject)
        if record["name"] != act.actor.name and not {*_REVIEWERS, "operator"} & set(act.actor.roles):
            raise Denied(f"{subject} is not {act.actor.name}'s to end.", "ask an operator, or whoever reviews.")
        if not is_live(record, self.wall()):
            return
        with act.change() as draft:
            self._keep(draft, record, ended_at=iso(self.wall()))
            draft.note(of=record["name"], reason=reason)

    @action("access.review")
    def review(self, act: Act, subject: Ref, *, verdict: str, reason: str) -> None:
        """What another person found: `justified`, or `unjustified`, which ends the access too.

        Raises Denied to the one who took it, to a program and to somebody who acts under break-glass; Conflict where it was
        reviewed before, NotFound, InvalidInput.
        """
        record = self._record(subject)
        if verdict not in ("justified", "unjustified") or not reason.strip() or len(reason) > _REASON:
            raise InvalidInput("A review needs its verdict and its reason.", "--verdict justified|unjustified --reason …")
        if act.actor.name == record["name"] or act.actor.kind != "person" or act.actor.grant:
            raise Denied(f"{act.actor} may not review {subject}.", "ask another person, in their ordinary role.")
        with act.change() as draft:
            held = draft.get("access", subject.name) or record
            if held["review"] is not None:
                raise Conflict(f"{subject} was reviewed by {held['review']['by']}.", "falaj access list")
            now = iso(self.wall())
            found = {"by": act.actor.name, "verdict": verdict, "reason": reason, "at": now}
            over = now if verdict == "unjustified" and is_live(held, self.wall()) else held["ended_at"]
            self._keep(draft, held, review=found, ended_at=over)
            draft.note(of=record["name"], verdict=verdict, reason=reason)

    def actor(self, actor: Actor) -> Actor:
        """The actor as of now, with the access that they may have taken. One look into the ledger."""
        if actor.kind != "person":
            return actor
        return elevated(actor, self.kernel.ledger.get("elevation", actor.name), self.wall())

    def listing(self) -> list[Mapping[str, Any]]:
        """Every access that was ever taken, oldest first."""
        return sorted((body for _, body in self.kernel.ledger.find("access")), key=lambda body: str(body["since"]))

    def owed(self) -> list[Decision]:
        """What is to be said of those that nobody has reviewed."""
        now = self.wall()
        return [state_of(body, now) for body in self.listing() if body["review"] is None]

    def state(self, subject: Ref) -> Decision:
        """What is to be said of one. Raises NotFound."""
        return state_of(self._record(subject), self.wall())

    def _keep(self, draft: Any, record: Mapping[str, Any], **changed: Any) -> None:
        body = {**record, **changed}
        draft.put("access", str(record["id"]), body)
        newest = draft.get("elevation", str(record["name"]))
        if newest is not None and newest["id"] == record["id"]:
            draft.put("elevation", str(record["name"]), body)

    def _record(self, subject: Ref) -> Mapping[str, Any]:
        record = self.kernel.ledger.get("access", subject.name)
        if record is None:
            raise NotFound.named("access", subject.name, (key for key, _ in self.kernel.ledger.find("access")))
        return record
