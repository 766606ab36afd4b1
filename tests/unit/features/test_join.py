"""The point-in-time join against a slow oracle that is right at a glance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import Phase, find, given, settings

from falaj.core.errors import InvalidInput
from falaj.stages.features import join
from falaj.stages.features.join import Side, as_of, join_views
from tests.kits.asof import BROUGHT, SPAN, START, WRONG, Case, Row, Rules, cases, oracle


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(cases())
def test_the_join_is_what_the_oracle_says(case: Case) -> None:
    joined = as_of(case.left(), case.right(), entity="key", spine_time="t", row_time="at", ttl=case.ttl, created=case.created)
    assert joined.columns == ["key", "t", *BROUGHT]
    assert seen(joined) == oracle(case)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_the_search_inside_each_entity_finds_the_same(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join, "_BITS", 0)  # entity and time never fit into one number
        joined = as_of(case.left(), case.right(), entity="key", spine_time="t", row_time="at", ttl=case.ttl, created=case.created)
    assert seen(joined) == oracle(case)


@settings(max_examples=50, deadline=None)
@given(cases(), cases())
def test_tables_joined_in_one_call_are_as_if_joined_one_by_one(case: Case, other: Case) -> None:
    spine, first, second = case.left(), case.right(), other.right().rename({name: f"other_{name}" for name in ("key", *BROUGHT)})
    sides = [
        Side(first, "key", "at", case.ttl, case.created),
        Side(second.lazy(), "other_key", "other_at", other.ttl, other.created and "other_created", key="key"),
    ]
    joined = join_views(spine, "t", sides)
    apart = as_of(spine, first, entity="key", spine_time="t", row_time="at", ttl=case.ttl, created=case.created)
    again = Case(case.spine, other.rows, other.ttl, other.by_created)
    assert joined.select(apart.columns).equals(apart)
    assert seen(joined.select("key", "t", *(pl.col(f"other_{name}").alias(name) for name in BROUGHT))) == oracle(again)


@pytest.mark.slow
@pytest.mark.parametrize("rules", WRONG.values(), ids=WRONG.keys())
def test_the_examples_show_every_known_mistake(rules: Rules) -> None:
    """A join with the mistake would fail the test above: some example is answered otherwise than the oracle does."""
    quick = settings(max_examples=1200, derandomize=True, database=None, phases=[Phase.generate])
    find(cases(), lambda case: oracle(case, rules) != oracle(case), settings=quick)


def seen(joined: pl.DataFrame) -> list[Row]:
    """Rows as the oracle writes them: keys as text, times in UTC."""
    times = [pl.col(name).dt.convert_time_zone("UTC").dt.cast_time_unit("us") for name in ("t", "at", "created")]
    return joined.with_columns(pl.col("key").cast(pl.String), *times).to_dicts()


def one(spine: list[Row], rows: list[Row], **how: Any) -> list[Any]:
    case = Case(spine, rows, None, False)
    return as_of(case.left(), case.right(), entity="key", spine_time="t", row_time="at", **{"ttl": None, **how})[
        "value"
    ].to_list()


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


def test_times_too_far_apart_for_one_number_are_still_compared() -> None:
    old, new = datetime(1700, 1, 1, tzinfo=UTC), datetime(2250, 1, 1, tzinfo=UTC)
    keys = [f"k{n}" for n in range(70)]
    rows = pl.DataFrame({"key": keys * 2, "at": [old] * 70 + [new] * 70, "value": [*range(140)]})
    fine = pl.col("at").dt.convert_time_zone("UTC").dt.cast_time_unit("ns")
    spine = pl.DataFrame({"key": keys * 2, "t": [START] * 70 + [new] * 70}, schema_overrides={"t": pl.Datetime("us", "UTC")})
    rows = rows.with_columns(fine)
    joined = as_of(spine, rows, entity="key", spine_time="t", row_time="at", ttl=None)
    assert joined["value"].to_list() == [*range(140)]
    aged = as_of(spine, rows, entity="key", spine_time="t", row_time="at", ttl=timedelta(days=365))
    assert aged["value"].to_list() == [None] * 70 + [*range(70, 140)]
    known = as_of(spine, rows.with_columns(known="at"), entity="key", spine_time="t", row_time="at", ttl=None, created="known")
    assert known["value"].to_list() == [*range(140)]


def test_a_ttl_longer_than_any_calendar_is_no_limit() -> None:
    assert one([ask(3)], [row(0, 1)], ttl=timedelta.max) == [1]


def test_a_column_that_is_not_there_is_refused() -> None:
    case = Case([ask(1)], [row(1, 1)], None, False)
    with pytest.raises(InvalidInput, match="'nothing'"):
        as_of(case.left(), case.right(), entity="key", spine_time="t", row_time="nothing", ttl=None)


def test_many_entities_are_kept_apart() -> None:
    """More than one 16-bit digit of entities, numbers that lie close and numbers that do not."""
    for step in (1, 1_000_003):
        keys = [n * step for n in range(100_000)]
        spine = pl.DataFrame({"key": keys[::-1], "t": START}, schema_overrides={"t": pl.Datetime("us", "UTC")})
        rows = pl.DataFrame({"key": keys, "at": START, "value": keys}, schema_overrides={"at": pl.Datetime("us", "UTC")})
        joined = as_of(spine, rows, entity="key", spine_time="t", row_time="at", ttl=None)
        assert joined["value"].equals(spine["key"].alias("value"))
