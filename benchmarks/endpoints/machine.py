"""Two cores, one for the server and one for the load; and what a family of processes used of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import psutil

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Whatever this thread starts meanwhile stays on that core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_s(pid: int) -> float:
    """Processor seconds of the family so far. Read before and after; nobody may die in between."""
    used = 0.0
    for process in family(pid):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            used += times.user + times.system
    return used


def resident_mb(pid: int) -> float:
    """Of the largest process of the family, in MB of 10^6 bytes: what one worker needs."""
    return max(process.memory_info().rss for process in family(pid)) / 1e6
