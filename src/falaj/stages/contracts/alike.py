"""Columns whose type changed from one snapshot to another: read as the contract has them now, where no value is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import polars as pl

from falaj.core.errors import Conflict

Rows = TypeVar("Rows", pl.DataFrame, pl.LazyFrame)
_SHOWN = 3


def aligned(parts: Sequence[tuple[str, Rows]], kinds: Mapping[str, Any]) -> list[Rows]:
    """The rows of each (snapshot, rows), so that every column is of one kind in all of them.

    kinds: column → its type under the contract. Widths of numbers are left to whoever puts the rows together. Raises Conflict,
    with the column and the snapshots, where two of them hold values that have no type in common.
    """
    schemas = [rows.collect_schema() for _, rows in parts]
    if all(schema == schemas[0] for schema in schemas) and all(
        _family(dtype) == _family(kinds[name]) for name, dtype in (schemas[0].items() if schemas else ()) if name in kinds
    ):
        return [rows for _, rows in parts]
    casts: list[list[pl.Expr]] = [[] for _ in parts]
    for name in dict.fromkeys(name for schema in schemas for name in schema):
        held = {place: schema[name] for place, schema in enumerate(schemas) if schema.get(name, pl.Null()) != pl.Null()}
        families = {_family(dtype) for dtype in held.values()}
        wanted = kinds.get(name)
        if wanted is None and len(families) > 1 and "text" in families:
            wanted = pl.String()
        if len(families) < 2 and (wanted is None or families <= {_family(wanted)}):
            continue
        odd = [place for place, dtype in held.items() if wanted is None or _family(dtype) != _family(wanted)]
        lossy = [place for place in odd if wanted is None or not is_exact(parts[place][1].lazy(), name, wanted)]
        if lossy and len(families) > 1:
            raise _conflict(name, [(parts[place][0], dtype) for place, dtype in held.items()], wanted)
        if not lossy and wanted is not None:
            for place in odd:
                casts[place].append(becoming(name, held[place], wanted).alias(name))
    return [rows.with_columns(own) if own else rows for (_, rows), own in zip(parts, casts, strict=True)]


def becoming(name: str, given: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    """The column in another type; null where a value does not fit. A text is a time only with its zone, a day as 2013-05-01."""
    it = pl.col(name)
    if given == pl.String and wanted == pl.Boolean:
        return it.replace_strict(["true", "false"], [True, False], default=None, return_dtype=pl.Boolean)
    if given == pl.String and isinstance(wanted, pl.Datetime):
        return it.str.to_datetime("%+", time_unit=wanted.time_unit, strict=False).dt.convert_time_zone("UTC").cast(wanted)
    if given == pl.String and wanted == pl.Date:
        return it.str.to_date("%Y-%m-%d", strict=False)
    return it.cast(wanted, strict=False)


def is_exact(rows: pl.LazyFrame, name: str, wanted: pl.DataType) -> bool:
    """Whether every value of the column is the same in the other type. A number is no day, and a 007 is more than a 7."""
    given = rows.collect_schema()[name]
    pair = {_family(given), _family(wanted)}
    if given == wanted:
        return True
    if given.is_nested() or not ("text" in pair or pair in ({"day", "time"}, {"number"}, {"time"})):
        return False
    new = becoming(name, given, wanted)
    lost = new.is_null() & pl.col(name).is_not_null()
    if not (given == pl.String and not wanted.is_integer()) and wanted != pl.String:
        lost = lost | (new.cast(given, strict=False) != pl.col(name)).fill_null(value=False)
    return not rows.select(lost.any()).collect(engine="streaming").item()


def _family(dtype: Any) -> str:
    if dtype.is_numeric():
        return "number"
    if isinstance(dtype, pl.Datetime):
        return "time"
    if dtype == pl.Date:
        return "day"
    return "text" if dtype in (pl.String, pl.Categorical, pl.Enum) else str(dtype)


def _conflict(name: str, held: Sequence[tuple[str, pl.DataType]], wanted: Any) -> Conflict:
    of_type: dict[str, list[str]] = {}
    for ref, dtype in held:
        if ref not in (refs := of_type.setdefault(str(dtype), [])):
            refs.append(ref)
    told = "; ".join(
        f"{dtype} in {', '.join(refs[:_SHOWN])}{f' and {len(refs) - _SHOWN:,} more' if len(refs) > _SHOWN else ''}"
        for dtype, refs in of_type.items()
    )
    now = f", and not every value is a {wanted}, as the contract has it now" if wanted is not None else ""
    return Conflict(
        f"The column {name!r} has no one type: {told}{now}.",
        "give the column another name in the contract, or read a period in which its type did not change.",
    )
