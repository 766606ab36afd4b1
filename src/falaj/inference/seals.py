"""Seals the segments that are full or that nothing was added to for a while, so that every prediction can be proven."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson

from falaj.core.codec import encode
from falaj.core.merkle import Frontier, leaf_hash
from falaj.core.segment import Seal
from falaj.inference.log import refusal, replace_file
from falaj.inference.tail import Tail

_AT = b'"at":"'
_AT_WITHIN = 160
"""A record's own time stands near its beginning; whatever comes later belongs to what it holds."""
BITE = 128 << 10
"""Bytes of a segment that are hashed without a pause, half a millisecond's work: on one core the workers wait meanwhile."""


class Sealer:
    """One for each endpoint is at work at a time; a second one leaves it alone. The files are the whole state."""

    def __init__(self, folder: Path, endpoint: str, *, idle_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises OSError where the folder cannot be written."""
        self.folder, self.endpoint = folder, endpoint
        self._idle_s, self._clock = idle_s, clock
        self.pause: Callable[[], object] = int
        """Called between two bites."""
        self.behind = 0
        """Segments that are closed and were not sealed yet, as of the last look."""
        self._tail = Tail(folder)
        self._lock = os.open(folder / "sealing", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._next = 0
        """Everything before it is sealed."""

    def look(self) -> None:
        """Closes an idle segment and seals what is closed. Raises Unavailable; call it again, once a second."""
        self._work(lambda: self._tail.rows > 0 and not 0 <= self._clock() - self._tail.last < self._idle_s)

    def close(self) -> None:
        """Seals also the segment at the end: a stopped endpoint leaves nothing unproven. Raises Unavailable."""
        try:
            self._work(lambda: self._tail.rows > 0)
        finally:
            os.close(self._lock)
            self._tail.close()

    def _work(self, is_over: Callable[[], bool]) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        try:
            self._seal_before(self._end(is_over))
        except OSError as exc:
            raise refusal(self.folder, exc.strerror or str(exc)) from exc
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _end(self, is_over: Callable[[], bool]) -> int:
        """The number of the segment at the end, a new one where the last is over."""
        tail = self._tail
        tail.take()
        try:
            if (self.folder / f"{tail.segment:06d}.jsonl").exists():
                tail.open()
                if is_over():
                    tail.turn_over()
            return tail.segment
        finally:
            tail.let_go()
            tail.leave()

    def _seal_before(self, end: int) -> None:
        for number in range(self._next, end):
            self.behind = end - number
            path = self.folder / f"{number:06d}.jsonl"
            target = path.with_suffix(".seal")
            if not target.exists() and path.exists():
                found = sealed(self.endpoint, number, path, self.pause)
                if found.rows:
                    replace_file(target, orjson.dumps(encode(found)))
            self._next = number + 1
        self.behind = 0


def sealed(endpoint: str, segment: int, path: Path, pause: Callable[[], object] = int) -> Seal:
    """The seal of a segment's file, a bite at a time; a rest that was never acknowledged does not count. Raises OSError."""
    tree, content = Frontier(), hashlib.sha256()
    times: list[bytes] = []
    rest = b""
    with path.open("rb") as file:
        os.fdatasync(file.fileno())
        while data := file.read(BITE):
            whole, ending, rest = (rest + data).rpartition(b"\n")
            if not ending:
                continue
            content.update(whole + ending)
            lines = whole.split(b"\n")
            tree.extend([leaf_hash(line) for line in lines])
            times += _times_of(lines)
            times = [min(times), max(times)] if times else []
            pause()
    root, digest = f"sha256:{tree.root().hex()}", f"sha256:{content.hexdigest()}"
    first, last = (times[place].decode("ascii", "replace") if times else "" for place in (0, -1))
    return Seal(endpoint, segment, tree.size, root, digest, first, last)


def _times_of(lines: Sequence[bytes]) -> Iterator[bytes]:
    for line in lines:
        start = line.find(_AT, 0, _AT_WITHIN) + len(_AT)
        if start >= len(_AT) and (at := line[start : line.find(b'"', start)]):
            yield at
