"""Parity: what the online store serves, and what predictions were made with, against the truth recomputed from snapshots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from falaj.core.decision import Check
from falaj.core.moments import from_millis, iso, length, millis, moment
from falaj.core.recipe import Recipe
from falaj.core.stored import Stored, Value
from falaj.ports.online import Online
from falaj.stages.features.data import Contracts
from falaj.stages.features.join import as_of
from falaj.stages.features.keyed import known_after, with_entity
from falaj.stages.features.mark import mark_of
from falaj.stages.features.offline import rows_behind
from falaj.stages.features.rules import Mismatch
from falaj.stages.features.spec import AT, CREATED, AnyView, WindowView, inputs, span_ms

NAMED = 20
"""How many mismatches a decision about predictions names one by one; the count covers all."""
WATCHED = 20
"""How many entities of a view are read at once."""
MOST_WAITING = 1_000
"""How many reads of a view wait for their snapshots; beyond that the oldest are dropped."""
KEPT_FOR = 5
"""After so many comparisons other entities are watched."""
MOST_TOLD = 100
TOLERANCE = 1e-9
"""Relative; what is whole, text, true or false must be equal."""
_KEY, _ASKED = "__entity", "__asked"
Pick = Callable[[Sequence[str], int], Sequence[str]]
"""(names, how many) → that many of them by chance."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One read of the online store: whose row, when, and what was there."""

    entity: str
    read_at: datetime
    row: Stored | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not what the snapshots say. `feature` is `at` where the rows are of different times."""

    entity: str
    read_at: datetime
    feature: str
    online: Value
    offline: Value


@dataclass(slots=True)
class Tally:
    """What was compared of one view since it was last recorded."""

    rows: int = 0
    wrong: dict[str, int] = field(default_factory=dict)
    """feature → in how many rows it differed."""
    differences: list[Difference] = field(default_factory=list)
    """The newest, at most MOST_TOLD; they hold values, so they are shown to who may read data and never recorded."""

    @property
    def is_clear(self) -> bool:
        return not self.wrong

    def count(self, rows: int, found: Sequence[Difference]) -> None:
        self.rows += rows
        for feature in sorted({one.feature for one in found}):
            self.wrong[feature] = self.wrong.get(feature, 0) + sum(1 for one in found if one.feature == feature)
        self.differences = [*self.differences, *found][-MOST_TOLD:]


class Watch:
    """Reads some entities of each view now, and compares what it read once the snapshots have come to that time."""

    def __init__(self, contracts: Contracts, online: Online) -> None:
        self.contracts = contracts
        self.online = online
        self._entities: dict[str, Sequence[str]] = {}
        self._waiting: dict[str, list[Seen]] = {}
        self._tallies: dict[str, Tally] = {}
        self._compared: dict[str, int] = {}

    def look(self, view: AnyView, now: datetime, covered: datetime, pick: Pick) -> int:
        """Reads the watched entities, or picks some from the newest snapshots first. Returns how many were read."""
        names = self._entities.get(view.name)
        if names is None:
            names = self._entities[view.name] = self._known(view, covered, pick)
        if not names:
            del self._entities[view.name]
            return 0
        rows = self.online.get([(view.name, name) for name in names])
        seen = [Seen(name, now, row) for name, row in zip(names, rows, strict=True)]
        self._waiting[view.name] = [*self._waiting.get(view.name, []), *seen][-MOST_WAITING:]
        return len(seen)

    def compare(self, view: AnyView, covered: datetime) -> Tally:
        """Compares what the snapshots have reached. Every so often the next look picks other entities then."""
        tally = self._tallies.setdefault(view.name, Tally())
        waiting = self._waiting.get(view.name, [])
        ready = [seen for seen in waiting if seen.read_at <= covered]
        if not ready:
            return tally
        found = differences(view, ready, truth(self.contracts, view, ready))
        tally.count(len(ready), found)
        self._waiting[view.name] = [seen for seen in waiting if seen.read_at > covered]
        self._compared[view.name] = 0 if found else self._compared.get(view.name, 0) + 1
        if self._compared[view.name] >= KEPT_FOR:  # what is wrong is watched until it is right
            self._compared[view.name] = 0
            self._entities.pop(view.name, None)
        return tally

    def at_once(self, view: AnyView, now: datetime, covered: datetime, pick: Pick) -> Tally:
        """Compares what can be compared now: the entities of which nothing became known between the snapshots and what the
        store has taken in. They are judged as of then; the others wait."""
        tally = self._tallies.setdefault(view.name, Tally())
        if not self.look(view, now, covered, pick):
            return tally
        mark = mark_of(self.online.mark(view.name))
        until = covered if mark is None or mark.until is None else min(now, mark.until)
        fresh = set(known_after(self.contracts, view, covered, until).to_list())
        waiting = self._waiting[view.name]
        ready = [replace(seen, read_at=until) for seen in waiting if seen.read_at == now and seen.entity not in fresh]
        found = differences(view, ready, truth(self.contracts, view, ready)) if ready else []
        gone = [one for one in found if _may_be_gone(view, one, now)]
        tally.count(len(ready) - len(gone), [one for one in found if one not in gone])
        self._waiting[view.name] = [seen for seen in waiting if seen.read_at != now or seen.entity in fresh]
        return tally

    def take(self, view: str) -> tuple[Tally, int]:
        """What was compared since the last call, and how many reads still wait."""
        return self._tallies.pop(view, Tally()), len(self._waiting.get(view, []))

    def _known(self, view: AnyView, covered: datetime, pick: Pick) -> Sequence[str]:
        """Entities with rows in the newest snapshots: a day of them, or all that a row may be made of."""
        whole = view.longest if isinstance(view, WindowView) else None if view.ttl is None else length(view.ttl)
        for back in (timedelta(days=1), whole):
            since = None if back is None else covered - back
            rows = with_entity(self.contracts.frame(view.dataset, since=since, until=covered, by="known"), view)
            names = sorted(rows[view.entity].drop_nulls().unique().to_list())
            if names:
                return pick(names, min(WATCHED, len(names)))
        return ()


def truth(contracts: Contracts, view: AnyView, seen: Sequence[Seen]) -> pl.DataFrame:
    """Of each read the row that the store should have held, from snapshots: `at` and the features, null where none."""
    made = inputs(view.all(), time=_ASKED)
    recipe = Recipe(made.columns, {view.name: _KEY}, made.ttl_ms, _ASKED)  # a key of several columns is one text here already
    times = pl.Series(_ASKED, [one.read_at for one in seen], dtype=pl.Datetime("us", "UTC"))
    spine = pl.DataFrame([pl.Series(_KEY, [one.entity for one in seen], dtype=pl.String), times])
    rows = rows_behind(contracts, view, recipe, spine).lazy().collect().rename({view.entity: _KEY})
    limit = None if view.ttl is None else length(view.ttl)
    created = CREATED if CREATED in rows.columns else None
    return as_of(spine, rows, entity=_KEY, spine_time=_ASKED, row_time=AT, ttl=limit, created=created)


def differences(view: AnyView, seen: Sequence[Seen], truth: pl.DataFrame) -> list[Difference]:
    """Where reads of the online store differ from the truth. A row that is too old to be served counts as none."""
    limit = None if view.ttl is None else span_ms(view.ttl)
    found: list[Difference] = []
    times = truth[AT].dt.epoch("ms").to_list()
    for one, at_ms, values in zip(seen, times, truth.select(view.places).rows(), strict=True):
        row = one.row
        if row is not None and limit is not None and millis(one.read_at) - row.at_ms > limit:
            row = None
        stored = None if row is None else row.at_ms
        if stored != at_ms:
            found.append(Difference(one.entity, one.read_at, AT, _time(stored), _time(at_ms)))
        elif row is not None:
            held = row.values if len(row.values) == len(values) else (None,) * len(values)
            found += [
                Difference(one.entity, one.read_at, name, online, offline)
                for name, online, offline in zip(view.places, held, values, strict=True)
                if not equal(online, offline)
            ]
    return found


def _may_be_gone(view: AnyView, one: Difference, now: datetime) -> bool:
    """Whether the row was there as of then, and is too old by now: a store may drop it."""
    is_missing = one.feature == AT and one.online is None and one.offline is not None
    return is_missing and view.ttl is not None and now - moment(str(one.offline)) > length(view.ttl)


def row_checks(view: AnyView, tally: Tally, waiting: int) -> tuple[tuple[Check, ...], str]:
    """The checks of a decision, which name features and counts and no values; and its reason where something is wrong."""
    seen = f"{sum(tally.wrong.values())} differences in {tally.rows} rows"
    total = Check(
        "parity",
        "every row as in the snapshots",
        seen if tally.rows else f"no row that snapshots cover yet, {waiting} wait",
        tally.is_clear if tally.rows else None,
    )
    named = [Check(name, "as in the snapshots", f"differs in {count} rows", False) for name, count in sorted(tally.wrong.items())]
    reason = "" if tally.is_clear else f"{view.name} is served otherwise than the snapshots say: {', '.join(sorted(tally.wrong))}"
    if not tally.rows:
        reason = (
            f"the snapshots have not come to what is stored: falaj dataset ingest {view.dataset}, then again"
            if waiting
            else f"no row was read: falaj feature materialise {view.name}, then again"
        )
    return (total, *named[:NAMED]), reason


def prediction_checks(
    found: Sequence[Mismatch], predictions: int, columns: int, masked: int = 0, *, is_personal: bool = False
) -> tuple[Check, ...]:
    """`masked`: predictions that cannot be recomputed, since the log was not to hold their request. `is_personal`: they are
    about people, whose values no decision may hold."""
    unseen = f"masked requests: {masked}" if masked else "no prediction that snapshots cover yet"
    seen = f"{len(found)} of {predictions * columns} values of {predictions} predictions differ"
    total = Check(
        "parity",
        "every value as offline",
        seen if predictions else unseen,
        not found if predictions else None,
    )
    named = (
        Check(f"{m.prediction}.{m.feature}", "as offline", "differs", False)
        if is_personal
        else Check(f"{m.prediction}.{m.feature}", f"offline {m.offline}", f"online {m.online}", False)
        for m in found[:NAMED]
    )
    return (total, *named)


def has_fields(request: Any, recipe: Recipe) -> bool:
    return isinstance(request, Mapping) and all(name in request for name in recipe.request_fields if name != recipe.time_field)


def equal(online: Value, offline: Value) -> bool:
    """Whether a stored value is what was recomputed: exactly, or of floats within TOLERANCE."""
    if online is None or offline is None or isinstance(online, str) or isinstance(offline, str):
        return online == offline
    if isinstance(online, float) and isinstance(offline, float):
        return online == offline or abs(online - offline) <= TOLERANCE * max(1.0, abs(offline))
    return online == offline


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso(from_millis(at_ms))
