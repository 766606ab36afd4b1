"""Stored: the features of one entity in one view, and the bytes that every online store keeps of them.

Two layouts, little-endian, told apart by the number after the time:

    floats   int64 time in ms, uint16 number of features n ≤ 65,534, one bit a feature that says whether it is missing,
             n doubles (0.0 where it is missing). Only for rows that hold nothing but floats and missing values.
    typed    int64 time in ms, uint16 65,535, uint8 version 1, uint16 n, then each feature: a byte that says its kind, and
             0 nothing more (missing) · 1 a double · 2 an int64 · 3 nothing more (false) · 4 nothing more (true) ·
             5 uint16 length and a text in UTF-8 · 6 uint8 length and a longer integer (two's complement)

A float is read back bit by bit, NaN with its payload too; what was an integer, a text or a truth value is one again.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from typing import NamedTuple, TypeAlias

from falaj.core.errors import Conflict, InvalidInput

Value: TypeAlias = float | int | str | bool | None

MOST_FEATURES = 65_534
LONGEST_TEXT = 65_535
"""Bytes of UTF-8."""
LATEST_MS = 1 << 53
"""A time further from 1970 than this (some 285,000 years) is a mistake, and no double could hold it."""
_HEAD = struct.Struct("<qH")
_TYPED_HEAD = struct.Struct("<qHBH")
_TYPED, _VERSION = 0xFFFF, 1
_FLOATS: tuple[set[type], ...] = ({float}, {float, type(None)}, {type(None)}, set())
_DOUBLE, _LONG, _SHORT = struct.Struct("<d"), struct.Struct("<q"), struct.Struct("<H")
_ALLOWED = "features are floats, integers, texts, true, false or missing."


class Stored(NamedTuple):
    """The features of one entity in one view. `values` in the order of the view's features; None is missing."""

    at_ms: int
    """Event time, milliseconds since 1970-01-01T00:00Z."""
    values: tuple[Value, ...]


Row: TypeAlias = Stored | bytes
"""A row as it is, or packed already: a whole frame is packed at once much faster than row by row."""


class Layout(NamedTuple):
    """How a row of n floats lies in its bytes."""

    form: struct.Struct
    size: int
    complete: bytes
    """The bits of a row that misses nothing."""


class _Layouts(dict[int, Layout]):
    """By the length of the packed row, which says how many floats are in it."""

    def __missing__(self, length: int) -> Layout:
        # length = 10 + ceil(n / 8) + 8 n, so n is the floor of (length - 10) · 8 / 65.
        size = (length - _HEAD.size) * 8 // 65
        if size < 0 or length != _HEAD.size + (size + 7) // 8 + 8 * size:
            raise KeyError(length)
        found = layout(size)
        if len(self) < 1024:  # lengths come from outside
            self[length] = found
        return found


def layout(size: int) -> Layout:
    """The layout of a row of `size` floats."""
    bits = (size + 7) // 8
    return Layout(struct.Struct(f"<qH{bits}s{size}d"), size, bytes(bits))


_layouts = _Layouts()
_new = tuple.__new__


def pack(row: Stored) -> bytes:
    """Raises InvalidInput for a value of another kind, a text or number that is too long, a time that is none."""
    at, values = row
    size = len(values)
    if type(at) is not int or not -LATEST_MS <= at <= LATEST_MS:
        raise InvalidInput(f"A row of features cannot be kept: {at!r} is no time in milliseconds.", "count from 1970, in UTC.")
    if size > MOST_FEATURES:
        raise InvalidInput(f"A row of {size} features cannot be kept.", f"a view has at most {MOST_FEATURES}.")
    kinds = set(map(type, values))
    if kinds not in _FLOATS:
        return _TYPED_HEAD.pack(at, _TYPED, _VERSION, size) + b"".join(map(_pack_value, values))
    form = _layouts[_HEAD.size + (size + 7) // 8 + 8 * size].form
    if len(kinds) < 2 and None not in values:
        return form.pack(at, size, b"", *values)
    missing = sum(1 << place for place, value in enumerate(values) if value is None)
    given = (0.0 if value is None else value for value in values)
    return form.pack(at, size, missing.to_bytes((size + 7) // 8, "little"), *given)


def unpack(data: bytes) -> Stored:
    """Raises Conflict for bytes that no `pack` made."""
    try:
        form, size, complete = _layouts[len(data)]
    except KeyError:
        return _unpack_typed(data)
    found = form.unpack(data)
    if found[1] != size:
        return _unpack_typed(data)
    values = found[3:]
    if found[2] != complete:
        missing = int.from_bytes(found[2], "little")
        values = tuple([None if missing >> place & 1 else value for place, value in enumerate(values)])
    return _new(Stored, (found[0], values))


def time_of(data: bytes) -> int:
    """The time of a packed row, without reading the rest. Raises Conflict for bytes that are none."""
    if len(data) < _HEAD.size:
        raise _broken()
    at: int = _LONG.unpack_from(data)[0]
    return at


def packed(row: Row) -> bytes:
    """The row's bytes, checked for a time where they were packed already."""
    if not isinstance(row, bytes):
        return pack(row)
    if len(row) < _HEAD.size:
        raise _broken()
    return row


def key_of(entity: str, longest: int) -> bytes:
    """An entity as a key of at most `longest` bytes (33 or more): itself in UTF-8, or its hash where that is longer."""
    key = entity.encode("utf-8", "surrogatepass")
    # No text in UTF-8 begins with 0xff, so a hash is never taken for a name.
    return key if len(key) <= longest else b"\xff" + hashlib.sha256(key).digest()


def view_key(view: str) -> bytes:
    """A view's name as part of a key: never empty, at most 100 bytes, without a zero byte. Raises InvalidInput."""
    with contextlib.suppress(UnicodeEncodeError):
        key = view.encode()
        if 0 < len(key) <= 100 and b"\0" not in key:
            return key
    raise InvalidInput(f"The view name {view!r} cannot be kept online.", "use at most 100 letters, digits and '_'.")


def _pack_value(value: Value) -> bytes:
    if value is None:
        return b"\0"
    if isinstance(value, bool):
        return b"\4" if value else b"\3"
    if isinstance(value, float):
        return b"\1" + _DOUBLE.pack(value)
    if isinstance(value, int):
        if -(1 << 63) <= value < 1 << 63:
            return b"\2" + _LONG.pack(value)
        length = value.bit_length() // 8 + 1
        if length > 255:
            raise InvalidInput(f"An integer of {value.bit_length()} bits is too long for a feature.", "2,039 bits are the most.")
        return b"\6" + bytes([length]) + value.to_bytes(length, "little", signed=True)
    if isinstance(value, str):
        try:
            text = value.encode()
        except UnicodeEncodeError as exc:
            raise InvalidInput("A text with half a character (a lone surrogate) is no feature.", "mend the source.") from exc
        if len(text) > LONGEST_TEXT:
            raise InvalidInput(f"A text of {len(text):,} bytes is too long for a feature.", f"{LONGEST_TEXT:,} are the most.")
        return b"\5" + _SHORT.pack(len(text)) + text
    raise InvalidInput(f"A {type(value).__name__} is no feature.", _ALLOWED)


def _unpack_typed(data: bytes) -> Stored:
    try:
        at, mark, version, size = _TYPED_HEAD.unpack_from(data)
        if mark != _TYPED or version != _VERSION:
            raise _broken()
        values: list[Value] = []
        place = _TYPED_HEAD.size
        for _ in range(size):
            value, place = _value_at(data, place)
            values.append(value)
    except (struct.error, IndexError, UnicodeDecodeError) as exc:
        raise _broken() from exc
    if place != len(data):
        raise _broken()
    return Stored(at, tuple(values))


def _value_at(data: bytes, place: int) -> tuple[Value, int]:
    """One typed value, and where the next one begins."""
    kind, place = data[place], place + 1
    if kind in _PLAIN:
        return _PLAIN[kind], place
    if kind in _NUMBERS:
        value: Value = _NUMBERS[kind].unpack_from(data, place)[0]
        return value, place + 8
    if kind == 5:
        length, place = _SHORT.unpack_from(data, place)[0], place + 2
    elif kind == 6:
        length, place = data[place], place + 1
    else:
        raise _broken()
    found = data[place : place + length]
    if len(found) != length:
        raise _broken()
    return found.decode() if kind == 5 else int.from_bytes(found, "little", signed=True), place + length


_PLAIN: dict[int, Value] = {0: None, 3: False, 4: True}
_NUMBERS = {1: _DOUBLE, 2: _LONG}


def _broken() -> Conflict:
    return Conflict(
        "The online store holds a row that nobody can read.",
        "clear the store: everything in it comes from the snapshots, and the next refresh fills it again.",
    )
