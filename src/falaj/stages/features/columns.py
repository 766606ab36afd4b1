"""Columns made of stored features for many rows at once: what falaj.core.recipe.Reader makes of them one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput
from falaj.core.recipe import ARITHMETIC, HOUR_MS, Column, Operand, Recipe, places_of
from falaj.core.stored import Stored
from falaj.stages.features.spec import AT, AnyView

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Times:
    """The times of a spine, as the operations on stored features need them."""

    years: Floats
    ms: Floats

    @classmethod
    def of(cls, times: pl.Series) -> Times:
        utc = times.dt.convert_time_zone("UTC")
        assert isinstance(utc.dtype, pl.Datetime)
        per = {"ms": 1, "us": 1_000, "ns": 1_000_000}[utc.dtype.time_unit]
        return cls(_floats(utc.dt.year()), _floats(utc.to_physical() // per))

    def part(self, where: slice | NDArray[np.int64]) -> Times:
        return Times(self.years[where], self.ms[where])


def stored_values(column: Column, values: pl.Series, times: Times) -> Floats:
    """What a column makes of the values of its stored feature."""
    if column.op == "view_category":
        return _places(column, values)
    numbers = _numbers(column, values)
    if column.op == "years_since":
        return times.years - numbers
    return _finite((times.ms - numbers) / HOUR_MS) if column.op == "age_hours" else numbers


def stored_of(rows: pl.DataFrame, view: AnyView) -> dict[str, Stored]:
    """Rows of a view, one an entity, as the online store keeps them, each value in its own type."""
    at = rows[AT].dt.epoch("ms").to_list()
    values = rows.select(view.places).rows()
    return {name: Stored(ms, row) for name, ms, row in zip(rows[view.entity].to_list(), at, values, strict=True)}


def operands_of(recipe: Recipe, view: str) -> list[str]:
    """The `view.feature`s of one view that computed columns read."""
    operands = (operand for column in recipe.columns if column.op in ARITHMETIC for operand in column.operands)
    return [operand.name for operand in operands if operand.kind == "view" and operand.name.startswith(f"{view}.")]


def operand_numbers(operand: str, values: pl.Series) -> Floats:
    """The values of a stored feature that is an operand. Raises InvalidInput for texts."""
    if values.dtype == pl.String and values.null_count() < len(values):
        raise InvalidInput(f"{operand!r} is a text, and a number is computed from it.", "compute with numbers alone.")
    return _floats(values)


def computed(column: Column, spine: pl.DataFrame, read: Mapping[str, Floats]) -> Floats:
    """A column that is computed from two operands. `read`: `view.feature` → its value for each row of the spine."""
    left, right = (_operand(operand, spine, read) for operand in column.operands)
    with np.errstate(all="ignore"):
        if column.op == "ratio":
            return _finite(np.divide(left, right, out=np.full(len(left), np.nan), where=right != 0))
        return _finite(left - right if column.op == "difference" else left * right)


def _operand(operand: Operand, spine: pl.DataFrame, read: Mapping[str, Floats]) -> Floats:
    if operand.kind == "view":
        return read[operand.name]
    values = spine[operand.name]
    if not (values.dtype.is_numeric() or values.dtype == pl.Null):
        raise InvalidInput(f"The field {operand.name!r} must be a number, the spine's column holds {values.dtype}.")
    numbers = _floats(values)
    if np.isinf(numbers).any():
        raise InvalidInput(f"The field {operand.name!r} must be finite.")
    return numbers


def _places(column: Column, values: pl.Series) -> Floats:
    places = places_of(column)
    is_text = bool(places) and isinstance(next(iter(places)), str)
    fits = values.dtype == pl.String if is_text else values.dtype.is_integer()
    if not (fits or values.dtype == pl.Null or values.null_count() == len(values)):
        raise InvalidInput(
            f"The column {column.name!r} looks up {'texts' if is_text else 'whole numbers'}, and {column.source!r} holds "
            f"{values.dtype}.",
            "list values of the type that the view's column has.",
        )
    if not fits or not places:
        return np.full(len(values), np.nan)
    return _floats(values.replace_strict(list(places), list(places.values()), default=None, return_dtype=pl.Float64))


def _numbers(column: Column, values: pl.Series) -> Floats:
    if values.dtype == pl.String and values.null_count() < len(values):
        feature = column.source.partition(".")[2]
        raise InvalidInput(
            f"The column {column.name!r} reads a number, and {values.name!r} is a text.",
            f"use category(view[{feature!r}], values=…) for its place in a list.",
        )
    return _floats(values)


def _floats(values: pl.Series) -> Floats:
    return values.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)
