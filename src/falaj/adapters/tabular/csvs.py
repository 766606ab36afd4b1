"""CSV as RFC 4180 has it, read strictly: every row has every column, and what is not so is told with its line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

import polars as pl

from falaj.adapters.tabular.columns import PIECE_ROWS, check_names, parse
from falaj.adapters.tabular.layout import File, Layout
from falaj.adapters.tabular.text import MOST_LINE, Block, blocks, unpack
from falaj.core.errors import InvalidInput

_QUOTED = re.compile(rb'(?:"[^"]*")+')
_NUMBER = re.compile(r"\s*[-+]?[0-9][0-9.,:/ T-]*\s*")
csv.field_size_limit(MOST_LINE)


def columns(file: File, layout: Layout) -> dict[str, pl.DataType]:
    """From the first line. Raises InvalidInput where it names no columns."""
    if isinstance(layout.header, tuple):
        names = list(layout.header)
        check_names(names, file.name)
    else:
        with file.open() as chunks:
            first = next(_blocks(chunks, file, layout), None)
        if first is None:
            raise InvalidInput(f"{file.name} is empty: it has no header.", "a file without rows still names its columns.")
        names, _ = _header(first, file, layout)
    return {name: layout.declared.dtype(name) or pl.String() for name in names}


def pieces(file: File, layout: Layout) -> Iterator[pl.DataFrame]:
    names = list(columns(file, layout))
    is_first = layout.header is True
    with file.open() as chunks:
        for block in _blocks(chunks, file, layout):
            rest = _header(block, file, layout)[1] if is_first else block
            is_first = False
            frame = _rows(rest, names, file, layout)
            for start in range(0, frame.height, PIECE_ROWS):
                piece = frame[start : start + PIECE_ROWS]
                texts = piece.with_columns(pl.when(pl.all().is_in(list(layout.nulls))).then(None).otherwise(pl.all()).name.keep())
                typed, bad = parse(texts, layout.declared)
                if bad is not None:
                    line = _line(rest, start + bad.row, len(names), layout)
                    raise InvalidInput(
                        f"{file.name}, line {line}, column {bad.column!r}: {bad.value[:80]!r} is no {bad.kind}.",
                        "mend the row, declare another type in `types`, or add the text to `nulls`.",
                    )
                yield typed


def _blocks(chunks: Iterator[bytes], file: File, layout: Layout) -> Iterator[Block]:
    plain = unpack(chunks, file.name) if file.name.endswith(".gz") else chunks
    return blocks(plain, file.name, encoding=layout.encoding, quote=b'"')


def _header(block: Block, file: File, layout: Layout) -> tuple[list[str], Block]:
    """The columns' names, and what stands behind them."""
    reader = csv.reader(io.StringIO(block.data.decode("utf-8"), newline=""), delimiter=layout.separator, strict=True)
    try:
        names = next(reader)
    except csv.Error as exc:
        raise InvalidInput(f"{file.name}, line {block.line}: the header cannot be read: {exc}.", "mend its quotes.") from exc
    check_names(names, f"{file.name}, line {block.line}")
    if all(_NUMBER.fullmatch(name) for name in names):
        raise InvalidInput(
            f"{file.name} has no header: its first line holds {', '.join(names[:4])!r}.", 'name the columns: header=("id", "at").'
        )
    end = 0
    for _ in range(reader.line_num):
        end = block.data.index(b"\n", end) + 1
    return names, Block(block.data[end:], block.line + reader.line_num)


def _rows(block: Block, names: list[str], file: File, layout: Layout) -> pl.DataFrame:
    """Every cell as it stands there, as text."""
    data, separator = block.data, layout.separator.encode()
    outline = data
    if b'"' in data:
        outline = _QUOTED.sub(b'"', data)
        stray = rb'[^%b\n]"|"[^%b\r\n]' % ((re.escape(separator),) * 2)
        if data.count(b'"') % 2 or re.search(stray, outline):
            raise InvalidInput(
                f"{file.name}, line {_odd(data, separator) + block.line}: a quote is never closed, or stands inside of a column.",
                "put the whole text of a column in quotes and double the quotes inside.",
            )
    if b"\r" in outline and re.search(rb"\r(?!\n)", outline):
        raise InvalidInput(
            f"{file.name}: a line at or behind line {block.line} ends in a carriage return alone.", "end it with a line feed."
        )
    lines = outline.count(b"\n")
    blank = outline.startswith((b"\n", b"\r\n")) or b"\n\n" in outline or b"\n\r\n" in outline
    if not blank and outline.count(separator) == lines * (len(names) - 1):
        frame = _fast(data, names, layout)
        if frame is not None and frame.height == lines:
            return frame
    return _slow(block, names, file, layout)


def _odd(data: bytes, separator: bytes) -> int:
    """How many lines stand before the first quote that is none of RFC 4180."""
    for found in _QUOTED.finditer(data):
        before, behind = data[found.start() - 1 : found.start()], data[found.end() : found.end() + 1]
        if before not in (b"", b"\n", separator) or behind not in (b"", b"\r", b"\n", separator):
            return data.count(b"\n", 0, found.start())
    return data.count(b"\n", 0, data.rfind(b'"'))


def _fast(data: bytes, names: list[str], layout: Layout) -> pl.DataFrame | None:
    """All separators are there, so a row that is too short means another that is too long, which polars refuses."""
    try:
        return pl.read_csv(
            io.BytesIO(data), has_header=False, schema=dict.fromkeys(names, pl.String), separator=layout.separator,
            infer_schema=False, empty_string_is_null=False,
        )  # fmt: skip
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None


def _slow(block: Block, names: list[str], file: File, layout: Layout) -> pl.DataFrame:
    rows: list[list[str]] = []
    for line, row in _numbered(block, len(names), file, layout):
        if len(row) != len(names):
            raise InvalidInput(
                f"{file.name}, line {line} has {len(row)} columns, the header {len(names)}.",
                "a text with separators or line ends stands in quotes.",
            )
        rows.append(row)
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def _numbered(block: Block, width: int, file: File, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line that it starts in. A line with nothing is no row, unless there is but one column."""
    reader = csv.reader(io.StringIO(block.data.decode("utf-8"), newline=""), delimiter=layout.separator, strict=True)
    while True:
        line = block.line + reader.line_num
        try:
            row = next(reader, None)
        except csv.Error as exc:
            raise InvalidInput(f"{file.name}, line {line} cannot be read: {exc}.", "mend its quotes.") from exc
        if row is None:
            return
        if row or width == 1:
            yield line, row or [""]


def _line(block: Block, row: int, width: int, layout: Layout) -> int:
    reader = csv.reader(io.StringIO(block.data.decode("utf-8"), newline=""), delimiter=layout.separator)
    for found in reader:
        if found or width == 1:
            row -= 1
        if row < 0:
            return block.line + reader.line_num - 1 - sum(cell.count("\n") for cell in found)
    return block.line
