"""Recipe: how one request and the stored features become the numbers that a model reads; the same in training and serving.

A recipe is data, not code: it is part of the signed model, and no server has to load anybody's Python to follow it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any, Literal, NamedTuple, TypeAlias

from falaj.core.entity import joined_key, key_text
from falaj.core.errors import Conflict, InvalidInput
from falaj.core.moments import iso, millis, moment

NAN = math.nan
HOUR_MS = 3_600_000.0
Fields: TypeAlias = str | Sequence[str]
"""The request field that holds an entity key, or the fields that make one together, in order."""


class Operand(NamedTuple):
    """What a column reads: a field of the request, or `view.feature`."""

    kind: Literal["request", "view"]
    name: str


@dataclass(frozen=True, slots=True)
class Column:
    """One number of a model's input vector.

    op       source                 value
    view     `view.feature`         the stored feature at the time of the request; missing becomes NaN
    number   request field          the number itself
    category request field          its place in `args["values"]`; unknown becomes NaN
    hour, minute, weekday, month, yearday
             request time field     that part of the time in the time zone `args["zone"]`; minute is minutes after midnight
    years_since `view.feature`      the request's year less the stored year
    view_category `view.feature`    the stored value's place in `args["values"]`, texts or whole numbers; unknown becomes NaN
    age_hours `view.feature`        hours from the stored time (milliseconds since 1970-01-01T00:00Z) to the request's
    difference, product, ratio      source - other, source · other, source / other, where `args["other"]` is the second
                                    operand and `args["left"]`, `args["right"]` say of each: `request` or `view`

    What is missing makes the result NaN, and so does a division by zero or whatever else is not finite.
    """

    name: str
    op: str
    source: str
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def operands(self) -> tuple[Operand, ...]:
        """What the column reads, in order."""
        if self.op in ARITHMETIC:
            if "other" not in self.args:
                raise InvalidInput(f"The column {self.name!r} has one operand, {self.op} needs two.")
            left, right = (self.args.get(side, "request") for side in ("left", "right"))
            return Operand(left, self.source), Operand(right, str(self.args["other"]))
        return (Operand("view" if self.op in STORED else "request", self.source),)


@dataclass(frozen=True, slots=True)
class Recipe:
    """`columns` in the order of the model's input; `views` maps each view to the request field that holds its entity key."""

    columns: tuple[Column, ...]
    views: Mapping[str, Fields]
    """view name → request field; of an entity with several key columns, those fields in order."""
    ttl_ms: Mapping[str, int | None]
    """view name → how old a stored row may be, in milliseconds; None means that it never ages."""
    time_field: str = "at"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def request_fields(self) -> tuple[str, ...]:
        """Every field that a request has to bring."""
        keys = [name for fields in self.views.values() for name in key_fields(fields)]
        needed = [operand.name for column in self.columns for operand in column.operands if operand.kind == "request"]
        return tuple(dict.fromkeys([self.time_field, *keys, *needed]))


def key_fields(fields: Fields) -> tuple[str, ...]:
    return (fields,) if isinstance(fields, str) else tuple(fields)


def entity_of(request: Mapping[str, Any], fields: Fields) -> str | None:
    """The entity key that a request names; None where a field is null or missing."""
    values = [request.get(name) for name in key_fields(fields)]
    return key_text(values[0]) if isinstance(fields, str) else joined_key(values)


Value: TypeAlias = float | int | str | bool
Getter = Callable[[Mapping[str, Any], datetime], float]
StoredRows = Mapping[str, Sequence[Value | None] | None]


class Reader:
    """A recipe made ready to be followed row by row: `zones` turns a zone's name into a time zone once."""

    def __init__(self, recipe: Recipe, zones: Callable[[str], tzinfo], places: Mapping[str, Sequence[str]]) -> None:
        """`places`: view name → the order of the features in its stored rows."""
        self.recipe = recipe
        self._request: list[tuple[int, Getter]] = []
        self._stored: list[tuple[int, str, int, _Made]] = []
        """(column, view, place in the stored row, what is made of the value)"""
        self._computed: list[tuple[int, tuple[_Side, _Side], Callable[[float, float], float]]] = []
        for index, column in enumerate(recipe.columns):
            if column.op in ARITHMETIC:
                left, right = (_side(column, operand, places) for operand in column.operands)
                self._computed.append((index, (left, right), ARITHMETIC[column.op]))
            elif column.op in STORED:
                view, place = _place(column, column.source, places)
                self._stored.append((index, view, place, _made(column)))
            else:
                self._request.append((index, _getter(column, zones)))

    def time_of(self, request: Mapping[str, Any]) -> datetime:
        if self.recipe.time_field not in request:
            raise self._missing(self.recipe.time_field)
        value = request[self.recipe.time_field]
        if not isinstance(value, (str, datetime)):
            name = self.recipe.time_field
            raise InvalidInput(
                f"The field {name!r} must be a time, got {str(value)[:80]!r}.", "write it as 2013-05-01T09:30:00Z."
            )
        return moment(value)

    def keys_of(self, request: Mapping[str, Any]) -> dict[str, str]:
        """view name → entity key. A null key matches nothing; a missing field is an error."""
        keys: dict[str, str] = {}
        for view, fields in self.recipe.views.items():
            values = [self._key_part(request, name) for name in key_fields(fields)]
            key = key_text(values[0]) if isinstance(fields, str) else joined_key(values)
            if key is not None:
                keys[view] = key
        return keys

    def _key_part(self, request: Mapping[str, Any], source: str) -> str | int | None:
        if source not in request:
            raise self._missing(source)
        value = request[source]
        if value is not None and not isinstance(value, (str, int)):
            raise InvalidInput(f"The field {source!r} must be a text, got {str(value)[:80]!r}.")
        return value

    def request_columns(self, request: Mapping[str, Any], at: datetime) -> list[tuple[int, float]]:
        """(column, value) of what the request alone decides."""
        return [(index, getter(request, at)) for index, getter in self._request]

    def vector(self, request: Mapping[str, Any], at: datetime, stored: StoredRows) -> list[float]:
        """The model's input, in order. `stored`: view name → the values of its row, or None where there is no fresh row."""
        row = [NAN] * len(self.recipe.columns)
        for index, value in self.request_columns(request, at):
            row[index] = value
        for index, view, place, made in self._stored:
            values = stored.get(view)
            found = values[place] if values is not None else None
            if found is not None:
                row[index] = made(found, at)
        for index, (left, right), compute in self._computed:
            row[index] = finite(compute(left(request, stored), right(request, stored)))
        return row

    def _missing(self, field: str) -> InvalidInput:
        return InvalidInput(f"The request has no field {field!r}.", f"it needs: {', '.join(self.recipe.request_fields)}.")


def finite(value: float) -> float:
    return value if math.isfinite(value) else NAN


def number_of(value: Value, column: Column) -> float:
    """A stored value as a number. Raises Conflict for a text: a text never becomes a number by accident."""
    if isinstance(value, str):
        raise Conflict(
            f"The column {column.name!r} reads a number, and a text is stored in {column.source!r}.",
            f"use category(view[{column.source.partition('.')[2]!r}], values=…), and train again.",
        )
    return float(value)


def places_of(column: Column) -> dict[Value, float]:
    """Value → place, of a view_category. Raises InvalidInput unless the values are all texts or all whole numbers."""
    values = column.args["values"]
    if not (all(isinstance(v, str) for v in values) or all(isinstance(v, int) and not isinstance(v, bool) for v in values)):
        raise InvalidInput(
            f"The values of {column.name!r} must be all texts or all whole numbers.", "write ('BOEING', 'AIRBUS')."
        )
    return {value: float(place) for place, value in enumerate(values)}


_Made: TypeAlias = Callable[[Value, datetime], float]
_Side: TypeAlias = Callable[[Mapping[str, Any], StoredRows], float]


def _made(column: Column) -> _Made:
    """What a column makes of a stored value at the request's time."""
    if column.op == "years_since":
        return lambda found, at: at.year - number_of(found, column)
    if column.op == "age_hours":
        return lambda found, at: finite((millis(at) - number_of(found, column)) / HOUR_MS)
    if column.op == "view_category":
        places = places_of(column)
        kind = str if places and isinstance(next(iter(places)), str) else int
        return lambda found, _at: places.get(_of_kind(found, kind, column), NAN)
    return lambda found, _at: found if type(found) is float else number_of(found, column)


def _of_kind(found: Value, kind: type, column: Column) -> Value:
    """A store may hand a whole number back as a float."""
    if isinstance(found, float) and kind is int:
        return int(found) if found.is_integer() else -1.5
    if isinstance(found, bool) or not isinstance(found, kind):
        raise Conflict(
            f"The column {column.name!r} looks up {kind.__name__} values, and {column.source!r} holds {type(found).__name__}.",
            "list values of the type that the view's column has.",
        )
    return found


def _place(column: Column, source: str, places: Mapping[str, Sequence[str]]) -> tuple[str, int]:
    view, _, feature = source.partition(".")
    if view not in places or feature not in places[view]:
        raise InvalidInput(f"The column {column.name!r} reads {source!r}, which no view offers.")
    return view, places[view].index(feature)


def _side(column: Column, operand: Operand, places: Mapping[str, Sequence[str]]) -> _Side:
    name = operand.name
    if operand.kind == "request":
        return lambda request, _stored: _as_number(request, name)
    view, place = _place(column, name, places)

    def stored_number(_request: Mapping[str, Any], stored: StoredRows) -> float:
        values = stored.get(view)
        found = values[place] if values is not None else None
        return NAN if found is None else number_of(found, column)

    return stored_number


def _getter(column: Column, zones: Callable[[str], tzinfo]) -> Getter:
    source = column.source
    if column.op == "number":
        return lambda request, _at: _as_number(request, source)
    if column.op == "category":
        values = {value: float(place) for place, value in enumerate(column.args["values"])}
        return lambda request, _at: values.get(_field(request, source), NAN)
    part = _PARTS.get(column.op)
    if part is None:
        raise InvalidInput(f"The column {column.name!r} has the unknown operation {column.op!r}.", f"there is: {', '.join(OPS)}.")
    zone = zones(str(column.args.get("zone", "UTC")))
    return lambda _request, at: part(_local(at, zone))


def _local(at: datetime, zone: tzinfo) -> datetime:
    try:
        return at.astimezone(zone)
    except OverflowError as exc:
        raise InvalidInput(f"The time {iso(at)} is outside the years 1 to 9999 in {zone}.") from exc


def _field(request: Mapping[str, Any], name: str) -> Any:
    if name not in request:
        raise InvalidInput(f"The request has no field {name!r}.", "send it, or null where it is not known.")
    value = request[name]
    if isinstance(value, (list, dict)):
        raise InvalidInput(f"The field {name!r} must be a single value, got {type(value).__name__}.")
    return value


def _as_number(request: Mapping[str, Any], name: str) -> float:
    value = _field(request, name)
    if value is None:
        return NAN
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInput(f"The field {name!r} must be a number, got {str(value)[:80]!r}.")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the largest double
        number = math.inf
    if math.isinf(number):
        raise InvalidInput(f"The field {name!r} must be finite.")
    return number


_PARTS: Mapping[str, Callable[[datetime], float]] = {
    "hour": lambda at: float(at.hour),
    "minute": lambda at: float(at.hour * 60 + at.minute),
    "weekday": lambda at: float(at.weekday()),
    "month": lambda at: float(at.month),
    "yearday": lambda at: float(at.timetuple().tm_yday),
}
ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "difference": lambda left, right: left - right,
    "product": lambda left, right: left * right,
    "ratio": lambda left, right: left / right if right else NAN,
}
STORED = ("view", "years_since", "view_category", "age_hours")
"""Operations on one stored feature."""
OPS = (*STORED, "number", "category", *ARITHMETIC, *_PARTS)
