"""The point-in-time join against a slow oracle that is right at a glance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.stages.features.join import as_of

START = datetime(2013, 3, 10, 5, tzinfo=UTC)
SPAN = timedelta(minutes=10)
Row = dict[str, Any]

keys = st.sampled_from([None, "a", "b", "c"])
times = st.one_of(st.none(), st.integers(0, 12).map(lambda n: START + n * SPAN))
spines = st.lists(st.fixed_dictionaries({"key": keys, "t": times}), max_size=12)
stored = st.lists(
    st.fixed_dictionaries({"key": keys, "at": times, "created": times, "value": st.one_of(st.none(), st.integers(0, 99))}),
    max_size=14,
)
ttls = st.one_of(st.none(), st.integers(1, 6).map(lambda n: n * SPAN))


def oracle(spine: list[Row], rows: list[Row], ttl: timedelta | None, by_created: bool) -> list[Row]:
    found = []
    for asked in spine:
        best: Row | None = None
        best_order: tuple[Any, ...] = ()
        for place, row in enumerate(rows):
            if (
                asked["key"] is None
                or asked["t"] is None
                or row["key"] != asked["key"]
                or row["at"] is None
                or row["at"] > asked["t"]
            ):
                continue
            if by_created and (row["created"] is None or row["created"] > asked["t"]):
                continue
            order = (row["at"], row["created"], place) if by_created else (row["at"], place)
            if best is None or order > best_order:
                best, best_order = row, order
        if best is not None and ttl is not None and asked["t"] - best["at"] > ttl:
            best = None
        found.append({**asked, **{name: best[name] if best else None for name in ("at", "created", "value")}})
    return found


def frame(rows: list[Row], columns: dict[str, Any], zone: str, unit: Any) -> pl.DataFrame:
    made = pl.DataFrame(
        rows, schema={name: pl.Datetime("us", "UTC") if kind == "time" else kind for name, kind in columns.items()}
    )
    local = [pl.col(name).dt.convert_time_zone(zone).dt.cast_time_unit(unit) for name, kind in columns.items() if kind == "time"]
    return made.with_columns(local)


SPINE = {"key": pl.String, "t": "time"}
ROWS = {"key": pl.String, "at": "time", "created": "time", "value": pl.Int64}
zones = st.sampled_from(["UTC", "America/New_York", "Asia/Dubai"])
units = st.sampled_from(["ms", "us", "ns"])


@settings(max_examples=150, deadline=None)
@given(spines, stored, ttls, st.booleans(), st.tuples(zones, units, zones, units))
def test_the_join_is_what_the_oracle_says(
    spine: list[Row], rows: list[Row], ttl: timedelta | None, by_created: bool, kinds: tuple[str, str, str, str]
) -> None:
    asked, held = frame(spine, SPINE, *kinds[:2]), frame(rows, ROWS, *kinds[2:])
    joined = as_of(asked, held, entity="key", spine_time="t", row_time="at", ttl=ttl, created="created" if by_created else None)
    assert joined.columns == ["key", "t", "at", "created", "value"]
    assert joined.to_dicts() == oracle(spine, rows, ttl, by_created)


def one(spine: list[Row], rows: list[Row], **how: Any) -> list[Any]:
    asked, held = frame(spine, SPINE, "UTC", "us"), frame(rows, ROWS, "UTC", "us")
    return as_of(asked, held, entity="key", spine_time="t", row_time="at", **{"ttl": None, **how})["value"].to_list()


def row(at: float, value: int, created: float | None = None, key: str | None = "a") -> Row:
    return {"key": key, "at": START + at * SPAN, "created": None if created is None else START + created * SPAN, "value": value}


def ask(t: float, key: str | None = "a") -> Row:
    return {"key": key, "t": START + t * SPAN}


def test_a_row_of_that_very_moment_counts() -> None:
    assert one([ask(5)], [row(5, 1)]) == [1]


def test_a_row_exactly_as_old_as_the_ttl_counts_and_one_microsecond_older_does_not() -> None:
    late = {"key": "a", "t": START + 3 * SPAN + timedelta(microseconds=1)}
    assert one([ask(3), late], [row(0, 1)], ttl=3 * SPAN) == [1, None]


def test_a_row_that_became_known_late_is_not_seen_before() -> None:
    rows = [row(1, 1, created=1), row(2, 2, created=6)]
    assert one([ask(3), ask(6)], rows, created="created") == [1, 2]


def test_an_old_row_that_comes_late_does_not_hide_a_newer_one() -> None:
    rows = [row(4, 4, created=4), row(1, 1, created=8)]
    assert one([ask(9)], rows, created="created") == [4]


def test_among_rows_of_one_time_the_last_created_wins_then_the_last_in_the_file() -> None:
    rows = [row(1, 10, created=5), row(1, 20, created=3), row(1, 30, created=5)]
    assert one([ask(4), ask(5)], rows, created="created") == [20, 30]
    assert one([ask(1)], rows) == [30]


def test_duplicate_spine_rows_stay_and_null_keys_match_nothing() -> None:
    rows = [row(1, 1), row(1, 9, key=None)]
    assert one([ask(2), ask(2), ask(2, None), ask(2, "z")], rows) == [1, 1, None, None]


def test_keys_of_different_types_are_compared_as_text() -> None:
    spine = pl.DataFrame({"key": [7, 8], "t": [START, START]})
    rows = pl.DataFrame({"key": ["7"], "at": [START], "value": [1.0]})
    assert as_of(spine, rows, entity="key", spine_time="t", row_time="at", ttl=None)["value"].to_list() == [1.0, None]


def test_a_time_without_a_zone_is_refused() -> None:
    spine = pl.DataFrame({"key": ["a"], "t": [datetime(2013, 1, 1)]})
    rows = pl.DataFrame({"key": ["a"], "at": [START], "value": [1.0]})
    with pytest.raises(InvalidInput, match="time zone"):
        as_of(spine, rows, entity="key", spine_time="t", row_time="at", ttl=None)


def test_a_column_on_both_sides_is_refused() -> None:
    spine = pl.DataFrame({"key": ["a"], "t": [START], "value": [0.0]})
    rows = pl.DataFrame({"key": ["a"], "at": [START], "value": [1.0]})
    with pytest.raises(InvalidInput, match="'value'"):
        as_of(spine, rows, entity="key", spine_time="t", row_time="at", ttl=None)
