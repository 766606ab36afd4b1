"""Views: rows of a dataset as the newest truth about an entity, and figures over windows of its events."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeAlias, cast

from falaj.core.codec import digest_of, encode
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.moments import length
from falaj.stages.features.entity import key_columns, kind_of

OPS = ("mean", "sum", "count", "share", "min", "max", "std", "last", "distinct")
COMPARISONS = (">", ">=", "<", "<=", "==", "!=")
AT, CREATED = "at", "created"
"""How the rows of every view name their time, and the moment when they became known."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,79}")


@dataclass(frozen=True, slots=True)
class View:
    """Each row of a dataset is the newest truth about its entity, from `time` on and for at most `ttl`.

    `features` are columns of the dataset: numbers, whole numbers, true or false, texts, or times with a zone, which are
    kept as whole milliseconds since 1970-01-01T00:00Z. `created`: the column that says when a row became known, where
    that is later than `time`; without it a row is taken to be known at its `time`.

    `entity` is an Entity, or the name of a column. `descriptions`: what a feature means, by its name. `version`: raise it
    whenever anything changes that the features' values depend on; what describes the view may change without.
    """

    name: str
    dataset: str
    entity: str
    features: tuple[str, ...]
    time: str
    ttl: str | timedelta | None = None
    created: str | None = None
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    version: int = 1
    descriptions: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _check_name("view", self.name)
        reserved = {self.entity, *key_columns(self.entity), self.time, self.created, AT, CREATED}
        _check_features(self.name, self.features, reserved)
        _check_prose(self, self.features)
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
    """One figure over the rows of a window. `count` without a column counts rows, with one its values that are not null.

    `where`: a comparison with a number, (">", 60), that a value must pass to be counted; only of a `count`.
    """

    name: str
    op: str
    column: str | None = None
    where: tuple[str, float] | None = None

    def __post_init__(self) -> None:
        _check_name("aggregate", self.name)
        if self.op not in OPS:
            raise InvalidInput(
                f"The aggregate {self.name!r} has the unknown operation {self.op!r}.", f"there is: {', '.join(OPS)}."
            )
        if self.column is None and self.op != "count":
            raise InvalidInput(f"The aggregate {self.name!r} needs a column.", f"write {self.op}('some_column', {self.name!r}).")
        if self.where is not None:
            self._check_where(*self.where)

    def _check_where(self, comparison: str, limit: Any) -> None:
        if self.op != "count" or self.column is None:
            raise InvalidInput(
                f"The aggregate {self.name!r} has a condition.", "only count('name', 'column', where=…) takes one."
            )
        if comparison not in COMPARISONS or not isinstance(limit, int | float) or math.isnan(limit):
            raise InvalidInput(
                f"The condition {self.where!r} of the aggregate {self.name!r} cannot be read.",
                f"write ('>', 60) with one of {', '.join(COMPARISONS)} and a number.",
            )


@dataclass(frozen=True, slots=True)
class WindowView:
    """Figures over the last hours of an entity's events, at every grid point (a multiple of `every` since 1970-01-01T00:00Z).

    The figure at grid point g is over the events whose `time` is in (g - window, g]; a request at t reads the row of the
    greatest g ≤ t, if that is at most `ttl` old. `time` must be the moment when the event became known: a window over
    any earlier moment would count what nobody could know yet. Features are named `<aggregate>_<window>`; `descriptions`
    may name a feature or an aggregate.
    """

    name: str
    dataset: str
    entity: str
    time: str
    windows: tuple[str, ...]
    every: str
    aggregates: tuple[Aggregate, ...]
    ttl: str | timedelta | None = None
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    version: int = 1
    descriptions: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _check_name("view", self.name)
        _check_features(self.name, self.places, {self.entity, *key_columns(self.entity), self.time, AT})
        _check_prose(self, (*self.places, *(aggregate.name for aggregate in self.aggregates)))
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


def definition(view: AnyView) -> dict[str, Any]:
    """All that the values of a view's features depend on, as plain JSON values; not what only describes it."""
    body: dict[str, Any] = {
        "kind": "window" if isinstance(view, WindowView) else "view",
        "dataset": view.dataset,
        "entity": str(view.entity),
        "keys": list(key_columns(view.entity)),
        "key_kind": kind_of(view.entity),
        "time": view.time,
        "ttl_ms": ttl_ms(view),
    }
    if isinstance(view, WindowView):
        aggregates = [(a.name, a.op, a.column, a.where) for a in view.aggregates]
        return encode({**body, "windows": view.windows, "every_ms": span_ms(view.every), "aggregates": aggregates})  # type: ignore[no-any-return]
    return encode({**body, "features": view.features, "created": view.created})  # type: ignore[no-any-return]


def definition_digest(view: AnyView) -> str:
    return digest_of(definition(view))


def ttl_ms(view: AnyView) -> int | None:
    return None if view.ttl is None else round(length(view.ttl) / timedelta(milliseconds=1))


@lru_cache(maxsize=1024)
def span_ms(text: str | timedelta) -> int:
    return round(length(text) / timedelta(milliseconds=1))


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


def _check_prose(view: AnyView, known: Sequence[str]) -> None:
    for name in view.descriptions:
        if name not in known:
            raise NotFound.named(f"feature of the view {view.name!r} to describe", name, known)
    version, tags = cast(Any, view.version), cast(Any, view.tags)  # whoever has no type checker may have written anything
    if type(version) is not int or version < 1:
        raise InvalidInput(
            f"The version of the view {view.name!r} must be a whole number from 1 on, got {version!r}.",
            "start with 1 and raise it by one with each change.",
        )
    if isinstance(tags, str):
        raise InvalidInput(f"The tags of the view {view.name!r} are one text.", f"write tags=({tags!r},).")


def _check_ttl(view: str, ttl: str | timedelta | None) -> None:
    if ttl is not None and length(ttl) <= timedelta(0):
        raise InvalidInput(
            f"The ttl of the view {view!r} must be longer than nothing.", "write 3h, or None for a row that never ages."
        )
