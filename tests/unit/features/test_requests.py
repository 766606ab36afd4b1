"""Request columns for a whole spine are, to the bit, what serving makes of each request."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.core.recipe import Column, Recipe
from falaj.stages.features.requests import request_columns
from falaj.stages.features.rules import reader, vectors, zone
from falaj.stages.features.spec import PARTS, category, inputs, local, number

ZONES = ("UTC", "America/New_York", "Asia/Dubai", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia")
CHANGES = [
    datetime(2013, 3, 10, 7, tzinfo=UTC),  # New York's clocks go forward
    datetime(2013, 11, 3, 6, tzinfo=UTC),  # and back
    datetime(2011, 12, 30, 10, tzinfo=UTC),  # Apia leaves out a day
    datetime(1883, 11, 18, 17, tzinfo=UTC),  # New York leaves its local mean time
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2000, 2, 29, 23, tzinfo=UTC),
    datetime(2013, 4, 6, 15, tzinfo=UTC),  # Lord Howe goes back by half an hour
]
near = st.builds(lambda at, s: at + timedelta(seconds=s), st.sampled_from(CHANGES), st.integers(-9000, 9000))
times = st.one_of(near, st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
PARTS_OF_ALL = [Column(f"{part}_{name}", part, "at", {"zone": name}) for name in ZONES for part in PARTS]


def by_row(recipe: Recipe, spine: pl.DataFrame) -> np.ndarray[Any, Any]:
    follow = reader(recipe, {})
    found = np.full((spine.height, len(recipe.columns)), math.nan)
    for place, request in enumerate(spine.iter_rows(named=True)):
        for index, value in follow.request_columns(request, request["at"]):
            found[place, index] = value
    return found


def at_once(recipe: Recipe, spine: pl.DataFrame) -> np.ndarray[Any, Any]:
    found = np.full((spine.height, len(recipe.columns)), math.nan)
    for index, values in request_columns(recipe, spine, reader(recipe, {}), zone):
        found[:, index] = values
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(times, max_size=20), st.sampled_from(["ms", "us", "ns"]), st.sampled_from(ZONES))
def test_parts_of_the_time_are_those_of_the_zones_clock(moments: list[datetime], unit: Any, own: str) -> None:
    at = pl.Series("at", moments, dtype=pl.Datetime("us", "UTC")).dt.convert_time_zone(own).dt.cast_time_unit(unit)
    recipe = Recipe(tuple(PARTS_OF_ALL), {}, {})
    assert np.array_equal(at_once(recipe, at.to_frame()), by_row(recipe, at.to_frame()))


_numbers = st.one_of(st.none(), st.floats(width=64), st.just(1.0))
_columns = st.one_of(
    st.tuples(
        st.sampled_from([pl.Float64(), pl.Float32()]), st.lists(st.one_of(st.none(), st.floats(width=32)), min_size=4, max_size=4)
    ),
    st.tuples(st.just(pl.Float64()), st.lists(_numbers, min_size=4, max_size=4)),
    st.tuples(
        st.sampled_from([pl.Int64(), pl.Int128(), pl.Decimal(38, 0)]),
        st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=4, max_size=4),
    ),
    st.tuples(st.just(pl.UInt64()), st.lists(st.one_of(st.none(), st.integers(0, 2**64 - 1)), min_size=4, max_size=4)),
    st.tuples(
        st.sampled_from([pl.String(), pl.Categorical()]),
        st.lists(st.one_of(st.none(), st.sampled_from(["AA", "UA", "", "1"])), min_size=4, max_size=4),
    ),
    st.tuples(st.just(pl.Boolean()), st.lists(st.one_of(st.none(), st.booleans()), min_size=4, max_size=4)),
    st.tuples(st.just(pl.Null()), st.just([None] * 4)),
    st.tuples(st.just(pl.List(pl.Int64)), st.lists(st.one_of(st.none(), st.just([1])), min_size=4, max_size=4)),
    st.tuples(st.just(pl.Date()), st.just([None, datetime(2013, 1, 1).date()] * 2)),
)


@settings(max_examples=150, deadline=None)
@given(_columns, _columns, st.sampled_from([("AA", "UA"), (), ("", "UA"), (1, "AA"), (None, "AA")]))
def test_values_of_any_kind_are_read_or_refused_as_the_reader_does(one: Any, two: Any, values: tuple[Any, ...]) -> None:
    spine = pl.DataFrame(
        [
            pl.Series("at", [CHANGES[0]] * 4, dtype=pl.Datetime("us", "UTC")),
            pl.Series("a", one[1], dtype=one[0], strict=False),
            pl.Series("b", two[1], dtype=two[0], strict=False),
        ]
    )
    recipe = Recipe(
        (Column("x", "number", "a"), Column("y", "number", "b"), Column("z", "category", "b", {"values": values})), {}, {}
    )
    assert outcome(at_once, recipe, spine) == outcome(by_row, recipe, spine)


def outcome(made: Callable[[Recipe, pl.DataFrame], np.ndarray[Any, Any]], recipe: Recipe, spine: pl.DataFrame) -> str | bytes:
    try:
        return np.where(np.isnan(found := made(recipe, spine)), math.nan, found).tobytes()
    except InvalidInput as exc:
        return str(exc)


def test_the_first_row_that_is_refused_is_named() -> None:
    at = [CHANGES[0]] * 3
    spine = pl.DataFrame({"at": at, "a": [1.0, 2.0, math.inf], "b": [1.0, math.inf, 2.0]})
    with pytest.raises(InvalidInput, match="'b' must be finite"):
        vectors(inputs(number("a"), number("b")), spine, {}, {})
    with pytest.raises(InvalidInput, match="must be a number, got 'x'"):
        vectors(inputs(number("a"), number("b")), spine.with_columns(b=pl.Series(["x", "y", "z"])), {}, {})


def test_an_empty_spine_has_no_vectors() -> None:
    spine = pl.DataFrame({"at": [], "a": [], "c": []}, schema={"at": pl.Datetime("us", "UTC"), "a": pl.Float64, "c": pl.String})
    recipe = inputs(number("a"), category("c", ("x",)), local(zone="Asia/Dubai", parts=PARTS))
    found, at = vectors(recipe, spine, {}, {})
    assert found.shape == (0, 7)
    assert at == {}
