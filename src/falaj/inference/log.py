"""The prediction log: what was answered is in it before the answer leaves, and a killed server loses none of it."""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from falaj.core.errors import Conflict, Unavailable
from falaj.inference.tail import Tail

KEY_FILE = "id.key"
MOST_BYTES = 8 << 20
"""A segment is proven as a whole, and read for it: beyond this the next one begins."""
Write = Callable[[int, bytes], int]
Make = Callable[[int, int], Sequence[bytes]]
"""(segment, row of the first line) → the lines, without newlines."""


class PredictionLog:
    """Appends to segments `000000.jsonl`, `000001.jsonl` … of one folder; the workers of an endpoint take turns.

    `append` belongs to one thread and `sync` may run in another. A full disk refuses the append, leaves no half line behind,
    and is forgotten as soon as there is room again. Who seals what was filled: inference/seals.py.
    """

    def __init__(
        self, folder: Path, *, rows: int = 5000, write: Write = os.write, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`rows`: so many lines fill a segment, and so do MOST_BYTES.

        Raises OSError where the folder cannot be written, Conflict for a damaged key."""
        self.folder = folder
        self.bytes = 0
        """Appended by this process."""
        self._rows, self._write, self._clock = rows, write, clock
        self._syncing = threading.Lock()
        self._is_unsynced = False
        self._synced = -1
        """The last segment whose name is on the disk for certain."""
        self._tail = Tail(folder)
        self.key = key_of(folder)

    def append(self, make: Make) -> None:
        """One write for all lines, or nothing at all. `make` is told where they will stand. Raises Unavailable."""
        tail = self._tail
        try:
            tail.take()
            try:
                fd = tail.open()
                lines = make(tail.segment, tail.rows)
                data = b"\n".join((*lines, b""))
                self._put(fd, data)
                tail.grew(len(lines), len(data), self._clock())
                if tail.rows >= self._rows or tail.size >= MOST_BYTES:
                    tail.turn_over()
            finally:
                tail.leave()
        except OSError as exc:
            raise refusal(self.folder, exc.strerror or str(exc)) from exc
        self.bytes += len(data)
        self._is_unsynced = True

    def sync(self) -> None:
        """Returns when what was appended before is on the disk (fdatasync). Raises Unavailable; call it again."""
        with self._syncing:
            if not self._is_unsynced:
                return
            self._is_unsynced = False
            tail, left = self._tail, len(self._tail.left)
            fd, opened = tail.fd, tail.opened
            try:
                for behind in tail.left[:left]:
                    os.fdatasync(behind)
                if fd >= 0:
                    os.fdatasync(fd)
                if opened != self._synced:
                    sync_folder(self.folder)
                    self._synced = opened
            except OSError as exc:
                self._is_unsynced = True
                raise refusal(self.folder, exc.strerror or str(exc)) from exc
            for _ in range(left):
                os.close(tail.left.pop(0))

    def close(self) -> None:
        try:
            self.sync()
        finally:
            self._tail.close()

    def _put(self, fd: int, data: bytes) -> None:
        """All of it or none: a write that was cut short is taken back."""
        size = self._tail.size
        try:
            written = self._write(fd, data)
        except OSError:
            os.ftruncate(fd, size)
            raise
        if written != len(data):
            os.ftruncate(fd, size)
            raise OSError("the disk took only a part of it")


def refusal(folder: Path, why: str) -> Unavailable:
    return Unavailable(
        f"The prediction log in {folder} cannot be written: {why}.", "make room on the disk; the server goes on by itself."
    )


def key_of(folder: Path) -> bytes:
    """The secret that the tags of prediction ids are made with; made once, by whoever comes first. Raises Conflict."""
    path = folder / KEY_FILE
    if not path.exists():
        with (folder / f"{KEY_FILE}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                replace_file(path, secrets.token_bytes(32))
    key = path.read_bytes()
    if len(key) != 32:
        raise Conflict(
            f"{path} does not hold a key of 32 bytes.", "bring it back from a backup: without it no label can be matched."
        )
    return key


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
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
