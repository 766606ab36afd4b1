"""Parquet, read in pieces; groups of rows outside of the period are skipped by the file's own statistics where it has them.

Read by Arrow's library: the one of Polars ends the whole process, or hands out too few rows, on some files that are damaged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from falaj.adapters.tabular.columns import PIECE_ROWS, check_names, parse
from falaj.adapters.tabular.layout import File, Layout
from falaj.adapters.tabular.period import ticks
from falaj.core.errors import FalajError, InvalidInput

_UNITS = {"milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
Period = tuple[datetime | None, datetime]


def columns(file: File, layout: Layout) -> dict[str, pl.DataType]:
    with _opened(file) as held:
        check_names(held.schema_arrow.names, file.name)
        schema = _frame(held.schema_arrow.empty_table()).schema
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


def pieces(file: File, layout: Layout, names: list[str], period: Period | None) -> Iterator[pl.DataFrame]:
    """The named columns of all groups of rows that may hold rows of the period."""
    with _opened(file) as held:
        groups = [n for n in range(held.num_row_groups) if period is None or _may_hold(held, n, layout.known, period)]
        wanted = sum(held.metadata.row_group(n).num_rows for n in groups)
        for batch in held.iter_batches(PIECE_ROWS, row_groups=groups, columns=names, use_threads=False):
            batch.validate(full=True)
            wanted -= batch.num_rows
            typed, bad = parse(_frame(batch), layout.declared)
            if bad is not None:
                raise InvalidInput(
                    f"{file.name}, column {bad.column!r}: {bad.value[:80]!r} is no {bad.kind}.",
                    "mend the file, or say how it is written in `times`.",
                )
            yield typed
        if wanted:
            raise _broken(file)


def _may_hold(held: Any, group: int, known: str, period: Period) -> bool:
    """False only where the group's statistics rule it out."""
    since, until = period
    kind = held.schema_arrow.field(known).type
    for place in range(held.metadata.num_columns):
        column, declared = held.metadata.row_group(group).column(place), held.schema.column(place)
        # Asking for the statistics of a column of another type than the schema says ends the process.
        if column.path_in_schema != known or not column.physical_type == declared.physical_type == "INT64":
            continue
        unit = _UNITS.get(json.loads(declared.logical_type.to_json()).get("timeUnit", ""))
        if unit is None or not pa.types.is_timestamp(kind) or not column.is_stats_set or not column.statistics.has_min_max:
            continue
        low, high = column.statistics.min_raw, column.statistics.max_raw
        return bool(low <= ticks(until, unit) and (since is None or high > ticks(since, unit)))
    return True


@contextmanager
def _opened(file: File) -> Iterator[Any]:
    """A broken file makes the reader fail in many ways, all of which mean the same."""
    with file.border():
        try:
            with file.seekable() as handle, pq.ParquetFile(handle, page_checksum_verification=True) as held:
                yield held
        except (FalajError, FileNotFoundError, PermissionError):
            raise
        except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, MemoryError) as exc:
            raise _broken(file) from exc
        except OSError as exc:
            if exc.errno is not None:
                raise
            raise _broken(file) from exc


def _broken(file: File) -> InvalidInput:
    return InvalidInput(f"{file.name} cannot be read as Parquet.", "fetch or write it again: it may be cut off.")


def _frame(data: Any) -> pl.DataFrame:
    frame = pl.from_arrow(data)
    assert isinstance(frame, pl.DataFrame)
    return frame
