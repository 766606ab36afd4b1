from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from falaj.core.errors import InvalidInput
from falaj.core.recipe import Column, Reader, Recipe

RECIPE = Recipe(
    (
        Column("temp", "view", "weather.temp"),
        Column("distance", "number", "distance"),
        Column("carrier", "category", "carrier", {"values": ["AA", "UA"]}),
        Column("hour", "hour", "at", {"zone": "America/New_York"}),
        Column("minute", "minute", "at", {"zone": "America/New_York"}),
        Column("weekday", "weekday", "at"),
        Column("month", "month", "at"),
        Column("yearday", "yearday", "at"),
        Column("age", "years_since", "planes.built"),
    ),
    {"weather": "origin", "planes": "tailnum"},
    {"weather": 10_800_000, "planes": None},
)
PLACES = {"weather": ("wind", "temp"), "planes": ("built",)}
REQUEST: dict[str, Any] = {"at": "2013-02-01T02:15:00Z", "distance": 719, "carrier": "UA", "origin": "EWR", "tailnum": "N14228"}


def reader(recipe: Recipe = RECIPE) -> Reader:
    return Reader(recipe, ZoneInfo, PLACES)


def vector(request: dict[str, Any], stored: dict[str, Any]) -> dict[str, float]:
    read = reader()
    return dict(zip(RECIPE.names, read.vector(request, read.time_of(request), stored), strict=True))


def test_a_request_and_stored_rows_become_one_vector_in_order() -> None:
    row = vector(REQUEST, {"weather": (3.0, 41.0), "planes": (1999.0,)})
    assert list(row) == list(RECIPE.names)
    assert (row["temp"], row["distance"], row["carrier"], row["age"]) == (41.0, 719.0, 1.0, 14.0)


def test_parts_of_the_time_are_those_of_the_named_zone() -> None:
    row = vector(REQUEST, {})
    assert (row["hour"], row["minute"]) == (21.0, 21 * 60 + 15)
    assert (row["weekday"], row["month"], row["yearday"]) == (4.0, 2.0, 32.0)  # a Friday, in UTC


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_time_that_its_zone_cannot_tell_is_refused(at: str) -> None:
    made = Recipe((Column("hour", "hour", "at", {"zone": zone_of(at)}),), {}, {})
    with pytest.raises(InvalidInput, match="outside the years"):
        Reader(made, ZoneInfo, {}).vector({"at": at}, datetime.fromisoformat(at), {})


def zone_of(at: str) -> str:
    return "America/New_York" if at.startswith("0001") else "Asia/Dubai"


@pytest.mark.parametrize("stored", [{}, {"weather": None, "planes": None}, {"weather": (None, None), "planes": (None,)}])
def test_what_is_not_stored_is_missing_not_zero(stored: dict[str, Any]) -> None:
    row = vector(REQUEST, stored)
    assert math.isnan(row["temp"])
    assert math.isnan(row["age"])


@pytest.mark.parametrize(
    ("field", "value", "column"), [("carrier", "ZZ", "carrier"), ("carrier", None, "carrier"), ("distance", None, "distance")]
)
def test_unknown_and_null_are_missing(field: str, value: Any, column: str) -> None:
    assert math.isnan(vector(REQUEST | {field: value}, {})[column])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("distance", "far"),
        ("distance", True),
        ("distance", [1]),
        ("distance", math.inf),
        ("distance", 10**400),
        ("carrier", ["UA"]),
        ("carrier", {"a": 1}),
        ("at", "noon"),
        ("at", None),
        ("at", 7),
        ("at", "2013-02-01T02:15:00"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput):
        vector(REQUEST | {field: value}, {})


@pytest.mark.parametrize("field", ["at", "distance", "carrier"])
def test_a_missing_field_is_refused_by_name(field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        vector({key: value for key, value in REQUEST.items() if key != field}, {})


def test_entity_keys_come_from_the_request_and_null_matches_nothing() -> None:
    read = reader()
    assert read.keys_of(REQUEST) == {"weather": "EWR", "planes": "N14228"}
    assert read.keys_of(REQUEST | {"tailnum": None, "origin": 7}) == {"weather": "7"}
    with pytest.raises(InvalidInput, match="tailnum"):
        read.keys_of({"origin": "EWR"})
    with pytest.raises(InvalidInput, match="origin"):
        read.keys_of(REQUEST | {"origin": ["EWR"]})


def test_a_recipe_says_what_a_request_has_to_bring() -> None:
    assert RECIPE.request_fields == ("at", "origin", "tailnum", "distance", "carrier")


@pytest.mark.parametrize(
    "column", [Column("x", "view", "weather.rain"), Column("x", "view", "tides.high"), Column("x", "cube", "distance")]
)
def test_a_column_that_nothing_can_fill_is_refused_at_once(column: Column) -> None:
    with pytest.raises(InvalidInput, match="'x'"):
        reader(Recipe((column,), {}, {}))


def test_a_time_is_taken_as_a_time_too() -> None:
    at = datetime(2013, 2, 1, tzinfo=UTC)
    assert reader().time_of({"at": at}) == at
