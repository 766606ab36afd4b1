"""Batches that another library hands out, as pieces of one table with the types that were promised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from falaj.adapters.tabular.columns import PIECE_ROWS, Declared, Schema, check_there, empty, fit, parse
from falaj.core.errors import InvalidInput


def promised(schema: Schema, declared: Declared, where: str) -> dict[str, pl.DataType]:
    """The types that pieces will have. Raises InvalidInput where a column is declared that is not there or is no text."""
    check_there(declared.kinds, schema, where)
    found = {}
    for name, dtype in schema.items():
        wanted = declared.dtype(name)
        if wanted is not None and dtype not in (pl.String, wanted):
            raise InvalidInput(
                f"{where}: the column {name!r} is {dtype}, and is declared as {declared.kinds[name]}.",
                "only texts are read as another type.",
            )
        found[name] = wanted or in_utc(dtype)
    return found


def in_utc(dtype: pl.DataType) -> pl.DataType:
    return pl.Datetime(dtype.time_unit, "UTC") if isinstance(dtype, pl.Datetime) and dtype.time_zone else dtype


def as_pieces(frames: Iterable[pl.DataFrame], schema: Schema, declared: Declared, where: str) -> Iterator[pl.DataFrame]:
    """Pieces of at most PIECE_ROWS rows, one empty one where there are none."""
    has_none = True
    for frame in frames:
        for start in range(0, frame.height, PIECE_ROWS):
            piece, bad = parse(frame[start : start + PIECE_ROWS], declared)
            if bad is not None:
                raise InvalidInput(
                    f"{where}, column {bad.column!r}: {bad.value[:80]!r} is no {bad.kind}.",
                    "mend the row, declare another type in `types`, or say how it is written in `times`.",
                )
            has_none = False
            yield fit(piece, schema, where)
    if has_none:
        yield empty(schema)
