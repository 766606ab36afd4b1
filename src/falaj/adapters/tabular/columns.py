"""Columns: what a user declares about text, parsed strictly, and one schema for all pieces of a read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import polars as pl

from falaj.core.errors import InvalidInput

MOST_COLUMNS = 2_000
"""A contract names at most 200; a table may bring more to be left out, but not without bound."""
PIECE_ROWS = 50_000
EXACT = 2**53
"""Whole numbers up to here are the same number as a float."""
TIME = pl.Datetime("us", "UTC")
KINDS: Mapping[str, pl.DataType] = {
    # the logical types of a contract, and how each is held
    "string": pl.String(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "timestamp": TIME,
}
Schema = Mapping[str, pl.DataType]


@dataclass(frozen=True, slots=True)
class Declared:
    """What the texts of some columns mean; every other text stays text."""

    kinds: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Of a date or timestamp: (format, zone); an empty format is ISO 8601, an empty zone asks for an offset in the text."""

    def dtype(self, name: str) -> pl.DataType | None:
        return KINDS[self.kinds[name]] if name in self.kinds else None


@dataclass(frozen=True, slots=True)
class Bad:
    """A text that is not what its column is declared to be."""

    column: str
    row: int
    value: str
    kind: str


def declare(types: Mapping[str, str] | None, times: Mapping[str, Sequence[str]] | None) -> Declared:
    """Raises InvalidInput for a type, a format or a zone that does not exist."""
    kinds = dict(types or {})
    wrong = {kind for kind in kinds.values() if kind not in KINDS}
    if wrong:
        raise InvalidInput(f"There is no type {sorted(map(str, wrong))[0]!r}.", f"there is: {', '.join(KINDS)}.")
    formats: dict[str, tuple[str, str]] = {}
    for name, given in (times or {}).items():
        if isinstance(given, str) or len(given) != 2 or not all(isinstance(part, str) for part in given):
            raise InvalidInput(
                f"The time format of {name!r} is not a pair.", 'write times={"at": ("%d/%m/%Y %H:%M", "Asia/Dubai")}.'
            )
        text, zone = given
        kind = kinds.setdefault(name, "timestamp")
        if kind not in ("date", "timestamp"):
            raise InvalidInput(f"{name!r} is declared as {kind} and has a time format.", "leave it out of `types` or of `times`.")
        _check_zone(name, zone)
        if kind == "timestamp" and text and not zone and "%z" not in text and "%:z" not in text and "%+" not in text:
            raise InvalidInput(f"The times of {name!r} have no zone.", 'name one, such as "UTC", or read it with %z.')
        formats[name] = (text, zone)
    return Declared(kinds, formats)


def _check_zone(name: str, zone: str) -> None:
    if not zone:
        return
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError) as exc:
        raise InvalidInput(f"There is no time zone {zone[:80]!r} (column {name!r}).", 'write "UTC" or "Asia/Dubai".') from exc


def parse(frame: pl.DataFrame, declared: Declared) -> tuple[pl.DataFrame, Bad | None]:
    """The frame with its declared texts read as what they are, and the first text that is not."""
    read = []
    for name, kind in declared.kinds.items():
        if kind != "string" and frame.schema.get(name) == pl.String:
            column = _read(frame[name], kind, declared.times.get(name, ("", "")))
            wrong = column.is_null() & frame[name].is_not_null()
            if wrong.any():
                row = wrong.arg_true()[0]
                return frame, Bad(name, row, frame[name][row], kind)
            read.append(column)
    return frame.with_columns(read), None


def _read(text: pl.Series, kind: str, time: tuple[str, str]) -> pl.Series:
    """Null where the text is not that."""
    if kind in ("integer", "number"):
        return text.cast(KINDS[kind], strict=False)
    if kind == "boolean":
        lower = text.str.to_lowercase()
        return lower.replace_strict(["true", "false"], [True, False], default=None, return_dtype=pl.Boolean)
    style, zone = time
    if kind == "date":
        days = text.str.to_date(style or "%Y-%m-%d", strict=False)
        return _possible(days, days.dt.year())
    if not style and zone:
        # Without an offset, to the second or finer, a `T` or a space between.
        found = text.str.replace("T", " ", literal=True).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    else:
        found = text.str.to_datetime(style or "%+", time_unit="us", strict=False)
    dtype = found.dtype
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        # An hour that a change of clocks leaves out, or brings twice, is no moment.
        found = found.dt.replace_time_zone(zone or "UTC", ambiguous="null", non_existent="null")
    found = found.dt.convert_time_zone("UTC")
    return _possible(found, found.dt.year())


def _possible(found: pl.Series, years: pl.Series) -> pl.Series:
    """Without what lies outside the years that the rest of falaj can name."""
    return found.set(((years < 1) | (years > 9999)).fill_null(value=False), None)


def check_names(names: Sequence[str], where: str) -> None:
    """Raises InvalidInput for columns that repeat, have no name, or are too many."""
    if len(names) > MOST_COLUMNS:
        raise InvalidInput(f"{where} has {len(names):,} columns.", f"at most {MOST_COLUMNS:,} are read.")
    if not names:
        raise InvalidInput(f"{where} has no columns.", "a table has at least one.")
    seen: set[str] = set()
    for place, name in enumerate(names, 1):
        if not name.strip():
            raise InvalidInput(f"{where}: column {place} has no name.", "give it one.")
        if name in seen:
            raise InvalidInput(f"{where} names the column {name[:80]!r} twice.", "rename one of the two.")
        seen.add(name)


def check_there(wanted: Iterable[str], there: Iterable[str], where: str) -> None:
    """Raises InvalidInput where a column that the options speak of is not there."""
    held = list(there)
    missing = sorted(set(wanted) - set(held))
    if missing:
        shown = ", ".join(held[:12]) + (", …" if len(held) > 12 else "")
        raise InvalidInput(f"{where} has no column {missing[0]!r}.", f"it has: {shown}")


def together(schemas: Mapping[str, Schema]) -> dict[str, pl.DataType]:
    """One schema for all of `schemas` (by the name of what has it): every column, in order of its first sight.

    Whole numbers of several widths become the widest, whole numbers and floats become floats; any other difference is
    InvalidInput, which says who has which type. A column that is always null is text.
    """
    found: dict[str, pl.DataType] = {}
    by: dict[str, str] = {}
    for where, schema in schemas.items():
        for name, dtype in schema.items():
            wider = dtype if name not in found else _wider(found[name], dtype)
            if wider is None:
                raise InvalidInput(
                    f"The column {name!r} is {found[name]} in {by[name]} and {dtype} in {where}.",
                    "declare its type in `types`, or read the two apart.",
                )
            if name not in found or found[name] == pl.Null:
                by[name] = where
            found[name] = wider
    check_names(list(found), "What is read")
    return {name: pl.String() if dtype == pl.Null else dtype for name, dtype in found.items()}


def _wider(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    if other in (one, pl.Null()):
        return one
    if one == pl.Null:
        return other
    if one.is_integer() and other.is_integer():
        if one.is_signed_integer() == other.is_signed_integer():
            return max(one, other, key=lambda dtype: _WIDTHS[str(dtype).lstrip("U")])
        return None if pl.UInt64() in (one, other) else pl.Int64()
    if one.is_numeric() and other.is_numeric() and not (one.is_decimal() or other.is_decimal()):
        return pl.Float64()
    return None


_WIDTHS = {"Int8": 8, "Int16": 16, "Int32": 32, "Int64": 64, "Int128": 128}


def fit(frame: pl.DataFrame, schema: Schema, where: str) -> pl.DataFrame:
    """The frame with exactly these columns: what is missing is null. Raises InvalidInput where a value would change."""
    columns: list[pl.Series] = []
    for name, dtype in schema.items():
        if name not in frame.schema:
            columns.append(pl.Series(name, [None], dtype=dtype).new_from_index(0, frame.height))
            continue
        column = frame[name]
        if column.dtype != dtype:
            try:
                cast = column.cast(dtype)
            except pl.exceptions.PolarsError as exc:
                raise InvalidInput(
                    f"{where}: the column {name!r} holds {column.dtype}, and {dtype} is wanted.", "declare it in `types`."
                ) from exc
            if column.dtype.is_integer() and dtype.is_float() and ((column > EXACT) | (column < -EXACT)).any():
                raise InvalidInput(
                    f"{where}: the column {name!r} mixes fractions with whole numbers that no float holds exactly.",
                    'declare it as "string" in `types`.',
                )
            column = cast
        columns.append(column)
    return pl.DataFrame(columns)


def empty(schema: Schema) -> pl.DataFrame:
    return pl.DataFrame(schema=dict(schema))
