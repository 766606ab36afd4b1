"""Why this value: the row that a request reads, and the dataset's rows and snapshots behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from falaj.core.asset import Asset
from falaj.core.moments import length
from falaj.stages.features.data import Contracts
from falaj.stages.features.rules import newest_rows, stored_rows
from falaj.stages.features.spec import AT, AnyView, View, WindowView
from falaj.stages.features.windows import rows_for

_TICK = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a stored value came from."""

    view: str
    entity: str
    at: datetime | None
    """The time of the row that a request at that moment reads; None where there is none."""
    values: Mapping[str, float | None]
    rows: pl.DataFrame
    """The dataset's rows behind it: one for a View, those of the longest window for a WindowView."""
    assets: tuple[Asset, ...]
    """The snapshots that hold these rows."""


def explain(contracts: Contracts, view: AnyView, entity: str, at: datetime) -> Explanation:
    """The row that a request for the entity at that moment reads, and the dataset's rows behind it, from snapshots."""
    own = pl.col(view.entity).cast(pl.String) == entity
    limit = None if view.ttl is None else length(view.ttl)
    back = limit if isinstance(view, View) or limit is None else limit + view.longest
    since = None if back is None else at - back - _TICK
    frame = contracts.frame(view.dataset, since=since, until=at, by="known").filter(own)
    if isinstance(view, WindowView):
        asked = pl.Series([at], dtype=pl.Datetime("us", "UTC"))
        row = rows_for(frame, view, pl.Series([entity]), asked)
    else:
        row = newest_rows(stored_rows(frame.filter(pl.col(view.time) <= at), view), view)
    if row.is_empty() or (limit is not None and at - row[AT][0] > limit):
        return Explanation(view.name, entity, None, dict.fromkeys(view.places), frame.clear(), ())
    when: datetime = row[AT][0]
    values = {name: row[name][0] for name in view.places}
    behind = _behind(frame, view, when)
    from_time = when - view.longest if isinstance(view, WindowView) else when - _TICK
    return Explanation(view.name, entity, when, values, behind, tuple(contracts.assets(view.dataset, from_time, at, by="known")))


def _behind(frame: pl.DataFrame, view: AnyView, when: datetime) -> pl.DataFrame:
    if isinstance(view, WindowView):
        return frame.filter((pl.col(view.time) > when - view.longest) & (pl.col(view.time) <= when))
    order = [view.time, view.created] if view.created else [view.time]
    return frame.filter(pl.col(view.time) == when).sort(order, maintain_order=True).tail(1)
