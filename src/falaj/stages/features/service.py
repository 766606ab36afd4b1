"""Features: reads views from snapshots for training, keeps the online store up to date, and proves that both agree."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

import polars as pl

from falaj.core.asset import Asset
from falaj.core.decision import Check, Decision, judge
from falaj.core.errors import NotFound
from falaj.core.moments import from_millis, iso, length, millis, moment
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.ports.online import Online
from falaj.stages.action import Act, Kernel, action
from falaj.stages.features.rules import (
    Mismatch,
    StoredAt,
    Vectors,
    add_to_sum,
    as_stored,
    earliest,
    mismatches,
    newest_rows,
    spine_of,
    stored_rows,
    vectors,
)
from falaj.stages.features.spec import AT, AnyView, View, WindowView, span_ms
from falaj.stages.features.windows import WindowState, grid_points, newest_point, rows_for, window_rows

_NAMED = 20
"""How many mismatches a parity decision names one by one; the count covers all."""
_TICK = timedelta(milliseconds=1)


class Contracts(Protocol):
    """What features need of the stage that holds the data. Periods are (since, until]; `since` None is from the beginning."""

    def frame(
        self, name: str, *, since: datetime | None = None, until: datetime | None = None, by: Literal["time", "known"] = "time"
    ) -> pl.DataFrame:
        """Rows of the dataset's snapshots by event time (`time`) or by when they became known (`known`)."""
        ...

    def recent(self, name: str, since: datetime | None, until: datetime) -> pl.DataFrame:
        """Rows that became known in the period, snapshot or not."""
        ...

    def assets(
        self, name: str, since: datetime | None = None, until: datetime | None = None, *, by: Literal["time", "known"] = "time"
    ) -> Sequence[Asset]:
        """The snapshots that hold rows of the period."""
        ...


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
class _Put:
    """What was put since the last event."""

    rows: int = 0
    summed: hashlib._Hash = field(default_factory=hashlib.sha256)


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


class Features:
    """The features of one project."""

    def __init__(self, kernel: Kernel, contracts: Contracts, online: Online, views: Mapping[str, AnyView]) -> None:
        self.kernel = kernel
        self.contracts = contracts
        self.online = online
        self.views = dict(views)
        self._progress: dict[str, _Progress] = {}
        self._put: dict[str, _Put] = {}
        self._lock = threading.Lock()

    def view(self, name: str) -> AnyView:
        """Raises NotFound with the nearest names."""
        if name not in self.views:
            raise NotFound.named("view", name, self.views)
        return self.views[name]

    def offline(self, view_name: str, since: datetime, until: datetime) -> pl.DataFrame:
        """The view's rows with a time in (since, until], from snapshots: entity, `at`, features."""
        view = self.view(view_name)
        if isinstance(view, WindowView):
            events = self.contracts.frame(view.dataset, since=since - view.longest, until=until, by="known")
            return window_rows(events, view, grid_points(view, since, until))
        rows = stored_rows(self.contracts.frame(view.dataset, since=since, until=until, by="known"), view)
        return rows.filter((pl.col(AT) > since) & (pl.col(AT) <= until))

    def training_frame(self, recipe: Recipe, spine: pl.DataFrame) -> tuple[Vectors, StoredAt]:
        """The model's input for each row of the spine as float32 [n, k], and for each view the time of the row that was read.

        The spine has the recipe's request fields as columns, its time field with a time zone. Nothing that became known
        after a row's time is used for it. Raises NotFound for a view that the project does not declare.
        """
        views = {name: self.view(name) for name in recipe.views}
        times = spine[recipe.time_field] if recipe.time_field in spine.columns else None
        rows = {} if times is None else {name: self._rows_behind(view, recipe, spine) for name, view in views.items()}
        return vectors(recipe, spine, views, rows)

    def refresh(self, now: datetime) -> dict[str, int]:
        """Brings the online store up to `now` and returns how many rows of each view were put.

        The data plane: it changes no record and leaves no event (`feature.materialise` does). Incremental in one process;
        after a restart the state is read again, and putting the same row twice changes nothing.
        """
        with self._lock:
            read: dict[tuple[str, datetime | None], pl.DataFrame] = {}
            return {name: self._advance(view, now, read) for name, view in self.views.items()}

    @action("feature.materialise")
    def materialise(self, act: Act, view: Ref, *, until: datetime) -> Decision:
        """Refreshes one view and records what was put since the last such event: rows, newest time, SHA-256.

        The refreshes between two events leave no event of their own; their rows are in the sum of the next one. The sum
        starts anew when the process does. Denied where the newest row is older than the ttl, held where there is none.
        """
        declared = self.view(view.name)
        with self._lock:
            self._advance(declared, until, {})
            put = self._put.pop(view.name, _Put())
        newest = self.online.freshness(view.name)
        check = _fresh(declared, newest, until)
        decision = Decision(view.bare, "freshness", judge([check]), (check,), act.actor, act.now)
        with act.change() as draft:
            draft.decide(decision)
            draft.note(
                view=view.name,
                rows=put.rows,
                until=until,
                newest=None if newest is None else from_millis(newest),
                sha256="sha256:" + put.summed.hexdigest(),
            )
        return decision

    @action("feature.verify")
    def verify(
        self, act: Act, subject: Ref, *, records: Iterable[Mapping[str, Any]], recipe: Recipe, tolerance: float = 1e-9
    ) -> Decision:
        """Parity: the features that predictions were logged with, against the truth recomputed from snapshots.

        `records`: records of the prediction log; those without a request by entity are passed over. A prediction later
        than the snapshots of every dataset it reads cannot be judged yet. Denied where any feature differs, each
        difference named (prediction, feature, online, offline); held where nothing could be judged.
        """
        whole = [r for r in records if r.get("kind") == "prediction" and _has_fields(r.get("request"), recipe)]
        covered = self._covered(recipe)
        judged = [r for r in whole if covered is not None and moment(r["at"]) <= covered]
        found: list[Mismatch] = []
        if judged:
            spine = spine_of(recipe, [r["request"] for r in judged], [moment(r["at"]) for r in judged])
            truth, _ = self.training_frame(recipe, spine)
            found = mismatches(recipe.names, {r["id"]: r["features"] for r in judged}, truth, tolerance=tolerance)
        checks = _parity_checks(found, len(judged), len(recipe.columns))
        decision = Decision(subject.bare, "parity", judge(checks), checks, act.actor, act.now)
        with act.change() as draft:
            draft.decide(decision)
            draft.note(
                predictions=len(judged),
                not_yet=len(whole) - len(judged),
                values=len(judged) * len(recipe.columns),
                mismatches=len(found),
            )
        return decision

    def explain(self, view_name: str, entity: str, at: datetime) -> Explanation:
        """The row that a request for the entity at that moment reads, and the dataset's rows behind it, from snapshots."""
        view = self.view(view_name)
        own = pl.col(view.entity).cast(pl.String) == entity
        limit = None if view.ttl is None else length(view.ttl)
        back = limit if isinstance(view, View) or limit is None else limit + view.longest
        since = None if back is None else at - back - _TICK
        frame = self.contracts.frame(view.dataset, since=since, until=at, by="known").filter(own)
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
        return Explanation(
            view.name, entity, when, values, behind, tuple(self.contracts.assets(view.dataset, from_time, at, by="known"))
        )

    def _rows_behind(self, view: AnyView, recipe: Recipe, spine: pl.DataFrame) -> pl.DataFrame:
        """Every row of the view that a row of the spine may read."""
        times = spine[recipe.time_field]
        limit = recipe.ttl_ms[view.name]
        back = None if limit is None else timedelta(milliseconds=limit)
        until = times.dt.convert_time_zone("UTC").max()
        assert until is None or isinstance(until, datetime)
        if isinstance(view, View):
            return stored_rows(self.contracts.frame(view.dataset, since=earliest(times, back), until=until, by="known"), view)
        since = earliest(times, None if back is None else back + view.longest)
        events = self.contracts.frame(view.dataset, since=since, until=until, by="known")
        return rows_for(events, view, spine[recipe.views[view.name]], times)

    def _covered(self, recipe: Recipe) -> datetime | None:
        """Until when the snapshots of every dataset that the recipe reads are complete; None where one has none."""
        marks: list[datetime] = []
        for name in recipe.views:
            head = self.kernel.ledger.get("head", f"dataset/{self.view(name).dataset}")
            if head is None:
                return None
            marks.append(moment(head["watermark"]))
        return min(marks) if marks else self.kernel.now()

    def _advance(self, view: AnyView, now: datetime, read: dict[tuple[str, datetime | None], pl.DataFrame]) -> int:
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
        at = newest[AT].dt.epoch("ms").to_list()
        values = newest.select(pl.col(view.features).fill_null(float("nan"))).to_numpy()
        return self._keep(view, as_stored(newest[view.entity].to_list(), at, values))

    def _keep(self, view: AnyView, rows: Mapping[str, Any]) -> int:
        if not rows:
            return 0
        put = self._put.setdefault(view.name, _Put())
        kept = self.online.put(view.name, rows)
        add_to_sum(put.summed, rows)
        put.rows += kept
        return kept


def _behind(frame: pl.DataFrame, view: AnyView, when: datetime) -> pl.DataFrame:
    if isinstance(view, WindowView):
        return frame.filter((pl.col(view.time) > when - view.longest) & (pl.col(view.time) <= when))
    order = [view.time, view.created] if view.created else [view.time]
    return frame.filter(pl.col(view.time) == when).sort(order, maintain_order=True).tail(1)


def _fresh(view: AnyView, newest: int | None, until: datetime) -> Check:
    limit = None if view.ttl is None else span_ms(view.ttl)
    wanted = "a row" if limit is None else f"newest row at most {view.ttl} old"
    if newest is None:
        return Check("freshness", wanted, "no row", None)
    return Check(
        "freshness", wanted, f"newest row of {iso(from_millis(newest))}", limit is None or millis(until) - newest <= limit
    )


def _has_fields(request: Any, recipe: Recipe) -> bool:
    return isinstance(request, Mapping) and all(name in request for name in recipe.request_fields if name != recipe.time_field)


def _parity_checks(found: Sequence[Mismatch], predictions: int, columns: int) -> tuple[Check, ...]:
    seen = f"{len(found)} of {predictions * columns} values of {predictions} predictions differ"
    total = Check(
        "parity",
        "every value as offline",
        seen if predictions else "no prediction that snapshots cover yet",
        not found if predictions else None,
    )
    named = (Check(f"{m.prediction}.{m.feature}", f"offline {m.offline}", f"online {m.online}", False) for m in found[:_NAMED])
    return (total, *named)
