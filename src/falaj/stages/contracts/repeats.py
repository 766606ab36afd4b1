"""Repeats: which rows have the values of an earlier row, exactly, also where the values do not fit into memory together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

MOST_BYTES = 96 << 20
"""Keys beyond this size are parted by their hash into files, each of which is looked at alone."""
_ROW = "_row"


def repeated(parts: Iterable[pl.DataFrame], folder: Path, budget: int = MOST_BYTES) -> pl.Series:
    """The numbers of the rows, counted through all parts, that repeat an earlier one; in order. Null equals nothing.

    parts: the columns that must not repeat, row for row. The hash only parts the rows: equal is what the values say.
    """
    held: list[pl.DataFrame] = []
    start, size = 0, 0.0
    source = iter(parts)
    for part in source:
        kept = _numbered(part, start)
        held.append(kept)
        start += part.height
        size += kept.estimated_size()
        if size > budget:
            return _from_files(held, _rest(source, start), folder, budget)
    if not held:
        return pl.Series(_ROW, [], dtype=pl.UInt64)
    return _again(pl.concat(held))


def _numbered(part: pl.DataFrame, start: int) -> pl.DataFrame:
    return part.with_row_index(_ROW, start).with_columns(pl.col(_ROW).cast(pl.UInt64)).drop_nulls(part.columns)


def _rest(parts: Iterator[pl.DataFrame], start: int) -> Iterator[pl.DataFrame]:
    for part in parts:
        yield _numbered(part, start)
        start += part.height


def _again(keys: pl.DataFrame) -> pl.Series:
    columns = [name for name in keys.columns if name != _ROW]
    whole = pl.col(columns[0]) if len(columns) == 1 else pl.struct(columns)
    return keys.filter(~whole.is_first_distinct())[_ROW]


def _from_files(held: list[pl.DataFrame], rest: Iterator[pl.DataFrame], folder: Path, budget: int) -> pl.Series:
    """Sixty-four files hold all rows with the same hash together, in order; a file is read in the pieces it was written in."""
    folder.mkdir(parents=True, exist_ok=True)
    files = 64
    for number, part in enumerate(_through(held, rest)):
        bucket = (pl.struct(pl.exclude(_ROW)).hash(seed=7) % files).alias("_bucket")
        for (place,), piece in (
            part.with_columns(bucket).partition_by("_bucket", as_dict=True, include_key=False, maintain_order=True).items()
        ):
            piece.write_parquet(folder / f"{place:02d}-{number:06d}.parquet", compression="lz4")
    found = [_of_file(sorted(folder.glob(f"{place:02d}-*.parquet")), budget) for place in range(files)]
    return pl.concat(found).sort()


def _through(held: list[pl.DataFrame], rest: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    while held:
        yield held.pop(0)
    yield from rest


def _of_file(pieces: list[Path], budget: int) -> pl.Series:
    """What repeats in one file. Of each value only the first is remembered, so a value that comes a million times costs once."""
    seen: pl.DataFrame | None = None
    found: list[pl.Series] = []
    for path in pieces:
        piece = pl.read_parquet(path)
        path.unlink()
        columns = [name for name in piece.columns if name != _ROW]
        if seen is not None:
            known = piece.join(seen, on=columns, how="semi", nulls_equal=True)
            found.append(known[_ROW])
            piece = piece.join(seen, on=columns, how="anti", nulls_equal=True, maintain_order="left")
        again = _again(piece)
        found.append(again)
        fresh = piece.filter(~pl.col(_ROW).is_in(again.implode())).drop(_ROW)
        seen = fresh if seen is None else pl.concat([seen, fresh])
    return pl.concat(found) if found else pl.Series(_ROW, [], dtype=pl.UInt64)
