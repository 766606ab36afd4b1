"""Transfers: leave to take data out of its zone, asked for by one person, given by two others, ended by a day or by a word."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from falaj.core.codec import decode
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound
from falaj.core.ref import Ref
from falaj.ports.ledger import Ledger, Transaction
from falaj.stages.action import Act, Kernel, action
from falaj.stages.governance.residency.rules import Grant, Law, drawn_up, facts_of, longest


@dataclass(frozen=True, slots=True)
class Transfers:
    kernel: Kernel
    law: Law
    datasets: Callable[[], Collection[str]]
    """The names of the project's datasets."""

    @action("transfer.request")
    def request(
        self, act: Act, subject: Ref, *, zone: str, given: Mapping[str, Any], lasts: timedelta | None = None
    ) -> Mapping[str, Any]:
        """Asks for `transfer/<name>`. `given`: `basis`, `instrument`, `classes`, `datasets` and `conditions`, as a Grant has
        them. Without `lasts`, as long as the basis may.

        Raises InvalidInput or NotFound for what may not be asked for, Conflict where there is one of that name.
        """
        conditions = given.get("conditions") or {}
        if not isinstance(conditions, Mapping):
            raise InvalidInput("The conditions are no object.", 'as in {"consent": "sha256:…"}.')
        registry, basis = self.law.registry, str(given.get("basis", ""))
        grant = Grant(
            id=subject.name, basis=basis, instrument=str(given.get("instrument", "")), zone=zone,
            classes=tuple(dict.fromkeys(map(registry.class_of, given.get("classes") or ()))),
            datasets=tuple(dict.fromkeys(given.get("datasets") or ())), expires_at=act.now + (lasts or longest(basis)),
            requested_by=act.actor.name, requested_at=act.now, conditions={str(k): str(v) for k, v in conditions.items()},
        )  # fmt: skip
        drawn_up(grant, self.law, self.datasets())
        with act.change() as draft:
            if draft.get("transfer", subject.name) is not None:
                raise Conflict(f"There is a {subject} already.", "give it another name; what was granted stays on record.")
            draft.put("transfer", subject.name, grant)
            draft.note(zone=zone, basis=basis, classes=grant.classes, datasets=grant.datasets, instrument=grant.instrument)
        return facts_of(grant, act.now)

    @action("transfer.approve")
    def approve(self, act: Act, subject: Ref) -> Mapping[str, Any]:
        """One person's yes. It is good once two have said so, the data protection officer among them.

        Raises Denied for who asked for it and for a program, Conflict where it is over or was approved by them before.
        """
        with act.change() as draft:
            grant = _read(draft.tx, subject.name)
            if act.actor.kind != "person":
                raise Denied(f"{act.actor} is no person.", "somebody who can be asked for the reason has to approve.")
            if act.actor.name == grant.requested_by:
                raise Denied(f"{act.actor.name} asked for {subject} and cannot approve it.", "ask two others.")
            if act.actor.name in grant.approvals:
                raise Conflict(f"{act.actor.name} has approved {subject} already.", "somebody else has to.")
            if (state := grant.state(act.now)) in ("revoked", "expired", "used"):
                raise Conflict(f"{subject} is {state}.", "ask for a new one with `falaj transfer request`.")
            grant = replace(grant, approvals={**grant.approvals, act.actor.name: tuple(act.actor.roles)})
            draft.put("transfer", subject.name, grant)
            draft.note(state=grant.state(act.now), instrument=grant.instrument)
        return facts_of(grant, act.now)

    @action("transfer.revoke")
    def revoke(self, act: Act, subject: Ref, *, reason: str) -> Mapping[str, Any]:
        """From now on nothing goes there on that leave. For a revoked one that changes nothing. Raises NotFound."""
        with act.change() as draft:
            grant = _read(draft.tx, subject.name)
            grant = grant if grant.revoked_at else replace(grant, revoked_at=act.now)
            draft.put("transfer", subject.name, grant)
            draft.note(reason=reason)
        return facts_of(grant, act.now)

    @action("transfer.use")
    def use(self, act: Act, subject: Ref, *, destination: str) -> None:
        """Notes what was let through by it. Raises Denied where it is not good any more: a derogation is used up by its use."""
        with act.change() as draft:
            grant = _read(draft.tx, subject.name)
            if (state := grant.state(act.now)) != "approved":
                raise Denied(f"{subject} is {state}.", "ask for a new one with `falaj transfer request`.")
            draft.put("transfer", subject.name, replace(grant, used_at=act.now))
            draft.note(destination=destination, zone=grant.zone)

    def all(self) -> list[Grant]:
        """Every grant that can be read. One that cannot be read grants nothing."""
        found = []
        for _, body in self.kernel.ledger.find("transfer"):
            try:
                found.append(decode(Grant, body))
            except InvalidInput:
                continue
        return found

    def good(self, at: datetime) -> Sequence[Grant]:
        return [grant for grant in self.all() if grant.state(at) == "approved"]

    def listing(self, at: datetime) -> list[dict[str, Any]]:
        return [facts_of(grant, at) for grant in self.all()]


def _read(reader: Ledger | Transaction, name: str) -> Grant:
    body = reader.get("transfer", name)
    if body is None:
        raise NotFound.named("transfer", name, (key for key, _ in reader.find("transfer")))
    return decode(Grant, body)
