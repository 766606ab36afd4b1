"""Reads a data file of the project as a table, and says how a dataset's source has to be declared to read it alike."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from falaj.core.errors import InvalidInput

MOST_ROWS = 1_000_000
"""More would not tell more, and have to fit into memory."""
LARGEST = 1 << 30
"""Bytes of a file in another encoding than UTF-8, which is read as a whole."""
ENCODINGS = ("utf-8", "latin-1", "iso-8859-1", "windows-1252")
"""Those that a source can be declared to be in."""
ENDINGS = (".csv", ".parquet", ".jsonl", ".ndjson")

_RFC3339 = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$"
_LOOKED_AT = 200
_DAYS: Mapping[str, str] = {
    # the first that all texts keep; where day and month cannot be told apart, the day is first
    r"\d{4}-\d{2}-\d{2}": "%Y-%m-%d",
    r"\d{4}/\d{2}/\d{2}": "%Y/%m/%d",
    r"(0[1-9]|[12]\d|3[01])/(0[1-9]|1[0-2])/\d{4}": "%d/%m/%Y",
    r"(0[1-9]|1[0-2])/(0[1-9]|[12]\d|3[01])/\d{4}": "%m/%d/%Y",
    r"(0[1-9]|[12]\d|3[01])\.(0[1-9]|1[0-2])\.\d{4}": "%d.%m.%Y",
    r"(0[1-9]|[12]\d|3[01])-(0[1-9]|1[0-2])-\d{4}": "%d-%m-%Y",
    r"\d{8}": "%Y%m%d",
}
_HOURS: Mapping[str, str] = {"": "", r" \d{2}:\d{2}": " %H:%M", r" \d{2}:\d{2}:\d{2}": " %H:%M:%S", r"T\d{2}:\d{2}": "T%H:%M"}


@dataclass(frozen=True, slots=True)
class Table:
    """`types` and `times`: what a source of this file has to be told, as in `falaj.files`."""

    frame: pl.DataFrame
    types: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    encoding: str = ""

    def call(self, path: str, known: str = "") -> str:
        """The declaration to write. Without `known` all rows come each time, for a dataset that `brings="all"`."""
        options = [f'known="{known}"'] if known else []
        options += [f'encoding="{self.encoding}"'] if self.encoding else []
        for name, given in (("types", self.types), ("times", self.times)):
            options += [f"{name}={_told(given)}"] if given else []
        return f"falaj.files({', '.join([_text(path), *options])})"


def read_table(path: Path, shown: str, encoding: str = "") -> Table:
    """At most MOST_ROWS rows. Text columns whose values are all RFC 3339 with a zone come as times.

    Raises InvalidInput for what is no table, and for bytes that are not of the encoding.
    """
    if encoding and (encoding not in ENCODINGS or path.suffix.lower() != ".csv"):
        raise InvalidInput(
            f"The encoding {encoding[:40]!r} cannot be read from {shown}.", f"of CSV files: {', '.join(ENCODINGS)}; else UTF-8."
        )
    try:
        return _READERS[path.suffix.lower()](path, shown, "" if encoding == "utf-8" else encoding)
    except (pl.exceptions.PolarsError, OSError, ValueError) as exc:
        why = (str(exc).splitlines() or [type(exc).__name__])[0][:200]
        if "utf-8" in why.lower() and path.suffix.lower() != ".parquet":
            raise _undecodable(path, shown, "utf-8") from exc
        raise InvalidInput(f"{shown} cannot be read as a table: {why}.", "mend the file, or name another.") from exc


def unlike(table: Table, shown: str, column: str) -> InvalidInput | None:
    """The refusal of a column that should say when, with the source's option that reads its texts; None where it is a time."""
    frame = table.frame
    if column not in frame.columns or isinstance(frame.schema[column], pl.Datetime):
        return None
    style = table.times.get(column, ("", ""))[0] or (_style(frame[column]) if frame.schema[column] == pl.String else "")
    style = style or ("%Y-%m-%d" if frame.schema[column] == pl.Date else "")
    if not style:
        return None
    option = f'times={{"{column}": ("{style}", "UTC")}}'
    return InvalidInput(
        f"{column!r} holds texts as {style}, which are no times with a zone yet.",
        f"declare the source: falaj.files({_text(shown)}, {option}), then falaj contract infer <dataset>.",
    )


def _csv(path: Path, shown: str, encoding: str) -> Table:
    data: Path | io.BytesIO = path
    if encoding:
        data = io.BytesIO(_decoded(path, shown, encoding).encode())
    frame = pl.read_csv(data, n_rows=MOST_ROWS, try_parse_dates=True, infer_schema_length=10_000)
    again = data if isinstance(data, Path) else io.BytesIO(data.getvalue())
    texts = pl.read_csv(again, n_rows=_LOOKED_AT, infer_schema=False)
    types: dict[str, str] = {}
    times: dict[str, tuple[str, str]] = {}
    for name, dtype in frame.schema.items():
        if isinstance(dtype, (pl.Datetime, pl.Date)):
            kind = "timestamp" if isinstance(dtype, pl.Datetime) else "date"
            style = _style(texts[name])
            if kind == "date":
                types[name] = kind
            if kind == "timestamp" and texts[name].drop_nulls().str.contains(_RFC3339).all():
                types[name] = kind
            elif kind == "timestamp":
                times[name] = (style, "UTC")
            elif style not in ("", "%Y-%m-%d"):
                times[name] = (style, "")
        elif dtype != pl.String:
            types[name] = "integer" if dtype.is_integer() else "boolean" if dtype == pl.Boolean else "number"
    return Table(frame, types, times, encoding)


def _parquet(path: Path, _shown: str, _encoding: str) -> Table:
    return _timed(pl.read_parquet(path, n_rows=MOST_ROWS))


def _lines(path: Path, _shown: str, _encoding: str) -> Table:
    return _timed(pl.read_ndjson(path, n_rows=MOST_ROWS, infer_schema_length=10_000))


def _timed(frame: pl.DataFrame) -> Table:
    """Texts that are all RFC 3339 with a zone are times: JSON has no other way to write one."""
    read = {}
    for name in (name for name, dtype in frame.schema.items() if dtype == pl.String):
        texts = frame[name].drop_nulls()
        if len(texts) and texts.head(1).str.contains(_RFC3339).all() and texts.str.contains(_RFC3339).all():
            times = frame[name].str.to_datetime("%+", time_unit="us", strict=False)
            if times.null_count() == frame[name].null_count():
                read[name] = times
    return Table(frame.with_columns(**read), dict.fromkeys(read, "timestamp"))


def _style(texts: pl.Series) -> str:
    """The format of texts of days, or of days and hours; empty where it is none of those known, or to the second and finer."""
    there = texts.drop_nulls().head(_LOOKED_AT)
    styles = ((f"^{day}{hour}$", f"{style}{clock}") for day, style in _DAYS.items() for hour, clock in _HOURS.items())
    return next((style for pattern, style in styles if len(there) and there.str.contains(pattern).all()), "")


def _decoded(path: Path, shown: str, encoding: str) -> str:
    if path.stat().st_size > LARGEST:
        raise InvalidInput(
            f"{shown} is too large to be read in {encoding}.", f"write it in UTF-8, or less than {LARGEST:,} bytes."
        )
    try:
        return path.read_bytes().decode(codecs.lookup(encoding).name)
    except UnicodeDecodeError as exc:
        raise _undecodable(path, shown, encoding) from exc


def _undecodable(path: Path, shown: str, encoding: str) -> InvalidInput:
    """Says which byte it is, and in which line."""
    line = 1
    with path.open("rb") as file:
        for line, text in enumerate(file, 1):
            try:
                text.decode(codecs.lookup(encoding).name)
            except UnicodeDecodeError as exc:
                where = f"line {line:,}, byte {exc.start + 1:,} of it is 0x{text[exc.start]:02x}"
                break
        else:
            where = f"somewhere in {line:,} lines"
    return InvalidInput(
        f"{shown} is not in {encoding}: {where}.",
        f"of a CSV file name its encoding, as in --encoding windows-1252 ({', '.join(ENCODINGS)}); else save it as UTF-8.",
    )


def _told(given: Mapping[str, str | tuple[str, str]]) -> str:
    items = (
        f"{_text(name)}: " + (_text(value) if isinstance(value, str) else f"({_text(value[0])}, {_text(value[1])})")
        for name, value in given.items()
    )
    return "{" + ", ".join(items) + "}"


def _text(value: str) -> str:
    """As Python writes it, in double quotes where that is plain."""
    return f'"{value}"' if re.fullmatch(r"[^\"\\\n\r\t]*", value) and value.isprintable() else repr(value)


_READERS: Mapping[str, Callable[[Path, str, str], Table]] = {
    ".csv": _csv, ".parquet": _parquet, ".jsonl": _lines, ".ndjson": _lines,
}  # fmt: skip
