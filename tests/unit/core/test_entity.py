"""One text for several key values: no two entities share it, and a request writes it as a dataset's rows do."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.entity import joined_key, key_text, split_key
from falaj.core.recipe import Column, Reader, Recipe, entity_of
from falaj.stages.features.keyed import joined

texts = st.text(st.sampled_from("|\\aé\n\x00 "), max_size=6)
rows = st.tuples(texts, texts, texts)


@settings(max_examples=300, deadline=None)
@given(rows, rows)
def test_two_entities_never_share_a_key(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (joined_key(one) == joined_key(other)) == (one == other)
    assert joined_key(one[:2]) != joined_key(other)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.none() | texts, st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.booleans()), min_size=1)
)
def test_rows_and_requests_write_the_same_key(held: list[tuple[Any, ...]]) -> None:
    frame = pl.DataFrame(held, schema={"a": pl.String, "b": pl.Int64, "c": pl.Boolean}, orient="row")
    assert frame.select(joined(("a", "b", "c")))["a"].to_list() == [joined_key(row) for row in held]
    recipe = Recipe((Column("x", "view", "v.x"),), {"v": ("a", "b", "c")}, {"v": None})
    read = Reader(recipe, lambda _: None, {"v": ("x",)})  # type: ignore[arg-type, return-value]
    for row in frame.to_dicts():
        assert read.keys_of(row).get("v") == entity_of(row, ("a", "b", "c"))


def test_a_key_can_be_read_by_a_person() -> None:
    assert joined_key(["JFK", 7]) == "JFK|7"
    assert joined_key(["JFK", None]) is None
    assert (key_text(True), key_text(7), key_text("x"), key_text(None)) == ("true", "7", "x", None)


@given(st.lists(st.text("ab|\\", max_size=5), min_size=1, max_size=4))
def test_a_key_is_taken_apart_into_what_it_was_made_of(values: list[str]) -> None:
    text = joined_key(values)
    assert text is not None
    assert split_key(text) == values
