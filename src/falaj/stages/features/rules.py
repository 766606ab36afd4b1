"""Training vectors and parity: the same recipe, followed by the same code as in serving, over the offline truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput
from falaj.core.recipe import ARITHMETIC, STORED, Reader, Recipe
from falaj.stages.features.columns import Times, computed, operand_numbers, operands_of, stored_values
from falaj.stages.features.join import Side, Spine
from falaj.stages.features.keyed import key_column, with_entity
from falaj.stages.features.large import Room, Share, shares
from falaj.stages.features.requests import request_columns
from falaj.stages.features.spec import AT, CREATED, AnyView, View, WindowView
from falaj.stages.features.windows import rows_for

Vectors: TypeAlias = NDArray[np.float32]
StoredAt: TypeAlias = dict[str, NDArray[np.datetime64]]
Table = TypeVar("Table", pl.DataFrame, pl.LazyFrame)
_EVENTS = 3
"""How many times as much as other rows of that size events take, because the figures are made beside them."""


def stored_rows(frame: Table, view: View) -> Table:
    """A dataset's rows as rows of the view: entity as text, `at`, `created` if the view has it, features in their own types.

    Floats, whole numbers (Int64), true and false, and texts stay what they are; a time becomes whole milliseconds since
    1970-01-01T00:00Z, cut off. Rows without an entity or a time are left out. A NaN is a missing value. Raises
    InvalidInput for a column that the dataset lacks, or that holds anything else.
    """
    needed = [view.time, *view.features, *([view.created] if view.created else [])]
    schema = frame.collect_schema()
    for name in needed:
        if name not in schema:
            raise InvalidInput(f"The view {view.name!r} reads the column {name!r}, which {view.dataset!r} does not have.")
    features = [_feature(schema[name], name, view) for name in view.features]
    rows = with_entity(frame, view).drop_nulls([view.entity, view.time])
    created = [pl.col(view.created).alias(CREATED)] if view.created else []
    return rows.select(pl.col(view.entity), pl.col(view.time).alias(AT), *created, *features)


def _feature(kind: pl.DataType, name: str, view: View) -> pl.Expr:
    column = pl.col(name)
    if kind.is_integer() and kind not in (pl.UInt64, pl.Int128):
        return column.cast(pl.Int64)
    if kind in (pl.String, pl.Boolean):
        return column
    if kind in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    if kind.is_float() or kind.is_decimal() or kind == pl.Null:
        return column.cast(pl.Float64).fill_nan(None)
    if kind == pl.Date:
        return column.cast(pl.Datetime("ms")).dt.epoch("ms")
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        per = {"ms": 1, "us": 1_000, "ns": 1_000_000}[kind.time_unit]
        return column.to_physical() // per
    raise InvalidInput(
        f"The feature {name!r} of the view {view.name!r} holds {kind}, which is no feature.",
        "features are floats, 64-bit whole numbers, texts, true or false, and times with a zone; cast it or leave it out.",
    )


def newest_rows(rows: pl.DataFrame, view: View) -> pl.DataFrame:
    """Of each entity the row with the greatest (time, created, position)."""
    order = [AT, CREATED] if CREATED in rows.columns else [AT]
    return rows.sort(order, maintain_order=True).unique(view.entity, keep="last", maintain_order=True)


def zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise InvalidInput(f"There is no time zone {name!r}.", "write it as Asia/Dubai.") from exc


def reader(recipe: Recipe, views: Mapping[str, AnyView]) -> Reader:
    return Reader(recipe, zone, {name: views[name].places for name in recipe.views})


@dataclass(frozen=True, slots=True)
class Events:
    """Unread events of which a window view's rows are made; `view` is the view with the entity's key as one column of text."""

    rows: pl.LazyFrame
    view: WindowView

    @classmethod
    def of(cls, rows: pl.LazyFrame, view: WindowView) -> Events:
        """With the columns that the view reads."""
        keyed = with_entity(rows, view)
        needed = dict.fromkeys([str(view.entity), view.time, *(a.column for a in view.aggregates if a.column)])
        there = keyed.collect_schema()
        return cls(keyed.select(name for name in needed if name in there), replace(view, entity=str(view.entity)))


def _read(
    behind: pl.DataFrame | pl.LazyFrame | Events, entity: str, keys: pl.Series, times: pl.Series, room: Room | None
) -> Iterator[Share]:
    """The view's rows in shares that fit the room."""
    if not isinstance(behind, Events):
        yield from shares(behind, entity, keys, room)
        return
    own = None if room is None else replace(room, memory=-(-room.memory // _EVENTS))
    for share in shares(behind.rows, entity, keys, own):
        asked = (keys, times) if share.places is None else (keys[share.places], times[share.places])
        yield replace(share, rows=rows_for(share.rows, behind.view, *asked))


def vectors(
    recipe: Recipe,
    spine: pl.DataFrame,
    views: Mapping[str, AnyView],
    rows: Mapping[str, pl.DataFrame | pl.LazyFrame | Events],
    room: Room | None = None,
) -> tuple[Vectors, StoredAt]:
    """The model's input for each row of the spine, [n, k], and from when each view's row is (NaT where there is none).

    The spine brings the recipe's request fields as columns. `rows` maps each view to its rows, or a window view to its
    events. What is lazy is in memory only during its turn, and share by share where it does not fit `room`. Values are made
    in 64 bits, as the online store keeps them, and rounded to 32 bits once, as the inference server does.
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
    clock = Times.of(spine[recipe.time_field])
    asked = Spine(spine, recipe.time_field)
    stored_at: StoredAt = {}
    read = {name: np.full(spine.height, np.nan) for view in recipe.views for name in operands_of(recipe, view)}
    for name in recipe.views:
        field = key_column(recipe, name)
        stored_at[name] = np.full(spine.height, np.datetime64("NaT", "ms"))
        for share in _read(rows[name], views[name].entity, spine[field], spine[recipe.time_field], room):
            held, where = share.rows, slice(None) if share.places is None else share.places
            own = spine.select(dict.fromkeys([recipe.time_field, field]).keys())
            part = asked if share.places is None else Spine(own[share.places], recipe.time_field)
            places = part.places(held, _side(recipe, views[name], held))
            times = places.of(held[AT]).dt.convert_time_zone("UTC").dt.replace_time_zone(None)
            stored_at[name][where] = times.dt.cast_time_unit("ms").to_numpy()
            for operand in operands_of(recipe, name):
                read[operand][where] = operand_numbers(operand, places.of(held[operand.partition(".")[2]]))
            for index, column in enumerate(recipe.columns):
                view, _, feature = column.source.partition(".")
                if column.op in STORED and view == name:
                    found[where, index] = stored_values(column, places.of(held[feature]), clock.part(where))
    for index, column in enumerate(recipe.columns):
        if column.op in ARITHMETIC:
            found[:, index] = computed(column, spine, read)
    return found, stored_at


def _side(recipe: Recipe, view: AnyView, rows: pl.DataFrame) -> Side:
    limit = recipe.ttl_ms[view.name]
    ttl = None if limit is None else timedelta(milliseconds=limit)
    return Side(rows, view.entity, AT, ttl, CREATED if CREATED in rows.columns else None, key_column(recipe, view.name))


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One logged feature that is not what the offline truth says. Times are those of the rows that were read, in milliseconds."""

    prediction: str
    feature: str
    online: float | None
    offline: float | None


def mismatches(
    names: Sequence[str],
    logged: Mapping[str, Sequence[float | None]],
    truth: Vectors,
    *,
    tolerance: float,
    masked: Mapping[str, frozenset[str]] | None = None,
) -> list[Mismatch]:
    """Where logged features (prediction id → values) differ from the truth, row by row. `masked`: what was not logged of it.

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
        hidden = (masked or {}).get(prediction, frozenset())
        for place in np.flatnonzero(~(both | near | (online == offline))).tolist():
            if names[place] in hidden:
                continue
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
