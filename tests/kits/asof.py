"""The point-in-time join as a loop that is right at a glance, its usual mistakes, and examples on which they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import strategies as st

START = datetime(2013, 3, 10, 6, tzinfo=UTC)
"""An hour before New York puts its clocks forward."""
SPAN = timedelta(minutes=10)
TICK = timedelta(milliseconds=1)
Row = dict[str, Any]
BROUGHT = ("at", "created", "value")


@dataclass(frozen=True)
class Case:
    """A spine (key, t), rows (key, at, created, value), and how both are written down."""

    spine: list[Row]
    rows: list[Row]
    ttl: timedelta | None
    by_created: bool
    kinds: tuple[Any, Any] = (pl.String, pl.String)
    zones: tuple[str, str] = ("UTC", "UTC")
    units: tuple[Any, Any] = ("us", "us")

    @property
    def created(self) -> str | None:
        return "created" if self.by_created else None

    def left(self) -> pl.DataFrame:
        return _frame(self.spine, {"key": self.kinds[0], "t": "time"}, self.zones[0], self.units[0])

    def right(self) -> pl.DataFrame:
        columns = {"key": self.kinds[1], "at": "time", "created": "time", "value": pl.Int64}
        return _frame(self.rows, columns, self.zones[1], self.units[1])


@dataclass(frozen=True)
class Rules:
    """The rules of the join; every field that is changed makes a join that somebody has written before."""

    same_moment: bool = True
    same_age: bool = True
    null_keys_match: bool = False
    as_known: bool = True
    filtered_first: bool = True
    order: tuple[str, ...] = ("at", "created", "place")
    first_wins: bool = False
    keeps_duplicates: bool = True
    keeps_null_keys: bool = True
    stops_at_a_later_row: bool = False
    by_the_clock_on_the_wall: bool = False


RIGHT = Rules()
WRONG: Mapping[str, Rules] = {
    "the row of that very moment is left out": Rules(same_moment=False),
    "a row exactly as old as the ttl is left out": Rules(same_age=False),
    "null keys match null keys": Rules(null_keys_match=True),
    "created is not looked at": Rules(as_known=False),
    "created is looked at after the newest row was chosen": Rules(filtered_first=False),
    "ties go to the first row": Rules(first_wins=True),
    "ties go by place before created": Rules(order=("at", "place")),
    "the newest created wins before the newest time": Rules(order=("created", "at", "place")),
    "duplicates in the spine are dropped": Rules(keeps_duplicates=False),
    "spine rows without a key are dropped": Rules(keeps_null_keys=False),
    "the rows are taken to be sorted": Rules(stops_at_a_later_row=True),
    "times are compared by the clock on the wall": Rules(by_the_clock_on_the_wall=True),
}


def oracle(case: Case, rules: Rules = RIGHT) -> list[Row]:
    """Each row of the spine with the columns of its row, or nulls."""
    found: list[Row] = []
    for place, asked in enumerate(case.spine):
        if not rules.keeps_duplicates and asked in case.spine[:place]:
            continue
        if not rules.keeps_null_keys and asked["key"] is None:
            continue
        best = _best(case, asked, rules)
        found.append({**asked, **{name: best[name] if best else None for name in BROUGHT}})
    return found


def _best(case: Case, asked: Row, rules: Rules) -> Row | None:
    t = asked["t"]
    if t is None or (asked["key"] is None and not rules.null_keys_match):
        return None
    clock = _wall(t, case.zones[0]) if rules.by_the_clock_on_the_wall else t
    best: Row | None = None
    best_order: tuple[Any, ...] = ()
    for place, row in enumerate(case.rows):
        if row["key"] != asked["key"] or row["at"] is None or (case.by_created and row["created"] is None):
            continue
        at = _wall(row["at"], case.zones[1]) if rules.by_the_clock_on_the_wall else row["at"]
        if at > clock or (at == clock and not rules.same_moment):
            if rules.stops_at_a_later_row:
                break
            continue
        if case.by_created and rules.as_known and rules.filtered_first and row["created"] > t:
            continue
        rank = {**row, "place": -place if rules.first_wins else place}
        order = tuple(rank[name] for name in rules.order if name != "created" or case.by_created)
        if best is None or order > best_order:
            best, best_order = row, order
    if best is not None and not rules.filtered_first and case.by_created and best["created"] > t:
        return None
    if best is not None and case.ttl is not None:
        age = clock - (_wall(best["at"], case.zones[1]) if rules.by_the_clock_on_the_wall else best["at"])
        if age > case.ttl or (age == case.ttl and not rules.same_age):
            return None
    return best


def _wall(at: datetime, zone: str) -> datetime:
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def _frame(rows: list[Row], columns: Mapping[str, Any], zone: str, unit: Any) -> pl.DataFrame:
    made = []
    for name, kind in columns.items():
        values = [row[name] for row in rows]
        if kind == "time":
            times = pl.Series(name, values, dtype=pl.Datetime("us", "UTC"))
            made.append(times.dt.convert_time_zone(zone).dt.cast_time_unit(unit))
        elif name == "key" and kind.is_integer():
            made.append(pl.Series(name, [None if value is None else int(value) for value in values], dtype=kind))
        else:
            made.append(pl.Series(name, values, dtype=kind))
    return pl.DataFrame(made)


_KINDS = st.sampled_from([pl.String(), pl.Int64(), pl.UInt64(), pl.Categorical()])
_ZONES = st.sampled_from(["UTC", "America/New_York", "Asia/Dubai"])
_MOMENTS = st.builds(lambda spans, ticks: START + spans * SPAN + ticks * TICK, st.integers(0, 12), st.sampled_from([0, 0, -1, 1]))
_EDGES = st.sampled_from([timedelta(0), timedelta(0), -TICK, TICK])


@st.composite
def cases(draw: st.DrawFn, units: tuple[str, ...] = ("ms", "us", "ns"), kinds: st.SearchStrategy[Any] = _KINDS) -> Case:
    """Ties, late rows, duplicates, nulls, edges of the ttl, types, zones and units of time; unsorted, often empty.

    A case has few keys and few moments, and a ttl as long as one of them is old: else nothing would tie or meet an edge.
    """
    keys = st.sampled_from([None, *draw(st.lists(st.sampled_from(["1", "2", "3", "4000000000"]), min_size=1, max_size=3))])
    moments = draw(st.lists(_MOMENTS, min_size=1, max_size=6))
    times = st.sampled_from([None, *moments])
    ages = st.sampled_from([SPAN, *(a - b for a in moments for b in moments if a - b > TICK)])
    values = st.one_of(st.none(), st.integers(0, 99))
    asked, held = draw(st.integers(0, 12)), draw(st.integers(0, 14))
    spine = draw(st.lists(st.fixed_dictionaries({"key": keys, "t": times}), min_size=asked, max_size=asked))
    row = st.fixed_dictionaries({"key": keys, "at": times, "created": times, "value": values})
    rows = draw(st.lists(row, min_size=held, max_size=held))
    return Case(
        spine + spine[: draw(st.integers(0, 3))],
        rows,
        draw(st.one_of(st.none(), st.builds(timedelta.__add__, ages, _EDGES))),
        draw(st.booleans()),
        (draw(kinds), draw(kinds)),
        (draw(_ZONES), draw(_ZONES)),
        (draw(st.sampled_from(units)), draw(st.sampled_from(units))),
    )
