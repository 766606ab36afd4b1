"""Columns made of stored features: one request at a time and a whole spine at once give the same bits."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.codec import decode, encode
from falaj.core.errors import Conflict, InvalidInput
from falaj.core.moments import millis
from falaj.core.recipe import Column, Recipe
from falaj.stages.features.columns import stored_of
from falaj.stages.features.keyed import keyed_spine
from falaj.stages.features.rules import newest_rows, reader, stored_rows, vectors
from falaj.stages.features.spec import (
    Entity,
    View,
    age_hours,
    category,
    difference,
    inputs,
    product,
    ratio,
    years_since,
)

START = datetime(2013, 5, 1, tzinfo=UTC)
PLANE = View(
    "plane",
    "planes",
    entity=Entity("plane_of", keys=("carrier", "tail"), description="an aircraft of an airline"),
    features=("built", "seats", "weight", "maker", "checked", "active"),
    time="known_at",
)
RECIPE = inputs(
    (PLANE["built"], PLANE["seats"], PLANE["weight"], PLANE["active"]),
    years_since(PLANE["built"], "age"),
    age_hours(PLANE["checked"], "since_check"),
    category(PLANE["maker"], ("BOEING", "AIRBUS"), "maker"),
    category(PLANE["seats"], (1, 200), "usual_seats"),
    difference("booked", PLANE["seats"], "over"),
    ratio("booked", PLANE["seats"], "load"),
    ratio(PLANE["weight"], PLANE["seats"], "weight_a_seat"),
    product("booked", "price", "takings"),
)
SCHEMA: dict[str, Any] = {
    "carrier": pl.String,
    "tail": pl.String,
    "known_at": pl.Datetime("us", "UTC"),
    "built": pl.Float64,
    "seats": pl.Int64,
    "weight": pl.Float64,
    "maker": pl.String,
    "checked": pl.Datetime("us", "UTC"),
    "active": pl.Boolean,
}
whole = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 300)
doubles = st.floats(allow_nan=True, allow_infinity=False)
moments = st.integers(-(10**15), 10**15).map(lambda us: START + timedelta(microseconds=us))
planes = st.fixed_dictionaries(
    {
        "carrier": st.just("UA"),
        "tail": st.sampled_from(["N1", "N|2"]),
        "known_at": st.just(START - timedelta(days=1)),
        "built": st.none() | st.integers(1900, 2020).map(float),
        "seats": st.none() | whole,
        "weight": st.none() | doubles,
        "maker": st.none() | st.sampled_from(["BOEING", "AIRBUS", "other", ""]),
        "checked": st.none() | moments,
        "active": st.none() | st.booleans(),
    }
)
requests = st.fixed_dictionaries(
    {
        "at": st.integers(0, 10**10).map(lambda us: START + timedelta(microseconds=us)),
        "carrier": st.sampled_from(["UA", None]),
        "tail": st.sampled_from(["N1", "N|2", "N3", None]),
        "booked": st.none() | st.floats(-1e308, 1e308) | st.just(0.0),
        "price": st.none() | st.floats(-1e308, 1e308),
    }
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(planes, min_size=1, max_size=4), st.lists(requests, min_size=1, max_size=6))
def test_one_request_and_a_whole_spine_give_the_same_bits(held: list[dict[str, Any]], asked: list[dict[str, Any]]) -> None:
    rows = stored_rows(pl.DataFrame(held, schema=SCHEMA), PLANE)
    store = stored_of(newest_rows(rows, PLANE), PLANE)
    follow = reader(RECIPE, {"plane": PLANE})
    online = []
    for request in asked:
        keys = follow.keys_of(request)
        row = store.get(keys["plane"]) if "plane" in keys else None
        online.append(follow.vector(request, request["at"], {"plane": row.values if row else None}))
    spine = pl.DataFrame(asked, schema_overrides={"at": pl.Datetime("us", "UTC"), "booked": pl.Float64, "price": pl.Float64})
    recipe, keyed = keyed_spine(RECIPE, spine.with_columns(pl.col("carrier", "tail").cast(pl.String)))
    with np.errstate(over="ignore"):
        offline, _ = vectors(recipe, keyed, {"plane": PLANE}, {"plane": rows})
        assert np.array_equal(np.array(online).astype(np.float32), offline, equal_nan=True)


def one(column: Any, request: dict[str, Any], stored: dict[str, Any]) -> float:
    recipe = inputs(column, keys={"plane": ("carrier", "tail")} if stored else None)
    row = tuple(stored.get(name) for name in PLANE.places)
    asked = {"at": START, "carrier": "UA", "tail": "N1", **request}
    return reader(recipe, {"plane": PLANE}).vector(asked, START, {"plane": row})[0]


@pytest.mark.parametrize(
    ("column", "request_", "stored", "wanted"),
    [
        (ratio("booked", PLANE["seats"], "x"), {"booked": 5}, {"seats": 2}, 2.5),
        (ratio("booked", PLANE["seats"], "x"), {"booked": 5}, {"seats": 0}, math.nan),
        (ratio("booked", PLANE["seats"], "x"), {"booked": None}, {"seats": 2}, math.nan),
        (difference(PLANE["seats"], "booked", "x"), {"booked": 5}, {"seats": 2}, -3.0),
        (product(PLANE["weight"], PLANE["weight"], "x"), {}, {"weight": 1e300}, math.nan),
        (product(PLANE["active"], "booked", "x"), {"booked": 4}, {"active": True}, 4.0),
        (age_hours(PLANE["checked"], "x"), {}, {"checked": millis(START) - 5_400_000}, 1.5),
        (age_hours(PLANE["checked"], "x"), {}, {"checked": None}, math.nan),
        (category(PLANE["maker"], ("BOEING", "AIRBUS")), {}, {"maker": "AIRBUS"}, 1.0),
        (category(PLANE["maker"], ("BOEING", "AIRBUS")), {}, {"maker": "Airbus"}, math.nan),
        (category(PLANE["seats"], (1, 200)), {}, {"seats": 200}, 1.0),
        (category(PLANE["seats"], (1, 200)), {}, {"seats": 200.0}, 1.0),
        (category(PLANE["seats"], (1, 200)), {}, {"seats": 0.5}, math.nan),
    ],
)
def test_missing_zero_and_what_is_not_finite_follow_the_rule(
    column: Any, request_: dict[str, Any], stored: dict[str, Any], wanted: float
) -> None:
    assert one(column, request_, stored) == pytest.approx(wanted, nan_ok=True, abs=0)


def test_a_text_never_becomes_a_number_by_accident() -> None:
    with pytest.raises(Conflict, match="text is stored"):
        one(PLANE["maker"], {}, {"maker": "BOEING"})
    with pytest.raises(Conflict, match="looks up"):
        one(category(PLANE["maker"], ("BOEING",)), {}, {"maker": True})
    rows = stored_rows(pl.DataFrame([plane("N1")], schema=SCHEMA), PLANE)
    spine = pl.DataFrame({"at": [START], "__key_plane": ["UA|N1"]})
    for column, said in ((PLANE["maker"], "is a text"), (category(PLANE["maker"], (1, 2)), "looks up whole numbers")):
        recipe = inputs(column, keys={"plane": ("carrier", "tail")})
        with pytest.raises(InvalidInput, match=said):
            vectors(Recipe(recipe.columns, {"plane": "__key_plane"}, {"plane": None}), spine, {"plane": PLANE}, {"plane": rows})


def plane(tail: str, **more: Any) -> dict[str, Any]:
    return {
        "carrier": "UA",
        "tail": tail,
        "known_at": START,
        "built": 1999.0,
        "seats": 2**60 + 1,
        "weight": math.nan,
        "maker": "BOEING",
        "checked": START + timedelta(microseconds=1_999),
        "active": False,
        **more,
    }


def test_values_keep_their_type_and_value_on_the_way_to_the_store() -> None:
    rows = stored_rows(pl.DataFrame([plane("N1"), plane("N2", seats=None, maker=None, active=None)], schema=SCHEMA), PLANE)
    assert rows.schema["seats"] == pl.Int64
    kept = stored_of(rows, PLANE)
    assert kept["UA|N1"].values == (1999.0, 2**60 + 1, None, "BOEING", millis(START) + 1, False)
    assert [type(value) for value in kept["UA|N1"].values] == [float, int, type(None), str, int, bool]
    assert kept["UA|N2"].values == (1999.0, None, None, None, millis(START) + 1, None)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("seats", pl.Series([2**63], dtype=pl.UInt64), "is no feature"),
        ("checked", pl.Series([datetime(2013, 1, 1)]), "is no feature"),
        ("maker", pl.Series([["a"]]), "is no feature"),
    ],
)
def test_a_column_that_cannot_be_a_feature_is_refused_with_the_view_and_the_way_out(
    column: str, values: pl.Series, said: str
) -> None:
    frame = pl.DataFrame([plane("N1")], schema=SCHEMA).with_columns(values.alias(column))
    with pytest.raises(InvalidInput, match=said) as caught:
        stored_rows(frame, PLANE)
    assert "'plane'" in caught.value.message
    assert caught.value.hint


def test_a_key_column_of_a_type_that_no_request_could_match_is_refused() -> None:
    seats = Entity("seats", kind="integer")
    view = View("by_seats", "planes", seats, ("built",), "known_at")
    frame = pl.DataFrame([plane("N1")], schema=SCHEMA)
    assert stored_rows(frame, view)["seats"].to_list() == [str(2**60 + 1)]
    with pytest.raises(InvalidInput, match="must hold whole numbers"):
        stored_rows(frame.with_columns(seats=pl.lit("x")), view)
    with pytest.raises(InvalidInput, match="must hold texts"):
        stored_rows(frame, View("v", "planes", Entity("seats"), ("built",), "known_at"))
    with pytest.raises(InvalidInput, match="no request can name exactly"):
        stored_rows(frame, View("v", "planes", "weight", ("built",), "known_at"))
    with pytest.raises(InvalidInput, match="'flight'"):
        stored_rows(frame, View("v", "planes", Entity("flight"), ("built",), "known_at"))
    with pytest.raises(InvalidInput, match="has a column 'maker'"):
        stored_rows(frame, View("v", "planes", Entity("maker", keys=("carrier", "tail")), ("built",), "known_at"))


def test_a_recipe_with_all_of_it_is_data_that_comes_back_the_same() -> None:
    again = decode(Recipe, encode(RECIPE))
    assert encode(again) == encode(RECIPE)
    assert again.request_fields == RECIPE.request_fields == ("at", "carrier", "tail", "booked", "price")


def test_an_operation_with_one_operand_is_refused() -> None:
    with pytest.raises(InvalidInput, match="needs two"):
        reader(Recipe((Column("x", "ratio", "a"),), {}, {}), {})
