"""Other processes of this machine, by number and by when they began, since numbers are given out again."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

SAME_START_S = 5.0
"""Two readings of one process's start may differ: both are counted from the machine's boot, which is known to a second."""
SHARE = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of processor time, or `max`, and in how many of the clock's; as a container sees its own (cgroup v2)."""


def born(pid: int) -> float | None:
    """When the process began, seconds of the wall clock; None where there is none, or only its unread exit status."""
    try:
        # The name in parentheses may hold spaces and parentheses itself.
        state, *rest = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _born_elsewhere(pid)
    except (OSError, ValueError):
        return None
    return None if state in (b"Z", b"X") else _boot() + int(rest[18]) / os.sysconf("SC_CLK_TCK")


def lives(pid: int, started: float) -> bool:
    """Whether this very process is still there."""
    found = born(pid)
    return found is not None and abs(found - started) <= SAME_START_S


def memory(pid: int) -> int:
    """Bytes resident; 0 where that cannot be told."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


@functools.cache
def cores() -> int:
    """How many this process may use at once: those it is bound to, or its container's share of their time; at least 1."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = SHARE.read_bytes().split()
        return max(1, min(bound, int(share) // int(period)))
    except (OSError, ValueError):  # no share is set: it reads `max`
        return bound


@functools.cache
def _boot() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _born_elsewhere(pid: int) -> float | None:
    """Where there is no /proc."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None
