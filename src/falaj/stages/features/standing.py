"""Standing: what the online store holds of an entity, and whether the snapshots have come far enough to say why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from falaj.core.moments import from_millis, iso, length
from falaj.core.stored import Stored, Value
from falaj.ports.online import Online
from falaj.stages.features.mark import mark_of
from falaj.stages.features.parity import equal
from falaj.stages.features.spec import AT, AnyView


@dataclass(frozen=True, slots=True)
class Standing:
    """What an explanation is held against."""

    view: AnyView
    entity: str
    asked_at: datetime
    """As of when the snapshots are asked."""
    stored: Stored | None
    """The row that the store holds; None where it holds none, or a time was asked for."""
    covered: datetime | None
    later: int
    """Rows of the entity that became known after the snapshots, and until then."""

    @property
    def values(self) -> dict[str, Value] | None:
        """None too where the row is of another definition."""
        if self.stored is None or len(self.stored.values) != len(self.view.places):
            return None
        return dict(zip(self.view.places, self.stored.values, strict=True))

    def differs(self, at: datetime | None, values: Mapping[str, Value]) -> list[str]:
        """Where the stored row is not the recomputed one: names of features, or `at` where it is of another time."""
        if self.stored is None:
            return []
        if at is None or from_millis(self.stored.at_ms) != at or self.values is None:
            return [AT]
        return [name for name, value in values.items() if not equal(self.values[name], value)]


def standing(online: Online, view: AnyView, entity: str, now: datetime) -> Standing:
    """Of what is stored now: asked is as of when the store took in what it holds, or else now. `covered` is not known yet."""
    row = online.get([(view.name, entity)])[0]
    if row is None:
        return Standing(view, entity, now, None, None, 0)
    mark, at = mark_of(online.mark(view.name)), from_millis(row.at_ms)
    asked = now if mark is None or mark.until is None else min(now, mark.until)
    if view.ttl is not None:  # a row that is too old to be served is still what stands there
        asked = min(asked, at + length(view.ttl))
    return Standing(view, entity, max(asked, at), row, None, 0)


def said(held: Standing, at: datetime | None, values: Mapping[str, Value], *, is_asked: bool) -> str:
    """What a reader has to know of an explanation. `is_asked`: for a time that somebody named."""
    told = []
    if held.later:
        reach = "Snapshots reach nothing yet" if held.covered is None else f"Snapshots reach until {iso(held.covered)}"
        events = "1 later event is" if held.later == 1 else f"{held.later:,} later events are"
        told.append(f"{reach}: {events} not in them, so this is not all that a value of {iso(held.asked_at)} is made of.")
    if is_asked:
        told.append(f"It is what the snapshots say of {iso(held.asked_at)}; what the store holds now was not looked at.")
    elif held.stored is None:
        told.append(f"The store holds no row of {held.entity}: this is what the snapshots say of now.")
    else:
        differs = held.differs(at, values)
        row = f"the row of {iso(from_millis(held.stored.at_ms))} that the store holds"
        told.append(f"It differs from {row}: {', '.join(differs)}." if differs else f"It is {row}.")
    return " ".join(told)
