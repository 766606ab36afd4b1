"""Reads UBJSON, the binary form in which XGBoost writes its models, into lists, dictionaries, numbers and texts.

Universal Binary JSON, draft 12 (https://ubjson.org), with XGBoost's arrays of one type; numbers are big-endian.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_PLAIN = {b"Z": None, b"T": True, b"F": False}
DEEPEST = 64


def read(data: bytes) -> Any:
    """The value that the bytes hold; arrays of numbers as numpy arrays. Raises ValueError for anything else."""
    source = _Source(data)
    value = source.value(source.take(1), 0)
    if source.place != len(data):
        raise ValueError("something follows the value")
    return value


class _Source:
    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, size: int) -> bytes:
        if size < 0 or self.place + size > len(self.data):
            raise ValueError("it ends too early")
        self.place += size
        return self.data[self.place - size : self.place]

    def value(self, kind: bytes, depth: int) -> Any:
        if kind in _PLAIN:
            return _PLAIN[kind]
        if kind in _NUMBERS:
            return np.frombuffer(self.take(np.dtype(_NUMBERS[kind]).itemsize), _NUMBERS[kind])[0].item()
        if kind == b"S":
            return self.text()
        if kind == b"C":
            return self.take(1).decode("ascii")
        if kind in (b"[", b"{") and depth < DEEPEST:
            return self.array(depth + 1) if kind == b"[" else self.object(depth + 1)
        raise ValueError(f"{kind!r} begins no value")

    def text(self) -> str:
        return self.take(self.length()).decode("utf-8")

    def length(self) -> int:
        kind = self.take(1)
        if kind not in (b"i", b"U", b"I", b"l", b"L"):
            raise ValueError(f"{kind!r} is no length")
        return int(self.value(kind, 0))

    def array(self, depth: int) -> Any:
        kind, count = self.head()
        if kind in _NUMBERS and count is not None:
            return np.frombuffer(self.take(count * np.dtype(_NUMBERS[kind]).itemsize), _NUMBERS[kind])
        found: list[Any] = []
        while self.is_open(b"]", count, len(found)):
            found.append(self.value(kind or self.take(1), depth))
        return found

    def object(self, depth: int) -> dict[str, Any]:
        kind, count = self.head()
        found: dict[str, Any] = {}
        while self.is_open(b"}", count, len(found)):
            name = self.text()
            if name in found:
                raise ValueError(f"{name!r} is there twice")
            found[name] = self.value(kind or self.take(1), depth)
        return found

    def head(self) -> tuple[bytes, int | None]:
        """The type and the number of what follows, where they are said."""
        kind = b""
        if self.data[self.place : self.place + 1] == b"$":
            self.place += 1
            kind = self.take(1)
        if self.data[self.place : self.place + 1] != b"#":
            if kind:
                raise ValueError("a type without a number")
            return kind, None
        self.place += 1
        count = self.length()
        # A value takes a byte at least, so that no short text can ask for much memory.
        if not 0 <= count <= len(self.data):
            raise ValueError("more values than bytes")
        return kind, count

    def is_open(self, end: bytes, count: int | None, seen: int) -> bool:
        if count is not None:
            return seen < count
        if self.data[self.place : self.place + 1] != end:
            return True
        self.place += 1
        return False
