"""Why a feature has the value that it has: the row, the events, the snapshots and the arithmetic behind one cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from falaj.core.asset import Asset
from falaj.core.errors import NotFound
from falaj.core.moments import iso, length
from falaj.core.recipe import Column
from falaj.core.stored import Value
from falaj.stages.features.catalogue import describe
from falaj.stages.features.data import Contracts
from falaj.stages.features.events import PASSES
from falaj.stages.features.keyed import joined
from falaj.stages.features.rules import newest_rows, stored_rows
from falaj.stages.features.spec import AT, CREATED, Aggregate, AnyView, View, WindowView, key_columns
from falaj.stages.features.windows import rows_for

_TICK = timedelta(milliseconds=1)
_PLACES = ("_snapshot", "_digest", "_row")
_SUMS = {"mean": ("sum", "count"), "share": ("true", "count"), "std": ("mean", "count")}
"""Of which figures an aggregate is made."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a stored row came from."""

    view: str
    entity: str
    at: datetime | None
    """The time of the row that a request at that moment reads; None where there is none."""
    values: Mapping[str, Value]
    rows: pl.DataFrame
    """The dataset's rows behind it, with `_snapshot`, `_digest` and `_row`: one for a View, the longest window's otherwise."""
    assets: tuple[Asset, ...]
    """The snapshots that hold these rows."""
    created: datetime | None = None
    """Since when the row is known, where its view says so."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Where one value came from."""

    view: str
    feature: str
    entity: str
    asked_at: datetime
    value: Value
    at: datetime | None
    created: datetime | None
    why: str
    """In one sentence."""
    arithmetic: Mapping[str, Value]
    """The figures that it is made of, by the same code that made it."""
    rows: pl.DataFrame
    """The rows that contribute to it, with `_snapshot`, `_digest` and `_row`."""


@dataclass(frozen=True, slots=True)
class Filled:
    """Where one number of a model's input came from."""

    column: str
    op: str
    value: float | None
    why: str
    request: Mapping[str, Any]
    """The fields of the request that it was made of."""
    cells: tuple[Cell, ...]
    """The stored features that it was made of."""


def explain(contracts: Contracts, view: AnyView, entity: str, at: datetime) -> Explanation:
    """The row that a request for the entity at that moment reads, and the dataset's rows behind it, from snapshots."""
    limit = None if view.ttl is None else length(view.ttl)
    back = limit if isinstance(view, View) or limit is None else limit + view.longest
    since = None if back is None else at - back - _TICK
    frame = contracts.placed(view.dataset, since, at, _own(view, entity))
    if isinstance(view, WindowView):
        asked = pl.Series([at], dtype=pl.Datetime("us", "UTC"))
        row = rows_for(frame.drop(_PLACES), view, pl.Series([entity]), asked)
    else:
        row = newest_rows(_known(stored_rows(frame.filter(pl.col(view.time) <= at), view), at), view)
    if row.is_empty() or (limit is not None and at - row[AT][0] > limit):
        return Explanation(view.name, entity, None, dict.fromkeys(view.places), frame.clear(), ())
    when: datetime = row[AT][0]
    behind = _behind(frame, view, when, at)
    from_time = when - view.longest if isinstance(view, WindowView) else when - _TICK
    held = set(behind["_snapshot"].to_list())
    assets = [asset for asset in contracts.assets(view.dataset, from_time, at, by="known") if str(asset.ref) in held]
    created = row[CREATED][0] if CREATED in row.columns else None
    return Explanation(view.name, entity, when, {name: row[name][0] for name in view.places}, behind, tuple(assets), created)


def cell(contracts: Contracts, view: AnyView, feature: str, *, entity: str, at: datetime) -> Cell:
    """One value of that row, with the rows that contribute to it. Raises NotFound for a feature that the view lacks."""
    if feature not in view.places:
        raise NotFound.named(f"feature of {view.name!r}", feature, view.places)
    found = explain(contracts, view, entity, at)
    name = f"{view.name}.{feature} of {entity} at {iso(at)}"
    if found.at is None:
        old = "" if view.ttl is None else f", or none at most {view.ttl} old"
        why = f"{name} is missing: there is no row of {entity} that was known by then{old}."
        return Cell(view.name, feature, entity, at, None, None, None, why, {}, found.rows)
    value, arithmetic, rows = found.values[feature], dict[str, Value](), found.rows
    if isinstance(view, WindowView):
        aggregate, window = _made_of(view, feature)
        rows = _contributing(rows, view, aggregate, found.at - length(window))
        arithmetic = _figures(rows, _parts(view, aggregate, window), entity, found.at)
        said = ", ".join(f"{what} {figure}" for what, figure in arithmetic.items())
        why = f"{name} is {_plain(value)}: the {describe(aggregate, window)} before {iso(found.at)}" + (
            f" ({said})." if said else "."
        )
    else:
        known = "" if found.created is None else f", known since {iso(found.created)}"
        place = f"row {rows['_row'][0]} of {rows['_snapshot'][0]}"
        why = f"{name} is {_plain(value)}: it stands in {place}, true from {iso(found.at)}{known}."
    return Cell(view.name, feature, entity, at, value, found.at, found.created, why, arithmetic, rows)


def filled(column: Column, value: float | None, request: Mapping[str, Any], cells: tuple[Cell, ...]) -> Filled:
    """A column of a recipe, from the request and the cells that it reads."""
    fields = {operand.name: request.get(operand.name) for operand in column.operands if operand.kind == "request"}
    parts = [f"{name} = {_plain(found)}" for name, found in fields.items()]
    parts += [f"{one.view}.{one.feature} = {_plain(one.value)}" for one in cells]
    more = {name: found for name, found in column.args.items() if name not in ("left", "right", "other")}
    options = f" with {', '.join(f'{name} {_plain(found)}' for name, found in more.items())}" if more else ""
    why = f"{column.name} is {_plain(value)}: {column.op} of {', '.join(parts)}{options}."
    return Filled(column.name, column.op, value, why, fields, cells)


def _own(view: AnyView, entity: str) -> pl.Expr:
    columns = key_columns(view.entity)
    return (pl.col(columns[0]).cast(pl.String) if len(columns) == 1 else joined(columns)) == entity


def _known(rows: pl.DataFrame, at: datetime) -> pl.DataFrame:
    return rows.filter(pl.col(CREATED) <= at) if CREATED in rows.columns else rows


def _behind(frame: pl.DataFrame, view: AnyView, when: datetime, at: datetime) -> pl.DataFrame:
    if isinstance(view, WindowView):
        return frame.filter((pl.col(view.time) > when - view.longest) & (pl.col(view.time) <= when))
    order = [view.time, view.created] if view.created else [view.time]
    seen = frame.filter(pl.col(view.created) <= at) if view.created else frame
    return seen.filter(pl.col(view.time) == when).sort(order, maintain_order=True).tail(1)


def _made_of(view: WindowView, feature: str) -> tuple[Aggregate, str]:
    pairs = {f"{aggregate.name}_{window}": (aggregate, window) for window in view.windows for aggregate in view.aggregates}
    return pairs[feature]


def _contributing(rows: pl.DataFrame, view: WindowView, aggregate: Aggregate, after: datetime) -> pl.DataFrame:
    """The events of the feature's own window that have a value, or pass its condition."""
    inside = rows.filter(pl.col(view.time) > after)
    if aggregate.column is None:
        return inside
    given = inside.filter(pl.col(aggregate.column).is_not_null())
    if given.schema[aggregate.column].is_float():
        given = given.filter(pl.col(aggregate.column).is_not_nan())
    if aggregate.where is None:
        return given
    comparison, limit = aggregate.where
    return given.filter(
        pl.Series(PASSES[comparison](given[aggregate.column].cast(pl.Float64).to_numpy(), limit), dtype=pl.Boolean)
    )


def _parts(view: WindowView, aggregate: Aggregate, window: str) -> WindowView:
    """The figures that an aggregate is made of, over its window."""
    column = aggregate.column
    made = {
        "count": Aggregate("count", "count", column),
        "sum": Aggregate("sum", "sum", column) if column else None,
        "true": Aggregate("true", "count", column, ("!=", 0)) if column else None,
        "mean": Aggregate("mean", "mean", column) if column else None,
    }
    wanted = (made[name] for name in _SUMS.get(aggregate.op, ("count",)))
    return replace(view, windows=(window,), aggregates=tuple(part for part in wanted if part), descriptions={})


def _figures(rows: pl.DataFrame, parts: WindowView, entity: str, at: datetime) -> dict[str, Value]:
    """Their values, by the code that makes the features."""
    found = rows_for(rows.drop(_PLACES), parts, pl.Series([entity]), pl.Series([at], dtype=pl.Datetime("us", "UTC")))
    if found.is_empty():
        return {part.name: 0.0 for part in parts.aggregates if part.op in ("count", "sum")}
    return {part.name: found[f"{part.name}_{parts.windows[0]}"][0] for part in parts.aggregates}


def _plain(value: Any) -> str:
    return "missing" if value is None else str(value)
