"""Drafts: folders for what a load writes before it is known whether it may come in; never visible, and gone afterwards."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl

from falaj.core.errors import Unavailable


class Drafts:
    """One folder for each load under way. A lock says that its process lives; what a dead one left is swept away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._is_swept = False

    @contextmanager
    def open(self) -> Iterator[Draft]:
        """Where one load may write; gone at the end of the block."""
        draft = Draft(self.folder)
        try:
            yield draft
        finally:
            draft.close()

    def sweep_once(self) -> None:
        """The first time it is asked for, whether a load follows or not: what is left may be of the last one there was."""
        if not self._is_swept:
            self._is_swept = True
            self.sweep()

    def sweep(self) -> int:
        """Removes what processes left that were killed. Returns how many loads that were."""
        gone = 0
        for lock in sorted(self.folder.glob("*.lock")):
            with suppress(OSError), lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink()
                gone += 1
        return gone


class Draft:
    """The lock is taken before anything is written, and is the last thing to go. Nothing is made before `path` is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: tuple[int, Path] | None = None

    @property
    def path(self) -> Path:
        """Where this load may write. Raises Unavailable where the disk is full or cannot be written."""
        if self._held is None:
            with on_disk(self._folder):
                self._held = self._take()
                self._held[1].with_suffix("").mkdir(mode=0o700)
        return self._held[1].with_suffix("")

    def close(self) -> None:
        if self._held is None:
            return
        handle, lock = self._held
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        with suppress(OSError):
            lock.unlink()
        os.close(handle)
        self._held = None

    def _take(self) -> tuple[int, Path]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            handle, name = tempfile.mkstemp(suffix=".lock", dir=self._folder)
            fcntl.flock(handle, fcntl.LOCK_EX)
            lock = Path(name)
            if lock.exists():  # somebody who sweeps may have come between the two
                return handle, lock
            os.close(handle)


@contextmanager
def on_disk(place: Path) -> Iterator[None]:
    """What the disk refuses becomes Unavailable: the load can be tried again, and nothing of it was taken in."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as exc:
        why = getattr(exc, "strerror", None) or (str(exc).splitlines() or [type(exc).__name__])[0][:200]
        raise Unavailable(
            f"A draft in {place} could not be written or read: {why}.", "check the disk's space and state."
        ) from exc
