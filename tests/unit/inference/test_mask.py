"""What the log may not hold is taken out before it is written; equality stays visible where a hash was asked for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.masking import masking
from falaj.core.recipe import Column, Recipe
from falaj.inference.mask import NOTHING, Mask, mask_key

KEY = mask_key(b"pepper")
RECIPE = Recipe(
    (
        Column("distance", "number", "distance"),
        Column("carrier", "category", "carrier", {"values": ["AA"]}),
        Column("temp", "view", "weather.temp"),
    ),
    {"weather": "origin"},
    {"weather": None},
)
CLASSES = {
    "request": {
        "passenger_id": "restricted",
        "born": "secret",
        "distance": "internal",
        "carrier": "restricted",
        "origin": "public",
    },
    "views": {"weather.temp": "internal"},
}
BY_CLASS = masking({"class:restricted": "hash", "class:secret": "drop"})
REQUEST = {"at": "2013-05-01T09:30:00Z", "passenger_id": "P-77", "born": "1970-01-01", "distance": 700.0, "carrier": "AA"}


def made(rules: dict[str, str], unit: str = "passenger_id") -> Mask:
    return Mask(masking(rules), KEY, [(RECIPE, CLASSES)], unit=unit)


def test_where_nothing_is_masked_everything_is_handed_back_as_it_is() -> None:
    row, matrix = [1.0, 2.0, 3.0], np.ones((2, 3))
    assert NOTHING.request(REQUEST) is REQUEST
    assert NOTHING.features(row) is row
    assert NOTHING.matrix(matrix) is matrix
    assert (NOTHING.unit("u"), NOTHING.request_id("r"), NOTHING.message("m"), NOTHING.marker) == ("u", "r", "m", None)


def test_masked_fields_are_hashed_or_dropped_and_the_record_says_which() -> None:
    mask = Mask(BY_CLASS, KEY, [(RECIPE, CLASSES)], unit="passenger_id")
    kept = mask.request(REQUEST)
    assert kept["at"] == REQUEST["at"]
    assert kept["distance"] == 700.0
    assert kept["born"] is None
    assert kept["passenger_id"].startswith("h:")
    assert mask.marker == {"request": ["born", "carrier", "passenger_id"], "features": ["carrier"]}


def test_a_field_that_nobody_knows_leaves_with_its_name() -> None:
    mask = Mask(BY_CLASS, KEY, [(RECIPE, CLASSES)])
    assert set(mask.request({**REQUEST, "someone@example.org": "hello"})) == set(REQUEST)
    assert made({"born": "drop"}).request({"note": "kept", "born": "1970"}) == {"note": "kept", "born": None}


@given(st.text(max_size=20), st.text(max_size=20))
def test_equal_values_stay_equal_and_different_ones_different(one: str, other: str) -> None:
    mask = made({"passenger_id": "hash"})
    hashed = [mask.request({"passenger_id": value})["passenger_id"] for value in (one, other)]
    assert (hashed[0] == hashed[1]) == (one == other)
    assert mask.unit(one) == (hashed[0] if one else "")


def test_the_same_value_in_another_field_or_another_project_looks_different() -> None:
    mask = made({"passenger_id": "hash", "carrier": "hash"})
    kept = mask.request({"passenger_id": "AA", "carrier": "AA"})
    assert kept["passenger_id"] != kept["carrier"]
    other = Mask(masking({"passenger_id": "hash"}), mask_key(b"another"), [(RECIPE, CLASSES)], unit="passenger_id")
    assert other.unit("AA") != mask.unit("AA")


def test_numbers_of_masked_fields_are_not_logged_and_whole_numbers_are_hashed_like_texts() -> None:
    mask = made({"passenger_id": "hash", "distance": "hash"})
    assert mask.request({"distance": 700.5, "passenger_id": 77}) == {"distance": None, "passenger_id": mask.unit("77")}
    assert mask.features([700.5, 0.0, 5.0]) == [None, 0.0, 5.0]
    assert np.isnan(mask.matrix(np.ones((2, 3)))[:, 0]).all()


def test_a_number_that_a_column_computes_from_a_masked_one_is_masked_too() -> None:
    recipe = Recipe((Column("gap", "difference", "distance", {"other": "detour"}),), {}, {})
    mask = Mask(masking({"detour": "drop"}), KEY, [(recipe, {})])
    assert mask.features([3.0]) == [None]


def test_a_stored_feature_is_masked_by_its_own_name() -> None:
    mask = made({"weather.temp": "drop"})
    assert mask.features([1.0, 2.0, 3.0]) == [1.0, 2.0, None]
    assert mask.marker == {"request": [], "features": ["temp"]}


def test_the_unit_is_hashed_where_its_field_is_masked_even_if_that_is_dropped() -> None:
    assert made({"passenger_id": "drop"}).unit("P-77").startswith("h:")
    assert made({"born": "drop"}).unit("P-77") == "P-77"
    assert made({"born": "drop"}, unit="").unit("P-77").startswith("h:")


def test_texts_that_a_caller_chose_or_an_error_quotes_are_not_logged_as_they_are() -> None:
    mask = made({"born": "drop"})
    assert mask.request_id("for-P-77").startswith("h:")
    assert mask.message("cannot read 'P-77'") == ""


def test_a_field_is_masked_as_soon_as_one_of_the_arms_says_so() -> None:
    open_classes = {"request": dict.fromkeys(CLASSES["request"], "public"), "views": {"weather.temp": "public"}}
    arms = [(RECIPE, open_classes), (RECIPE, CLASSES)]
    first, second = (Mask(BY_CLASS, KEY, arms, arm=arm, unit="passenger_id") for arm in (0, 1))
    assert first.request(REQUEST) == second.request(REQUEST)
    assert first.unit("P-77") == second.unit("P-77") != "P-77"
    assert (first.features([1.0, 2.0, 3.0]), second.features([1.0, 2.0, 3.0])) == ([1.0, 2.0, 3.0], [1.0, None, 3.0])


def test_a_model_whose_manifest_says_nothing_is_masked_whole() -> None:
    mask = Mask(masking({"class:restricted": "hash"}), KEY, [(RECIPE, {})], unit="passenger_id")
    assert set(mask.request(REQUEST)) == {"at", "distance", "carrier"}
    assert mask.features([1.0, 2.0, 3.0]) == [None, None, None]
