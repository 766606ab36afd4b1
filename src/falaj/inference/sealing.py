"""Sealing beside the workers, for whom it would be a stop of milliseconds in each segment."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from falaj.core.errors import FalajError, Unavailable
from falaj.inference.seals import Sealer

EVERY_S = 1.0
NICE = 10
PAUSE_S, EASY_S = 0.002, 0.05
"""Between two bites of half a millisecond; and while requests want the processor and may go first."""
MUCH = 25
"""Segments. At the easy pace they take half a minute."""
BUSY_S = 0.001
"""So much later than it could have been done, a bite shows that others want the processor."""


class Sealing:
    """A sealer at work on a thread of its own, once a second until it is closed."""

    def __init__(self, folder: Path, endpoint: str, *, idle_s: float, on_problem: Callable[[FalajError], None]) -> None:
        self._open = functools.partial(Sealer, folder, endpoint, idle_s=idle_s)
        self._on_problem = on_problem
        self._told = ""
        self._due = 0.0
        """When the last bite could have been done, had it not had to wait for the processor; time.perf_counter."""
        self._worked = 0.0
        """time.thread_time then."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="falaj-sealing", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Seals the segment at the end as well: a stopped endpoint leaves nothing unproven."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        sealer: Sealer | None = None
        with contextlib.suppress(OSError, AttributeError):
            # A thread has a priority of its own here: hashing waits for the workers, not they for it.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self._over.wait(EVERY_S):
            try:
                sealer = sealer or self._open()
                sealer.pause = functools.partial(self._pause, sealer)
                sealer.look()
                self._told = ""
            except (FalajError, OSError) as exc:
                self._tell(exc)
        try:
            sealer = sealer or self._open()
            sealer.pause = int
            sealer.close()
        except (FalajError, OSError) as exc:
            self._tell(exc)

    def _pause(self, sealer: Sealer) -> None:
        """What has the processor keeps it for milliseconds, however nice it is, unless it stops by itself."""
        late = time.perf_counter() - self._due - (time.thread_time() - self._worked)
        pause = EASY_S if late > BUSY_S and sealer.behind <= MUCH else PAUSE_S
        self._due, self._worked = time.perf_counter() + pause, time.thread_time()
        self._over.wait(pause)

    def _tell(self, problem: FalajError | OSError) -> None:
        """Once: a full disk is full each second."""
        text = str(problem)
        if text != self._told:
            self._told = text
            self._on_problem(problem if isinstance(problem, FalajError) else Unavailable(f"Nothing can be sealed: {text}."))
