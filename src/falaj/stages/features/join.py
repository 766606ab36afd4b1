"""The point-in-time join: what was known about an entity at a moment, and nothing later."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl

from falaj.core.errors import InvalidInput

_KEY, _ON, _CREATED, _PLACE, _ROW, _RANK = "__key", "__on", "__created", "__place", "__row", "__rank"
_PER_MS = {"us": 1_000, "ns": 1_000_000}


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
    added = [name for name in rows.columns if name != entity]
    double = set(added) & set(spine.columns)
    if double:
        raise InvalidInput(f"Both sides of the join have a column {sorted(double)[0]!r}.", "rename it on one side.")
    fine = any(getattr(kind, "time_unit", "") == "ns" for kind in (*spine.schema.values(), *rows.schema.values()))
    unit = "ns" if fine else "us"
    as_text = spine.schema[entity] != rows.schema[entity]
    left = pl.DataFrame([_key(spine, entity, as_text), _ticks(spine, spine_time, unit).alias(_ON)])
    right = pl.DataFrame([_key(rows, entity, as_text), _ticks(rows, row_time, unit).alias(_ON)])
    if created is not None:
        right = right.with_columns(_ticks(rows, created, unit).alias(_CREATED))
    places = _match(left, right)
    if ttl is not None:
        limit = round(ttl / timedelta(microseconds=1)) * (_PER_MS[unit] // _PER_MS["us"])
        fresh = left[_ON] - right[_ON].gather(places) <= limit
        places = places.zip_with(fresh.fill_null(False), pl.Series([None], dtype=places.dtype))
    return pl.concat([spine, rows.select(added).select(pl.all().gather(places))], how="horizontal") if added else spine


def _match(left: pl.DataFrame, right: pl.DataFrame) -> pl.Series:
    """For each spine row the place of its row, ttl aside, or null."""
    rows = right.with_row_index(_ROW).drop_nulls()
    if _CREATED in rows.columns:
        rows = _as_seen(rows)
    asked = left.with_row_index(_PLACE).drop_nulls().sort(_ON)
    # The rows are sorted by what is searched for; polars cannot see that per key and would warn.
    found = asked.join_asof(rows.select(_KEY, _ON, _ROW).sort(_ON, maintain_order=True), on=_ON, by=_KEY, check_sortedness=False)
    places = np.full(left.height, -1, np.int64)
    places[found[_PLACE].to_numpy()] = found[_ROW].cast(pl.Int64).fill_null(-1).to_numpy()
    matched = pl.Series(places)
    return matched.zip_with(matched >= 0, pl.Series([None], dtype=pl.Int64))


def _as_seen(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows by the moment from which they can be seen, each replaced by the best one that can be seen then.

    A row that became known late must not hide a later one that was known before it.
    """
    best = rows.sort(_ON, _CREATED, _ROW).with_row_index(_RANK)
    seen = best.with_columns(pl.max_horizontal(_ON, _CREATED).alias(_ON)).sort(_ON, _RANK)
    seen = seen.with_columns(pl.col(_RANK).cum_max().over(_KEY))
    return seen.select(_KEY, _ON, best[_ROW].gather(seen[_RANK]).alias(_ROW))


def _key(frame: pl.DataFrame, entity: str, as_text: bool) -> pl.Series:
    return (frame[entity].cast(pl.String) if as_text else frame[entity]).alias(_KEY)


def _ticks(frame: pl.DataFrame, name: str, unit: str) -> pl.Series:
    kind = frame.schema[name]
    if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
        raise InvalidInput(
            f"The column {name!r} must hold times with a time zone, it holds {kind}.", "a time without a zone is two times."
        )
    return frame[name].dt.cast_time_unit("ns" if unit == "ns" else "us").to_physical()
