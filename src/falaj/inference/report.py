"""What a worker says of itself in `workers/<slot>.json`, and what `server.json` makes of all of them."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from falaj.core.errors import FalajError
from falaj.core.moments import iso
from falaj.inference.slots import Table, is_ready, is_settled


@dataclass(frozen=True, slots=True)
class Report:
    pid: int
    started: float
    generation: str
    ready: bool
    revision: int
    tried: int
    """The revision that `problem` is about."""
    problem: Mapping[str, Any] | None
    leaving: bool


def read_report(path: Path) -> Report | None:
    """None where there is none, or only half of one."""
    try:
        told = json.loads(path.read_bytes())
        return Report(
            int(told["pid"]),
            float(told["started"]),
            str(told["generation"]),
            bool(told["ready"]),
            int(told["revision"]),
            int(told["tried"]),
            told["problem"],
            bool(told.get("leaving")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def sum_of(table: Table, reports: Mapping[str, Report], down: FalajError | None) -> dict[str, Any]:
    """An endpoint is as far as its slowest worker, and has the first problem that any of them has.

    `settings`: the generation that all wanted workers are ready with; empty while they are not. `down`: why workers do not start.
    """
    serving = [reports[w.slot] for w in table.workers if w.slot in reports and w.ready and w.leaving is None]
    troubled = [report for _, report in sorted(reports.items()) if report.problem and not report.leaving]
    return {
        "ready": is_ready(table),
        "revision": min((report.revision for report in serving), default=-1),
        "tried": troubled[0].tried if troubled else min((report.tried for report in serving), default=-1),
        "problem": troubled[0].problem if troubled else None,
        "down": down.to_dict() if down is not None else None,
        "settings": table.generation if is_settled(table) else "",
        "workers": {slot: {"pid": report.pid, "started": report.started} for slot, report in sorted(reports.items())},
    }


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """Whole or not at all; for the owner only. Not brought to the disk: what it says ends with the processes it is about."""
    write_whole(path, json.dumps(body).encode())


def write_whole(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        fd = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def stamp(path: Path) -> tuple[int, int, int]:
    """Changes when the file does; zeros where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0, 0
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def complain(error: FalajError) -> None:
    """Into server.log, which is where an endpoint's processes write to."""
    print(f"{iso(datetime.now(UTC))} {error.code}: {error}", file=sys.stderr, flush=True)  # noqa: T201
