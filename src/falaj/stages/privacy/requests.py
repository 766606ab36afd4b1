"""The desk of requests: who asked for what about their data, by token; until when they are to be answered; how it ended."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from falaj.core.decision import Decision
from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.core.moments import iso, moment
from falaj.core.ref import Ref
from falaj.stages.action import Act, Draft, Kernel, action
from falaj.stages.privacy import approvals
from falaj.stages.privacy.clocks import Clock, due
from falaj.stages.privacy.consent import TOKEN

KINDS = ("access", "erasure", "correction", "restriction", "objection", "portability")
REGIMES = ("pdpl", "difc", "adgm", "gdpr")
WARNED = timedelta(days=7)
_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/#\-]{0,79}")


class Requests:
    """`clocks`: how long each regime gives."""

    def __init__(self, kernel: Kernel, clocks: Sequence[Clock]) -> None:
        self.kernel = kernel
        self.clocks = tuple(clocks)

    @action("request.open")
    def open(
        self, act: Act, subject: Ref, *, token: str, kind: str, regimes: Sequence[str] = (), received: datetime | None = None
    ) -> Mapping[str, Any]:
        """Takes a request down. Its clocks run from when it was received.

        Raises InvalidInput for a time that is not past yet, Conflict for a name that is taken.
        """
        received = received or act.now
        unknown = [name for name in regimes if name not in REGIMES]
        if kind not in KINDS or unknown:
            raise NotFound.named(
                "regime" if unknown else "kind of request", (unknown or [kind])[0], REGIMES if unknown else KINDS
            )
        if received > act.now or not TOKEN.fullmatch(token):
            raise InvalidInput(f"The request would have come at {iso(received)}.", "give the person and a time that is past.")
        body = {
            "ref": str(subject), "kind": kind, "token": token, "regimes": sorted(set(regimes)), "received_at": received,
            "extended": False, "state": "open", "by": str(act.actor), "closed_at": None, "outcome": "",
        }  # fmt: skip
        with act.change() as draft:
            if draft.get("request", subject.name) is not None:
                raise Conflict(f"There is a {subject} already.", "give this one another name: falaj request list")
            draft.put("request", subject.name, body)
            draft.note(kind=kind, token=token, regimes=body["regimes"], received_at=received)
        return self._shown(body, act.now)

    @action("request.extend")
    def extend(self, act: Act, subject: Ref, *, reason: str) -> Mapping[str, Any]:
        """Claims the longer time, where a regime has one. Raises Conflict where the first time is over, or none has one."""
        with act.change() as draft:
            body = self._open_one(draft, subject)
            longer = [clock.regime for clock in self.clocks if clock.regime in body["regimes"] and clock.extension]
            dues = due(self.clocks, body["regimes"], moment(body["received_at"]), extended=False)
            over = [name for name in longer if dues[name] < act.now]
            if not longer or over or body["extended"]:
                raise Conflict(
                    f"{subject} cannot be extended: {'its time is over' if over else 'no regime of it gives more time'}.",
                    "answer it.",
                )
            body = {**body, "extended": True}
            draft.put("request", subject.name, body)
            draft.note(reason=approvals.words(reason), regimes=longer)
        return self._shown(body, act.now)

    @action("request.close")
    def close(self, act: Act, subject: Ref, *, outcome: str) -> Mapping[str, Any]:
        """The person was answered. Raises NotFound, or Conflict where it is closed already."""
        with act.change() as draft:
            body = {
                **self._open_one(draft, subject),
                "state": "closed",
                "closed_at": act.now,
                "outcome": approvals.words(outcome),
            }
            draft.put("request", subject.name, body)
            draft.note(outcome=outcome)
        return self._shown(body, act.now)

    @action("request.approve")
    def approve(self, act: Act, subject: Ref, *, reason: str) -> Decision:
        """Says yes to an erasure, where the installation wants a second person to."""
        decision = approvals.by_person(act, subject, "approves an erasure")
        with act.change() as draft:
            self._open_one(draft, subject)
            if decision.allowed:
                approvals.approve(draft, act, subject, approvals.words(reason))
            draft.decide(decision)
            draft.note(reason=reason, verdict=decision.verdict)
        return decision

    def get(self, name: str) -> Mapping[str, Any]:
        body = self.kernel.ledger.get("request", name)
        if body is None:
            raise NotFound.named("request", name, [key for key, _ in self.kernel.ledger.find("request")])
        return body

    def listing(self, *, only_open: bool = False) -> list[Mapping[str, Any]]:
        """Every request with its clocks, the one that is due first in front."""
        now = self.kernel.now()
        found = [self._shown(body, now) for _, body in self.kernel.ledger.find("request")]
        return sorted((r for r in found if r["state"] == "open" or not only_open), key=lambda r: (r["state"], r["due"]))

    def pressing(self, now: datetime) -> list[str]:
        """A line for each request that is due within a week, or late."""
        return [
            f"{body['ref']} ({body['kind']}) {'is LATE' if moment(body['due']) < now else 'is due'}: {body['due']}"
            for body in self.listing(only_open=True)
            if moment(body["due"]) - now <= WARNED
        ]

    def _open_one(self, draft: Draft, subject: Ref) -> Mapping[str, Any]:
        body = draft.get("request", subject.name)
        if body is None:
            raise NotFound.named("request", subject.name, [key for key, _ in draft.tx.find("request")])
        if body["state"] != "open":
            raise Conflict(f"{subject} is closed already.", "open another one: falaj request open")
        return body

    def _shown(self, body: Mapping[str, Any], now: datetime) -> Mapping[str, Any]:
        received = body["received_at"]
        dues = due(self.clocks, body["regimes"], moment(received), extended=body["extended"])
        return {
            **body, "received_at": iso(moment(received)), "clocks": {name: iso(at) for name, at in dues.items()},
            "due": iso(min(dues.values())) if dues else "", "is_late": body["state"] == "open" and now > min(dues.values()),
        }  # fmt: skip


def identity_check(text: str, person: str = "") -> str:
    """The name of the check that told who asks, as in ticket/1234. Raises InvalidInput for what is no such name."""
    if not _IDENTITY.fullmatch(text) or (person and person.casefold() in text.casefold()):
        raise InvalidInput(
            "The reference of the identity check is no name of one.", "name a ticket or a case, never the person: ticket/1234."
        )
    return text
