"""Quarantine: the rows that a contract kept out, which of them still wait, and what mended ones are worth."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from falaj.core.asset import Asset
from falaj.core.decision import Check
from falaj.core.errors import InvalidInput, NotFound
from falaj.ports.blobs import Blobs
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.report import plain
from falaj.stages.contracts.rules import REASONS, ROW, Around, Finding, Judge
from falaj.stages.contracts.snapshots import Snapshots, union

VERSION = "_version"
PLACE = (VERSION, ROW)
"""What names a row in quarantine: the version of its load, and its place in that load."""
MOST_BYTES = 64 << 20
MENDS = "mends"
"""The label of a snapshot of mended rows: the digest of a list of those that it mends."""


def rows_of(snapshots: Snapshots, asset: Asset) -> pl.DataFrame:
    """The rows of one quarantine asset, each with its name."""
    frame = snapshots.frame(asset)
    if ROW not in frame.columns:  # kept out before places were written: its place in the file names it as well
        frame = frame.with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.Int64))
    return frame.with_columns(pl.lit(int(asset.ref.version or 0), dtype=pl.Int64).alias(VERSION))


def mended(blobs: Blobs, assets: Sequence[Asset]) -> pl.DataFrame:
    """The names of the rows that snapshots have mended already."""
    digests = [str(asset.labels[MENDS]) for asset in assets if MENDS in asset.labels]
    none = pl.DataFrame(schema={VERSION: pl.Int64, ROW: pl.Int64})
    return pl.concat([none, *(pl.read_parquet(io.BytesIO(blobs.get(digest))) for digest in digests)])


def waiting(frame: pl.DataFrame, done: pl.DataFrame) -> pl.DataFrame:
    """The rows that nobody has mended yet."""
    return frame.join(done, on=list(PLACE), how="anti", maintain_order="left")


@dataclass(frozen=True, slots=True)
class Mended:
    """What came of replaying rows: `good` ones as the contract has them, with their names in `places`, row for row."""

    good: pl.DataFrame
    places: pl.DataFrame
    tried: int
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]


def replay(
    loads: Iterator[tuple[pl.DataFrame, pl.DataFrame | None]], contract: Contract, known: str, now: datetime, around: Around
) -> Mended:
    """Judges rows that were kept out once more, load by load.

    loads: the rows of each, and what of the same load came in: a key that is there already keeps its later rows out, as it
    did then. Mended rows are known from `now` on: before, nobody could have known them as they are.
    """
    good: list[pl.DataFrame] = []
    places: list[pl.DataFrame] = []
    checks: list[Check] = []
    findings: list[Finding] = []
    tried = 0
    for frame, taken in loads:
        tried += frame.height
        names, rows = frame.select(PLACE), frame.drop(*PLACE, REASONS, strict=False)
        rows = rows.with_columns(pl.lit(now).cast(pl.Datetime("ms", "UTC")).alias(known))
        judge = Judge(contract, rows.schema, whole=False, around=around)
        seen = judge.look(rows)
        found = judge.checks()
        checks += [item for item in found if item.passed is not True]
        findings += judge.findings()
        if seen is None:
            continue
        broken = judge.broken(seen)
        kept = judge.cast(rows)
        fine = pl.repeat(True, rows.height, eager=True) if broken is None else ~broken
        for key in _unique(contract):
            if taken is not None and taken.height:
                there = taken.select(pl.struct(key).alias("_key"))["_key"]
                again = kept.select(pl.all_horizontal(pl.col(*key).is_not_null()) & pl.struct(key).is_in(there.implode()))
                fine &= ~again.to_series()
        good.append(kept.filter(fine))
        places.append(names.filter(fine))
    return Mended(union(good), pl.concat(places) if places else pl.DataFrame(), tried, tuple(checks), tuple(findings))


def merged(waiting_rows: pl.DataFrame, given: pl.DataFrame) -> pl.DataFrame:
    """The waiting rows with the columns that were given in place of theirs; rows that nobody gave are left out.

    Raises InvalidInput where the given rows do not say which row each of them mends, name a row twice, or a column that the
    load does not have.
    """
    lacking = [name for name in PLACE if name not in given.columns]
    if lacking:
        raise InvalidInput(
            f"The mended rows have no {lacking[0]!r}.", "keep _version and _row as `falaj dataset quarantine` shows."
        )
    given = given.drop(REASONS, "_wanted", strict=False).with_columns(pl.col(name).cast(pl.Int64, strict=False) for name in PLACE)
    if given.select(PLACE).is_duplicated().any() or any(given[name].null_count() for name in PLACE):
        raise InvalidInput("Two mended rows have the same _version and _row, or one has none.", "mend each row once.")
    new = [name for name in given.columns if name not in PLACE]
    unknown = [name for name in new if name not in waiting_rows.columns]
    if unknown:
        raise InvalidInput(f"The mended rows have a column {unknown[0]!r}, which the load has not.", "take it out.")
    try:
        typed = given.with_columns(_as(name, given.schema[name], waiting_rows.schema[name]) for name in new)
    except pl.exceptions.PolarsError as exc:
        raise InvalidInput(
            f"The mended rows have other types than the load: {str(exc).splitlines()[0][:200]}.", "write values as they came."
        ) from exc
    rest = waiting_rows.drop(new)
    return rest.join(typed, on=list(PLACE), how="inner", maintain_order="left").select(waiting_rows.columns)


def read_rows(folder: Path, file: str) -> pl.DataFrame:
    """Mended rows from a file in the project's folder: CSV with every value as text, JSON lines, or Parquet.

    Raises NotFound, or InvalidInput where the file is outside, too large, of another kind, or broken.
    """
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InvalidInput(f"The file {file!r} is outside the project.", "keep it in the project's folder.")
    if path.suffix not in _READERS:
        raise InvalidInput(f"{file!r} is no {', '.join(_READERS)} file.", "write the mended rows as one of these.")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InvalidInput(f"{file!r} is larger than {MOST_BYTES >> 20} MiB.", "mend the rows in several files.")
        return _READERS[path.suffix](path)
    except FileNotFoundError as exc:
        raise NotFound(f"There is no file {file!r} in the project's folder.", "write the mended rows there.") from exc
    except (OSError, pl.exceptions.PolarsError) as exc:
        raise InvalidInput(f"{file!r} cannot be read: {str(exc).splitlines()[0][:200]}.", "mend the file.") from exc


def explained(rows: pl.DataFrame, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows as JSON can carry them, with what the contract wants for each reason."""
    return [
        {**{name: plain(value) for name, value in row.items()}, "_wanted": {n: wanted.get(n, "") for n in row[REASONS] or ()}}
        for row in rows.to_dicts()
    ]


def _as(name: str, given: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    """A given value in the type that the column came in; times and flags may be given as text."""
    it = pl.col(name)
    if given == pl.String and isinstance(wanted, pl.Datetime):
        read = it.str.to_datetime(time_unit=wanted.time_unit, time_zone="UTC")
        return (read if wanted.time_zone else read.dt.replace_time_zone(None)).cast(wanted)
    if given == pl.String and wanted == pl.Date:
        return it.str.to_date()
    if given == pl.String and wanted == pl.Boolean:
        return it.str.to_lowercase().replace_strict({"true": True, "false": False}, return_dtype=pl.Boolean)
    return it.cast(wanted)


_READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": lambda path: pl.read_csv(path, infer_schema=False),
    ".jsonl": pl.read_ndjson,
    ".parquet": pl.read_parquet,
}


def _unique(contract: Contract) -> list[list[str]]:
    found = [[column.name] for column in contract.columns if column.unique]
    return [*found, list(contract.key)] if contract.key else found
