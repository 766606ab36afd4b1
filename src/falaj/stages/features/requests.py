"""What requests alone decide of a model's input, for all rows of a spine at once and to the bit as serving does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from falaj.core.recipe import NAN, Column, Reader, Recipe

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Zones: TypeAlias = Callable[[str], tzinfo]
_SMALL = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
_HOUR, _DAY = timedelta(hours=1) // _US, timedelta(days=1) // _US
_FIRST, _LAST = (datetime(2, 1, 1, tzinfo=UTC) - _EPOCH) // _US, (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // _US
"""Within these no zone's clock leaves Python's calendar."""


def request_columns(recipe: Recipe, spine: pl.DataFrame, follow: Reader, zones: Zones) -> Iterator[tuple[int, Floats]]:
    """(column, its value for each row) of what the requests alone decide, as `Reader.request_columns` gives it for each row.

    A value that the reader refuses raises the reader's own InvalidInput, for the first row that has one.
    """
    if spine.is_empty():
        return
    plain = _Plain(spine, recipe.time_field, zones)
    slow: list[int] = []
    wrong: list[int] = []
    for index, _ in next(_answers(recipe, spine[:1], follow)):
        column = recipe.columns[index]
        values = plain.values(column)
        if values is None:
            slow.append(index)
            continue
        yield index, values
        if column.op == "number" and (endless := np.isinf(values)).any():
            wrong.append(int(np.argmax(endless)))
    if slow:
        yield from _row_by_row(recipe, spine, follow, slow)
    elif wrong:
        next(_answers(recipe, spine[min(wrong) :], follow))


def _answers(recipe: Recipe, spine: pl.DataFrame, follow: Reader) -> Iterator[list[tuple[int, float]]]:
    """What the reader makes of each row."""
    for request in spine.select(recipe.request_fields).iter_rows(named=True):
        yield follow.request_columns(request, request[recipe.time_field])


def _row_by_row(recipe: Recipe, spine: pl.DataFrame, follow: Reader, wanted: list[int]) -> Iterator[tuple[int, Floats]]:
    """What has no shorter way."""
    found = {index: np.full(spine.height, NAN) for index in wanted}
    for place, answer in enumerate(_answers(recipe, spine, follow)):
        for index, value in answer:
            if index in found:
                found[index][place] = value
    yield from found.items()


class _Plain:
    """A spine whose columns are numbers, texts and times, as most are."""

    def __init__(self, spine: pl.DataFrame, time: str, zones: Zones) -> None:
        self._spine = spine
        self._time = time
        self._zones = zones
        self._local: dict[str, Ints | None] = {}

    def values(self, column: Column) -> Floats | None:
        """The column's values, or None where only the reader can tell them. A number without end is left for who reads it."""
        if column.op == "number":
            return _numbers(self._spine[column.source])
        if column.op == "category":
            return _places(self._spine[column.source], column.args["values"])
        if column.op not in _PARTS:
            return None
        name = str(column.args.get("zone", "UTC"))
        if name not in self._local:
            self._local[name] = _local(self._spine[self._time], self._zones(name))
        local = self._local[name]
        return None if local is None else _PARTS[column.op](local).astype(np.float64)


def _numbers(column: pl.Series) -> Floats | None:
    if column.null_count() == len(column) and not column.dtype.is_nested():
        return np.full(len(column), NAN)
    if not (column.dtype in _SMALL or column.dtype.is_float()):
        return None
    if column.null_count():
        return column.cast(pl.Float64).fill_null(NAN).to_numpy()
    return column.to_numpy().astype(np.float64)


def _places(column: pl.Series, values: tuple[object, ...]) -> Floats | None:
    kind = column.dtype
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        return None
    if kind.is_numeric() or kind.is_temporal() or kind in (pl.Boolean, pl.Null):
        return np.full(len(column), NAN)  # no text is equal to one of these
    if kind not in (pl.String, pl.Categorical, pl.Enum):
        return None
    if not texts:
        return np.full(len(column), NAN)
    place = {text: float(at) for at, text in enumerate(texts)}
    names = column.cast(pl.String)
    return names.replace_strict(list(place), list(place.values()), default=NAN, return_dtype=pl.Float64).fill_null(NAN).to_numpy()


def _local(times: pl.Series, zone: tzinfo) -> Ints | None:
    """Microseconds since 1970 on the clock of the zone, by the very rules that serving asks.

    Hours of which the offset is the same at both ends are answered as a whole: no clock was ever changed twice in an hour.
    """
    kind = times.dtype
    if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
        return None
    utc = times.to_physical().to_numpy()
    utc = utc // 1_000 if kind.time_unit == "ns" else utc * 1_000 if kind.time_unit == "ms" else utc
    if not len(utc):
        return utc
    if utc.min() < _FIRST or utc.max() > _LAST:
        return None
    hours, which = np.unique(utc // _HOUR, return_inverse=True)
    first = np.array([_offset(hour * _HOUR, zone) for hour in hours.tolist()], np.int64)
    last = np.array([_offset((hour + 1) * _HOUR - 1, zone) for hour in hours.tolist()], np.int64)
    offsets = first[which]
    for place in np.flatnonzero((first != last)[which]).tolist():
        offsets[place] = _offset(int(utc[place]), zone)
    return utc + offsets


def _offset(utc: int, zone: tzinfo) -> int:
    offset = (_EPOCH + utc * _US).astimezone(zone).utcoffset()
    return 0 if offset is None else offset // _US


def _date(local: Ints) -> NDArray[np.datetime64]:
    return (local // _DAY).astype("datetime64[D]")


_PARTS: Mapping[str, Callable[[Ints], NDArray[np.int64]]] = {
    "hour": lambda local: local // _HOUR % 24,
    "minute": lambda local: local // (_HOUR // 60) % (24 * 60),
    "weekday": lambda local: (local // _DAY + 3) % 7,  # 1970-01-01 was a Thursday
    "month": lambda local: _date(local).astype("datetime64[M]").astype(np.int64) % 12 + 1,
    "yearday": lambda local: (_date(local) - _date(local).astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1,
}
