"""What becomes of a request to erase: a legal hold, then a legal floor, then the wish; each conflict is told, with its date."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from falaj.core.errors import InvalidInput
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.ports.subjects import Finding
from falaj.stages.privacy.periods import NEVER
from falaj.stages.privacy.rules import Limit, Waiver, limits_by
from falaj.stages.privacy.terms import LAW, Term

MOST_LISTED = 100
"""So many places stand in an event; of more it holds their number."""
MOST_REFS = 300
"""So many places an erasure remembers with their versions; of more only the names, and of very many some."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`erase` now; or `restrict`: kept, beyond use, until `until`, then shredded. None: until something happens that has no date
    yet, a hold's release or the event that a period runs from."""

    kind: Literal["erase", "restrict"]
    until: datetime | None = None
    holds: tuple[str, ...] = ()
    floors: tuple[str, ...] = ()
    yields: tuple[str, ...] = ()
    """Floors that no law in force has set: they yield to the person's wish, and are told."""

    @property
    def conflicts(self) -> tuple[str, ...]:
        return (*(f"erasure against {hold}" for hold in self.holds), *(f"erasure against keeping: {f}" for f in self.floors))


def resolve(
    classes: Collection[str], terms: Iterable[Term], milestones: Mapping[str, datetime], *, holds: Sequence[str] = (),
    facts: tuple[Collection[Waiver], datetime],
) -> Outcome:  # fmt: skip
    """`classes`: what kinds of records the person's data makes. `facts`: the waivers, and what time it is.

    Only law is stronger than the person's wish, enacted or not verified yet: what is assumed or advised is not.
    """
    waivers, now = facts
    floors: set[Limit] = set()
    for term in terms:
        if term.name in classes:
            counting = [waiver for waiver in waivers if waiver.name == term.name and waiver.counts(now)]
            floors |= {limit for limit in limits_by(term, milestones, counting).floors if limit.at > now}
    binding = sorted(limit for limit in floors if limit.status in LAW)
    told = tuple(map(str, binding))
    yields = tuple(str(limit) for limit in sorted(floors - set(binding)))
    if not holds and not binding:
        return Outcome("erase", None, (), (), yields)
    until = max((limit.at for limit in binding), default=now)
    return Outcome("restrict", None if holds or until == NEVER else until, tuple(sorted(holds)), told, yields)


def place_of(finding: Finding) -> Ref | None:
    """The thing that a place names, as `dataset/trips@7` or `endpoint/delay segment 17` do; None where it names none."""
    try:
        return Ref.parse(finding.place.split(" ")[0])
    except InvalidInput:
        return None


def names_of(token: str, places: Sequence[Ref], scopes: Iterable[str]) -> list[Ref]:
    """The names under which a hold may mean one person's data that is in these places.

    A place without a version is any of its versions: what is not known exactly is held.
    """
    names = [Ref("subject", token), *places]
    for ref in places:
        if ref.kind == "quarantine":
            names.append(Ref("dataset", ref.name, ref.version))
        elif ref.kind == "endpoint":  # a segment of its log
            names.append(Ref("predictions", ref.name))
        elif ref.kind == "candidate":
            names.append(Ref("model", ref.name))
    whole, is_cut = {ref for ref in names if ref.version is None}, len(places) >= MOST_REFS
    held = [Ref.parse(scope) for scope in scopes if scope != "all"]
    return [*names, *(ref for ref in held if ref.kind != "subject" and (is_cut or ref.bare in whole))]


def tally(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """One line for each store and thing: places, counts, and whether anything can be read. Never what is in it."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for found in findings:
        ref = place_of(found)
        about = str(ref.bare) if ref is not None else found.place[:80]
        row = rows.setdefault(
            (found.store, about), {"store": found.store, "about": about, "places": 0, "count": 0, "readable": 0}
        )
        row["places"] += 1
        row["count"] += found.count
        row["readable"] += found.count if found.readable else 0
    listed = [rows[key] for key in sorted(rows)]
    if len(listed) <= MOST_LISTED:
        return listed
    rest = listed[MOST_LISTED:]
    return [*listed[:MOST_LISTED], {"store": "others", "about": f"{len(rest)} more", **_sums(rest)}]


def _sums(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    listed = list(rows)
    return {name: sum(row[name] for row in listed) for name in ("places", "count", "readable")}


def told(outcome: Outcome) -> str:
    """For the person who asked."""
    if outcome.kind == "erase":
        return "erased"
    until = iso(outcome.until)[:10] if outcome.until else "what keeps it ends"
    return f"restricted + beyond use until {until}, then shred"
