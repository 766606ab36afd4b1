"""The point-in-time join: what was known about an entity at a moment, and nothing later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput

Ints: TypeAlias = NDArray[np.int64]
_NAME, _CODE = "__name", "__code"
_PER_US = {"us": 1, "ns": 1_000}
_LONGEST = (1 << 63) - 1
_SMALL = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
"""Types whose values are 64-bit numbers with a sign."""
_DIGIT, _BITS = 16, 63


@dataclass(frozen=True, slots=True)
class Side:
    """A table that is joined to a spine: which of its columns say whose a row is, from when it is true and since when known.

    `key`: the spine's column with the entity, where that is not named like the table's. A LazyFrame is collected when its
    turn comes and dropped after it, so that one table at a time is in memory.
    """

    rows: pl.DataFrame | pl.LazyFrame
    entity: str
    time: str
    ttl: timedelta | None = None
    created: str | None = None
    key: str | None = None


def as_of(
    spine: pl.DataFrame,
    rows: pl.DataFrame,
    *,
    entity: str,
    spine_time: str,
    row_time: str,
    ttl: timedelta | None,
    created: str | None = None,
) -> pl.DataFrame:
    """The spine, each row once and in its order, with the columns of the row of `rows` that was true at its time.

    That is the row of the same entity with time ≤ t and, if `created` names a column, created ≤ t; of several the one
    with the greatest (time, created, position in `rows`); none if it is older than `ttl` (exactly as old still counts).
    Null entities and null times match nothing. Keys of different types are compared as text.

    Raises InvalidInput where a time has no time zone or a column of `rows` is in the spine already.
    """
    return join_views(spine, spine_time, [Side(rows, entity, row_time, ttl, created)])


def join_views(spine: pl.DataFrame, time: str, sides: Sequence[Side]) -> pl.DataFrame:
    """`as_of` for several tables: the spine, each row once and in its order, with the columns of every table.

    The spine's times and keys are made ready once for all of them. Raises InvalidInput where a time has no time zone or
    two of them have a column of the same name.
    """
    added = added_columns(spine.columns, sides)
    asked = Spine(spine, time)
    parts = [spine]
    for side, names in zip(sides, added, strict=True):
        rows = side.rows.collect() if isinstance(side.rows, pl.LazyFrame) else side.rows
        parts.append(asked.places(rows, side).brought(rows, names))
        del rows
    return pl.concat(parts, how="horizontal") if len(parts) > 1 else spine


def added_columns(taken: Sequence[str], sides: Sequence[Side]) -> list[list[str]]:
    """The columns that each side brings. Raises InvalidInput where two would have one name."""
    seen = set(taken)
    added: list[list[str]] = []
    for side in sides:
        names = [name for name in side.rows.collect_schema().names() if name != side.entity]
        double = seen & set(names)
        if double:
            raise InvalidInput(f"Both sides of the join have a column {sorted(double)[0]!r}.", "rename it on one side.")
        seen.update(names)
        added.append(names)
    return added


@dataclass(frozen=True, slots=True)
class Places:
    """For each row of a spine the place in a table of the row that was true for it; `hit` says whether there is one."""

    at: pl.Series
    hit: pl.Series

    def of(self, column: pl.Series) -> pl.Series:
        """The column's values for the spine, null where there is none."""
        if not self.hit.any():
            return column.clear(len(self.at))
        # In one piece and asking no place whether it is null: to look that up costs more than the copies do.
        found = column.rechunk().gather(self.at)
        return found if self.hit.all() else pl.select(pl.when(pl.lit(self.hit)).then(pl.lit(found))).to_series()

    def brought(self, rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
        """These columns for the spine, one copied after the other."""
        return pl.DataFrame([self.of(rows[name]) for name in names])


class Spine:
    """The rows that ask. What several joins need of them is made once: the times, and the order by entity and time."""

    def __init__(self, frame: pl.DataFrame, time: str) -> None:
        self.frame = frame
        self._time = time
        self._asked: dict[tuple[str, bool, str], _Asked] = {}

    def places(self, rows: pl.DataFrame, side: Side) -> Places:
        """For each row of the spine the place in `rows` of the row that was true for it."""
        asked, unit = self._ask(rows, side)
        found, is_found = np.zeros(self.frame.height, np.uint32), np.zeros(self.frame.height, np.bool_)
        held = _Held.of(rows, side, asked, unit)
        if len(held.code):
            at = _until(held.code, held.seen, asked.code, asked.on) - 1
            hit = (at >= 0) & (held.code[at] == asked.code)
            if held.best is not None:
                at = held.best[at]
            if side.ttl is not None:
                # No row is later than who reads it, and without a sign the difference of any two such times fits.
                age = asked.on.view(np.uint64) - held.on[at].view(np.uint64)
                hit &= age <= np.uint64(_span(side.ttl, unit))
            order = asked.order[hit]
            found[order], is_found[order] = held.place[at[hit]], True
        return Places(pl.Series(found), pl.Series(is_found))

    def _ask(self, rows: pl.DataFrame, side: Side) -> tuple[_Asked, str]:
        key = side.key or side.entity
        check_columns(self.frame.schema, [key, self._time])
        check_columns(rows.schema, [side.entity, side.time])
        times = [self.frame.schema[self._time], *(rows.schema[name] for name in (side.time, side.created) if name)]
        unit = "ns" if any(getattr(kind, "time_unit", "") == "ns" for kind in times) else "us"
        is_text = as_text(self.frame.schema[key], rows.schema[side.entity])
        known = (key, is_text, unit)
        if known not in self._asked:
            self._asked[known] = _Asked(_as(self.frame[key], is_text), _ticks(self.frame, self._time, unit), is_text)
        return self._asked[known], unit


class _Asked:
    """A spine by entity and time: `order` holds the places of its rows that have both, `code` and `on` are in that order."""

    def __init__(self, keys: pl.Series, times: pl.Series, is_text: bool) -> None:
        self.codes = _Codes(keys, is_text)
        code, on = self.codes.of(keys), _raw(times)
        if times.null_count():
            code = np.where(times.is_not_null().to_numpy(), code, 0)
        self.order, self.code = _order(code, on)
        self.on = on.take(self.order)


class _Codes:
    """The entities of a spine as whole numbers from 1: the numbers themselves where they lie close, else found by name."""

    def __init__(self, keys: pl.Series, is_text: bool) -> None:
        self._is_text = is_text
        self._low: int | None = None
        if keys.dtype in _SMALL:
            low, high = keys.min(), keys.max()
            if isinstance(low, int) and isinstance(high, int) and high - low <= max(4 * len(keys), 1 << 16):
                self._low, self._high = low, high
        if self._low is None:
            self._names = pl.DataFrame({_NAME: keys.drop_nulls().unique()}).with_row_index(_CODE, offset=1)

    def of(self, keys: pl.Series) -> Ints:
        """The number of each key, 0 for null and for an entity that the spine does not ask for."""
        column = _as(keys, self._is_text)
        if self._low is not None:
            inside = pl.col(_NAME).is_between(self._low, self._high)
            code = pl.when(inside).then(pl.col(_NAME) - (self._low - 1)).otherwise(0)
            return column.cast(pl.Int64).alias(_NAME).to_frame().select(code).to_series().to_numpy()
        found = column.alias(_NAME).to_frame().join(self._names, on=_NAME, how="left", maintain_order="left")
        return found[_CODE].cast(pl.Int64).fill_null(0).to_numpy()


@dataclass(frozen=True, slots=True)
class _Held:
    """The rows that a spine may read: `code` and `seen` by entity and the moment from which each is seen, the others by time.

    `best` says which of the others is the best that can be seen at that moment; None is the one with the same number.
    """

    code: Ints
    seen: Ints
    place: Ints
    on: Ints
    best: Ints | None = None

    @classmethod
    def of(cls, rows: pl.DataFrame, side: Side, asked: _Asked, unit: str) -> _Held:
        times = _ticks(rows, side.time, unit)
        known = None if side.created is None else _ticks(rows, side.created, unit)
        code, on = asked.codes.of(rows[side.entity]), _raw(times)
        for column in (times, known):
            if column is not None and column.null_count():
                code = np.where(column.is_not_null().to_numpy(), code, 0)
        place, code = _order(code, on)
        on = on.take(place)
        return cls(code, on, place, on) if known is None else cls._as_known(code, on, place, _raw(known).take(place))

    @classmethod
    def _as_known(cls, code: Ints, on: Ints, place: Ints, known: Ints) -> _Held:
        """A row that becomes known late is not seen before, and then does not hide a later one that was known already."""
        same = (code[1:] == code[:-1]) & (on[1:] == on[:-1])
        if (same & (known[1:] < known[:-1])).any():
            # Only the rows that tie are sorted: there are few of them, and comparing is what sorting costs.
            tied = np.flatnonzero(np.append(False, same) | np.append(same, False))
            run = np.cumsum(np.append(False, ~same))[tied]
            better = tied[np.lexsort((known[tied], run))]
            place[tied], known[tied] = place[better], known[better]
        is_late = known > on
        seen = np.maximum(on, known, out=known)
        # The rows that are known in time are in order already: the late ones are put between them.
        late, prompt = np.flatnonzero(is_late), np.flatnonzero(~is_late)
        late = late[np.lexsort((seen[late], code[late]))]
        order = np.insert(prompt, _until(code[prompt], on[prompt], code[late], seen[late]), late)
        # Rows are numbered from worse to better, and every entity's numbers are above those of the entity before it.
        return cls(code, seen.take(order), place, on, np.maximum.accumulate(order, out=order))


def _until(code: Ints, on: Ints, asked: Ints, t: Ints) -> Ints:
    """How many rows, which are in the order of entity and time, are of an entity before the one that is asked for, or of it
    and not later than `t`.
    """
    if not len(code):
        return np.zeros(len(asked), np.int64)
    low, high = int(on.min()), int(on.max())
    bits = (high - low + 1).bit_length()
    if low > -_LONGEST and max(int(code[-1]), int(asked.max(initial=0))).bit_length() + bits <= _BITS:
        # Entity and time as one number, so that one search finds both.
        keys = code << bits
        keys += on
        keys -= low - 1
        wanted = asked << bits
        wanted += np.clip(t, low - 1, high)
        wanted -= low - 1
        return np.searchsorted(keys, wanted, "right")
    found = np.searchsorted(code, asked, "left")
    size = np.searchsorted(code, asked, "right") - found
    while (is_open := size > 0).any():
        half = (size + 1) // 2
        passed = is_open & (on[np.minimum(found + half, len(on)) - 1] <= t)
        found += np.where(passed, half, 0)
        size = np.where(passed, size - half, np.maximum(half - 1, 0))
    return found


def _order(code: Ints, on: Ints) -> tuple[Ints, Ints]:
    """The places of the rows that have an entity, by entity, time and position; and their entities in that order. 0 is none.

    A table that is in the order of time already is only dealt out to its entities.
    """
    order = None if bool((on[1:] >= on[:-1]).all()) else np.argsort(on, kind="stable")
    sizes = np.bincount(code, minlength=1)
    for shift in range(0, max(len(sizes) - 1, 1).bit_length(), _DIGIT):
        # numpy sorts 16-bit numbers in one pass, without comparing them.
        digit = np.right_shift(code, shift, out=np.empty(len(code), np.uint16), casting="unsafe")
        step = np.argsort(digit if order is None else digit.take(order), kind="stable")
        order = step if order is None else order.take(step)
    assert order is not None
    return order[sizes[0] :], np.repeat(np.arange(1, len(sizes)), sizes[1:])


def as_text(asked: pl.DataType, held: pl.DataType) -> bool:
    """Whether keys of these types are compared as text."""
    return asked != held or held in (pl.Categorical, pl.Enum)


def check_columns(schema: pl.Schema, names: Sequence[str]) -> None:
    """Raises InvalidInput where one is not there."""
    for name in names:
        if name not in schema:
            raise InvalidInput(f"The join reads the column {name!r}, which is not there.", f"there is: {schema.names()}.")


def _as(keys: pl.Series, is_text: bool) -> pl.Series:
    return keys.cast(pl.String) if is_text else keys


def _raw(times: pl.Series) -> Ints:
    return (times.fill_null(0) if times.null_count() else times).to_numpy()


def _span(ttl: timedelta, unit: str) -> int:
    return min(ttl // timedelta(microseconds=1) * _PER_US[unit], _LONGEST)


def _ticks(frame: pl.DataFrame, name: str, unit: str) -> pl.Series:
    kind = frame.schema[name]
    if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
        raise InvalidInput(
            f"The column {name!r} must hold times with a time zone, it holds {kind}.", "a time without a zone is two times."
        )
    return frame[name].dt.cast_time_unit("ns" if unit == "ns" else "us").to_physical()
