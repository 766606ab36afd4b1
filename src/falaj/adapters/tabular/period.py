"""The period of a read, (since, until], as an expression over the column that says when a row became known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from falaj.core.errors import InvalidInput

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICKS = {"ms": timedelta(milliseconds=1), "us": timedelta(microseconds=1)}


def check_time(dtype: pl.DataType | None, name: str, where: str) -> pl.Datetime:
    """Raises InvalidInput where the column is no time. A time without a zone is read as UTC."""
    if not isinstance(dtype, pl.Datetime):
        seen = "not there" if dtype is None else f"of type {dtype}"
        raise InvalidInput(
            f"{where}: the column {name!r} says when a row became known, and is {seen}.",
            'name a column of times, or declare it: types={"known_at": "timestamp"}.',
        )
    return dtype


def within(name: str, dtype: pl.Datetime, since: datetime | None, until: datetime) -> pl.Expr:
    """Whether a row became known in (since, until]. The bounds take the column's unit: cut down to a coarser one they
    mean the same for every value that the column can hold."""
    column = pl.col(name)
    inside = column <= _bound(until, dtype)
    return inside if since is None else (column > _bound(since, dtype)) & inside


def ticks(at: datetime, unit: str) -> int:
    """Whole units since 1970, cut down; what nanoseconds cannot say is their last moment."""
    if unit == "ns":
        return max(-(2**63), min(2**63 - 1, ((at - _EPOCH) // _TICKS["us"]) * 1000))
    return (at - _EPOCH) // _TICKS[unit]


def _bound(at: datetime, dtype: pl.Datetime) -> pl.Expr:
    literal = pl.lit(ticks(at, dtype.time_unit), dtype=pl.Int64).cast(pl.Datetime(dtype.time_unit, "UTC"))
    return literal.dt.convert_time_zone(dtype.time_zone) if dtype.time_zone else literal.dt.replace_time_zone(None)
