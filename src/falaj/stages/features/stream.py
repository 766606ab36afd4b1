"""The figures of a window view kept from a stream of events, whatever their order, with a watermark and a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self

import numpy as np
import polars as pl

from falaj.core.entity import key_text
from falaj.core.errors import Conflict, InvalidInput
from falaj.core.moments import from_millis, length, millis, moment
from falaj.ports.online import Online, Stored
from falaj.ports.predictions import Cursor
from falaj.stages.features import checkpoint
from falaj.stages.features.events import Ints
from falaj.stages.features.keyed import with_entity
from falaj.stages.features.spec import WindowView, definition_digest, key_columns, span_ms
from falaj.stages.features.windows import WindowState, utc_millis


@dataclass(slots=True)
class Counts:
    """What became of the events so far."""

    taken: int = 0
    """Are counted in rows to come."""
    too_late: int = 0
    """Came when a grid point that counts them was out already. That row stays as it was; rows to come count them."""
    duplicates: int = 0
    """Had the id of one that was counted."""
    ahead: int = 0
    """Were from the future, and left out: one wrong clock must not move the watermark."""
    unusable: int = 0
    """Had no entity or no time."""


@dataclass(frozen=True, slots=True)
class Emitted:
    """What the watermark has let out."""

    rows: pl.DataFrame
    """A row for each entity and grid point, as `window_rows` makes them."""
    newest: Mapping[str, Stored] = field(default_factory=dict)
    """Of each entity the row that a request reads at the last grid point, for the online store."""
    until: datetime | None = None
    """The last grid point that is out."""


class WindowStream:
    """A WindowView that follows a stream. Rows at grid point g come out once the watermark has come to g.

    The watermark stands `lateness` behind the latest event: an event may come that much after a later one, and still be
    counted in every row. At every grid point the rows are bit for bit what `window_rows` makes of all events that have come
    by then, in any order, with duplicates. `event_id`: the column that names an event; without it nothing is a duplicate.
    An id is remembered as long as its event is in the longest window; the first event of an id counts.
    """

    def __init__(self, view: WindowView, *, lateness: str | timedelta, event_id: str | None = None) -> None:
        if length(lateness) < timedelta(0):
            raise InvalidInput(f"The lateness of the stream of {view.name!r} is negative.", "write 10m, or 0s for none.")
        self.view = view
        self.lateness_ms = span_ms(lateness)
        self.event_id = event_id
        self.counts = Counts()
        self.position = ""
        """Where the reader of the stream stood at the checkpoint that this was resumed from."""
        self._state = WindowState(view)
        self._ids: dict[str, int] = {}
        """id → the event's time in milliseconds."""
        self._watermark: int | None = None
        self._out: int | None = None

    @property
    def watermark(self) -> datetime | None:
        """Events up to this time are taken to have come; None before the first."""
        return None if self._watermark is None else from_millis(self._watermark)

    def take(self, events: pl.DataFrame, now: datetime | None = None) -> Counts:
        """Takes events with the view's columns, and says what became of these. `now`: what is later comes from a wrong clock.

        Raises InvalidInput where a column is missing or of a type that it cannot be.
        """
        counts = Counts()
        rows, at = self._usable(events, now, counts)
        if self._out is not None:
            counts.too_late = int((at <= self._out).sum())
            # What has left every window to come has left the memory for ids too: it may well be a duplicate.
            inside = at > self._out - span_ms(self.view.longest)
            rows, at = rows.filter(pl.Series(inside, dtype=pl.Boolean)), at[inside]
        rows, at, ids = self._new(rows, at, counts)
        self._state.add(rows)
        # Nothing has changed up to here: events that were refused may be sent again.
        self._ids.update(ids)
        counts.taken = rows.height
        for name, value in _fields(counts).items():
            setattr(self.counts, name, getattr(self.counts, name) + value)
        if len(at):
            # An event exactly `lateness` behind the latest is still in time, so the watermark stands just before it.
            reached = int(at.max()) - self.lateness_ms - 1
            self._watermark = reached if self._watermark is None else max(self._watermark, reached)
        return counts

    def advance(self, until: datetime | None = None) -> Emitted:
        """The rows of every grid point that the watermark has come to since the last call.

        `until`: whoever knows that nothing earlier will come moves the watermark there, as where a stream is silent.
        """
        if until is not None:
            reached = millis(until)
            self._watermark = reached if self._watermark is None else max(self._watermark, reached)
        last = self._last_due()
        if last is None:
            return Emitted(self._state.rows(np.empty(0, np.int64)), until=None if self._out is None else from_millis(self._out))
        points = self._state.points(-(1 << 62) if self._out is None else self._out, last)
        rows = self._state.rows(points)
        names, at, values = self._state.newest(from_millis(last))
        newest = {name: Stored(ms, _plain(row)) for name, ms, row in zip(names, at.tolist(), values.tolist(), strict=True)}
        self._state.forget(from_millis(last))
        self._out = last
        oldest = last - span_ms(self.view.longest)
        self._ids = {name: ms for name, ms in self._ids.items() if ms > oldest}
        return Emitted(rows, newest, from_millis(last))

    def checkpoint(self, position: str = "") -> bytes:
        """Everything that `resume` needs, laid out as in features.checkpoint. `position`: where the reader stands."""
        head = {
            "view": self.view.name,
            "definition": definition_digest(self.view),
            "lateness_ms": self.lateness_ms,
            "event_id": self.event_id,
            "watermark_ms": self._watermark,
            "out_ms": self._out,
            "position": position,
            "counts": _fields(self.counts),
        }
        return checkpoint.write(head, self._state, self._ids)

    @classmethod
    def resume(cls, view: WindowView, data: bytes) -> Self:
        """The stream as it was. Raises InvalidInput for bytes that no checkpoint wrote, Conflict where the view is another."""
        head, state, ids = checkpoint.read(view, data)
        if head["definition"] != definition_digest(view):
            raise Conflict(
                f"The checkpoint is of {head['view']!r} with another definition than the view {view.name!r} has.",
                "begin anew: read the stream from the longest window before now.",
            )
        made = cls(view, lateness=timedelta(milliseconds=head["lateness_ms"]), event_id=head["event_id"])
        made._state, made._ids = state, ids
        made._watermark, made._out, made.position = head["watermark_ms"], head["out_ms"], head["position"]
        made.counts = Counts(**head["counts"])
        return made

    def _usable(self, events: pl.DataFrame, now: datetime | None, counts: Counts) -> tuple[pl.DataFrame, Ints]:
        needed = [self.view.time, *([self.event_id] if self.event_id else [])]
        missing = [name for name in needed if name not in events.columns]
        if missing:
            raise InvalidInput(f"The events of {self.view.name!r} have no column {missing[0]!r}.")
        whole = with_entity(events, self.view)[self.view.entity].is_not_null() & events[self.view.time].is_not_null()
        rows = events.filter(whole)
        counts.unusable = events.height - rows.height
        at = utc_millis(rows[self.view.time], up=True)
        if now is not None and len(at) and at.max() > millis(now):
            due = at <= millis(now)
            counts.ahead = int((~due).sum())
            rows, at = rows.filter(pl.Series(due)), at[due]
        return rows, at

    def _new(self, rows: pl.DataFrame, at: Ints, counts: Counts) -> tuple[pl.DataFrame, Ints, dict[str, int]]:
        """Without those whose id is known, and the ids that are new; an event without an id is always new."""
        if self.event_id is None:
            return rows, at, {}
        first = np.ones(rows.height, np.bool_)
        ids: dict[str, int] = {}
        for place, (value, ms) in enumerate(zip(rows[self.event_id].to_list(), at.tolist(), strict=True)):
            name = key_text(value)
            if name is not None:
                first[place] = name not in self._ids and name not in ids
                ids.setdefault(name, ms)
        counts.duplicates = int((~first).sum())
        fresh = {name: ms for name, ms in ids.items() if name not in self._ids}
        return rows.filter(pl.Series(first, dtype=pl.Boolean)), at[first], fresh

    def _last_due(self) -> int | None:
        """The greatest grid point that the watermark has come to, if it is not out yet."""
        if self._watermark is None:
            return None
        last = self._watermark // span_ms(self.view.every) * span_ms(self.view.every)
        first = self._state.times.min(initial=self._watermark + 1) if self._out is None else self._out + 1
        return last if last >= first or (self._out is None and not len(self._state)) else None


def follow(
    stream: WindowStream, pieces: Iterable[tuple[str, pl.DataFrame]], online: Online, save: Callable[[bytes], None]
) -> Iterator[Counts]:
    """Follows (position, events) pieces: keeps the online store up to the watermark, and saves a checkpoint after each.

    The rows are put before the checkpoint is saved: a process that dies in between takes the same events again, and putting
    the same rows again changes nothing. Resume with pieces from behind `WindowStream.position`.
    """
    for position, events in pieces:
        counts = stream.take(events)
        out = stream.advance()
        if out.newest:
            online.put(stream.view.name, out.newest)
        save(stream.checkpoint(position))
        yield counts


def pieces_of(
    records: Iterable[tuple[Cursor, Mapping[str, Any]]], view: WindowView, *, event_id: str | None = None, size: int = 1_000
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Records of a ports.predictions.Predictions as pieces for `follow`; the position is `segment:row`. Times are RFC 3339.

    Only the columns that the view reads are kept, and records that lack one of the key columns or the time are left out.
    Raises InvalidInput for a time that is none.
    """
    needed = [*key_columns(view.entity), view.time]
    columns = dict.fromkeys([*needed, *(a.column for a in view.aggregates if a.column), *([event_id] if event_id else [])])
    held: list[dict[str, Any]] = []
    at = Cursor()
    for at, record in records:  # the last one stands for the piece
        if all(record.get(name) is not None for name in needed):
            held.append({name: record.get(name) for name in columns} | {view.time: moment(record[view.time])})
        if len(held) >= size:
            yield f"{at.segment}:{at.row}", _framed(held, view)
            held = []
    if held:
        yield f"{at.segment}:{at.row}", _framed(held, view)


def _framed(held: list[dict[str, Any]], view: WindowView) -> pl.DataFrame:
    try:
        return pl.DataFrame(held, schema_overrides={view.time: pl.Datetime("us", "UTC")}, infer_schema_length=None)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as exc:
        raise InvalidInput(f"The records for {view.name!r} cannot be put in one table: {exc}.", "send one type a field.") from exc


def _fields(counts: Counts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in Counts.__dataclass_fields__}


def _plain(values: list[float]) -> tuple[float | None, ...]:
    return tuple(None if value != value else value for value in values)  # noqa: PLR0124  # only NaN differs from itself
