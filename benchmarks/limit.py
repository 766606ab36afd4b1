"""A program under a hard limit of memory: the kernel's, where this user may set one, else a watchdog's."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

GROUPS = (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max"))
"""Control groups of version 1 and of version 2."""
LOOK_S = 0.005


@dataclass(frozen=True)
class Ended:
    """How a program ended: `was_killed` by the limit, `is_late` where its time was up. `by` says who kept the limit."""

    output: str
    errors: str
    code: int
    cpu_s: float
    by: str
    was_killed: bool
    is_late: bool


def run_limited(command: Sequence[str], limit: int, timeout: float) -> Ended:
    """Runs a program that may have `limit` bytes from its first instruction on; its output must fit into a pipe."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with _group(limit) as group:
        by = "a control group" if group else f"a watchdog that looks every {LOOK_S * 1000:.0f} ms at the anonymous memory"
        # From the start, because memory stays with the group in which it was first used.
        enter = None if group is None else lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=enter  # noqa: PLW1509
        )  # fmt: skip
        ends, is_late, was_killed = time.monotonic() + timeout, False, False
        while child.poll() is None and not (is_late or was_killed):
            time.sleep(LOOK_S)
            is_late = time.monotonic() > ends
            was_killed = group is None and _anonymous(child.pid) > limit
        if child.poll() is None:
            child.kill()
        output, errors = child.communicate()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return Ended(output, errors, child.returncode, cpu_s, by, child.returncode == -9 and not is_late, is_late)


@contextmanager
def _group(limit: int) -> Iterator[Path | None]:
    """A control group with this limit, or None where none can be made."""
    for root, file in GROUPS:
        group = Path(root) / f"falaj-benchmark-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / file).write_text(str(limit))
        except OSError:
            group.rmdir()
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    yield None


def _anonymous(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("RssAnon:"))
