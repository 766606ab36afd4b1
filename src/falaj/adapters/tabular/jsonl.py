"""JSON lines, read strictly: a column has one type in all files, and what breaks it is told with its line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from falaj.adapters.tabular.columns import EXACT, MOST_COLUMNS, PIECE_ROWS, Declared, Schema, check_names, parse
from falaj.adapters.tabular.layout import File, Layout
from falaj.adapters.tabular.text import blocks, unpack
from falaj.core.errors import InvalidInput

_LARGEST = 2**63
_SEEN: Mapping[type, pl.DataType] = {
    type(None): pl.Null(), bool: pl.Boolean(), int: pl.Int64(), float: pl.Float64(), str: pl.String(), list: pl.String(),
    dict: pl.String(),
}  # fmt: skip
_NONE = frozenset({type(None)})
_PLAIN: Mapping[pl.DataType, frozenset[type]] = {
    # what a column takes as it is; any other value is looked at one by one
    pl.Boolean(): _NONE | {bool}, pl.Float64(): _NONE | {float}, pl.String(): _NONE | {str},
}  # fmt: skip
_WORDS = {bool: "a boolean", int: "a whole number", float: "a fraction", str: "a text", list: "a list", dict: "an object"}


def columns(file: File, layout: Layout) -> dict[str, pl.DataType]:
    """Every column that a line of the file has. Reads the file, unless the options name the columns and their types."""
    if layout.columns and all(layout.declared.dtype(name) for name in layout.columns):
        return {name: layout.declared.dtype(name) or pl.String() for name in layout.columns}
    kinds: dict[str, type] = {}
    for line, record in _records(file, layout):
        for name, value in record.items():
            kind, was = type(value), kinds.get(name)
            if kind is was or (value is None and was is not None):
                continue
            if was is not None and was is not type(None) and layout.declared.dtype(name) is None:
                if {kind, was} != {int, float}:
                    raise InvalidInput(
                        f"{file.name}, line {line}, column {name!r}: {_WORDS[kind]}, where lines before have {_WORDS[was]}.",
                        "mend the file, or read the two apart.",
                    )
                kind = float
            kinds[name] = kind
        if len(kinds) > MOST_COLUMNS:
            check_names(list(kinds), file.name)
    if kinds:
        check_names(list(kinds), file.name)
    found = {name: layout.declared.dtype(name) or _SEEN[kind] for name, kind in kinds.items()}
    # A file without any line still has the columns that are declared.
    return found | {name: dtype for name in layout.declared.kinds if name not in found and (dtype := layout.declared.dtype(name))}


def pieces(file: File, layout: Layout, schema: Schema) -> Iterator[pl.DataFrame]:
    places = ((f"line {line}", record) for line, record in _records(file, layout))
    yield from table(places, schema, layout.declared, file.name)


def table(
    records: Iterable[tuple[str, Mapping[str, Any]]], schema: Schema, declared: Declared, where: str
) -> Iterator[pl.DataFrame]:
    """Records, each with its place, as pieces of a table; what the schema does not name is left out.

    Raises InvalidInput for a value that is not of its column's type, with its place.
    """
    held: list[Mapping[str, Any]] = []
    places: list[str] = []
    for place, record in records:
        held.append(record)
        places.append(place)
        if len(held) == PIECE_ROWS:
            yield _piece(held, places, schema, declared, where)
            held, places = [], []
    if held:
        yield _piece(held, places, schema, declared, where)


def _piece(
    records: Sequence[Mapping[str, Any]], places: Sequence[str], schema: Schema, declared: Declared, where: str
) -> pl.DataFrame:
    found = []
    for name, dtype in schema.items():
        read = pl.String() if declared.kinds.get(name) in ("date", "timestamp") else dtype
        values = [record.get(name) for record in records]
        if not set(map(type, values)) <= _PLAIN.get(read, _NONE):
            values = [_value(value, read) for value in values]
        if _WRONG in values:
            place = values.index(_WRONG)
            raise InvalidInput(
                f"{where}, {places[place]}, column {name!r}: {str(records[place][name])[:80]!r} is no "
                f"{declared.kinds.get(name) or dtype}.",
                "mend the record, or declare another type in `types`.",
            )
        try:
            found.append(pl.Series(name, values, dtype=read, strict=True))
        except (pl.exceptions.PolarsError, UnicodeError, TypeError, OverflowError, ValueError) as exc:
            raise InvalidInput(
                f"{where}, {places[0]} to {places[-1]}: the column {name!r} holds what {dtype} cannot hold.",
                "half a character, written as \\ud800 or the like, is no text.",
            ) from exc
    frame, bad = parse(pl.DataFrame(found), declared)
    if bad is not None:
        raise InvalidInput(
            f"{where}, {places[bad.row]}, column {bad.column!r}: {bad.value[:80]!r} is no {bad.kind}.",
            "mend the record, or say how it is written in `times`.",
        )
    return frame


class _Wrong:
    """A value that is not of its column's type."""


_WRONG = _Wrong()


def _value(value: Any, dtype: pl.DataType) -> Any:
    kind = type(value)
    if value is None:
        return None
    if dtype == pl.String:
        if kind is str:
            return value
        return json.dumps(value, ensure_ascii=False) if kind in (list, dict) else _WRONG
    if dtype == pl.Boolean:
        return value if kind is bool else _WRONG
    if dtype == pl.Float64:
        return float(value) if kind is float or (kind is int and abs(value) <= EXACT) else _WRONG
    return value if kind is int and -_LARGEST <= value < _LARGEST else _WRONG


def _records(file: File, layout: Layout) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open() as chunks:
        plain = unpack(chunks, file.name) if file.name.endswith(".gz") else chunks
        for block in blocks(plain, file.name, encoding=layout.encoding):
            numbered = [(line, text) for line, text in enumerate(map(bytes.strip, block.data.split(b"\n")), block.line) if text]
            records = _at_once([text for _, text in numbered])
            if records is not None:
                yield from zip((line for line, _ in numbered), records, strict=True)
                continue
            for line, text in numbered:
                yield line, _record(text, f"{file.name}, line {line}")


def _at_once(lines: Sequence[bytes]) -> list[dict[str, Any]] | None:
    """Four times as fast as line by line; None where anything is odd, which is then looked for line by line."""
    if not all(line.startswith(b"{") and line.endswith(b"}") for line in lines):
        return None
    try:
        records: list[dict[str, Any]] = json.loads(b"[" + b",".join(lines) + b"]", object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return records if len(records) == len(lines) else None


def _record(text: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(text, object_pairs_hook=_once)
    except _TwiceError as exc:
        raise InvalidInput(f"{where} names {str(exc)[:80]!r} twice.", "a record has each name once.") from exc
    except (ValueError, RecursionError) as exc:
        seen = getattr(exc, "msg", "") or "it is nested too deeply, or a number has too many digits"
        raise InvalidInput(f"{where} is no JSON: {seen}.", 'every line is one whole object, such as {"id": 1}.') from exc
    if not isinstance(record, dict):
        raise InvalidInput(f"{where} is no object.", 'every line is one object, such as {"id": 1}.')
    return record


class _TwiceError(ValueError):
    """A name that stands twice in one object."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _TwiceError(next(name for place, (name, _) in enumerate(pairs) if name in {other for other, _ in pairs[:place]}))
    return found
