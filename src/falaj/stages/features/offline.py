"""The offline side of features: a view's rows as the snapshots hold them, for a period or for the rows of a spine."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from falaj.core.recipe import Recipe
from falaj.stages.features.data import Contracts, Scans
from falaj.stages.features.keyed import key_column
from falaj.stages.features.rules import Events, earliest, stored_rows
from falaj.stages.features.spec import AT, AnyView, View, WindowView
from falaj.stages.features.windows import grid_points, rows_for, window_rows


def rows_between(contracts: Contracts, view: AnyView, since: datetime, until: datetime) -> pl.DataFrame:
    """The view's rows with a time in (since, until]: entity, `at`, features."""
    if isinstance(view, WindowView):
        events = contracts.frame(view.dataset, since=since - view.longest, until=until, by="known")
        return window_rows(events, view, grid_points(view, since, until))
    rows = stored_rows(contracts.frame(view.dataset, since=since, until=until, by="known"), view)
    return rows.filter((pl.col(AT) > since) & (pl.col(AT) <= until))


def rows_behind(contracts: Contracts, view: AnyView, recipe: Recipe, spine: pl.DataFrame) -> pl.DataFrame | pl.LazyFrame:
    """Every row of the view that a row of the spine may read; unread where the snapshots can be read part by part."""
    times = spine[recipe.time_field]
    since, until = _period(view, recipe, times)
    if isinstance(view, View):
        if isinstance(contracts, Scans):
            return stored_rows(contracts.scan(view.dataset, since=since, until=until, by="known"), view)
        return stored_rows(contracts.frame(view.dataset, since=since, until=until, by="known"), view)
    events = contracts.frame(view.dataset, since=since, until=until, by="known")
    return rows_for(events, view, spine[key_column(recipe, view.name)], times)


def unread_behind(
    contracts: Contracts, view: AnyView, recipe: Recipe, spine: pl.DataFrame
) -> pl.DataFrame | pl.LazyFrame | Events:
    """The same, with the events of a window view unread too where the snapshots can be read part by part."""
    if isinstance(view, WindowView) and isinstance(contracts, Scans):
        since, until = _period(view, recipe, spine[recipe.time_field])
        return Events.of(contracts.scan(view.dataset, since=since, until=until, by="known"), view)
    return rows_behind(contracts, view, recipe, spine)


def _period(view: AnyView, recipe: Recipe, times: pl.Series) -> tuple[datetime | None, datetime | None]:
    """The moments after and until which a row became known that somebody at these times may read."""
    limit = recipe.ttl_ms[view.name]
    back = None if limit is None else timedelta(milliseconds=limit)
    if back is not None and isinstance(view, WindowView):
        back += view.longest
    until = times.dt.convert_time_zone("UTC").max()
    assert until is None or isinstance(until, datetime)
    return earliest(times, back), until
