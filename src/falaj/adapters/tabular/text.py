"""Text files as blocks of whole lines, however large the file is: unpacked, cut, and decoded strictly."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from falaj.core.errors import InvalidInput

BLOCK = 4 << 20
MOST_LINE = 32 << 20
"""A row longer than this is taken for a broken file: a quote or a line that never ends."""
ENCODINGS = {"utf-8": "utf-8", "latin-1": "latin-1", "iso-8859-1": "latin-1", "windows-1252": "cp1252"}
"""What a file may be declared to be in; each writes the line's end and the quote as one byte that means nothing else."""


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines in UTF-8, and where they stand in the file, counted from 1."""

    data: bytes
    line: int


def unpack(chunks: Iterator[bytes], where: str) -> Iterator[bytes]:
    """What gzip packed, piece by piece. Raises InvalidInput where it is damaged or cut off."""
    unpacker = zlib.decompressobj(wbits=31)
    is_open = False
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                data = unpacker.decompress(rest, BLOCK)
                is_open = True
                if data:
                    yield data
                rest = unpacker.unconsumed_tail
                if unpacker.eof:
                    rest = unpacker.unused_data
                    unpacker, is_open = zlib.decompressobj(wbits=31), False
    except zlib.error as exc:
        raise InvalidInput(f"{where} is no gzip file, or is damaged: {exc}.", "fetch it again.") from exc
    if is_open:
        raise InvalidInput(f"{where} is cut off: the gzip file has no end.", "fetch it again.")


def blocks(chunks: Iterator[bytes], where: str, *, encoding: str = "utf-8", quote: bytes = b"") -> Iterator[Block]:
    """Blocks that end at the end of a line, and of no line inside of `quote`s; a last line without its end gets one.

    Raises InvalidInput for bytes that are not of the encoding (with their offset) and for a line without end.
    """
    held, offset, line, is_first = b"", 0, 1, True
    for chunk in chunks:
        held += chunk
        if is_first and len(held) >= 3:
            is_first = False
            if held.startswith(codecs.BOM_UTF8) and encoding == "utf-8":
                held, offset = held[3:], 3
        if len(held) < BLOCK:
            continue
        end = _end(held, quote)
        if end:
            yield Block(_decoded(held[:end], where, encoding, offset), line)
            line, offset, held = line + held.count(b"\n", 0, end), offset + end, held[end:]
        elif len(held) > MOST_LINE:
            raise InvalidInput(
                f"{where}: the row at line {line} does not end within {MOST_LINE >> 20} MiB.",
                "a quote may be open there, or this is no file of lines.",
            )
    if held == codecs.BOM_UTF8 and encoding == "utf-8":
        held = b""
    if held:
        yield Block(_decoded(held if held.endswith(b"\n") else held + b"\n", where, encoding, offset), line)


def _end(held: bytes, quote: bytes) -> int:
    """Behind the last line that ends outside of quotes; 0 where there is none."""
    end = held.rfind(b"\n") + 1
    if not quote:
        return end
    is_inside = held.count(quote, 0, end) % 2 == 1
    while end and is_inside:
        # The quotes behind the last one that stands before the line's end are closed again before that one.
        opened = held.rfind(quote, 0, end)
        earlier = held.rfind(b"\n", 0, opened) + 1
        is_inside = (held.count(quote, earlier, end) % 2 == 1) != is_inside
        end = earlier
    return end


def _decoded(data: bytes, where: str, encoding: str, offset: int) -> bytes:
    name = ENCODINGS[encoding]
    try:
        text = data.decode(name)
    except UnicodeDecodeError as exc:
        seen = data[exc.start : exc.start + 4].hex(" ")
        raise InvalidInput(
            f"{where} is not {encoding}: the bytes {seen} at offset {offset + exc.start} mean nothing.",
            f"declare the encoding: {', '.join(other for other in ENCODINGS if other != encoding)}.",
        ) from exc
    return data if name == "utf-8" else text.encode("utf-8")
