"""Parquet, read in pieces; rows outside of the period are skipped by the file's own statistics where it has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl

from falaj.adapters.tabular.columns import PIECE_ROWS, check_names, check_there, parse
from falaj.adapters.tabular.layout import File, Layout
from falaj.core.errors import FalajError, InvalidInput


def columns(file: File, layout: Layout) -> dict[str, pl.DataType]:
    with _readable(file):
        schema = file.scan().collect_schema()
    check_names(list(schema), file.name)
    check_there(layout.declared.kinds, schema, file.name)
    found = {}
    for name, dtype in schema.items():
        declared = layout.declared.dtype(name)
        if declared is not None and dtype not in (pl.String, declared):
            raise InvalidInput(
                f"{file.name}: the column {name!r} is {dtype}, and is declared as {layout.declared.kinds[name]}.",
                "only texts are read as another type.",
            )
        found[name] = declared or dtype
    return found


def pieces(file: File, layout: Layout, names: list[str], rows: pl.Expr | None) -> Iterator[pl.DataFrame]:
    """The named columns of the rows that `rows` chooses."""
    with _readable(file):
        frame = file.scan().select(names)
        batches = (frame if rows is None else frame.filter(rows)).collect_batches(
            chunk_size=PIECE_ROWS, maintain_order=True, engine="streaming"
        )
        for batch in batches:
            if any(column.len() != batch.height for column in batch.get_columns()):
                raise ValueError("a damaged file can give columns of different lengths")
            typed, bad = parse(batch, layout.declared)
            if bad is not None:
                raise InvalidInput(
                    f"{file.name}, column {bad.column!r}: {bad.value[:80]!r} is no {bad.kind}.",
                    "mend the file, or say how it is written in `times`.",
                )
            yield typed


@contextmanager
def _readable(file: File) -> Iterator[None]:
    """A broken file makes the reader fail in many ways, all of which mean the same."""
    try:
        with file.border():
            yield
    except FalajError:
        raise
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OverflowError, MemoryError) as exc:
        raise InvalidInput(f"{file.name} cannot be read as Parquet.", "fetch or write it again: it may be cut off.") from exc
