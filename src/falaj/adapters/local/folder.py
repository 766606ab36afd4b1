"""The folder of an endpoint: its files are whole or not there, and two processes that rule it take turns."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from falaj.adapters.local.signing import write_over
from falaj.core.codec import encode
from falaj.core.errors import Unavailable
from falaj.ports.host import Wanted


def read_json(path: Path) -> dict[str, Any] | None:
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def write_json(path: Path, body: Any) -> None:
    """Whole or not at all, on the disk, and for the owner only. Nothing is written where nothing would change."""
    data = json.dumps(body, sort_keys=True).encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == data:
            return
    write_over(path, data)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Two processes that rule the same endpoint take turns."""
    fd = os.open(folder / "host.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def border(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Unavailable(f"{folder} cannot be written: {exc.strerror}.", "check who owns it and the disk's space.") from exc


def wish(wanted: Wanted, folder: Path) -> None:
    if int((read_json(folder / "wanted.json") or {}).get("revision", -1)) <= wanted.revision:
        write_json(folder / "wanted.json", encode(wanted))
