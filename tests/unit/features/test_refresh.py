"""The online store is brought up to date step by step, and after a kill it goes on where its own mark says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from falaj.adapters.memory.online import MemoryOnline
from falaj.core.errors import InvalidInput, Unavailable
from falaj.core.moments import from_millis
from falaj.core.stored import pack
from falaj.ports.online import Row, Stored
from falaj.stages.features import packing
from falaj.stages.features.mark import definition, mark_of
from falaj.stages.features.packing import packed_floats
from falaj.stages.features.refresh import Intake, Refresh
from falaj.stages.features.spec import AnyView, View
from tests.unit.features.test_service import DELAYS, HOUR, PLANE, START, WEATHER, Tables, tables

VIEWS = (WEATHER, PLANE, DELAYS)


class Killed(BaseException):
    """As hard an end as one process can give itself."""


class Mortal(MemoryOnline):
    """Ends the process at the n-th put, before it or right after it."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None
        self.is_after = False

    def put(self, view: str, rows: Mapping[str, Row], mark: str | None = None) -> int:
        if self.left is None:
            return super().put(view, rows, mark)
        self.left -= 1
        if self.left >= 0:
            return super().put(view, rows, mark)
        self.left = None
        if self.is_after:
            super().put(view, rows, mark)
        raise Killed


def contents(online: MemoryOnline) -> Any:
    return online._views, {view: mark_of(mark) for view, mark in online._marks.items()}


def rounds(hours: int = 38) -> list[datetime]:
    return [START + n * timedelta(minutes=45) for n in range(hours * 60 // 45)]


def refreshed(held: Tables, online: MemoryOnline, view: AnyView, moments: list[datetime]) -> MemoryOnline:
    refresh = Refresh(held, online)
    for now in moments:
        refresh.advance(view, now, {})
    return online


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
@pytest.mark.parametrize("is_after", [False, True])
def test_a_process_killed_at_any_put_is_followed_by_one_that_makes_the_same_store(
    view: AnyView, is_after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "BATCH", 1)
    held, moments = tables(), rounds(12)
    undisturbed = contents(refreshed(held, MemoryOnline(), view, moments))
    for puts in (0, 1, 2, 3, 5, 8, 11, 14, 18, 25, 31):
        online = Mortal()
        online.left, online.is_after = puts, is_after
        place = 0
        refresh = Refresh(held, online)
        while place < len(moments):
            try:
                refresh.advance(view, moments[place], {})
            except Killed:
                refresh = Refresh(held, online)
                place += puts % 3  # the next process may be late
            else:
                place += 1
        refresh.advance(view, moments[-1], {})
        assert contents(online) == undisturbed


def test_a_restart_reads_only_what_the_mark_says() -> None:
    held = tables()
    online = refreshed(held, MemoryOnline(), WEATHER, rounds())
    asked: list[datetime | None] = []

    class Watched(Tables):
        def recent(self, name: str, since: datetime | None, until: datetime) -> pl.DataFrame:
            asked.append(since)
            return super().recent(name, since, until)

    refresh = Refresh(Watched(held.tables), online)
    assert refresh.until("weather_now") == rounds()[-1]
    assert refresh.advance(WEATHER, rounds()[-1], {}) == 0
    assert asked == []
    refresh.advance(WEATHER, rounds()[-1] + HOUR, {})
    assert asked == [rounds()[-1]]


def test_a_store_that_is_cleared_while_the_process_lives_is_filled_again() -> None:
    held, online = tables(), MemoryOnline()
    refresh = Refresh(held, online)
    refresh.advance(PLANE, START, {})
    online.clear("plane")
    assert refresh.advance(PLANE, START, {}) == 2
    assert online.count("plane") == 2


def test_a_put_that_fails_is_done_again_by_the_same_process() -> None:
    class Full(MemoryOnline):
        is_full = False

        def put(self, view: str, rows: Mapping[str, Row], mark: str | None = None) -> int:
            if self.is_full:
                raise Unavailable("full")
            return super().put(view, rows, mark)

    held, moments = tables(), rounds(20)
    wanted = contents(refreshed(held, MemoryOnline(), DELAYS, moments))
    online = Full()
    refresh = Refresh(held, online)
    for place, now in enumerate(moments):
        online.is_full = place % 3 == 1
        if online.is_full:
            with pytest.raises(Unavailable):
                refresh.advance(DELAYS, now, {})
        online.is_full = False
        refresh.advance(DELAYS, now, {})
    assert contents(online) == wanted


def test_another_definition_builds_the_view_anew() -> None:
    held = tables()
    online = refreshed(held, MemoryOnline(), WEATHER, rounds())
    other = dataclasses.replace(WEATHER, features=("precip", "temp"))
    online.put("weather_now", {"LGA": Stored(1, (1.0, 2.0))})
    refresh = Refresh(held, online)
    assert refresh.advance(other, rounds()[-1], {}) == 1
    (row, stale) = online.get([("weather_now", "JFK"), ("weather_now", "LGA")])
    assert stale is None
    assert row is not None
    assert row == refreshed(held, MemoryOnline(), other, rounds()[-1:]).get([("weather_now", "JFK")])[0]
    assert definition(other) != definition(WEATHER)
    for change in ({"ttl": "4h"}, {"every": "1h"}, {"windows": ("1h", "7h")}, {"dataset": "others"}):
        assert definition(dataclasses.replace(DELAYS, **change)) != definition(DELAYS)


def test_a_row_that_lies_ahead_survives_a_restart() -> None:
    utc = pl.Datetime("ms", "UTC")
    frame = pl.DataFrame(
        {
            "origin": ["JFK", "JFK", "JFK"],
            "observed_at": [START, START + 5 * HOUR, START + 2 * HOUR],
            "temp": [1.0, 2.0, 3.0],
            "precip": [0.0] * 3,
            "known_at": [START, START, START + 2 * HOUR],
        },
        schema_overrides={"observed_at": utc, "known_at": utc},
    )
    held = Tables({"weather": frame})
    held.known = {"weather": "known_at"}
    online = MemoryOnline()
    for hours, wanted in ((0, 1.0), (1, 1.0), (2, 3.0), (4, 3.0), (5, 2.0), (6, 2.0)):
        Refresh(held, online).advance(WEATHER, START + hours * HOUR, {})
        (row,) = online.get([("weather_now", "JFK")])
        assert row is not None
        assert row.values[0] == wanted
    mark = mark_of(online.mark("weather_now"))
    assert mark is not None
    assert mark.read_from == mark.until == START + 6 * HOUR


@pytest.mark.parametrize("view", [WEATHER, DELAYS], ids=lambda view: view.name)
@pytest.mark.parametrize("restarts", [False, True])
def test_rows_of_a_load_that_was_refused_and_mended_come_after_all(view: AnyView, restarts: bool) -> None:
    """From hour 6 to 10 the load is refused, and the rows of hours 6 to 8 with it; then it comes in as a whole."""
    held = tables()
    refused = (START + 6 * HOUR, START + 9 * HOUR)

    class Refusing(Tables):
        intake = Intake(None)

        def recent(self, name: str, since: datetime | None, until: datetime) -> pl.DataFrame:
            rows = super().recent(name, since, until)
            known = pl.col(self.known[name])
            return rows.filter((known <= refused[0]) | (known > refused[1])) if self.intake.is_refused else rows

    broken, online = Refusing(held.tables), MemoryOnline()
    moments = [START + n * timedelta(minutes=30) for n in range(1, 30)]
    refresh = Refresh(broken, online, lambda _dataset: broken.intake)
    for now in moments:
        hour = now.replace(minute=0)
        is_refused = START + 6 * HOUR < now < START + 10 * HOUR
        broken.intake = Intake(min(hour, refused[0]) if is_refused else hour, is_refused)
        if restarts:
            refresh = Refresh(broken, online, lambda _dataset: broken.intake)
        refresh.advance(view, now, {})
        if now == START + 10 * HOUR:
            wanted = refreshed(held, MemoryOnline(), view, moments[:20])
            assert online._views == wanted._views
    assert online._views == refreshed(held, MemoryOnline(), view, moments)._views


def test_a_mark_that_nobody_can_read_counts_as_none() -> None:
    for text in ("", "{", "[]", '{"definition": 1}', "null", '{"definition": "x", "until": "noon", "read_from": null}'):
        assert mark_of(text) is None
    held, online = tables(), MemoryOnline()
    online.put("plane", {}, "of a later falaj")
    assert Refresh(held, online).advance(PLANE, START, {}) == 2


def test_a_frame_is_packed_as_its_rows_are() -> None:
    values = np.random.default_rng(1).normal(size=(50, 19))
    values[values > 1] = np.nan
    at = np.arange(-25, 25, dtype=np.int64)
    rows = [
        Stored(int(ms), tuple(None if np.isnan(value) else float(value) for value in row))
        for ms, row in zip(at, values, strict=True)
    ]
    assert packed_floats(at, values) == [pack(row) for row in rows]
    assert packed_floats(at[:0], values[:0]) == []
    with pytest.raises(InvalidInput, match="beyond all years"):
        packed_floats(np.array([1 << 60]), values[:1])


def test_columns_of_other_types_keep_them() -> None:
    view = View("v", "d", entity="e", features=("f", "i", "b", "s"), time="t")
    rows = pl.DataFrame(
        {
            "e": ["x", "y"],
            "at": [from_millis(5)] * 2,
            "f": [float("nan"), 1.5],
            "i": [1 << 60, None],
            "b": [True, None],
            "s": ["ف", ""],
        }
    )
    (batch,) = packing.batches(rows, view)
    assert batch == {"x": pack(Stored(5, (None, 1 << 60, True, "ف"))), "y": pack(Stored(5, (1.5, None, None, "")))}
