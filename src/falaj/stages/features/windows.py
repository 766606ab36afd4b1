"""Figures over windows of events: the one definition that training and serving share.

A window is the half-open span (g - window, g] before a grid point g. Rows exist for each entity that had at least one
event in the longest window; an entity whose last event has left it has no row any more, offline and online alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Self, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput
from falaj.core.moments import from_millis, millis
from falaj.stages.features.events import BIAS, MOST_ENTITIES, PASSES, ROWS, SHIFT, Events, Floats, Ints, Wanted, none, ordered
from falaj.stages.features.events import bounds as slices
from falaj.stages.features.keyed import with_entity
from falaj.stages.features.spec import AT, Aggregate, WindowView, span_ms

Columns: TypeAlias = Mapping[Wanted, Events]
Labels: TypeAlias = dict[str, dict[str, float]]
"""Column → text → its number, for columns whose different texts are counted."""
_FORMS: Mapping[str, str] = {"share": "truth", "distinct": "label"}
_FIGURES: Mapping[str, Callable[[Events, Ints, Ints], Floats]] = {
    "sum": Events.sums,
    "min": Events.least,
    "max": Events.greatest,
    "std": Events.spread,
    "last": Events.last,
    "distinct": Events.distinct,
}


def grid_points(view: WindowView, since: datetime, until: datetime) -> Ints:
    """The view's grid points in (since, until], in milliseconds."""
    every = span_ms(view.every)
    return np.arange(millis(since) // every + 1, millis(until) // every + 1, dtype=np.int64) * every


def window_rows(events: pl.DataFrame, view: WindowView, grid: Sequence[datetime] | Ints) -> pl.DataFrame:
    """The view's rows at the grid points: entity, `at` (UTC, milliseconds), features; sorted by entity and time.

    `grid`: moments, or whole milliseconds as `grid_points` gives them. A mean or share of nothing is null, a count or sum
    of nothing 0. Events without an entity or a time are left out; a NaN is a missing value.
    """
    points = np.unique(_as_millis(grid))
    names, columns = _columns(events, view)
    codes, at = _present(columns[ROWS], points, span_ms(view.longest))
    return _frame(view, names, codes, at, figures(view, columns, codes, at))


def rows_for(events: pl.DataFrame, view: WindowView, entities: pl.Series, times: pl.Series) -> pl.DataFrame:
    """The rows of `window_rows` over the whole grid that requests of these entities at these times would read."""
    names, columns = _columns(events, view)
    codes = _codes(entities, names)
    known = ((codes >= 0) & times.is_not_null().to_numpy()).nonzero()[0]
    wanted = np.unique(np.stack([codes[known], _floor(utc_millis(times, up=False)[known], span_ms(view.every))]), axis=1)
    found, at = _newest(columns[ROWS], view, wanted[0], wanted[1])
    both = np.unique(np.stack([wanted[0][found], at]), axis=1)
    return _frame(view, names, both[0], both[1], figures(view, columns, both[0], both[1]))


def figures(view: WindowView, columns: Columns, codes: Ints, at: Ints) -> list[Floats]:
    """Each feature of the view for each (entity, grid point), NaN where there is none.

    Counts, `last` and sums of whole numbers cost two searches a row. The others read every value of every window: a row
    costs as much as its window holds.
    """
    found: list[Floats] = []
    for window in view.windows:
        cut = {wanted: slices(events, codes, at - span_ms(window), at) for wanted, events in columns.items()}
        for aggregate in view.aggregates:
            wanted = wanted_by(aggregate)
            low, high = cut[wanted]
            size = (high - low).astype(np.float64)
            if aggregate.op == "count":
                found.append(size)
            elif aggregate.op in _FIGURES:
                found.append(_FIGURES[aggregate.op](columns[wanted], low, high))
            else:
                found.append(np.divide(columns[wanted].sums(low, high), size, out=np.full(len(size), np.nan), where=size > 0))
    return found


class WindowState:
    """The events of the longest window of one view, kept in order, so that a new grid point costs next to nothing."""

    def __init__(self, view: WindowView) -> None:
        self.view = view
        self.names: list[str] = []
        self.labels: Labels = {}
        self.columns: dict[Wanted, Events] = dict.fromkeys(wanted_of(view), none())
        self._places: dict[str, int] = {}

    @classmethod
    def of(cls, view: WindowView, names: list[str], labels: Labels, columns: dict[Wanted, Events]) -> Self:
        """A state with what another one held: its `names`, `labels` and `columns`."""
        state = cls(view)
        state.names, state.labels, state.columns = names, labels, columns
        state._places = {name: place for place, name in enumerate(names)}
        return state

    def __len__(self) -> int:
        return len(self.columns[ROWS].keys)

    def add(self, events: pl.DataFrame) -> None:
        """Takes new events in any order, late ones too."""
        if events.is_empty():
            return
        names, columns = _columns(events, self.view, self.labels)
        for name in names:
            if name not in self._places:
                self._places[name] = len(self.names)
                self.names.append(name)
        _check_entities(len(self.names))
        moved = np.array([self._places[name] for name in names], np.int64)
        for wanted, new in columns.items():
            keys = new.keys + ((moved[new.codes] - new.codes) << SHIFT) if len(new.keys) else new.keys
            self.columns[wanted] = self.columns[wanted].merged(ordered(keys, new.values))

    def newest(self, now: datetime) -> tuple[list[str], Ints, Floats]:
        """Of each entity the newest row at or before `now`: names, times in milliseconds, features (NaN is missing).

        That is the newest grid point, or for an entity whose last event has left the window, the last one at which it was in.
        """
        codes = _distinct(self.columns[ROWS].codes)
        point = _floor(np.full(len(codes), millis(now), np.int64), span_ms(self.view.every))
        found, at = _newest(self.columns[ROWS], self.view, codes, point)
        return self._answer(codes[found], at)

    @property
    def times(self) -> Ints:
        """The times of all events, in milliseconds."""
        return self.columns[ROWS].times

    def points(self, after: int, until: int) -> Ints:
        """The grid points in (after, until], in milliseconds, at which any entity has a row: none for a gap, however long."""
        every, longest = span_ms(self.view.every), span_ms(self.view.longest)
        times = np.unique(self.times)
        first = np.maximum(-(-times // every), after // every + 1)
        final = np.minimum((times + longest - 1) // every, until // every)
        # Times only rise, and so does the point up to which they are covered: each adds what is beyond the one before it.
        first[1:] = np.maximum(first[1:], final[:-1] + 1)
        size = np.maximum(final - first + 1, 0)
        return (np.repeat(first - np.cumsum(size) + size, size) + np.arange(size.sum())) * every

    def rows(self, at: datetime | Ints) -> pl.DataFrame:
        """What `window_rows` gives for the grid point or points, as long as nothing that they need was forgotten."""
        grid = at if isinstance(at, np.ndarray) else np.array([millis(at)], np.int64)
        codes, points = _present(self.columns[ROWS], grid, span_ms(self.view.longest))
        names, times, values = self._answer(codes, points)
        frame = _frame(self.view, names, np.arange(len(names), dtype=np.int64), times, list(values.T) if len(names) else [])
        return frame.sort(self.view.entity, AT)

    def forget(self, answered: datetime) -> None:
        """Drops what no grid point after `answered` can need."""
        oldest = millis(answered) - span_ms(self.view.longest)
        for wanted, events in self.columns.items():
            keep = events.times > oldest
            if not keep.all():
                self.columns[wanted] = events.kept(keep)
        alive = _distinct(self.columns[ROWS].codes)
        if len(self.names) > 2 * len(alive) + 64:
            self._renumber(alive)
        self._drop_labels()

    def _answer(self, codes: Ints, at: Ints) -> tuple[list[str], Ints, Floats]:
        columns = figures(self.view, self.columns, codes, at)
        return [self.names[code] for code in codes.tolist()], at, np.stack(columns, axis=1)

    def _drop_labels(self) -> None:
        """Numbers a column's texts anew once most of them stand for nothing any more."""
        for column, known in self.labels.items():
            wanted = Wanted(column, "label")
            events = self.columns[wanted]
            if len(known) <= 2 * len(events.keys) + 64:
                continue
            alive = np.unique(events.values)
            texts = list(known)
            self.labels[column] = {texts[int(number)]: float(place) for place, number in enumerate(alive.tolist())}
            self.columns[wanted] = ordered(events.keys, np.searchsorted(alive, events.values).astype(np.float64))

    def _renumber(self, alive: Ints) -> None:
        self.names = [self.names[code] for code in alive.tolist()]
        self._places = {name: place for place, name in enumerate(self.names)}
        for wanted, events in self.columns.items():
            shift = np.searchsorted(alive, events.codes) - events.codes
            self.columns[wanted] = Events(events.keys + (shift << SHIFT), events.values)


def wanted_by(aggregate: Aggregate) -> Wanted:
    if aggregate.column is None:
        return ROWS
    form = "match" if aggregate.where else _FORMS.get(aggregate.op, "value")
    return Wanted(aggregate.column, form, aggregate.where)


def wanted_of(view: WindowView) -> list[Wanted]:
    return list(dict.fromkeys([ROWS, *(wanted_by(aggregate) for aggregate in view.aggregates)]))


def _columns(events: pl.DataFrame, view: WindowView, labels: Labels | None = None) -> tuple[list[str], dict[Wanted, Events]]:
    """The entities by name, and each column's events with the entities' places in that list. New texts get new labels."""
    missing = {view.time, *(a.column for a in view.aggregates if a.column)} - set(events.columns)
    if missing:
        raise InvalidInput(
            f"The view {view.name!r} reads the column {sorted(missing)[0]!r}, which {view.dataset!r} does not have."
        )
    rows = with_entity(events, view)
    if rows[view.entity].null_count() or rows[view.time].null_count():
        rows = rows.drop_nulls([view.entity, view.time])
    entities: list[str] = rows[view.entity].to_list()
    names = sorted(set(entities))
    _check_entities(len(names))
    times = utc_millis(rows[view.time], up=True)
    if len(times) and (times.min() < -BIAS or times.max() >= BIAS):
        raise InvalidInput(f"The view {view.name!r} has events outside the years 1831 to 2109.", "mend the column's times.")
    place = dict(zip(names, range(len(names)), strict=True))
    keys = (np.fromiter(map(place.__getitem__, entities), np.int64, len(entities)) << SHIFT) + times + BIAS
    found: dict[Wanted, Events] = {}
    for wanted in wanted_of(view):
        values = _values(rows, wanted, {} if labels is None else labels)
        given = ~np.isnan(values)
        found[wanted] = ordered(keys[given], values[given])
    return names, found


def _values(rows: pl.DataFrame, wanted: Wanted, labels: Labels) -> Floats:
    """One number an event, NaN where it has none that counts."""
    if wanted.column is None:
        return np.ones(rows.height)
    if wanted.form == "label" and rows.schema[wanted.column] in (pl.String, pl.Categorical, pl.Enum):
        known = labels.setdefault(wanted.column, {})
        texts = rows[wanted.column].cast(pl.String).to_list()
        return np.array([np.nan if text is None else known.setdefault(text, float(len(known))) for text in texts], np.float64)
    values = _numbers(rows, wanted.column)
    if wanted.form == "truth":
        return np.where(np.isnan(values), np.nan, values != 0)
    if wanted.where is not None:
        comparison, limit = wanted.where
        return np.where(~np.isnan(values) & PASSES[comparison](values, limit), values, np.nan)
    return values


def _numbers(rows: pl.DataFrame, column: str) -> Floats:
    kind = rows.schema[column]
    if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
        raise InvalidInput(f"The column {column!r} must hold numbers, it holds {kind}.", "cast it in a derived dataset.")
    # Where there are nulls, to_numpy makes floats with NaN in their place. Adding 0 leaves one zero, not two.
    return (rows[column] if kind.is_numeric() else rows[column].cast(pl.Float64)).to_numpy().astype(np.float64) + 0.0


def _present(rows: Events, points: Ints, longest: int) -> tuple[Ints, Ints]:
    """Every (entity, point) with an event in the longest window, in order.

    An event at time t is seen from the first point ≥ t to the last one < t + longest; what an earlier event of the same
    entity covers already is not counted again.
    """
    times, codes = rows.times, rows.codes
    first, beyond = np.searchsorted(points, times, "left"), np.searchsorted(points, times + longest, "left")
    first[1:] = np.where(codes[1:] == codes[:-1], np.maximum(first[1:], beyond[:-1]), first[1:])
    size = np.maximum(beyond - first, 0)
    offsets = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    return np.repeat(codes, size), points[np.repeat(first, size) + offsets]


def _newest(rows: Events, view: WindowView, codes: Ints, points: Ints) -> tuple[NDArray[np.bool_], Ints]:
    """Whether each entity has a row at or before its point, and for those that do the time of the newest one."""
    low, high = slices(rows, codes, np.full(len(codes), -BIAS, np.int64), points)
    found = high > low
    last = rows.times[high[found] - 1]
    return found, np.minimum(points[found], _floor(last + span_ms(view.longest) - 1, span_ms(view.every)))


def _frame(view: WindowView, names: Sequence[str], codes: Ints, at: Ints, values: Sequence[Floats]) -> pl.DataFrame:
    features = values or [np.empty(0)] * len(view.places)
    return pl.DataFrame(
        [
            pl.Series(view.entity, names, dtype=pl.String).gather(codes),
            pl.Series(AT, at, dtype=pl.Int64).cast(pl.Datetime("ms", "UTC")),
            *(
                pl.Series(name, column, dtype=pl.Float64).fill_nan(None)
                for name, column in zip(view.places, features, strict=True)
            ),
        ]
    )


def _codes(entities: pl.Series, names: Sequence[str]) -> Ints:
    """The place of each entity in the names, -1 where it is not there."""
    place = {name: code for code, name in enumerate(names)}
    return np.array([place.get(entity, -1) for entity in entities.cast(pl.String).to_list()], np.int64)


def _distinct(ordered: Ints) -> Ints:
    return ordered[np.flatnonzero(np.diff(ordered, prepend=-1))]


def _check_entities(count: int) -> None:
    if count > MOST_ENTITIES:
        raise InvalidInput(f"A window view holds at most {MOST_ENTITIES} entities at once, got {count}.", "split the view.")


def utc_millis(times: pl.Series, *, up: bool) -> Ints:
    """Whole milliseconds since 1970, rounded up or down, 0 for null; up keeps (g - window, g] exact, whose ends are whole."""
    kind = times.dtype
    if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
        raise InvalidInput(f"The column {times.name!r} must hold times with a time zone, it holds {kind}.")
    per = {"ms": 1, "us": 1_000, "ns": 1_000_000}[kind.time_unit]
    ticks = times.to_physical()
    raw = (ticks.fill_null(0) if ticks.null_count() else ticks).to_numpy()
    return (raw + (per - 1 if up else 0)) // per


def _floor(at: Ints, every: int) -> Ints:
    return at // every * every


def _as_millis(grid: Sequence[datetime] | Ints) -> Ints:
    return grid if isinstance(grid, np.ndarray) else np.array([millis(at) for at in grid], np.int64)


def newest_point(view: WindowView, now: datetime) -> datetime:
    """The greatest grid point at or before `now`."""
    return from_millis(millis(now) // span_ms(view.every) * span_ms(view.every))
