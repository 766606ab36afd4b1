"""Where a login is kept: one file for each provider and client in the user's own folder, for nobody else to read."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from falaj.core.errors import Denied, Unavailable


def place_of(issuer: str, client: str) -> Path:
    """`$XDG_CONFIG_HOME/falaj/sessions/….json`, or below `~/.config`."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    name = hashlib.sha256(f"{issuer}\n{client}".encode()).hexdigest()[:24]
    return home / "falaj" / "sessions" / f"{name}.json"


def read(path: Path) -> Mapping[str, Any] | None:
    """What is kept there; None for nothing. Raises Denied where others may read it: it is not used then."""
    try:
        mode = path.stat().st_mode
        body = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as exc:
        raise Unavailable(f"The login in {path} cannot be read ({type(exc).__name__}).", "falaj login") from exc
    if mode & 0o077:
        raise Denied(f"Others may read the login in {path} (mode {mode & 0o777:o}).", "falaj logout, then falaj login.")
    return body if isinstance(body, dict) else None


def write(path: Path, body: Mapping[str, Any]) -> None:
    """The whole file or none of it, mode 0600 in a folder of mode 0700. Raises Unavailable where it cannot be written."""
    from falaj.adapters.local.signing import write_over

    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.chmod(0o700)
        write_over(path, json.dumps(body).encode())
    except OSError as exc:
        raise Unavailable(f"{path} cannot be written: {exc.strerror}.", "check who owns it, or set XDG_CONFIG_HOME.") from exc


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One at a time: a refresh token that is used twice ends the whole login."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as exc:
        raise Unavailable(
            f"{path.parent} cannot be written: {exc.strerror}.", "check who owns it, or set XDG_CONFIG_HOME."
        ) from exc
    with os.fdopen(handle, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
