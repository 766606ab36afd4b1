"""References: where a secret is, written in place of the secret itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from falaj.core.errors import InvalidInput

_HERE = ("127.0.0.1", "::1", "localhost")
_REFERENCES = ("env:", "file:")


def secret(reference: str) -> bytes | None:
    """The secret that `env:NAME` or `file:PATH` refers to; None for an empty reference.

    Raises InvalidInput where it leads nowhere.
    """
    if not reference:
        return None
    kind, _, where = reference.partition(":")
    if kind == "env" and os.environ.get(where):
        return os.environ[where].encode()
    if kind == "file" and Path(where).is_file():
        return Path(where).read_bytes().strip()
    raise InvalidInput(
        f"The secret reference {kind}:… leads nowhere." if kind in ("env", "file") else "A secret's place is no reference.",
        "write env:NAME or file:PATH; a secret itself never stands in the settings.",
    )


def address(setting: str, given: str) -> str:
    """The address that a setting names: by reference, or as it is where it leads to this machine and holds no password.

    Raises InvalidInput otherwise, without showing what was given.
    """
    if given.startswith(_REFERENCES):
        return (secret(given) or b"").decode("utf-8", "replace")
    try:
        parts = urlsplit(given)
        is_open = parts.hostname in _HERE and parts.password is None
    except ValueError:
        is_open = False
    if not is_open:
        raise InvalidInput(
            f"The setting {setting!r} is no reference, and no address on this machine without a password.",
            f'write {setting} = "env:NAME" or "file:PATH", which holds the address.',
        )
    return given


def online_options(scheme: str, *, folder: Path, url: str, project: str) -> dict[str, Any]:
    """What an online store is opened with. Raises InvalidInput where it needs an address and has none."""
    if scheme == "lmdb":
        return {"folder": folder}
    if url:
        return {"url": address("online_url", url), "project": project}
    if scheme in ("redis", "postgres"):
        raise InvalidInput(
            f"The online store {scheme!r} needs an address.", 'write online_url = "env:NAME" or "file:PATH", which holds it.'
        )
    return {}


def stream_options(scheme: str, *, folder: Path, url: str, name: str) -> dict[str, Any]:
    """What one stream is opened with. Raises InvalidInput where it needs an address and has none, or one that shows a secret."""
    if scheme == "file":
        return {"folder": folder, "name": name}
    if scheme == "memory":
        return {}
    if not url:
        raise InvalidInput(
            f"The streams of {scheme!r} need an address.", 'write stream_url = "env:NAME" or "file:PATH", which holds it.'
        )
    if not url.startswith(_REFERENCES):
        kind, _, hosts = url.partition("://")
        for host in hosts.split(","):  # each of them has to be on this machine
            address("stream_url", f"{kind}://{host}")
        return {"url": url, "name": name}
    return {"url": address("stream_url", url), "name": name}


def absolute(reference: str) -> str:
    """The same reference for a process that runs in another folder."""
    return f"file:{Path(reference[5:]).absolute()}" if reference.startswith("file:") else reference
