"""The end of a prediction log: which segment is written, how far, and whose turn it is; shared by all workers of an endpoint.

One small file `tail` holds it and is the lock as well. It is only a note: where it does not fit the segment's size (a writer was
killed, the power went), the segment is counted anew, and the rest of a line that was never acknowledged is cut off.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

_NOTE = struct.Struct("<QQQd")
"""Segment, rows, bytes, seconds of the steady clock at the last append."""


class Tail:
    """`take` waits for the turn, `leave` gives it back; between them nobody else reads or changes the end of this log."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError where the folder cannot be written."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.segment = self.rows = self.size = 0
        self.last = 0.0
        self.fd = -1
        """The open segment, once `open` was called in this turn."""
        self.left: list[int] = []
        """Segments that were written here and left behind; whoever syncs them closes them."""
        self.opened = -1
        """The number of the segment behind `fd`."""
        self._note = os.open(folder / "tail", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._note, fcntl.LOCK_EX)
        try:
            self._find()
        finally:
            self.leave()

    def take(self) -> None:
        fcntl.flock(self._note, fcntl.LOCK_EX)
        try:
            self.segment, self.rows, self.size, self.last = _NOTE.unpack(os.pread(self._note, _NOTE.size, 0))
        except struct.error:
            self._find()
        except OSError:
            self.leave()
            raise

    def leave(self) -> None:
        fcntl.flock(self._note, fcntl.LOCK_UN)

    def open(self) -> int:
        """The descriptor of the segment at the end, made where it is not there yet, its size as noted."""
        if self.opened != self.segment:
            if self.fd >= 0:
                self.left.append(self.fd)
                self.fd = self.opened = -1
            flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
            self.fd = os.open(self.folder / f"{self.segment:06d}.jsonl", flags, 0o600)
            self.opened = self.segment
        if os.lseek(self.fd, 0, os.SEEK_END) != self.size:  # a third of what fstat takes; what is written is appended anyway
            self._count()
        return self.fd

    def grew(self, rows: int, size: int, now: float) -> None:
        self.rows, self.size, self.last = self.rows + rows, self.size + size, now
        self._write()

    def turn_over(self) -> None:
        """The next line goes into a new segment: nobody writes into this one any more."""
        self.segment, self.rows, self.size = self.segment + 1, 0, 0
        self._write()

    def let_go(self) -> None:
        """Closes what was left behind: for whoever writes nothing, and so has nothing to sync."""
        while self.left:
            os.close(self.left.pop())

    def close(self) -> None:
        for fd in (*self.left, self.fd, self._note):
            if fd >= 0:
                os.close(fd)
        self.left, self.fd = [], -1

    def _write(self) -> None:
        os.pwrite(self._note, _NOTE.pack(self.segment, self.rows, self.size, self.last), 0)

    def _count(self) -> None:
        """The segment is what counts. Whole lines stay: a reader may have seen them."""
        data = (self.folder / f"{self.segment:06d}.jsonl").read_bytes()
        self.rows, self.size = data.count(b"\n"), data.rfind(b"\n") + 1
        if self.size != len(data):
            os.ftruncate(self.fd, self.size)
        self._write()

    def _find(self) -> None:
        """Goes on behind the last segment that is there. The note may be missing, or older than the files beside it."""
        numbers = [int(path.stem) for path in self.folder.glob("*.jsonl") if path.stem.isdigit()]
        # Of a segment that retention removed the seal is left; its number is not given out again.
        sealed = [int(path.stem) for path in self.folder.glob("*.seal") if path.stem.isdigit()]
        last = max((*numbers, *sealed), default=0)
        if (self.folder / f"{last:06d}.seal").exists():
            last += 1
        try:
            self.segment, self.rows, self.size, self.last = _NOTE.unpack(os.pread(self._note, _NOTE.size, 0))
        except struct.error:
            self.segment = -1
        if self.segment < last:
            self.segment, self.rows, self.size, self.last = last, 0, 0, 0.0
        if self.segment in numbers:
            self.open()
        self._write()
