"""Approvals, objections and tiers: who vouches for a version, who speaks against it, and how much of that a model needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from falaj.core.decision import Check, Decision, judge
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound
from falaj.core.ref import Ref
from falaj.ports.ledger import Ledger, Transaction
from falaj.stages.action import Act, Draft, Kernel, action
from falaj.stages.registry.rules import APPROVERS, TIERS, Standing, own_approval, own_key, separation, standing_of
from falaj.stages.vouching import vouchers

_LONGEST = 2000
_HINT = "falaj model approve <model>@<version> --reason … by somebody who did not make it; falaj model standing shows who has."


@dataclass(frozen=True, slots=True)
class Approvals:
    """Records: `approval` and `objection` by `<ref>|<actor name>`, `tier` by `model/<name>`. What is taken back is removed;
    that it was there stays in the events."""

    kernel: Kernel

    @action("model.approve")
    def approve(self, act: Act, subject: Ref, *, reason: str) -> Decision:
        """One person's word that this version may answer people. Denied to its authors, to programs and under break-glass.

        Raises NotFound for a version that does not exist, InvalidInput without a reason.
        """
        _reasoned(reason)
        record = record_of(act.kernel.ledger, subject)
        role = next((role for role in APPROVERS if role in act.actor.roles), "")
        vouched = vouchers(act.actor.name, (body for _, body in act.kernel.ledger.find("key")))
        checks = (
            Check("gate", "allow", str(record["gate"]), record["gate"] == "allow"),
            own_key(vouched, record.get("authors")),
            own_approval(act.actor.name, act.actor.kind, act.actor.grant, record.get("authors")),
        )
        decision = Decision(subject, "separation", judge(checks), checks, act.actor, act.now, reason)
        with act.change() as draft:
            draft.put("decision", f"{subject}|separation|{act.actor.name}", decision)
            if decision.allowed:
                body = {"ref": subject, "name": act.actor.name, "role": role, "reason": reason, "at": act.now}
                body |= {"made_by": list(vouched.makers), "alone": list(vouched.alone)}
                draft.put("approval", _of(subject, act.actor.name), body)
            draft.note(verdict=decision.verdict, role=role, reason=reason, digest=record["asset"]["digest"])
        return decision

    @action("model.object")
    def object(self, act: Act, subject: Ref, *, reason: str) -> None:
        """Speaks against a version, or against a model as a whole: until that is withdrawn none of it is promoted.

        What answers already goes on; `falaj endpoint rollback` takes it out. Raises NotFound, InvalidInput without a reason.
        """
        _reasoned(reason)
        if subject.version is not None:
            record_of(act.kernel.ledger, subject)
        elif not act.kernel.ledger.find("model", prefix=f"{subject.name}@"):
            raise NotFound.named("model", subject.name, {key.partition("@")[0] for key, _ in act.kernel.ledger.find("model")})
        with act.change() as draft:
            body = {"ref": subject, "name": act.actor.name, "reason": reason, "at": act.now}
            draft.put("objection", _of(subject, act.actor.name), body)
            draft.note(reason=reason)

    @action("model.withdraw")
    def withdraw(self, act: Act, subject: Ref, *, reason: str, what: str = "", name: str = "") -> list[str]:
        """Takes back one's own approval or objection, or both; returns which. The data protection officer may take back
        anybody's, of somebody who is no longer here.

        Raises NotFound where there is none, Denied for another person's, InvalidInput without a reason.
        """
        _reasoned(reason)
        whose = name or act.actor.name
        if whose != act.actor.name and "dpo" not in act.actor.roles:
            raise Denied(f"The word of {whose} is not {act.actor.name}'s to take back.", "ask them, or the dpo.")
        kinds = (what,) if what else ("approval", "objection")
        with act.change() as draft:
            found = [kind for kind in kinds if draft.get(kind, _of(subject, whose)) is not None]
            if not found:
                raise NotFound(f"{whose} has no {' or '.join(kinds)} of {subject}.", f"falaj model standing {subject}")
            for kind in found:
                draft.remove(kind, _of(subject, whose))
            draft.note(withdrawn=found, of=whose, reason=reason)
        return found

    @action("model.tier")
    def tier(self, act: Act, subject: Ref, *, tier: str, responsible: str) -> None:
        """Says how much a model matters, and who in the house answers for it (an actor's name).

        A tier can be raised at any time; only the data protection officer may lower one, as that takes people out of its way.
        Raises InvalidInput for a tier that there is not, Denied for a lower one by somebody else.
        """
        if tier not in TIERS or not responsible or len(responsible) > 200:
            raise InvalidInput(f"{tier!r} for {responsible[:80]!r} is no tier.", f"--tier {'|'.join(TIERS)} --responsible <name>")
        with act.change() as draft:
            before = draft.get("tier", str(subject))
            if before is not None and TIERS[tier] < TIERS.get(str(before["tier"]), 0) and "dpo" not in act.actor.roles:
                raise Denied(f"{subject} is {before['tier']}; only the dpo may make it {tier}.", "ask the dpo.")
            body = {"tier": tier, "responsible": responsible, "at": act.now, "by": str(act.actor)}
            draft.put("tier", str(subject), body)
            draft.note(tier=tier, responsible=responsible, before=before["tier"] if before else None)

    def show(self, model: Ref) -> dict[str, Any]:
        """The people around a version: tier, authors, approvals, objections, and what follows from them. Raises NotFound."""
        ledger = self.kernel.ledger
        record = record_of(ledger, model)
        checks = separation(standing(ledger, model, record))
        return {
            "model": str(model),
            "tier": ledger.get("tier", str(model.bare)),
            "authors": record.get("authors"),
            "approvals": [body for _, body in ledger.find("approval", prefix=f"{model}|")],
            "objections": _objections(ledger, model),
            "separation": Decision(model, "separation", judge(checks), checks),
        }


def standing(reader: Ledger | Transaction, model: Ref, record: Mapping[str, Any], asking: str = "") -> Standing:
    """What the ledger, or a change in the making, knows of a version's people.

    `record`: the version's own; `asking`: who wants it to answer."""
    approvals = [body for _, body in reader.find("approval", prefix=f"{model}|")]
    return standing_of(reader.get("tier", str(model.bare)), record.get("authors"), approvals, _objections(reader, model), asking)


def refuse_unseparated(reader: Ledger | Transaction, model: Ref, asking: str = "") -> None:
    """Raises Conflict unless people are in agreement about a version as far as its tier asks for it, NotFound for none."""
    checks = separation(standing(reader, model, record_of(reader, model), asking))
    wrong = [check for check in checks if not check.passed]
    if wrong:
        seen = "; ".join(f"{check.name}: wanted {check.wanted}, seen {check.seen}" for check in wrong)
        raise Conflict(f"{model} may not answer anybody yet: {seen}.", _HINT)


def promoted(draft: Draft, model: Ref, record: Mapping[str, Any], asking: str = "") -> tuple[Check, ...]:
    """The checks of a promotion: the gate's, and those of the people. `asking`: who wants it."""
    gate = Check("gate", "allow", str(record["gate"]), record["gate"] == "allow")
    return gate, *separation(standing(draft.tx, model, record, asking))


def _objections(reader: Ledger | Transaction, model: Ref) -> list[Mapping[str, Any]]:
    return [body for ref in (model.bare, model) for _, body in reader.find("objection", prefix=f"{ref}|")]


def record_of(reader: Ledger | Transaction, model: Ref) -> Mapping[str, Any]:
    """A version's record. Raises NotFound with the nearest names."""
    body = reader.get("model", f"{model.name}@{model.version}")
    if body is None:
        raise NotFound.named("model", str(model), [f"model/{key}" for key, _ in reader.find("model")])
    return body


def _of(subject: Ref, name: str) -> str:
    return f"{subject}|{name}"


def _reasoned(reason: str) -> None:
    if not reason.strip() or len(reason) > _LONGEST:
        raise InvalidInput(f"A reason of 1 to {_LONGEST} characters is needed.", '--reason "…", for whoever asks later.')
