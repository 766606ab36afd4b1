"""Training vectors and parity: the same recipe, followed by the same code as in serving, over the offline truth."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput
from falaj.core.recipe import Reader, Recipe
from falaj.ports.online import Stored
from falaj.stages.features.join import Side, Spine
from falaj.stages.features.large import Room, shares
from falaj.stages.features.requests import request_columns
from falaj.stages.features.spec import AT, CREATED, AnyView, View

Vectors: TypeAlias = NDArray[np.float32]
StoredAt: TypeAlias = dict[str, NDArray[np.datetime64]]
Table = TypeVar("Table", pl.DataFrame, pl.LazyFrame)


def stored_rows(frame: Table, view: View) -> Table:
    """A dataset's rows as rows of the view: entity, `at`, `created` if the view has it, features as floats.

    Rows without an entity or a time are left out. A NaN is a missing value. Raises InvalidInput for a column that the
    dataset lacks or that holds no numbers.
    """
    needed = [view.entity, view.time, *view.features, *([view.created] if view.created else [])]
    schema = frame.collect_schema()
    for name in needed:
        if name not in schema:
            raise InvalidInput(f"The view {view.name!r} reads the column {name!r}, which {view.dataset!r} does not have.")
    for name in view.features:
        kind = schema[name]
        if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
            raise InvalidInput(f"The feature {name!r} of the view {view.name!r} must be a number, its column holds {kind}.")
    rows = frame.drop_nulls([view.entity, view.time])
    created = [pl.col(view.created).alias(CREATED)] if view.created else []
    features = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in view.features]
    return rows.select(pl.col(view.entity).cast(pl.String), pl.col(view.time).alias(AT), *created, *features)


def newest_rows(rows: pl.DataFrame, view: View) -> pl.DataFrame:
    """Of each entity the row with the greatest (time, created, position)."""
    order = [AT, CREATED] if CREATED in rows.columns else [AT]
    return rows.sort(order, maintain_order=True).unique(view.entity, keep="last", maintain_order=True)


def as_stored(names: Sequence[str], at_ms: Sequence[int], values: NDArray[np.float64]) -> dict[str, Stored]:
    """Rows as the online store keeps them; NaN is missing."""
    missing = np.isnan(values)
    if not missing.any():
        return {name: Stored(at, tuple(row)) for name, at, row in zip(names, at_ms, values.tolist(), strict=True)}
    rows = zip(names, at_ms, values.tolist(), missing.tolist(), strict=True)
    return {
        name: Stored(at, tuple(None if gap else value for value, gap in zip(row, gaps, strict=True)))
        for name, at, row, gaps in rows
    }


def add_to_sum(summed: hashlib._Hash, rows: Mapping[str, Stored]) -> None:
    """Adds rows to a SHA-256: the entity in UTF-8, a zero byte, the time as int64 and the values as doubles, all little-endian.

    NaN is a missing value.
    """
    for entity, row in rows.items():
        values = [np.nan if value is None else value for value in row.values]
        summed.update(entity.encode() + b"\0" + struct.pack(f"<q{len(values)}d", row.at_ms, *values))


def zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise InvalidInput(f"There is no time zone {name!r}.", "write it as Asia/Dubai.") from exc


def reader(recipe: Recipe, views: Mapping[str, AnyView]) -> Reader:
    return Reader(recipe, zone, {name: views[name].places for name in recipe.views})


def vectors(
    recipe: Recipe,
    spine: pl.DataFrame,
    views: Mapping[str, AnyView],
    rows: Mapping[str, pl.DataFrame | pl.LazyFrame],
    room: Room | None = None,
) -> tuple[Vectors, StoredAt]:
    """The model's input for each row of the spine, [n, k], and from when each view's row is (NaT where there is none).

    The spine brings the recipe's request fields as columns. `rows` maps each view to its rows, of which a LazyFrame is in
    memory only during its turn, and share by share where it does not fit `room`. Values are made in 64 bits, as the online
    store keeps them, and rounded to 32 bits once, as the inference server does.
    """
    missing = [name for name in recipe.request_fields if name not in spine.columns]
    if missing:
        raise InvalidInput(f"The spine has no column {missing[0]!r}.", f"the recipe needs: {', '.join(recipe.request_fields)}.")
    if spine[recipe.time_field].null_count():
        raise InvalidInput(f"The spine has rows without a time in {recipe.time_field!r}.", "leave them out.")
    follow = reader(recipe, views)
    found = np.full((spine.height, len(recipe.columns)), np.nan, np.float32)
    for index, values in request_columns(recipe, spine, follow, zone):
        found[:, index] = values
    years = spine[recipe.time_field].dt.convert_time_zone("UTC").dt.year().cast(pl.Float64).to_numpy()
    asked = Spine(spine, recipe.time_field)
    stored_at: StoredAt = {}
    for name, field in recipe.views.items():
        stored_at[name] = np.full(spine.height, np.datetime64("NaT", "ms"))
        for share in shares(rows[name], views[name].entity, spine[field], room):
            held, where = share.rows, slice(None) if share.places is None else share.places
            own = spine.select(dict.fromkeys([recipe.time_field, field]).keys())
            part = asked if share.places is None else Spine(own[share.places], recipe.time_field)
            places = part.places(held, _side(recipe, views[name], held))
            times = held[AT].gather(places).dt.convert_time_zone("UTC").dt.replace_time_zone(None)
            stored_at[name][where] = times.dt.cast_time_unit("ms").to_numpy()
            for index, column in enumerate(recipe.columns):
                view, _, feature = column.source.partition(".")
                if column.op in ("view", "years_since") and view == name:
                    values = held[feature].gather(places).fill_null(np.nan).to_numpy()
                    found[where, index] = years[where] - values if column.op == "years_since" else values
    return found, stored_at


def _side(recipe: Recipe, view: AnyView, rows: pl.DataFrame) -> Side:
    limit = recipe.ttl_ms[view.name]
    ttl = None if limit is None else timedelta(milliseconds=limit)
    return Side(rows, view.entity, AT, ttl, CREATED if CREATED in rows.columns else None, recipe.views[view.name])


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One logged feature that is not what the offline truth says. Times are those of the rows that were read, in milliseconds."""

    prediction: str
    feature: str
    online: float | None
    offline: float | None


def mismatches(
    names: Sequence[str], logged: Mapping[str, Sequence[float | None]], truth: Vectors, *, tolerance: float
) -> list[Mismatch]:
    """Where logged features (prediction id → values) differ from the truth, row by row.

    Both sides are compared as 32-bit numbers, which is what the model read; equal means |a - b| ≤ tolerance · max(1, |b|).
    """
    found: list[Mismatch] = []
    for row, (prediction, values) in enumerate(logged.items()):
        if len(values) != len(names):
            found.append(Mismatch(prediction, f"{len(names)} features", float(len(values)), float(len(names))))
            continue
        online = np.array([np.nan if value is None else value for value in values], np.float32)
        offline = truth[row]
        both = np.isnan(online) & np.isnan(offline)
        with np.errstate(invalid="ignore"):
            near = np.abs(online - offline) <= tolerance * np.maximum(1.0, np.abs(offline))
        for place in np.flatnonzero(~(both | near | (online == offline))).tolist():
            found.append(Mismatch(prediction, names[place], _plain(online[place]), _plain(offline[place])))
    return found


def spine_of(recipe: Recipe, requests: Sequence[Mapping[str, Any]], times: Sequence[datetime]) -> pl.DataFrame:
    """Logged requests as a spine. Every request must have the recipe's fields."""
    columns = [pl.Series(recipe.time_field, list(times), dtype=pl.Datetime("us", "UTC"))]
    for name in recipe.request_fields:
        if name != recipe.time_field:
            columns.append(_column(name, [request[name] for request in requests]))
    return pl.DataFrame(columns)


def earliest(times: pl.Series, back: timedelta | None) -> datetime | None:
    """Just before the first moment from which a row can still matter; None where rows never age or there are no times."""
    first = times.dt.convert_time_zone("UTC").min()
    if back is None or not isinstance(first, datetime):
        return None
    return first - back - timedelta(milliseconds=1)


def _column(name: str, values: Sequence[Any]) -> pl.Series:
    if any(isinstance(value, str) for value in values):
        return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)
    if any(isinstance(value, float) for value in values):
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
    return pl.Series(name, list(values))


def _plain(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)
