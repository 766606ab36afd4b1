"""The prediction log: what was answered is in it before the answer leaves, and a killed server loses none of it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from falaj.core.codec import encode
from falaj.core.errors import Conflict, Unavailable
from falaj.core.merkle import Frontier, leaf_hash
from falaj.core.segment import Seal, split

KEY_FILE = "id.key"
Write = Callable[[int, bytes], int]


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass(slots=True)
class _Segment:
    """An open segment with its Merkle frontier, so that sealing costs nothing when the time comes."""

    number: int
    fd: int
    size: int = 0
    """Bytes that are whole and count; whatever lies behind them is the rest of a write that failed."""
    torn: bool = False
    first_at: str = ""
    last_at: str = ""
    frontier: Frontier = field(default_factory=Frontier)
    hasher: _Hash = field(default_factory=hashlib.sha256)
    last_append: float = 0.0

    def take(self, data: bytes, lines: Sequence[bytes], ats: Sequence[str]) -> None:
        for line in lines:
            self.frontier.append(leaf_hash(line))
        self.hasher.update(data)
        self.size += len(data)
        if known := [at for at in ats if at]:
            self.first_at = min(known) if not self.first_at else min(self.first_at, *known)
            self.last_at = max(self.last_at, *known)

    def seal(self, endpoint: str) -> Seal:
        root = "sha256:" + self.frontier.root().hex()
        return Seal(
            endpoint, self.number, self.frontier.size, root, "sha256:" + self.hasher.hexdigest(), self.first_at, self.last_at
        )


class PredictionLog:
    """One writer, of segments `000000.jsonl`, `000001.jsonl` … in a folder of its own.

    `place` and `append` belong to one thread and `settle` may run in another. A full disk refuses the append, leaves no
    half line behind, and is forgotten as soon as there is room again.
    """

    def __init__(self, folder: Path, endpoint: str, *, rows: int = 5000, idle_s: float = 60.0, write: Write = os.write) -> None:
        """Cuts torn tails and seals what a crash left open, but for the last segment, which goes on.

        Raises Conflict where another server writes here.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.endpoint = endpoint
        self.bytes = 0
        self._rows, self._idle_s, self._write = rows, idle_s, write
        self._folder_lock = _lock(folder / "lock")
        self._settling = threading.Lock()
        self._retired: deque[_Segment] = deque()
        self._unsynced = self._new_file = False
        self.problem = ""
        self.key = _key(folder / KEY_FILE)
        self._open, self._next = self._recover()

    def place(self) -> tuple[int, int]:
        """(segment, row) of the next line; a group that is appended at once stays together.

        Raises Unavailable where no segment can be opened.
        """
        segment = self._segment()
        return segment.number, segment.frontier.size

    def append(self, lines: Sequence[bytes], ats: Sequence[str], now: float = 0.0) -> None:
        """One write for all lines, or nothing at all. `now`: seconds of any steady clock. Raises Unavailable."""
        segment = self._segment()
        data = b"\n".join(lines) + b"\n"
        try:
            if segment.torn:
                os.ftruncate(segment.fd, segment.size)
                segment.torn = False
            written = self._write(segment.fd, data)
        except OSError as exc:
            self._cut(segment)
            raise self._refusal(exc.strerror or str(exc)) from exc
        if written != len(data):
            self._cut(segment)
            raise self._refusal("the disk took only a part of it")
        segment.take(data, lines, ats)
        segment.last_append = now
        self.bytes += len(data)
        self._unsynced = True
        if segment.frontier.size >= self._rows:
            self._retire()

    def tick(self, now: float) -> None:
        """Closes a segment that nothing was added to for the idle time."""
        segment = self._open
        if segment is not None and segment.frontier.size and now - segment.last_append >= self._idle_s:
            self._retire()

    def settle(self) -> None:
        """Brings what was appended to the disk and seals what was closed. Raises Unavailable; call it again."""
        with self._settling:
            try:
                self._seal_retired()
                self._sync_open()
                self.problem = ""
            except OSError as exc:
                self.problem = exc.strerror or str(exc)
                raise self._refusal(self.problem) from exc

    def close(self) -> None:
        """Seals the open segment, so that a stopped server leaves nothing unproven, and lets go of the folder."""
        try:
            if self._open is not None and self._open.frontier.size:
                self._retire()
            self.settle()
        finally:
            os.close(self._folder_lock)

    def _seal_retired(self) -> None:
        while self._retired:
            segment = self._retired[0]
            if segment.torn:
                os.ftruncate(segment.fd, segment.size)
            os.fdatasync(segment.fd)
            replace_file(self.folder / f"{segment.number:06d}.seal", orjson.dumps(encode(segment.seal(self.endpoint))))
            self._retired.popleft()
            os.close(segment.fd)

    def _sync_open(self) -> None:
        segment = self._open
        if self._unsynced and segment is not None:
            self._unsynced = False
            try:
                os.fdatasync(segment.fd)
            except OSError:
                self._unsynced = True
                raise
        if self._new_file:
            self._new_file = False
            _sync_folder(self.folder)

    def _segment(self) -> _Segment:
        if self._open is None:
            path = self.folder / f"{self._next:06d}.jsonl"
            try:
                fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
            except OSError as exc:
                raise self._refusal(exc.strerror or str(exc)) from exc
            self._open, self._next, self._new_file = _Segment(self._next, fd), self._next + 1, True
        return self._open

    def _retire(self) -> None:
        if self._open is not None:
            self._retired.append(self._open)
            self._open = None

    def _cut(self, segment: _Segment) -> None:
        try:
            os.ftruncate(segment.fd, segment.size)
            segment.torn = False
        except OSError:
            segment.torn = True  # tried again before the next append

    def _refusal(self, why: str) -> Unavailable:
        return Unavailable(
            f"The prediction log in {self.folder} cannot be written: {why}.",
            "make room on the disk; the server goes on by itself.",
        )

    def _recover(self) -> tuple[_Segment | None, int]:
        """Seals every closed segment that has no seal; the last one is opened again unless it is sealed."""
        numbers = sorted(int(path.stem) for path in self.folder.glob("*.jsonl") if path.stem.isdigit())
        for number in numbers:
            if (self.folder / f"{number:06d}.seal").exists():
                continue
            segment = _reopen(self.folder / f"{number:06d}.jsonl", number)
            if number == numbers[-1] and segment.frontier.size < self._rows:
                return segment, number + 1
            self._retired.append(segment)
        return None, (numbers[-1] + 1 if numbers else 0)


def _reopen(path: Path, number: int) -> _Segment:
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        os.ftruncate(fd, len(whole))
    segment = _Segment(number, fd)
    _take_all(segment, whole)
    return segment


def _take_all(segment: _Segment, data: bytes) -> None:
    lines = split(data)
    segment.take(data, lines, [_at(line) for line in lines])


def _at(line: bytes) -> str:
    try:
        record: Any = orjson.loads(line)
    except ValueError:
        return ""
    return str(record.get("at", "")) if isinstance(record, dict) else ""


def replace_file(path: Path, data: bytes) -> None:
    """The file holds either its old or its new content, also after a crash. Mode 0600."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _key(path: Path) -> bytes:
    """The secret that the tags of prediction ids are made with; made once, with the folder."""
    if not path.exists():
        replace_file(path, secrets.token_bytes(32))
    key = path.read_bytes()
    if len(key) != 32:
        raise Conflict(
            f"{path} does not hold a key of 32 bytes.", "bring it back from a backup: without it no label can be matched."
        )
    return key


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        raise Conflict(f"Another server writes to {path.parent}.", "one endpoint has one server: falaj status shows it.") from exc
    return fd
