"""Recipe: how one request and the stored features become the numbers that a model reads; the same in training and serving.

A recipe is data, not code: it is part of the signed model, and no server has to load anybody's Python to follow it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any

from falaj.core.errors import InvalidInput
from falaj.core.moments import moment

NAN = math.nan


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
    """

    name: str
    op: str
    source: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """`columns` in the order of the model's input; `views` maps each view to the request field that holds its entity key."""

    columns: tuple[Column, ...]
    views: Mapping[str, str]
    """view name → request field."""
    ttl_ms: Mapping[str, int | None]
    """view name → how old a stored row may be, in milliseconds; None means that it never ages."""
    time_field: str = "at"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def request_fields(self) -> tuple[str, ...]:
        """Every field that a request has to bring."""
        needed = [c.source for c in self.columns if c.op not in ("view", "years_since")]
        return tuple(dict.fromkeys([self.time_field, *self.views.values(), *needed]))


Getter = Callable[[Mapping[str, Any], datetime], float]
StoredRows = Mapping[str, Sequence[Any] | None]


class Reader:
    """A recipe made ready to be followed row by row: `zones` turns a zone's name into a time zone once."""

    def __init__(self, recipe: Recipe, zones: Callable[[str], tzinfo], places: Mapping[str, Sequence[str]]) -> None:
        """`places`: view name → the order of the features in its stored rows."""
        self.recipe = recipe
        self._request: list[tuple[int, Getter]] = []
        self._stored: list[tuple[int, str, int, bool]] = []
        """(column, view, place in the stored row, whether it is a year to subtract)"""
        for index, column in enumerate(recipe.columns):
            if column.op in ("view", "years_since"):
                view, _, feature = column.source.partition(".")
                if view not in places or feature not in places[view]:
                    raise InvalidInput(f"The column {column.name!r} reads {column.source!r}, which no view offers.")
                self._stored.append((index, view, places[view].index(feature), column.op == "years_since"))
            else:
                self._request.append((index, _getter(column, zones)))

    def time_of(self, request: Mapping[str, Any]) -> datetime:
        if self.recipe.time_field not in request:
            raise self._missing(self.recipe.time_field)
        value = request[self.recipe.time_field]
        if not isinstance(value, (str, datetime)):
            name = self.recipe.time_field
            raise InvalidInput(f"The field {name!r} must be a time, got {value!r}.", "write it as 2013-05-01T09:30:00Z.")
        return moment(value)

    def keys_of(self, request: Mapping[str, Any]) -> dict[str, str]:
        """view name → entity key. A null key matches nothing; a missing field is an error."""
        keys: dict[str, str] = {}
        for view, source in self.recipe.views.items():
            if source not in request:
                raise self._missing(source)
            value = request[source]
            if value is not None and not isinstance(value, (str, int)):
                raise InvalidInput(f"The field {source!r} must be a text, got {value!r}.")
            if value is not None:
                keys[view] = str(value)
        return keys

    def request_columns(self, request: Mapping[str, Any], at: datetime) -> list[tuple[int, float]]:
        """(column, value) of what the request alone decides."""
        return [(index, getter(request, at)) for index, getter in self._request]

    def vector(self, request: Mapping[str, Any], at: datetime, stored: StoredRows) -> list[float]:
        """The model's input, in order. `stored`: view name → the values of its row, or None where there is no fresh row."""
        row = [NAN] * len(self.recipe.columns)
        for index, value in self.request_columns(request, at):
            row[index] = value
        for index, view, place, is_year in self._stored:
            values = stored.get(view)
            found = values[place] if values is not None else None
            if found is not None:
                row[index] = at.year - found if is_year else found
        return row

    def _missing(self, field: str) -> InvalidInput:
        return InvalidInput(f"The request has no field {field!r}.", f"it needs: {', '.join(self.recipe.request_fields)}.")


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
    return lambda _request, at: part(at.astimezone(zone))


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
        raise InvalidInput(f"The field {name!r} must be a number, got {value!r}.")
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
OPS = ("view", "number", "category", "years_since", *_PARTS)
