"""A row of features as bytes: typed, bit by bit, and whatever else the bytes are, a clear error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import Conflict
from falaj.core.stored import LATEST_MS, LONGEST_TEXT, Stored, Value, key_of, layout, pack, time_of, unpack

TIMES = st.integers(-LATEST_MS, LATEST_MS)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(-(1 << 2_000), 1 << 2_000), st.integers(), TEXTS
)


def bits(row: Stored) -> list[object]:
    """Told apart by type and by bit, as == does not."""
    return [struct.pack("<d", value) if isinstance(value, float) else (type(value), value) for value in row.values]


@given(TIMES, st.lists(VALUES, max_size=30))
def test_a_row_comes_back_with_the_same_types_and_bits(at: int, values: list[Value]) -> None:
    row = Stored(at, tuple(values))
    found = unpack(pack(row))
    assert (found.at_ms, bits(found)) == (at, bits(row))
    assert time_of(pack(row)) == at


@given(TIMES, st.lists(st.one_of(st.none(), st.floats()), max_size=70))
def test_a_row_of_floats_lies_as_it_always_did(at: int, values: list[float | None]) -> None:
    missing = sum(1 << place for place, value in enumerate(values) if value is None)
    size = (len(values) + 7) // 8
    numbers = [0.0 if value is None else value for value in values]
    form = f"<qH{size}s{len(values)}d"
    assert pack(Stored(at, tuple(values))) == struct.pack(form, at, len(values), missing.to_bytes(size, "little"), *numbers)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_row_or_a_conflict(data: bytes) -> None:
    try:
        row = unpack(data)
    except Conflict:
        return
    assert isinstance(row, Stored)


@given(st.lists(VALUES, max_size=10), st.data())
def test_a_damaged_row_is_a_row_or_a_conflict(values: list[Value], draw: st.DataObject) -> None:
    data = bytearray(pack(Stored(1, (*values, "x"))))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    end = draw.draw(st.integers(0, len(data)))
    for damaged in (bytes(data), bytes(data[:end]), bytes(data) + b"\0"):
        try:
            unpack(damaged)
        except Conflict:
            continue


def test_a_typed_row_that_is_as_long_as_a_row_of_floats_is_not_taken_for_one() -> None:
    lengths = {len(pack(Stored(1, (1.0,) * n))) for n in range(40)}
    met = 0
    for size in range(200):
        row = Stored(1, ("x" * size,))
        met += len(pack(row)) in lengths
        assert unpack(pack(row)) == row
    assert met > 10


def test_rows_at_the_limits_fit_and_one_more_does_not() -> None:
    longest = Stored(0, ("x" * LONGEST_TEXT, (1 << 2_039) - 1, -(1 << 2_038)))
    assert unpack(pack(longest)) == longest
    widest = Stored(0, (1.5,) * 65_534)
    assert unpack(pack(widest)) == widest
    for wrong in (Stored(0, ("x" * (LONGEST_TEXT + 1),)), Stored(0, (1 << 2_039,)), Stored(0, (1.5,) * 65_535)):
        with pytest.raises(Exception, match=r"too long|cannot be kept"):
            pack(wrong)


def test_the_layout_says_how_a_row_of_floats_lies() -> None:
    form, size, complete = layout(9)
    assert (form.size, size, complete) == (10 + 2 + 72, 9, b"\0\0")


def test_long_entities_are_kept_under_a_hash_that_no_name_can_be() -> None:
    assert key_of("JFK", 511) == b"JFK"
    assert len(key_of("x" * 600, 511)) == 33
    assert key_of("x" * 600, 511) != key_of("x" * 601, 511)
    assert key_of("x" * 600, 511)[:1] == b"\xff"
