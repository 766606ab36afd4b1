"""Messages in append-only segment files: numbered from 0, written by any number of processes, each whole or not at all.

A segment `00000000000000000000.seg` is named after the number of its first message. It holds frames, little-endian:

    uint32 length of the body · uint32 CRC-32 of the body · body: uint32 length of the head · head, a JSON object with `key`,
    `id`, `headers` and `at` (milliseconds), each left out where it is empty · the value's bytes

What a writer that died left half-written stays where it is: the next writer begins a new segment. Nothing is ever overwritten.
"""

from __future__ import annotations

import bisect
import fcntl
import itertools
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from falaj.core.errors import Conflict, Unavailable
from falaj.core.message import Message

_FRAME, _LENGTH = struct.Struct("<II"), struct.Struct("<I")
_BLOCK = 1 << 20
Stamped = tuple[Message, int]
"""A message and when it was taken, milliseconds since 1970-01-01T00:00Z."""


class Frames:
    """The segments of one folder. Reads what other processes append; belongs to one thread."""

    def __init__(self, folder: Path, *, segment_bytes: int = 8 << 20) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._offsets: dict[int, list[int]] = {}
        """By segment: where each of its frames begins, and where the last one that was seen ends."""

    @property
    def first(self) -> int:
        """The number of the oldest message that is kept."""
        return next(iter(self._bases()), 0)

    def end(self) -> int:
        """The number that the next message will have."""
        bases = self._bases()
        return bases[-1] + max(len(self._index(bases[-1])) - 1, 0) if bases else 0

    def read(self, number: int) -> Iterator[tuple[int, Stamped]]:
        """The messages from `number` on that are whole now. Raises Conflict where one was damaged."""
        bases = self._bases()
        place = max(bisect.bisect_right(bases, number) - 1, 0)
        for base, following in zip(bases[place:], [*bases[place + 1 :], None], strict=False):
            offsets = self._index(base)
            if not offsets:
                continue  # retention removed it meanwhile
            yield from self._whole(base, offsets, max(number - base, 0))
            if following is not None and base + len(offsets) - 1 != following:
                raise self._damaged(base, base + len(offsets) - 1)

    def append(self, messages: Sequence[Message], at_ms: int) -> None:
        """One write and one fsync for all; to be called under `writing`. Raises Unavailable, and then nothing was written."""
        if not messages:
            return
        data = b"".join(_frame(message, at_ms) for message in messages)
        try:
            base = self._writable()
            path = self._path(base)
            is_new = not path.exists()
            fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                self._write(fd, data)
            finally:
                os.close(fd)
            if is_new:
                sync_folder(self.folder)
        except OSError as exc:
            raise refusal(self.folder, exc) from exc
        self._index(base)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Writers take turns, also those of other processes."""
        with locked(self.folder / "write.lock"):
            yield

    def drop_before(self, number: int, keep_bytes: int) -> None:
        """Removes the oldest segments that hold nothing from `number` on, for as long as more than `keep_bytes` remain."""
        bases = self._bases()
        sizes = {base: self._size(base) for base in bases}
        for base, following in itertools.pairwise(bases):
            if following > number or sum(sizes.values()) - sizes[base] < keep_bytes:
                return
            del sizes[base]
            self._path(base).unlink(missing_ok=True)
            self._offsets.pop(base, None)

    def _write(self, fd: int, data: bytes) -> None:
        before = os.fstat(fd).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, before)
            raise

    def _writable(self) -> int:
        """The segment to append to: a new one where the last is full, or ends in what a writer that died left."""
        bases = self._bases()
        if not bases:
            return 0
        base = bases[-1]
        offsets = self._index(base)
        size, end = self._size(base), base + len(offsets) - 1
        if size > offsets[-1]:
            self._check_torn(base, offsets[-1])
        if end == base:
            if size:
                raise Conflict(
                    f"{self._path(base)} begins with half a message.", "remove that file: nothing in it was acknowledged."
                )
            return base
        return end if size > offsets[-1] or size >= self._segment_bytes else base

    def _check_torn(self, base: int, offset: int) -> None:
        """A whole frame behind a bad one means damage, not a write that was cut off: then nothing may be numbered anew."""
        with self._path(base).open("rb") as file:
            file.seek(offset)
            data = file.read(_BLOCK * 4)
        if len(data) < _FRAME.size:
            return
        behind = _FRAME.size + _FRAME.unpack_from(data)[0]
        if _is_whole(data[behind:]):
            raise self._damaged(base, base + len(self._offsets[base]) - 1)

    def _index(self, base: int) -> list[int]:
        offsets = self._offsets.setdefault(base, [0])
        try:
            with self._path(base).open("rb") as file:
                file.seek(offsets[-1])
                rest = b""
                while block := file.read(_BLOCK):
                    rest = self._scan(rest + block, offsets)
        except FileNotFoundError:
            self._offsets.pop(base, None)
            return []
        except OSError as exc:
            raise Unavailable(f"{self._path(base)} cannot be read: {exc.strerror}.") from exc
        return offsets

    def _scan(self, data: bytes, offsets: list[int]) -> bytes:
        """Notes the whole frames at the start of `data`; returns what is left of it."""
        place = 0
        while len(data) - place >= _FRAME.size:
            length, checksum = _FRAME.unpack_from(data, place)
            end = place + _FRAME.size + length
            if end > len(data) or zlib.crc32(memoryview(data)[place + _FRAME.size : end]) != checksum:
                break
            offsets.append(offsets[-1] + end - place)
            place = end
        return data[place:]

    def _whole(self, base: int, offsets: list[int], place: int) -> Iterator[tuple[int, Stamped]]:
        if place >= len(offsets) - 1:
            return
        try:
            with self._path(base).open("rb") as file:
                for at in range(place, len(offsets) - 1):
                    file.seek(offsets[at] + _FRAME.size)
                    yield base + at, _message(file.read(offsets[at + 1] - offsets[at] - _FRAME.size))
        except OSError as exc:
            raise Unavailable(f"{self._path(base)} cannot be read: {exc.strerror}.", "retention may have removed it.") from exc

    def _bases(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("*.seg") if path.stem.isdigit())

    def _size(self, base: int) -> int:
        try:
            return self._path(base).stat().st_size
        except FileNotFoundError:
            return 0

    def _path(self, base: int) -> Path:
        return self.folder / f"{base:020d}.seg"

    def _damaged(self, base: int, number: int) -> Conflict:
        return Conflict(f"{self._path(base)} was damaged: message {number} cannot be read.", "bring the file back from a backup.")


def _frame(message: Message, at_ms: int) -> bytes:
    given = {"key": message.key, "id": message.id, "headers": dict(message.headers)}
    head = json.dumps({**{name: value for name, value in given.items() if value}, "at": at_ms}).encode()
    body = _LENGTH.pack(len(head)) + head + message.value
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _message(body: bytes) -> Stamped:
    size = _LENGTH.unpack_from(body)[0]
    head: dict[str, Any] = json.loads(body[_LENGTH.size : _LENGTH.size + size])
    value = body[_LENGTH.size + size :]
    return Message(value, head.get("key", ""), head.get("headers", {}), head.get("id", "")), int(head["at"])


def _is_whole(data: bytes) -> bool:
    if len(data) < _FRAME.size:
        return False
    length, checksum = _FRAME.unpack_from(data)
    body = data[_FRAME.size : _FRAME.size + length]
    return bool(length > _LENGTH.size and len(body) == length and zlib.crc32(body) == checksum)


def refusal(folder: Path, exc: OSError) -> Unavailable:
    return Unavailable(f"{folder} cannot be written: {exc.strerror or exc}.", "make room on the disk, or check who owns it.")


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among all processes. Raises Unavailable where the lock file cannot be made."""
    try:
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise refusal(path.parent, exc) from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
