"""Judging rows: types, limits, sets, keys and expressions, each against plain Python."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from falaj.stages.contracts import expression, odcs
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.rows import instant
from falaj.stages.contracts.rules import Checked, check, expr

from .conftest import trips


def contract(column: str, quality: str = "") -> Contract:
    head = "apiVersion: v3.1.0\nkind: DataContract\nid: a\nversion: '1'\nstatus: active\nschema:\n  - name: t\n    properties:\n"
    return odcs.read(f"{head}      - {{name: x, {column}}}\n      - {{name: y, logicalType: number}}\n{quality}".encode())


def judged(values: list[Any], column: str, dtype: Any = None, quality: str = "") -> Checked:
    return check(
        pl.DataFrame({"x": pl.Series(values, dtype=dtype), "y": pl.Series([1.0] * len(values))}), contract(column, quality)
    )


def good(values: list[Any], column: str, dtype: Any = None, quality: str = "") -> list[Any]:
    found = judged(values, column, dtype, quality)
    assert not found.stopped
    return found.good["x"].to_list()


def test_nan_and_infinities_are_kept_out_and_null_is_not() -> None:
    values = [1.0, math.nan, math.inf, -math.inf, None]
    assert good(values, "logicalType: number") == [1.0, None]
    assert good(values, "logicalType: number, required: true") == [1.0]


def test_a_whole_float_is_an_integer_and_a_broken_one_is_kept_out_as_it_came() -> None:
    found = judged([1.0, 2.5, 1e300, math.nan, None], "logicalType: integer")
    assert found.good["x"].to_list() == [1, None]
    assert found.good.schema["x"] == pl.Int64
    assert found.bad["x"].to_list()[:2] == [2.5, 1e300]


def test_a_number_too_wide_for_its_format_is_kept_out() -> None:
    assert good([1, 127, 128, -200], "logicalType: integer, logicalTypeOptions: {format: i8}") == [1, 127]
    assert good([1, 200], "logicalType: integer, logicalTypeOptions: {maximum: 300}", pl.UInt8) == [1, 200]


@pytest.mark.parametrize(
    ("values", "column", "dtype"),
    [
        (["1", "2"], "logicalType: integer", None),
        ([1, 2], "logicalType: string", None),
        ([True, False], "logicalType: integer", None),
        ([datetime(2013, 1, 1)], "logicalType: timestamp", None),
        (["2013-01-01T00:00:00Z"], "logicalType: timestamp", None),
        ([[1]], "logicalType: number", None),
        ([1, 0], "logicalType: boolean", None),
    ],
)
def test_a_wrong_type_stops_the_load(values: list[Any], column: str, dtype: Any) -> None:
    found = judged(values, column, dtype)
    assert "x is a" in found.stopped
    assert found.good.height == found.bad.height == 0


def test_times_are_read_to_the_millisecond_in_utc() -> None:
    dubai = pl.Series([datetime(2013, 1, 1, 4, 0, 0, 1999)]).dt.replace_time_zone("Asia/Dubai")
    found = check(pl.DataFrame({"x": dubai, "y": [1.0]}), contract("logicalType: timestamp"))
    assert found.good["x"].to_list() == [datetime(2013, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)]
    options = "logicalType: timestamp, logicalTypeOptions: {timezone: false, defaultTimezone: UTC}"
    assert good([datetime(2013, 1, 1)], options) == [datetime(2013, 1, 1, tzinfo=UTC)]


def test_limits_on_times() -> None:
    limits = "{minimum: 2013-01-01T00:00:00Z, exclusiveMaximum: '2013-01-02T00:00:00+00:00'}"
    options = f"logicalType: timestamp, logicalTypeOptions: {limits}"
    days = [datetime(2012, 12, 31, tzinfo=UTC), datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 2, tzinfo=UTC)]
    assert good(days, options) == [days[1]]


def test_lengths_patterns_sets_and_steps() -> None:
    assert good(["a", "ab", "abc", None], "logicalType: string, logicalTypeOptions: {minLength: 2, maxLength: 2}") == ["ab", None]
    assert good(["N1", "D1"], "logicalType: string, logicalTypeOptions: {pattern: '^N'}") == ["N1"]
    assert good([5, 7, -10], "logicalType: integer, logicalTypeOptions: {multipleOf: 5}") == [5, -10]
    rule = "quality: [{metric: invalidValues, arguments: {validValues: [1, 2]}, mustBe: 0}]"
    assert good([1.0, 3.0, None], f"logicalType: number, {rule}") == [1.0, None]
    rule = "quality: [{metric: missingValues, arguments: {missingValues: [null, '', 'NA']}, mustBe: 0}]"
    assert good(["x", "", "NA", None], f"logicalType: string, {rule}") == ["x"]
    assert good(["a", "b"], "logicalType: string", pl.Categorical) == ["a", "b"]


def test_a_pattern_that_the_engine_cannot_compute_stops_the_load() -> None:
    read = contract("logicalType: string")
    broken = replace(read, columns=(replace(read.columns[0], pattern="(?=a)"), read.columns[1]))
    found = check(pl.DataFrame({"x": ["a"], "y": [1.0]}), broken)
    assert "cannot be computed" in found.stopped
    assert any(item.passed is False for item in found.checks)


def test_unique_keeps_the_first_and_null_equals_nothing() -> None:
    found = judged(["a", None, "a", None, "b"], "logicalType: string, unique: true")
    assert found.good["x"].to_list() == ["a", None, None, "b"]
    assert found.bad["_reasons"].to_list() == [["x is unique"]]


@pytest.mark.parametrize(
    ("rule", "stopped"),
    [
        ("metric: rowCount, mustBeGreaterThan: 2", False),
        ("metric: rowCount, mustBeGreaterThan: 3", True),
        ("metric: rowCount, mustBeBetween: [1, 3]", False),
        ("metric: rowCount, mustNotBeBetween: [1, 3]", True),
        ("metric: rowCount, mustBeGreaterThan: 3, severity: warning", False),
        ("metric: duplicateValues, arguments: {properties: [x, y]}, mustBeLessThan: 1", True),
        ("metric: duplicateValues, arguments: {properties: [x, y]}, mustBeLessOrEqualTo: 40, unit: percent", False),
    ],
)
def test_rules_about_the_whole_load(rule: str, stopped: bool) -> None:
    found = judged(["a", "a", "b"], "logicalType: string", quality=f"    quality: [{{{rule}}}]\n")
    assert bool(found.stopped) is stopped
    assert found.rows == 3


def test_columns_that_no_contract_names_are_dropped_and_told() -> None:
    found = check(pl.DataFrame({"x": [1], "y": [1.0], "_row": [1], "secret": ["s"]}), contract("logicalType: integer"))
    assert found.good.columns == ["x", "y"]
    assert "secret" in found.checks[0].seen


def test_no_rows_at_all_are_judged_without_complaint() -> None:
    found = check(
        trips(0).select(x=pl.col("miles"), y=pl.col("miles")), contract("logicalType: number, unique: true, required: true")
    )
    assert (found.rows, found.quarantined, found.stopped) == (0, 0, "")


_NUMBER = st.none() | st.integers(-50, 50).map(float)


@given(st.lists(st.tuples(_NUMBER, _NUMBER), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_expressions_mean_what_they_say_in_python(rows: list[tuple[float | None, float | None]]) -> None:
    text = "a * 2 - b <= 10 and a != b or a is null"
    tree = expression.read(text, {"a": "number", "b": "number"})
    frame = pl.DataFrame({"a": [a for a, _ in rows], "b": [b for _, b in rows]}, schema={"a": pl.Float64, "b": pl.Float64})
    found = frame.select(ok=expr(tree))["ok"].fill_null(True).to_list()
    assert found == [a is None or b is None or (a * 2 - b <= 10 and a != b) for a, b in rows]


def test_expressions_calculate_without_wrapping_around() -> None:
    tree = expression.read("a - b >= -5 and month(t) == 7 and a % 100 <= 59", {"a": "integer", "b": "integer", "t": "timestamp"})
    frame = pl.DataFrame(
        {"a": [1, 1, 165], "b": [3, 200, 1], "t": [datetime(2013, 7, 1)] * 3}, schema_overrides={"a": pl.UInt8, "b": pl.UInt8}
    )
    assert frame.select(ok=expr(tree))["ok"].to_list() == [True, False, False]


@given(
    st.lists(
        st.tuples(st.none() | st.floats(width=32), st.none() | st.sampled_from(["a", "b", "c"])),
        max_size=40,
    )
)
@settings(max_examples=60, deadline=None)
def test_every_row_is_either_good_or_in_quarantine_with_a_reason(rows: list[tuple[float | None, str | None]]) -> None:
    frame = pl.DataFrame(rows, schema={"y": pl.Float64, "x": pl.String}, orient="row")
    rule = "quality: [{metric: invalidValues, arguments: {validValues: [a, b]}, mustBe: 0}]"
    found = check(frame, contract(f"logicalType: string, required: true, {rule}"))
    fine = [(y, x) for y, x in rows if x in ("a", "b") and (y is None or math.isfinite(y))]
    assert found.good.select("y", "x").rows() == fine
    assert found.bad.height == found.quarantined == len(rows) - len(fine)
    assert all(found.bad["_reasons"].list.len() > 0)


moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))


@given(moments, moments, st.sampled_from(["ms", "us"]))
@example(datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), "us")
def test_a_moment_compares_as_the_literal_of_its_datetime_does(at: datetime, other: datetime, unit: Any) -> None:
    column = pl.DataFrame({"t": [at, other, None]}, schema={"t": pl.Datetime(unit, "UTC")})
    for moment in (at, other, at.astimezone(timezone(timedelta(hours=4)))):
        literal = pl.lit(moment.astimezone(UTC))
        told = column.select(pl.col("t") > instant(moment), b=pl.col("t") <= instant(moment))
        assert told.equals(column.select(pl.col("t") > literal, b=pl.col("t") <= literal))
