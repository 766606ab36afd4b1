"""Two cores, one for the server and one for the load; and what a family of processes used of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import psutil

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]


@contextlib.contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """Whatever this thread starts meanwhile stays on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
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


def name_of(process: psutil.Process) -> str:
    """What a process of an endpoint is: the slot of a worker, or the one that watches over them."""
    words = process.cmdline()
    return words[words.index("--worker") + 1] if "--worker" in words else "server"


def answering(pid: int) -> psutil.Process:
    """The process of the family that answers over HTTP."""
    return next((process for process in family(pid) if name_of(process).startswith("http")), psutil.Process(pid))


def resident_mb(pid: int) -> dict[str, float]:
    """Of each process of the family, in MB of 10^6 bytes."""
    return {name_of(process): process.memory_info().rss / 1e6 for process in family(pid)}
