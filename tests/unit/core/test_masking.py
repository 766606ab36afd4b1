"""Masking is decided by name first, then by class, and whatever nobody classified counts as the strictest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.core.masking import LEVELS, hides_request, masked_of, masking
from falaj.core.recipe import Column, Recipe

RECIPE = Recipe(
    (
        Column("distance", "number", "distance"),
        Column("hour", "hour", "at", {"zone": "UTC"}),
        Column("temp", "view", "weather.temp"),
        Column("gap", "difference", "distance", {"other": "weather.range", "right": "view"}),
    ),
    {"weather": "origin"},
    {"weather": None},
)


def test_without_a_declaration_nothing_is_masked() -> None:
    rules = masking({})
    assert not rules.is_on
    assert rules.treatment("anything", "secret") == rules.treatment("anything", "") == "keep"


@given(st.sampled_from(LEVELS), st.sampled_from(LEVELS))
def test_what_is_at_least_as_strict_as_a_named_class_is_masked(named: str, seen: str) -> None:
    masked = masking({f"class:{named}": "hash"}).treatment("x", seen.upper()) == "hash"
    assert masked == (LEVELS.index(seen) >= LEVELS.index(named))


def test_what_nobody_classified_counts_as_the_strictest_that_is_named() -> None:
    rules = masking({"class:confidential": "hash", "class:restricted": "drop"})
    assert [rules.treatment("x", c) for c in ("", "nobody knows this word", "confidential", "secret", "internal")] == [
        "drop", "drop", "hash", "drop", "keep",
    ]  # fmt: skip


def test_a_class_of_the_house_is_masked_where_it_is_named() -> None:
    rules = masking({"class:PII": "drop"})
    assert rules.treatment("x", "pii") == "drop"
    assert rules.treatment("x", "internal") == "keep"


def test_a_named_field_goes_before_its_class() -> None:
    rules = masking({"class:restricted": "hash", "distance": "keep", "name": "drop"})
    assert [rules.treatment(n, "restricted") for n in ("distance", "name", "other")] == ["keep", "drop", "hash"]


def test_a_column_is_masked_by_any_of_its_operands_and_the_time_by_none() -> None:
    classes = {
        "request": {"distance": "internal", "at": "secret"},
        "views": {"weather.temp": "public", "weather.range": "secret"},
    }
    rules = masking({"class:restricted": "hash"})
    assert [rules.of_column(RECIPE, column, classes) for column in RECIPE.columns] == [False, False, False, True]
    assert [masking({"distance": "drop"}).of_column(RECIPE, column, {}) for column in RECIPE.columns] == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("declared", [{"a": "hide"}, {"": "drop"}, {"class:": "drop"}, {"class:secret": "keep"}])
def test_a_declaration_that_means_nothing_is_refused(declared: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        masking(declared)


def test_a_record_says_what_it_was_written_without() -> None:
    record = {"masked": {"request": ["origin"], "features": ["temp"]}}
    assert masked_of(record) == ({"origin"}, {"temp"})
    assert masked_of({"id": "p"}) == (set(), set())
    assert hides_request(record, RECIPE)
    assert not hides_request({"masked": {"request": ["at", "tailnum"], "features": ["temp"]}}, RECIPE)
