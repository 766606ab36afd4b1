"""Refresh: keeps the online store at the newest row of each entity, from what became known since the last time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from falaj.core.moments import from_millis, length
from falaj.ports.online import Online
from falaj.stages.features.columns import stored_of
from falaj.stages.features.data import Contracts
from falaj.stages.features.rules import add_to_sum, as_stored, newest_rows, stored_rows
from falaj.stages.features.spec import AT, AnyView, View, WindowView
from falaj.stages.features.windows import WindowState, newest_point

_TICK = timedelta(milliseconds=1)


@dataclass(slots=True)
class _Progress:
    """How far the online store has come with one view, in this process."""

    until: datetime
    """Everything known by then was read."""
    state: WindowState | None = None
    point: datetime | None = None
    """The newest grid point that was answered."""
    ahead: pl.DataFrame | None = None
    """Stored rows whose time has not come yet."""


@dataclass(slots=True)
class Put:
    """What was put since the last event."""

    rows: int = 0
    summed: hashlib._Hash = field(default_factory=hashlib.sha256)


class Refresh:
    """Incremental while the process lives; after a restart the state is read again, and putting a row twice changes nothing."""

    def __init__(self, contracts: Contracts, online: Online) -> None:
        self.contracts = contracts
        self.online = online
        self._progress: dict[str, _Progress] = {}
        self._put: dict[str, Put] = {}

    def take(self, view: str) -> Put:
        """What was put since the last call."""
        return self._put.pop(view, Put())

    def advance(self, view: AnyView, now: datetime, read: dict[tuple[str, datetime | None], pl.DataFrame]) -> int:
        """Brings one view up to `now`. `read`: what this refresh has read already, by dataset and start."""
        progress = self._progress.get(view.name)
        if progress is not None and (
            now <= progress.until or (isinstance(view, WindowView) and newest_point(view, now) == progress.point)
        ):
            return 0
        since = progress.until if progress else self._start(view, now)
        key = (view.dataset, since)
        if key not in read:
            read[key] = self.contracts.recent(view.dataset, since, now)
        if isinstance(view, WindowView):
            progress = progress or _Progress(now, WindowState(view))
            kept = self._put_window(view, progress, read[key], now)
        else:
            progress = progress or _Progress(now)
            kept = self._put_rows(view, progress, read[key], now)
        progress.until = now
        self._progress[view.name] = progress
        return kept

    def _start(self, view: AnyView, now: datetime) -> datetime | None:
        """From when on rows must be read by a process that knows nothing yet.

        Rows older than the ttl are never served. What the store holds already was put at a grid point as a whole, so a
        window view goes on from there.
        """
        ttl = None if view.ttl is None else length(view.ttl)
        if isinstance(view, View):
            return None if ttl is None else now - ttl - _TICK
        stored = self.online.freshness(view.name)
        starts = [] if stored is None else [min(from_millis(stored), now) - view.longest]
        if ttl is not None:
            starts.append(newest_point(view, now) - view.longest - ttl - length(view.every))
        return max(starts, default=None)

    def _put_window(self, view: WindowView, progress: _Progress, events: pl.DataFrame, now: datetime) -> int:
        assert progress.state is not None
        progress.state.add(events)
        point = newest_point(view, now)
        names, at, values = progress.state.newest(point)
        kept = self._keep(view, as_stored(names, at.tolist(), values))
        progress.state.forget(point)
        progress.point = point
        return kept

    def _put_rows(self, view: View, progress: _Progress, frame: pl.DataFrame, now: datetime) -> int:
        rows = stored_rows(frame, view) if not frame.is_empty() else None
        parts = [part for part in (progress.ahead, rows) if part is not None]
        if not parts:
            return 0
        known = pl.concat(parts) if len(parts) > 1 else parts[0]
        latest = known[AT].max()
        assert latest is None or isinstance(latest, datetime)
        all_due = latest is None or latest <= now
        due = known if all_due else known.filter(pl.col(AT) <= now)
        progress.ahead = None if all_due else known.filter(pl.col(AT) > now)
        if due.is_empty():
            return 0
        newest = newest_rows(due, view)
        return self._keep(view, stored_of(newest, view))

    def _keep(self, view: AnyView, rows: Mapping[str, Any]) -> int:
        if not rows:
            return 0
        put = self._put.setdefault(view.name, Put())
        kept = self.online.put(view.name, rows)
        add_to_sum(put.summed, rows)
        put.rows += kept
        return kept
