"""What a user declares about features: views of stored rows, views over windows, and the recipe of a model's input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TypeAlias

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.moments import length
from falaj.core.recipe import Column, Recipe

OPS = ("mean", "sum", "count", "share")
PARTS = ("hour", "minute", "weekday", "month", "yearday")
AT, CREATED = "at", "created"
"""How the rows of every view name their time, and the moment when they became known."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,79}")


@dataclass(frozen=True, slots=True)
class View:
    """Each row of a dataset is the newest truth about its entity, from `time` on and for at most `ttl`.

    `features` are number columns of the dataset. `created`: the column that says when a row became known, where that is
    later than `time`; without it a row is taken to be known at its `time`.
    """

    name: str
    dataset: str
    entity: str
    features: tuple[str, ...]
    time: str
    ttl: str | timedelta | None = None
    created: str | None = None

    def __post_init__(self) -> None:
        _check_name("view", self.name)
        _check_features(self.name, self.features, {self.entity, self.time, self.created, AT, CREATED})
        _check_ttl(self.name, self.ttl)

    @property
    def places(self) -> tuple[str, ...]:
        """The order of the features in a stored row."""
        return self.features

    def __getitem__(self, feature: str) -> Feature:
        return _pick(self, feature)

    def all(self) -> tuple[Feature, ...]:
        """Every feature of the view, in order, for `inputs`."""
        return tuple(Feature(self, name) for name in self.places)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One figure over the rows of a window. `count` without a column counts rows, with one its values that are not null."""

    name: str
    op: str
    column: str | None = None

    def __post_init__(self) -> None:
        _check_name("aggregate", self.name)
        if self.op not in OPS:
            raise InvalidInput(
                f"The aggregate {self.name!r} has the unknown operation {self.op!r}.", f"there is: {', '.join(OPS)}."
            )
        if self.column is None and self.op != "count":
            raise InvalidInput(f"The aggregate {self.name!r} needs a column.", f"write {self.op}('some_column', {self.name!r}).")


@dataclass(frozen=True, slots=True)
class WindowView:
    """Figures over the last hours of an entity's events, at every grid point (a multiple of `every` since 1970-01-01T00:00Z).

    The figure at grid point g is over the events whose `time` is in (g - window, g]; a request at t reads the row of the
    greatest g ≤ t, if that is at most `ttl` old. `time` must be the moment when the event became known: a window over
    any earlier moment would count what nobody could know yet. Features are named `<aggregate>_<window>`.
    """

    name: str
    dataset: str
    entity: str
    time: str
    windows: tuple[str, ...]
    every: str
    aggregates: tuple[Aggregate, ...]
    ttl: str | timedelta | None = None

    def __post_init__(self) -> None:
        _check_name("view", self.name)
        _check_features(self.name, self.places, {self.entity, self.time, AT})
        _check_ttl(self.name, self.ttl)
        for text in (*self.windows, self.every):
            if length(text) < timedelta(seconds=1) or length(text) % timedelta(seconds=1):
                raise InvalidInput(
                    f"The length {text!r} of the view {self.name!r} is not a whole number of seconds.", "write 30m, 3h or 7d."
                )

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(f"{aggregate.name}_{window}" for window in self.windows for aggregate in self.aggregates)

    @property
    def longest(self) -> timedelta:
        return max(length(window) for window in self.windows)

    def __getitem__(self, feature: str) -> Feature:
        return _pick(self, feature)

    def all(self) -> tuple[Feature, ...]:
        """Every feature of the view, in order, for `inputs`."""
        return tuple(Feature(self, name) for name in self.places)


AnyView: TypeAlias = View | WindowView


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of one view; as a column of a model it is named `<view>.<feature>`."""

    view: AnyView
    name: str

    @property
    def source(self) -> str:
        return f"{self.view.name}.{self.name}"


@dataclass(frozen=True, slots=True)
class Derived:
    """A column that is computed from a stored feature."""

    column: Column
    view: AnyView


Item: TypeAlias = Feature | Derived | Column
Items: TypeAlias = Item | Iterable[Item]


def mean(column: str, name: str | None = None) -> Aggregate:
    """The mean of a column's values in the window; null where there is none."""
    return Aggregate(name or column, "mean", column)


def total(column: str, name: str | None = None) -> Aggregate:
    """The sum of a column's values in the window; 0 where there is none."""
    return Aggregate(name or column, "sum", column)


def share(column: str, name: str | None = None) -> Aggregate:
    """The part (0 to 1) of a column's values in the window that are true or not zero; null where there is none."""
    return Aggregate(name or column, "share", column)


def count(name: str, column: str | None = None) -> Aggregate:
    """How many events the window holds, or how many of them have a value in `column`; 0 where there is none."""
    return Aggregate(name, "count", column)


def number(source: str, name: str | None = None) -> Column:
    """A number of the request as it is."""
    return Column(name or source, "number", source)


def category(source: str, values: Sequence[str], name: str | None = None) -> Column:
    """The place of a request field's text in `values`; a text that is not there becomes NaN."""
    if len(set(values)) != len(values):
        raise InvalidInput(f"The category {source!r} names a value twice.", "each value has one place.")
    return Column(name or source, "category", source, {"values": tuple(values)})


def local(source: str = "at", *, zone: str, parts: Sequence[str]) -> tuple[Column, ...]:
    """Parts of the request's time in a time zone: hour, minute (after midnight), weekday (Monday is 0), month, yearday."""
    for part in parts:
        if part not in PARTS:
            raise NotFound.named("part of a time", part, PARTS)
    return tuple(Column(f"{source}_{part}", part, source, {"zone": zone}) for part in parts)


def years_since(feature: Feature, name: str) -> Derived:
    """The request's year less the stored year."""
    return Derived(Column(name, "years_since", feature.source), feature.view)


def inputs(*items: Items, keys: Mapping[str, str] | None = None, time: str = "at") -> Recipe:
    """The recipe of a model's input, column by column.

    `keys`: view name → the request field that holds its entity, where that is not named like the entity. `time`: the
    request field with the time. Raises InvalidInput where two columns have one name or `keys` names no view that is used.
    """
    columns: list[Column] = []
    views: dict[str, AnyView] = {}
    for item in _flat(items):
        column = item if isinstance(item, Column) else _column(item, views)
        if column.op in PARTS and column.source != time:
            raise InvalidInput(f"The column {column.name!r} reads the time {column.source!r}.", f"the time field is {time!r}.")
        if column.name in {known.name for known in columns}:
            raise InvalidInput(f"Two columns are named {column.name!r}.", "give one of them another name.")
        columns.append(column)
    for name in keys or {}:
        if name not in views:
            raise NotFound.named("view of this recipe", name, views)
    fields = {name: (keys or {}).get(name, view.entity) for name, view in views.items()}
    return Recipe(tuple(columns), fields, {name: ttl_ms(view) for name, view in views.items()}, time)


def ttl_ms(view: AnyView) -> int | None:
    return None if view.ttl is None else round(length(view.ttl) / timedelta(milliseconds=1))


@lru_cache(maxsize=1024)
def span_ms(text: str | timedelta) -> int:
    return round(length(text) / timedelta(milliseconds=1))


def _flat(items: Iterable[Items]) -> Iterable[Item]:
    for item in items:
        if isinstance(item, (Feature, Derived, Column)):
            yield item
        else:
            yield from item


def _column(item: Feature | Derived, views: dict[str, AnyView]) -> Column:
    if views.setdefault(item.view.name, item.view) != item.view:
        raise InvalidInput(f"Two views are named {item.view.name!r}.", "give one of them another name.")
    return item.column if isinstance(item, Derived) else Column(item.source, "view", item.source)


def _pick(view: AnyView, feature: str) -> Feature:
    if feature not in view.places:
        raise NotFound.named(f"feature of {view.name!r}", feature, view.places)
    return Feature(view, feature)


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"The {what} name {name!r} is not allowed.", "use lower-case letters, digits and '_', a letter first.")


def _check_features(view: str, features: Sequence[str], reserved: set[str | None]) -> None:
    if not features or len(set(features)) != len(features):
        raise InvalidInput(f"The view {view!r} needs features, each named once.", f"it has: {', '.join(features) or 'none'}.")
    if reserved & set(features):
        raise InvalidInput(f"The view {view!r} names its entity or a time as a feature.", "leave them out of the features.")


def _check_ttl(view: str, ttl: str | timedelta | None) -> None:
    if ttl is not None and length(ttl) <= timedelta(0):
        raise InvalidInput(
            f"The ttl of the view {view!r} must be longer than nothing.", "write 3h, or None for a row that never ages."
        )
