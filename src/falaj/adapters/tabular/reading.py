"""Reading: files in their order as pieces of one table, all with the same columns and types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import polars as pl

from falaj.adapters.tabular import csvs, jsonl
from falaj.adapters.tabular.columns import Schema, check_there, empty, fit, together
from falaj.adapters.tabular.layout import MOST_FILES, File, Layout
from falaj.adapters.tabular.period import check_time, within
from falaj.core.errors import InvalidInput, MissingDependency
from falaj.core.moments import millis

ARRIVED = pl.Datetime("ms", "UTC")


def read_files(files: Sequence[File], layout: Layout, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
    """The rows of the files that the options and the period choose. `files` is not empty and in order."""
    if len(files) > MOST_FILES:
        raise InvalidInput(f"There are {len(files):,} files to read.", f"at most {MOST_FILES:,} are read; name fewer.")
    chosen = list(files)
    if layout.arrived:
        chosen = [file for file in files if (since is None or millis(since) < file.modified) and file.modified <= millis(until)]
    schema = _schema(chosen or files[-1:], files, layout)
    known = layout.known and check_time(schema.get(layout.known), layout.known, files[0].name)
    rows = within(layout.known, known, since, until) if known else None
    has_none = True
    for file in chosen:
        for piece in _pieces(file, layout, schema, (since, until)):
            if layout.arrived:
                piece = piece.with_columns(pl.lit(file.modified, dtype=pl.Int64).cast(ARRIVED).alias(layout.arrived))  # noqa: PLW2901
            fitted = fit(piece, schema, file.name)
            if rows is not None:
                fitted = fitted.filter(rows)
            if fitted.height:
                has_none = False
                yield fitted
    if has_none:
        yield empty(schema)


def _schema(files: Sequence[File], all_files: Sequence[File], layout: Layout) -> dict[str, pl.DataType]:
    """The columns of `files`. One that the options speak of may be missing in some of them, but not in all that there are."""
    found = {file.name: _columns(file, layout) for file in files}
    schema = together(found)
    wanted = [*layout.declared.kinds, *layout.columns]
    schema |= _elsewhere({name for name in wanted if name not in schema}, files, all_files, layout)
    check_there(wanted, schema, all_files[0].name if len(all_files) == 1 else f"What lies in {len(all_files):,} files")
    for file in files:
        # Without it none of the file's rows would ever be read. In JSON lines each record stands for itself.
        if layout.known and layout.known not in found[file.name] and layout.format_of(file.name) != "jsonl":
            check_time(None, layout.known, file.name)
    if layout.columns:
        schema = {name: schema[name] for name in layout.columns}
    if layout.arrived:
        if layout.arrived in schema:
            raise InvalidInput(f"{files[0].name} has a column {layout.arrived!r} already.", "give `arrived` another name.")
        schema[layout.arrived] = ARRIVED
    return schema


def _elsewhere(missing: set[str], files: Sequence[File], all_files: Sequence[File], layout: Layout) -> dict[str, pl.DataType]:
    """Those of the missing columns that another file has than those that are read, the last ones first."""
    found: dict[str, pl.DataType] = {}
    read = {file.name for file in files}
    for file in reversed(all_files):
        if missing <= found.keys():
            break
        if file.name not in read:
            with suppress(InvalidInput):  # what is wrong with it is told when it is its turn
                found = {name: dtype for name, dtype in _columns(file, layout).items() if name in missing} | found
    return found


def _columns(file: File, layout: Layout) -> dict[str, pl.DataType]:
    format_ = layout.format_of(file.name)
    if format_ == "parquet":
        found: dict[str, pl.DataType] = _parquet().columns(file, layout)
        return found
    with file.border():
        return csvs.columns(file, layout) if format_ == "csv" else jsonl.columns(file, layout)


def _pieces(file: File, layout: Layout, schema: Schema, period: tuple[datetime | None, datetime]) -> Iterator[pl.DataFrame]:
    format_ = layout.format_of(file.name)
    if format_ == "parquet":
        parquet = _parquet()
        own = parquet.columns(file, layout)
        # Groups of rows are skipped only where the file itself holds times; the rows are chosen when they are read.
        is_time = layout.known in own and layout.known not in layout.declared.kinds
        yield from parquet.pieces(file, layout, [name for name in schema if name in own], period if is_time else None)
        return
    with file.border():
        if format_ == "csv":
            yield from csvs.pieces(file, layout)
        else:
            yield from jsonl.pieces(file, layout, {name: dtype for name, dtype in schema.items() if name != layout.arrived})


def _parquet() -> Any:
    try:
        from falaj.adapters.tabular import parquet
    except ModuleNotFoundError as exc:
        raise MissingDependency.of("Reading Parquet", exc.name or "pyarrow", "parquet") from exc
    return parquet
