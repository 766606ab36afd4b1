"""What may be deleted when: the strictest of all terms, with every conflict told; a legal hold beats them all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from falaj.core.decision import Check, Decision, Verdict
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.stages.privacy.periods import ALWAYS, NEVER, Bound, Period
from falaj.stages.privacy.terms import Term

RULE = "retention"


@dataclass(frozen=True, slots=True, order=True)
class Limit:
    """One end of a term, in time. `why`: what makes it other than a plain date."""

    at: datetime
    term: str
    status: str
    instrument: str = ""
    why: str = ""

    def __str__(self) -> str:
        when = self.why if self.at in (NEVER, ALWAYS) else iso(self.at)[:10] + (f" ({self.why})" if self.why else "")
        return f"{when} by {self.term} [{self.status}{f', {self.instrument}' if self.instrument else ''}]"


@dataclass(frozen=True, slots=True)
class Limits:
    """Everything that bounds the life of one thing. `a | b` is what both say: the order and repetition change nothing."""

    floors: frozenset[Limit] = frozenset()
    ceilings: frozenset[Limit] = frozenset()

    @property
    def floor(self) -> datetime:
        """Not before: the latest of all floors."""
        return max((limit.at for limit in self.floors), default=ALWAYS)

    @property
    def ceiling(self) -> datetime:
        """Due from then on: the earliest of all ceilings."""
        return min((limit.at for limit in self.ceilings), default=NEVER)

    @property
    def conflicts(self) -> tuple[str, ...]:
        """Ceilings that a floor forbids to keep: the floor wins, and somebody has to know."""
        return tuple(
            f"must be gone from {ceiling}, and must be kept until {floor}"
            for ceiling in sorted(self.ceilings)
            for floor in sorted(self.floors)
            if ceiling.at < floor.at and not (floor.at == NEVER and floor.why.startswith("waits"))
        )

    def __or__(self, other: Limits) -> Limits:
        return Limits(self.floors | other.floors, self.ceilings | other.ceilings)


@dataclass(frozen=True, slots=True)
class Waiver:
    """A floor that is lowered for a while. It counts from when enough people had granted it until it ends."""

    id: str
    name: str
    """The class."""
    floor: Period
    """What the floor is instead."""
    since: datetime
    until: datetime

    def counts(self, now: datetime) -> bool:
        return self.since <= now < self.until


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that retention looks at. `refs`: the names under which a hold may mean it."""

    ref: Ref
    classes: frozenset[str]
    triggers: Mapping[str, datetime | None] = field(default_factory=dict)
    """trigger → when; a trigger that is missing or None has not happened yet, as far as anybody knows."""
    refs: tuple[Ref, ...] = ()
    blobs: tuple[str, ...] = ()
    """Digests that only this thing is about; blobs that a kept thing names too stay."""
    used_by: tuple[str, ...] = ()
    """Kept things that cannot do without it."""
    rows: int = 0
    has_people: bool = False
    """Whether there may be people in it, so that a hold on a person holds it."""


def limits_of(item: Item, terms: Iterable[Term], waivers: Collection[Waiver], now: datetime) -> Limits:
    """What all terms of all the item's classes say about it."""
    found = Limits()
    for term in terms:
        if term.name in item.classes:
            found |= limits_by(term, item.triggers, [w for w in waivers if w.name == term.name and w.counts(now)])
    return found


def limits_by(term: Term, triggers: Mapping[str, datetime | None], waivers: Collection[Waiver] = ()) -> Limits:
    """What one term says. A floor whose trigger has not happened never ends; a ceiling whose trigger has not never comes.

    `waivers`: those that count now for this class. `forever` is not to be waived.
    """
    floors: set[Limit] = set()
    ceilings: set[Limit] = set()
    if term.floor is not None:
        at, why = _floor(term.floor, triggers.get(term.floor.since), waivers)
        floors.add(Limit(at, term.id, term.status, term.instrument, why))
    if term.ceiling is not None and (start := triggers.get(term.ceiling.since)) is not None:
        ceilings.add(Limit(term.ceiling.period.after(start, is_floor=False), term.id, term.status, term.instrument))
    return Limits(frozenset(floors), frozenset(ceilings))


def _floor(floor: Bound, start: datetime | None, waivers: Collection[Waiver]) -> tuple[datetime, str]:
    """When it ends, and why then. Of several waivers the one that lowers least counts: whoever waives twice waives no more."""
    if floor.period.is_forever:
        return NEVER, "forever"
    if start is None:
        return NEVER, f"waits for {floor.since}"
    own = floor.period.after(start, is_floor=True)
    waived = max(((waiver.floor.after(start, is_floor=True), waiver.id) for waiver in waivers), default=(own, ""))
    return (waived[0], f"waived by waiver/{waived[1]}") if waived[0] < own else (own, "")


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is to become of one item now. `state`: `due`, `kept` (no ceiling has come), `floor`, `held`, `in use`."""

    item: Item
    limits: Limits
    state: str
    decision: Decision


def rule(item: Item, limits: Limits, holds: Collection[str], now: datetime) -> Ruling:
    """Whether the item is to be deleted now. Allow: it is due, and nothing forbids it. Deny: it is due, and something does.

    Hold: it is not due. `holds`: the legal holds that mean it. A hold wins over everything, then a floor, then use.
    """
    checks = (
        Check("legal hold", "none", ", ".join(sorted(holds)) or "none", not holds),
        Check("floor", f"over by {iso(now)}", _shown(limits.floors, limits.floor, "none"), limits.floor <= now),
        Check("in use", "by nothing that is kept", ", ".join(item.used_by[:5]) or "nothing", not item.used_by),
    )
    due = Check("ceiling", f"over by {iso(now)}", _shown(limits.ceilings, limits.ceiling, "none"), limits.ceiling <= now)
    conflicts = tuple(Check("info: conflict", "none", text, None) for text in limits.conflicts)
    broken = next((check for check in checks if not check.passed), None)
    verdict: Verdict = "hold" if not due.passed else "deny" if broken else "allow"
    state = {"legal hold": "held", "floor": "floor", "in use": "in use"}.get(broken.name, "") if broken else ""
    state = state or ("due" if due.passed else "kept")
    reason = f"{broken.name}: {broken.seen}" if broken else f"its ceiling is over: {due.seen}" if due.passed else "not due"
    return Ruling(item, limits, state, Decision(item.ref, RULE, verdict, (*checks, due, *conflicts), None, now, reason))


def _shown(limits: Iterable[Limit], at: datetime, nothing: str) -> str:
    found = sorted(limit for limit in limits if limit.at == at)
    return str(found[0]) if found else nothing


def effective(terms: Iterable[Term], now: datetime) -> list[dict[str, Any]]:
    """One line a class and trigger for a reader: every term with its provenance, and which of them is the strictest."""
    found = sorted(terms, key=lambda term: (term.name, term.pack))
    rows = []
    for term in found:
        same = [other for other in found if other.name == term.name]
        rows.append(
            {
                "class": term.name, "pack": term.pack, "floor": str(term.floor or ""), "ceiling": str(term.ceiling or ""),
                "status": term.status, "instrument": term.instrument, "note": term.note,
                "counts": _counts(term, same, now),
            }
        )  # fmt: skip
    return rows


def _counts(term: Term, same: Iterable[Term], now: datetime) -> str:
    """Which of its ends is the one that counts, where all triggers happened now."""
    ends = []
    if term.floor is not None:
        floors = [other.floor.period.after(now, is_floor=True) for other in same if other.floor is not None]
        if term.floor.period.after(now, is_floor=True) == max(floors):
            ends.append("floor")
    if term.ceiling is not None:
        ceilings = [other.ceiling.period.after(now, is_floor=False) for other in same if other.ceiling is not None]
        if term.ceiling.period.after(now, is_floor=False) == min(ceilings):
            ends.append("ceiling")
    return " and ".join(ends) or "no: another is stricter"


def disputes(terms: Iterable[Term], now: datetime) -> tuple[str, ...]:
    """Classes of which one term wants to keep longer than another allows, where both run from the same trigger."""
    found = sorted(terms, key=lambda term: (term.name, term.pack))
    return tuple(
        f"{a.name}: {b.id} wants it gone after {b.ceiling}, {a.id} keeps it {a.floor}; it is kept"
        for a in found
        for b in found
        if a.name == b.name and a.floor and b.ceiling and a.floor.since == b.ceiling.since
        and a.floor.period.after(now, is_floor=True) > b.ceiling.period.after(now, is_floor=False)
    )  # fmt: skip
