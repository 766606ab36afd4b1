"""Mended rows: how they are read, which values each of them mentions, and how a text becomes what its column holds."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from falaj.core.errors import FalajError, InvalidInput, NotFound
from falaj.stages.contracts.rules import REASONS, ROW
from falaj.stages.contracts.spec import AnySource, From

VERSION = "_version"
PLACE = (VERSION, ROW)
"""What names a row in quarantine: the version of its load, and its place in that load."""
MENTIONED = "_mentioned"
"""Which columns a mended row speaks of, where that is not all of them: the others stay as they came."""
MOST_BYTES = 64 << 20
_HINT = 'write {"rows": [{"_version": 1, "_row": 4, …}]}.'
_RFC = "a time with a zone, such as 2013-05-01T09:30:00Z"


def read_rows(folder: Path, file: str) -> pl.DataFrame:
    """Mended rows from a file in the project's folder: CSV with every value as text, JSON lines, or Parquet.

    A blank cell of a CSV file and a key that a line of JSON lacks are not mentioned; a null of JSON lines or Parquet is. Raises
    NotFound, or InvalidInput where the file is outside, too large, of another kind, or broken.
    """
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InvalidInput(f"The file {file!r} is outside the project.", "keep it in the project's folder.")
    if path.suffix not in _READERS:
        raise InvalidInput(f"{file!r} is no {', '.join(_READERS)} file.", "write the mended rows as one of these.")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InvalidInput(f"{file!r} is larger than {MOST_BYTES >> 20} MiB.", "mend the rows in several files.")
        return _READERS[path.suffix](path.read_bytes())
    except FileNotFoundError as exc:
        raise NotFound(f"There is no file {file!r} in the project's folder.", "write the mended rows there.") from exc
    except FalajError:
        raise
    except (OSError, ValueError, RecursionError, pl.exceptions.PolarsError) as exc:
        first = (str(exc).splitlines() or [""])[0][:200]
        raise InvalidInput(f"{file!r} cannot be read: {first}.", "mend the file.") from exc


def table(rows: Any) -> pl.DataFrame:
    """Mended rows as JSON says them. A key that a row lacks is not mentioned; a null is. Raises InvalidInput for no table."""
    if not isinstance(rows, Sequence) or isinstance(rows, (str, bytes)) or not all(isinstance(row, Mapping) for row in rows):
        raise InvalidInput("The mended rows are no table.", _HINT)
    if MENTIONED in (names := dict.fromkeys(name for row in rows for name in row)):
        raise InvalidInput(f"The mended rows have a column {MENTIONED!r}, which is falaj's own.", "take it out.")
    try:
        columns = {name: pl.Series(name, _alike([row.get(name) for row in rows]), strict=True) for name in names}
        said = pl.Series(MENTIONED, [list(row) for row in rows], dtype=pl.List(pl.String))
        return pl.DataFrame(list(columns.values())).with_columns(said) if rows else pl.DataFrame()
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as exc:
        raise InvalidInput("The mended rows are no table: a column holds values of several types.", _HINT) from exc


def _alike(values: list[Any]) -> list[Any]:
    """Whole numbers among fractions are fractions."""
    kinds = {type(value) for value in values if value is not None}
    return [None if value is None else float(value) for value in values] if kinds == {int, float} else values


def merged(waiting_rows: pl.DataFrame, given: pl.DataFrame, source: AnySource | None = None) -> pl.DataFrame:
    """The waiting rows, each with the values that its mended row mentions in place of its own; rows that nobody gave are not.

    source: what it declares of texts (`times`, `types`) is how a text is read. Raises InvalidInput where the given rows do not
    say which row each of them mends, name a row twice or a column that the load does not have, or hold a text that says
    nothing for sure.
    """
    given = _named(given)
    new = [name for name in given.columns if name not in (*PLACE, MENTIONED)]
    unknown = [name for name in new if name not in waiting_rows.columns]
    if unknown:
        raise InvalidInput(f"The mended rows have a column {unknown[0]!r}, which the load has not.", "take it out.")
    own = given.join(waiting_rows.select(PLACE), on=list(PLACE), how="semi", maintain_order="left")
    typed = own.select(
        *PLACE,
        *(_typed(own, name, waiting_rows.schema[name], source).alias(f"_new_{name}") for name in new),
        *([MENTIONED] if MENTIONED in own.columns else []),
    )
    both = waiting_rows.join(typed, on=list(PLACE), how="inner", maintain_order="left")
    return both.with_columns(_picked(name, both) for name in new).select(waiting_rows.columns)


def check_places(given: pl.DataFrame, kept_out: pl.DataFrame) -> None:
    """Raises NotFound where a mended row names a row that was never kept out."""
    lost = _named(given).join(kept_out, on=list(PLACE), how="anti", maintain_order="left")
    if lost.height:
        version, row = lost.select(PLACE).row(0)
        raise NotFound(
            f"No row was kept out with _version {version} and _row {row}.", "`falaj dataset quarantine` shows those that were."
        )


def _named(given: pl.DataFrame) -> pl.DataFrame:
    lacking = [name for name in PLACE if name not in given.columns]
    if lacking:
        raise InvalidInput(
            f"The mended rows have no {lacking[0]!r}.", "keep _version and _row as `falaj dataset quarantine` shows."
        )
    given = given.drop(REASONS, "_wanted", strict=False).with_columns(pl.col(name).cast(pl.Int64, strict=False) for name in PLACE)
    if given.select(PLACE).is_duplicated().any() or any(given[name].null_count() for name in PLACE):
        raise InvalidInput("Two mended rows have the same _version and _row, or one has none.", "mend each row once.")
    return given


def _picked(name: str, both: pl.DataFrame) -> pl.Expr:
    new = pl.col(f"_new_{name}")
    if MENTIONED not in both.columns:
        return new.alias(name)
    return pl.when(pl.col(MENTIONED).list.contains(name)).then(new).otherwise(pl.col(name)).alias(name)


def _typed(given: pl.DataFrame, name: str, wanted: pl.DataType, source: AnySource | None) -> pl.Series:
    """The given values in the type that the column came in. A time in text is read as declared, or says its zone itself."""
    it = given[name]
    if it.dtype == pl.String and wanted.is_temporal():
        read, says = _moments(it, name, wanted, source)
    elif it.dtype == pl.String and wanted == pl.Boolean:
        lower = it.str.to_lowercase()
        read = lower.replace_strict(["true", "false"], [True, False], default=None, return_dtype=pl.Boolean)
        says = "true or false"
    elif it.dtype == pl.String and wanted.is_numeric():
        read, says = it.str.strip_chars().cast(wanted, strict=False), f"a number ({wanted}), with a point before its fraction"
    elif wanted.is_temporal() and (it.dtype.is_numeric() or _lacks_zone(it.dtype, wanted)):
        read, says = it.clear(it.len()), _RFC
    else:
        try:
            read = it.cast(wanted, strict=False)
        except pl.exceptions.PolarsError:
            read = pl.Series(name, [None] * it.len(), dtype=wanted)
        if it.dtype.is_float() and wanted.is_integer():
            read = read.set((read.cast(it.dtype) != it).fill_null(value=False), None)
        says = f"a value of the type {wanted}"
    wrong = read.is_null() & it.is_not_null()
    if wrong.any():
        version, row = given.select(PLACE).row(int(wrong.arg_true()[0]))
        raise InvalidInput(
            f"The mended row {row} of version {version} has other types than the load: {name!r} has to be {says}.",
            "write the value so.",
        )
    return read


def _moments(it: pl.Series, name: str, wanted: pl.DataType, source: AnySource | None) -> tuple[pl.Series, str]:
    """Null where a text is neither as the source declares it, nor a time with its zone: nobody guesses one."""
    declared = source.options.get("times", {}).get(name) if isinstance(source, From) else None
    style, zone = declared or ("", "")
    if wanted == pl.Date:
        plain = it.str.to_date("%Y-%m-%d", strict=False)
        own = it.str.to_date(style, strict=False) if style else plain
        return own.fill_null(plain), "a day such as 2013-05-01" + (f", or as {style!r}" if style else "")
    if not isinstance(wanted, pl.Datetime):
        return it.cast(wanted, strict=False), f"a value of the type {wanted}"
    unit = wanted.time_unit
    found = _local(it.str.to_datetime("%+", time_unit=unit, strict=False), "UTC")
    found = found.fill_null(_local(it.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit=unit, strict=False), "UTC"))
    says = _RFC
    if declared:
        text = it if style else it.str.replace("T", " ", literal=True)
        own = text.str.to_datetime(style or ("%Y-%m-%d %H:%M:%S%.f" if zone else "%+"), time_unit=unit, strict=False)
        found = _local(own, zone or "UTC").fill_null(found)
        says = f"as its source declares it ({style or 'ISO 8601'}{f' in {zone}' if zone else ''}), or {says}"
    found = found if wanted.time_zone else found.dt.replace_time_zone(None)
    return found.cast(wanted), says


def _lacks_zone(given: pl.DataType, wanted: pl.DataType) -> bool:
    return isinstance(given, pl.Datetime) and isinstance(wanted, pl.Datetime) and bool(wanted.time_zone) and not given.time_zone


def _local(times: pl.Series, zone: str) -> pl.Series:
    """In UTC. An hour that a change of clocks leaves out, or brings twice, is no moment."""
    if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone is None:
        times = times.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    return times.dt.convert_time_zone("UTC")


def _csv(data: bytes) -> pl.DataFrame:
    frame = pl.read_csv(io.BytesIO(data), infer_schema=False)
    frame = frame.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in frame.columns)
    said = [pl.when(pl.col(name).is_not_null()).then(pl.lit(name)) for name in frame.columns]
    return frame.with_columns(pl.concat_list(said).list.drop_nulls().alias(MENTIONED)) if said else frame


def _jsonl(data: bytes) -> pl.DataFrame:
    return table([json.loads(line, parse_constant=_no_number) for line in data.decode().splitlines() if line.strip()])


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no value of JSON")


_READERS: Mapping[str, Callable[[bytes], pl.DataFrame]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": lambda data: pl.read_parquet(io.BytesIO(data)).drop(MENTIONED, strict=False),
}
