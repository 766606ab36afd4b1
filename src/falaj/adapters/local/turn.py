"""Turn: processes that write one ledger take turns, so that a busy one does not keep the others out.

SQLite lets a process that is refused the write lock try again after a while, at last every tenth of a second. A process that
takes the lock again as soon as it has given it back, as one with many writers does, would win every time. So there are two
locks before it: whoever is next holds `next` until it has the `turn`; who gives the turn back and wants it again has to become
next first, and cannot, since somebody is. The kernel gives both back when a process dies (flock, which is kept for each opening
of the file, so that two ledgers of one process take turns too).
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from falaj.core.errors import Unavailable

_FIRST_S, _LAST_S = 0.0002, 0.004


class Turn:
    """Not for several threads at once."""

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self._path, self._busy_seconds = path, busy_seconds
        self._files: list[int] = []

    def take(self) -> None:
        """Raises Unavailable where others keep it for longer than `busy_seconds`, OSError where its files cannot be opened."""
        if not self._files:
            self._files = [self._opened("next"), self._opened("turn")]
        following, turn = self._files
        until = time.monotonic() + self._busy_seconds
        self._lock(following, until)
        try:
            self._lock(turn, until)
        finally:
            fcntl.flock(following, fcntl.LOCK_UN)

    def give(self) -> None:
        if self._files:
            fcntl.flock(self._files[1], fcntl.LOCK_UN)

    def close(self) -> None:
        files, self._files = self._files, []
        for file in files:
            os.close(file)

    def _opened(self, name: str) -> int:
        return os.open(self._path.with_name(f"{self._path.name}-{name}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _lock(self, file: int, until: float) -> None:
        pause = _FIRST_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Unavailable(
                        f"The ledger {self._path} is held by another process.",
                        "try again; if it lasts, look for a process that hangs.",
                    ) from None
            time.sleep(pause)
            pause = min(pause * 1.5, _LAST_S)
