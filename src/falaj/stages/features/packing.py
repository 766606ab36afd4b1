"""Packing: the newest rows of a view as the bytes that online stores keep, many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput
from falaj.core.stored import LATEST_MS, MOST_FEATURES, Stored, Value, pack
from falaj.stages.features.spec import AT, View

BATCH = 20_000
"""Rows that go to the store in one step: enough to make the step cheap, few enough to hold twice."""


def batches(rows: pl.DataFrame, view: View) -> Iterator[dict[str, bytes]]:
    """Rows of the view (entity, `at`, features), each entity once, packed, `BATCH` at a time. NaN is missing.

    In the order of the entities, which is that of a sorted store: what is put next lies beside what was put last.
    Raises InvalidInput for a column whose values are no features.
    """
    rows = rows.sort(view.entity)
    is_float = all(rows.schema[name] in (pl.Float64, pl.Float32, pl.Null) for name in view.features)
    for part in rows.iter_slices(BATCH):
        names: list[str] = part[view.entity].to_list()
        at = part[AT].dt.epoch("ms")
        if is_float:
            values = part.select(pl.col(view.features).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
            yield dict(zip(names, packed_floats(at.to_numpy(), values), strict=True))
        else:
            columns = [_values(part[name]) for name in view.features]
            packed = (pack(Stored(ms, row)) for ms, row in zip(at.to_list(), zip(*columns, strict=True), strict=True))
            yield dict(zip(names, packed, strict=True))


def window_batches(names: Sequence[str], at: NDArray[np.int64], values: NDArray[np.float64]) -> Iterator[dict[str, bytes]]:
    """The same for a window view's rows: names, times in milliseconds [n], features [n, k]."""
    for start in range(0, len(names), BATCH):
        part = slice(start, start + BATCH)
        yield dict(zip(names[part], packed_floats(at[part], values[part]), strict=True))


def packed_floats(at: NDArray[np.int64], values: NDArray[np.float64]) -> list[bytes]:
    """What `core.stored.pack` makes of each row of floats, NaN being missing; `at` [n] in milliseconds, `values` [n, k]."""
    size = values.shape[1]
    if size > MOST_FEATURES:
        raise InvalidInput(f"A row of {size} features cannot be kept.", f"a view has at most {MOST_FEATURES}.")
    if len(at) and max(int(at.max()), -int(at.min())) > LATEST_MS:
        raise InvalidInput("A row of features has a time beyond all years.", "mend the column's times.")
    bits = (size + 7) // 8
    rows = np.zeros(len(at), np.dtype([("at", "<i8"), ("size", "<u2"), ("bits", "u1", (bits,)), ("values", "<f8", (size,))]))
    rows["at"], rows["size"] = at, size
    missing = np.isnan(values)
    rows["bits"] = np.packbits(missing, axis=1, bitorder="little")
    rows["values"] = np.where(missing, 0.0, values)
    data, length = rows.tobytes(), rows.dtype.itemsize
    return [data[start : start + length] for start in range(0, len(data), length)]


def _values(column: pl.Series) -> list[Value]:
    return (column.fill_nan(None) if column.dtype in (pl.Float64, pl.Float32) else column).to_list()
