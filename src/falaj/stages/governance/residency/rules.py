"""Pure rules of residency: whether data of some classes may be in a zone, on which leave, and which leave may be given at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from falaj.core.decision import Check, Decision, judge
from falaj.core.digests import is_digest
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.places import UNKNOWN
from falaj.core.ref import Ref
from falaj.stages.governance.residency.registry import Registry

UNCLASSIFIED = "unclassified"
"""The class of data of which nobody has said anything."""
LONGEST, DEROGATION = timedelta(days=365), timedelta(days=30)
APPROVERS = 2
OFFICER = "dpo"
BASES: Mapping[str, str] = {
    # what a transfer may rest on: where the law says so
    "adequacy": "PDPL Art 22; DIFC DPL Art 26; ADGM DPR s.41",
    "clauses": "PDPL Art 23; DIFC DPL Art 27; ADGM DPR s.42",
    "binding-rules": "DIFC DPL Art 27; ADGM DPR s.43",
    "consent": "PDPL Art 23; DIFC DPL Art 27",
    "approval": "MD 51/2021; CBUAE C 14/2021 Art 6",
    "derogation": "PDPL Art 23; DIFC DPL Art 27; ADGM DPR s.44",
}


@dataclass(frozen=True, slots=True)
class Law:
    """What is asked: the registry, and in which zone the installation is."""

    registry: Registry
    home: str


@dataclass(frozen=True, slots=True)
class Matter:
    """What would lie there: the classes and the datasets that it comes from."""

    subject: Ref
    classes: tuple[str, ...] = ()
    """None means unclassified data."""
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to take data of some classes, of some datasets, to one zone, until a day."""

    id: str
    basis: str
    instrument: str
    """Digest of the paper that it rests on."""
    classes: tuple[str, ...]
    datasets: tuple[str, ...]
    zone: str
    expires_at: datetime
    requested_by: str
    requested_at: datetime
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Condition → digest of the paper that shows it."""
    approvals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Who approved it → the roles that they had."""
    revoked_at: datetime | None = None
    used_at: datetime | None = None
    """Of a derogation, which is good once."""

    @property
    def is_approved(self) -> bool:
        """By two people, the data protection officer among them, and neither is who asked for it."""
        others = {name: roles for name, roles in self.approvals.items() if name != self.requested_by}
        return len(others) >= APPROVERS and any(OFFICER in roles for roles in others.values())

    def state(self, at: datetime) -> str:
        """`revoked`, `expired`, `used`, `requested` or `approved`."""
        for name, holds in (
            ("revoked", self.revoked_at is not None),
            ("expired", not self.requested_at <= at < min(self.expires_at, self.requested_at + longest(self.basis))),
            ("used", self.used_at is not None and self.basis == "derogation"),
            ("requested", not self.is_approved),
        ):
            if holds:
                return name
        return "approved"

    def covers(self, law: Law, cls: str, matter: Matter, zone: str, at: datetime) -> bool:
        """Whether it lets data of that class lie there. Everything is looked at again, also what was looked at on request."""
        rule = law.registry.classes.get(cls)
        return (
            rule is not None
            and rule.transferable
            and zone == self.zone
            and zone in law.registry.zones
            and cls in self.classes
            and bool(self.datasets)
            and set(matter.datasets) <= set(self.datasets)
            and self.basis in BASES
            and (self.basis != "adequacy" or law.registry.sees(law.home, zone) == "adequate")
            and all(is_digest(self.conditions.get(name)) for name in rule.conditions)
            and is_digest(self.instrument)
            and self.state(at) == "approved"
        )


def longest(basis: str) -> timedelta:
    return DEROGATION if basis == "derogation" else LONGEST


def may_lie(matter: Matter, zone: str, law: Law, grants: Sequence[Grant], at: datetime) -> Decision:
    """One check for each class. Deny unless every class is known and may be in that zone by its rule or by a grant.

    `policies`: the rules and grants that decided.
    """
    checks, decided = [], []
    for cls in matter.classes or (UNCLASSIFIED,):
        wanted, seen, by = _judged(cls, zone, law, [g for g in grants if g.covers(law, cls, matter, zone, at)])
        checks.append(Check(cls, wanted, seen, bool(by)))
        decided += [by] if by else []
    verdict = judge(checks)
    reason = "; ".join(f"{check.name} data may be in {check.wanted}, not in {check.seen}" for check in checks if not check.passed)
    return Decision(matter.subject, "residency", verdict, tuple(checks), None, at, reason, tuple(dict.fromkeys(decided)))


def _judged(cls: str, zone: str, law: Law, grants: Sequence[Grant]) -> tuple[str, str, str]:
    """(wanted, seen, the rule or grant that allows it or an empty text)."""
    registry, rule = law.registry, law.registry.classes.get(cls)
    if law.home not in registry.zones:
        return "a zone that is known", f"{zone} (the installation's own zone {law.home!r} is in no registry)", ""
    if rule is None:
        return "no zone, for it is a class that nobody knows", zone, ""
    wanted = ", ".join(name for name in sorted(registry.zones) if rule.allows(name, law.home)) or "no zone at all from here"
    if zone not in registry.zones:
        return wanted, zone or UNKNOWN, ""
    if rule.allows(zone, law.home):
        return wanted, zone, f"residency/{cls}"
    if grants:
        first = min(grants, key=lambda grant: (grant.basis == "derogation", grant.id))  # what can be used again, first
        return wanted, f"{zone}, by transfer/{first.id}", f"transfer/{first.id}"
    return wanted, zone, ""


def drawn_up(grant: Grant, law: Law, datasets: Collection[str]) -> Grant:
    """The grant, where it may be asked for. Raises InvalidInput or NotFound, which say what it lacks."""
    registry = law.registry
    if grant.basis not in BASES:
        raise NotFound.named("basis of a transfer", grant.basis, BASES)
    if grant.zone not in registry.zones:
        raise NotFound.named("zone", grant.zone, registry.zones)
    if grant.zone == law.home:
        raise InvalidInput(f"{grant.zone} is where this installation is.", "what stays at home needs no grant.")
    if grant.basis == "adequacy" and registry.sees(law.home, grant.zone) != "adequate":
        raise InvalidInput(f"{grant.zone} is on no list of adequate places of {law.home}.", "rest it on another basis.")
    if not is_digest(grant.instrument):
        raise InvalidInput("The instrument is no digest.", "write sha256: and the digest of the signed paper.")
    if not grant.requested_at < grant.expires_at <= grant.requested_at + longest(grant.basis):
        raise InvalidInput(
            f"A {grant.basis} lasts {longest(grant.basis).days} days at most.", "ask for less, and again when it ends."
        )
    _names("dataset", grant.datasets, datasets)
    _names("class", grant.classes, registry.classes)
    for cls in grant.classes:
        rule = registry.classes[cls]
        if not rule.transferable:
            raise InvalidInput(f"Data of the class {cls} never leaves: {rule.instrument}.", "leave the class out.")
        missing = [name for name in rule.conditions if not is_digest(grant.conditions.get(name))]
        if missing:
            raise InvalidInput(
                f"Data of the class {cls} leaves only with {', '.join(missing)} ({rule.instrument}).",
                f'give conditions {{"{missing[0]}": "sha256:…"}}, the digest of the paper that shows it.',
            )
    return grant


def _names(what: str, given: Sequence[str], known: Iterable[str]) -> None:
    if not given:
        raise InvalidInput(f"A transfer names each {what} that it is for.", f"name the {what}; there is no word for all of them.")
    for name in given:
        if name not in known:
            raise NotFound.named(what, name, known)


def summed(decisions: Iterable[tuple[str, Decision]], subject: Ref, at: datetime, more: Iterable[Check] = ()) -> Decision:
    """One decision of all: a check for each destination and class, named `<locus> <what> <class>`."""
    checks = [
        Check(f"{name} {check.name}", check.wanted, check.seen, check.passed)
        for name, decision in decisions
        for check in decision.checks
    ]
    checks += more
    failed = [check.name for check in checks if check.passed is False]
    reason = f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed[:5])}" if failed else ""
    return Decision(subject, "residency", judge(checks), tuple(checks), None, at, reason)


def facts_of(grant: Grant, at: datetime) -> dict[str, Any]:
    """As a listing shows it."""
    return {
        "id": grant.id, "state": grant.state(at), "basis": grant.basis, "zone": grant.zone, "classes": grant.classes,
        "datasets": grant.datasets, "expires_at": grant.expires_at, "requested_by": grant.requested_by,
        "approved_by": sorted(grant.approvals), "conditions": sorted(grant.conditions), "instrument": grant.instrument,
    }  # fmt: skip
