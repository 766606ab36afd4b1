"""What a user declares about features: views of stored rows, views over windows, and the recipe of a model's input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, overload

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.recipe import Column, Fields, Recipe, places_of
from falaj.stages.features.entity import Entity, key_columns
from falaj.stages.features.views import (
    AT,
    CREATED,
    OPS,
    Aggregate,
    AnyView,
    Feature,
    View,
    WindowView,
    definition,
    definition_digest,
    span_ms,
    ttl_ms,
)

PARTS = ("hour", "minute", "weekday", "month", "yearday")


@dataclass(frozen=True, slots=True)
class Derived:
    """A column that is computed from stored features."""

    column: Column
    views: tuple[AnyView, ...]


Item: TypeAlias = Feature | Derived | Column
Items: TypeAlias = Item | Iterable[Item]
Operand: TypeAlias = Feature | str
"""A stored feature, or a number of the request by the name of its field."""


def mean(column: str, name: str | None = None) -> Aggregate:
    """The mean of a column's values in the window; null where there is none."""
    return Aggregate(name or column, "mean", column)


def total(column: str, name: str | None = None) -> Aggregate:
    """The sum of a column's values in the window; 0 where there is none."""
    return Aggregate(name or column, "sum", column)


def share(column: str, name: str | None = None) -> Aggregate:
    """The part (0 to 1) of a column's values in the window that are true or not zero; null where there is none."""
    return Aggregate(name or column, "share", column)


def count(name: str, column: str | None = None, *, where: tuple[str, float] | None = None) -> Aggregate:
    """How many events the window holds, or have a value in `column`, or one that passes `where`, as in (">", 60); else 0."""
    return Aggregate(name, "count", column, where)


def least(column: str, name: str) -> Aggregate:
    """The smallest of a column's values in the window; null where there is none."""
    return Aggregate(name, "min", column)


def greatest(column: str, name: str) -> Aggregate:
    """The greatest of a column's values in the window; null where there is none."""
    return Aggregate(name, "max", column)


def spread(column: str, name: str) -> Aggregate:
    """The standard deviation of a column's values in the window, of a sample (n - 1), as SQL's STDDEV; null under two values."""
    return Aggregate(name, "std", column)


def last(column: str, name: str) -> Aggregate:
    """The value of the latest event that has one; of several at that moment the greatest; null where there is none."""
    return Aggregate(name, "last", column)


def distinct(column: str, name: str) -> Aggregate:
    """How many different values a column of numbers or texts has in the window; 0 where there is none."""
    return Aggregate(name, "distinct", column)


def number(source: str, name: str | None = None) -> Column:
    """A number of the request as it is."""
    return Column(name or source, "number", source)


@overload
def category(source: str, values: Sequence[str], name: str | None = None) -> Column: ...
@overload
def category(source: Feature, values: Sequence[str] | Sequence[int], name: str | None = None) -> Derived: ...
def category(source: str | Feature, values: Sequence[str] | Sequence[int], name: str | None = None) -> Column | Derived:
    """The place of a request field's text, or of a stored text or whole number, in `values`; one not there becomes NaN."""
    what = source.source if isinstance(source, Feature) else source
    if len(set(values)) != len(values):
        raise InvalidInput(f"The category {what!r} names a value twice.", "each value has one place.")
    if isinstance(source, Feature):
        column = Column(name or what, "view_category", what, {"values": tuple(values)})
        places_of(column)
        return Derived(column, (source.view,))
    return Column(name or source, "category", source, {"values": tuple(values)})


def local(source: str = "at", *, zone: str, parts: Sequence[str]) -> tuple[Column, ...]:
    """Parts of the request's time in a time zone: hour, minute (after midnight), weekday (Monday is 0), month, yearday."""
    for part in parts:
        if part not in PARTS:
            raise NotFound.named("part of a time", part, PARTS)
    return tuple(Column(f"{source}_{part}", part, source, {"zone": zone}) for part in parts)


def years_since(feature: Feature, name: str) -> Derived:
    """The request's year less the stored year."""
    return Derived(Column(name, "years_since", feature.source), (feature.view,))


def age_hours(feature: Feature, name: str) -> Derived:
    """Hours from a stored time, or a stored number of milliseconds since 1970-01-01T00:00Z, to the request's time."""
    return Derived(Column(name, "age_hours", feature.source), (feature.view,))


def difference(left: Operand, right: Operand, name: str) -> Derived:
    """`left` less `right`; missing where either is."""
    return _computed("difference", left, right, name)


def product(left: Operand, right: Operand, name: str) -> Derived:
    """`left` times `right`; missing where either is."""
    return _computed("product", left, right, name)


def ratio(left: Operand, right: Operand, name: str) -> Derived:
    """`left` divided by `right`; missing where either is, and where `right` is 0."""
    return _computed("ratio", left, right, name)


def inputs(*items: Items, keys: Mapping[str, Fields] | None = None, time: str = "at") -> Recipe:
    """The recipe of a model's input, column by column.

    `keys`: view name → the request field that holds its entity, where that is not named like the entity; of an entity of
    several columns, as many fields in their order. `time`: the request field with the time. Raises InvalidInput where two
    columns have one name or `keys` names no view that is used.
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
    fields = {name: _key_fields(view, (keys or {}).get(name)) for name, view in views.items()}
    return Recipe(tuple(columns), fields, {name: ttl_ms(view) for name, view in views.items()}, time)


def _flat(items: Iterable[Items]) -> Iterable[Item]:
    for item in items:
        if isinstance(item, (Feature, Derived, Column)):
            yield item
        else:
            yield from item


def _column(item: Feature | Derived, views: dict[str, AnyView]) -> Column:
    for view in item.views if isinstance(item, Derived) else (item.view,):
        if views.setdefault(view.name, view) != view:
            raise InvalidInput(f"Two views are named {view.name!r}.", "give one of them another name.")
    return item.column if isinstance(item, Derived) else Column(item.source, "view", item.source)


def _key_fields(view: AnyView, given: Fields | None) -> Fields:
    wanted = key_columns(view.entity)
    fields = tuple(wanted) if given is None else (given,) if isinstance(given, str) else tuple(given)
    if len(fields) != len(wanted):
        raise InvalidInput(
            f"The entity of the view {view.name!r} has {len(wanted)} key columns ({', '.join(wanted)}), got {', '.join(fields)}.",
            f"write keys={{{view.name!r}: …}} with one request field for each.",
        )
    return fields[0] if len(fields) == 1 else fields


def _computed(op: str, left: Operand, right: Operand, name: str) -> Derived:
    (left_kind, left_name), (right_kind, right_name) = _operand(left), _operand(right)
    column = Column(name, op, left_name, {"left": left_kind, "other": right_name, "right": right_kind})
    return Derived(column, tuple(side.view for side in (left, right) if isinstance(side, Feature)))


def _operand(side: Operand) -> tuple[str, str]:
    return ("view", side.source) if isinstance(side, Feature) else ("request", side)


__all__ = [
    "AT", "CREATED", "OPS", "PARTS", "Aggregate", "AnyView", "Derived", "Entity", "Feature", "Items", "Operand", "View",
    "WindowView", "age_hours", "category", "count", "definition", "definition_digest", "difference", "distinct", "greatest",
    "inputs", "key_columns", "last", "least", "local", "mean", "number", "product", "ratio", "share", "span_ms", "spread",
    "total", "ttl_ms", "years_since",
]  # fmt: skip
