"""Refresh: keeps the online store at the newest row of each entity, from what became known since the last time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl

from falaj.core.moments import from_millis, length, millis
from falaj.ports.online import Online
from falaj.stages.contracts.rows import instant
from falaj.stages.features.data import Contracts
from falaj.stages.features.mark import Mark, definition, mark_of, written
from falaj.stages.features.packing import batches, window_batches
from falaj.stages.features.rules import newest_rows, stored_rows
from falaj.stages.features.spec import AT, AnyView, View, WindowView
from falaj.stages.features.windows import WindowState, newest_point

_TICK = timedelta(milliseconds=1)
_SINCE = "__since"
"""Beside a row whose time has not come: after what the read that brought it began."""


class Intake(NamedTuple):
    """Where the snapshots of a dataset stand: until when they are complete, and whether the last load was refused."""

    watermark: datetime | None = None
    is_refused: bool = False


@dataclass(slots=True)
class _Progress:
    """How far the online store has come with one view, and what this process remembers beside it."""

    text: str | None
    """The mark as it is in the store. Another one there means that somebody else wrote, or that the store was lost."""
    mark: Mark
    since: datetime | None
    """The next read begins after this."""
    state: WindowState | None = None
    ahead: pl.DataFrame | None = None
    """Stored rows whose time has not come yet."""
    intake: Intake = Intake()  # noqa: RUF009  # a tuple
    """As it was when rows were read last."""


@dataclass(slots=True)
class Put:
    """What was put since the last event. The sum: each row's entity in UTF-8, a zero byte, and its bytes (`core.stored`)."""

    rows: int = 0
    summed: hashlib._Hash = field(default_factory=hashlib.sha256)


class Refresh:
    """Incremental in one process and across processes: the store itself holds a mark of how far it has come.

    Rows are put in batches, the mark of the whole with the last of them. A process that is killed in between leaves the mark
    where it was, and the next one puts the same rows again, which changes nothing. A store that was cleared or lost has no
    mark and is filled from the beginning; one whose rows were made with another definition is cleared first.

    A load that is refused brings nothing, and the same rows come again once it is mended. So a mark never says that what
    lies behind the snapshots need not be read again, and the end of a refusal makes this process read it again.
    """

    def __init__(self, contracts: Contracts, online: Online, intake: Callable[[str], Intake] = lambda _dataset: Intake()) -> None:
        self.contracts = contracts
        self.online = online
        self._intake = intake
        self._progress: dict[str, _Progress] = {}
        self._put: dict[str, Put] = {}

    def take(self, view: str) -> Put:
        """What was put since the last call."""
        return self._put.pop(view, Put())

    def until(self, view: str) -> datetime | None:
        """Everything that became known by then is in the store; None where it was never filled."""
        mark = mark_of(self.online.mark(view))
        return None if mark is None else mark.until

    def advance(self, view: AnyView, now: datetime, read: dict[tuple[str, datetime | None], pl.DataFrame]) -> int:
        """Brings one view up to `now`. `read`: what this refresh has read already, by dataset and start."""
        now = from_millis(millis(now))
        intake = self._intake(view.dataset)
        progress = self._known(view, now)
        if progress.intake.is_refused and not intake.is_refused:
            self._progress.pop(view.name, None)
            progress = self._known(view, now)
        done = progress.mark.until
        if done is not None and (
            now <= done or (isinstance(view, WindowView) and newest_point(view, now) == newest_point(view, done))
        ):
            return 0
        key = (view.dataset, progress.since)
        if key not in read:
            read[key] = self.contracts.recent(view.dataset, progress.since, now)
        # What is changed below fits the store only once all of it is there: after a failure the store's mark counts alone.
        self._progress.pop(view.name, None)
        progress.intake = intake
        kept = (
            self._put_window(view, progress, read[key], now)
            if isinstance(view, WindowView)
            else self._put_rows(view, progress, read[key], now)
        )
        progress.since = now
        self._progress[view.name] = progress
        return kept

    def _known(self, view: AnyView, now: datetime) -> _Progress:
        """What this process remembers, as long as it is what the store holds; else what the store's mark says."""
        text = self.online.mark(view.name)
        held = self._progress.get(view.name)
        if held is not None and held.text == text:
            return held
        mark, wanted = mark_of(text), definition(view)
        if mark is not None and mark.definition != wanted:
            self.online.clear(view.name)
            text, mark = None, None
        mark = mark or Mark(wanted, self._start(view, now), None)
        return _Progress(text, mark, mark.read_from, WindowState(view) if isinstance(view, WindowView) else None)

    def _start(self, view: AnyView, now: datetime) -> datetime | None:
        """From when on rows must be read where the store holds none: rows older than the ttl are never served."""
        if view.ttl is None:
            return None
        if isinstance(view, View):
            return now - length(view.ttl) - _TICK
        return newest_point(view, now) - view.longest - length(view.ttl) - length(view.every)

    def _put_window(self, view: WindowView, progress: _Progress, events: pl.DataFrame, now: datetime) -> int:
        assert progress.state is not None
        progress.state.add(events)
        point = newest_point(view, now)
        names, at, values = progress.state.newest(point)
        safe = _behind_snapshots(progress, point, view.longest)
        mark = replace(progress.mark, read_from=safe, until=now)
        kept = self._keep(view, progress, window_batches(names, at, values), mark)
        progress.state.forget(point)
        return kept

    def _put_rows(self, view: View, progress: _Progress, frame: pl.DataFrame, now: datetime) -> int:
        rows = None if frame.is_empty() else stored_rows(frame, view)
        if rows is not None:
            rows = rows.with_columns(pl.lit(progress.since, pl.Datetime("ms", "UTC")).alias(_SINCE))
        parts = [part for part in (progress.ahead, rows) if part is not None]
        known = pl.concat(parts) if parts else None
        ahead = None if known is None else known.filter(pl.col(AT) > instant(now))
        progress.ahead = None if ahead is None or ahead.is_empty() else ahead
        due = known if known is None or progress.ahead is None else known.filter(pl.col(AT) <= instant(now))
        first = _oldest(progress.ahead, now)
        safe = None if first is None else _behind_snapshots(progress, first, timedelta(0))
        mark = replace(progress.mark, read_from=safe, until=now)
        return self._keep(view, progress, iter(()) if due is None else batches(newest_rows(due, view), view), mark)

    def _keep(self, view: AnyView, progress: _Progress, parts: Iterator[dict[str, bytes]], mark: Mark) -> int:
        """Puts the batches, each with the mark that is true by then."""
        put = self._put.setdefault(view.name, Put())
        midway = written(progress.mark)
        kept, part = 0, next(parts, {})
        while True:
            following = next(parts, None)
            progress.text = midway if following is not None else written(mark)
            kept += self.online.put(view.name, part, progress.text)
            put.summed.update(b"".join([piece for name, row in part.items() for piece in (name.encode(), b"\0", row)]))
            if following is None:
                break
            part = following
        put.rows += kept
        progress.mark = mark
        return kept


def _behind_snapshots(progress: _Progress, at: datetime, longest: timedelta) -> datetime | None:
    """After what must be read again, so that neither the longest window before `at` nor a load that was refused is missed."""
    watermark, is_refused = progress.intake
    if watermark is None:
        return progress.mark.read_from if is_refused else at - longest
    return min(at, watermark) - longest


def _oldest(ahead: pl.DataFrame | None, now: datetime) -> datetime | None:
    """After what a process that knows nothing must begin to read, so that the rows that lie ahead come again."""
    if ahead is None:
        return now
    if ahead[_SINCE].null_count():
        return None
    first = ahead[_SINCE].min()
    assert isinstance(first, datetime)
    return first
