"""Link: a connection to PostgreSQL: where its address leads, how it ends, and what its errors say."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pg8000.native as pg
from pg8000.exceptions import DatabaseError, InterfaceError

from falaj.core.errors import InvalidInput

LOST = ("57P", "08")
"""SQLSTATE classes after which the connection is of no more use."""


def connect(options: dict[str, Any]) -> Any:
    """A connection that sends what it has at once: a statement in two pieces would wait 40 ms for the first one's receipt."""
    link = pg.Connection(**options)
    link._usock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def hang_up(link: Any) -> None:
    """Ends a connection, also one whose server is gone."""
    usock = link._usock
    with contextlib.suppress(DatabaseError, InterfaceError, OSError):
        link.close()
    # What pg8000 could not send to a server that is gone keeps its socket open otherwise.
    with contextlib.suppress(OSError):
        os.close(usock.detach())


def is_lost(exc: Exception) -> bool:
    """Whether the error says that the connection is gone, not that the server refuses."""
    return isinstance(exc, (InterfaceError, OSError)) or sqlstate(exc).startswith(LOST)


def sqlstate(exc: Exception) -> str:
    told = exc.args[0] if exc.args else None
    return str(told.get("C", "")) if isinstance(told, dict) else ""


def words(exc: Exception) -> str:
    told = exc.args[0] if exc.args else None
    return str(told.get("M", "") if isinstance(told, dict) else exc).rstrip(".")


def options_of(url: str, setting: str, what: str) -> dict[str, Any]:
    """What pg8000 connects with. Raises InvalidInput for an address that is none, without showing it."""
    wrong = InvalidInput(
        f"The address of {what} is no PostgreSQL address.",
        f"write {setting} = postgresql://user@host:5432/database; behind `?` only sslmode and sslrootcert may stand.",
    )
    try:
        parts = urlsplit(url)
        asked = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        mode = asked.pop("sslmode", "prefer")
        authority = asked.pop("sslrootcert", None)
        database = unquote(parts.path.lstrip("/"))
        if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or not parts.username or not database or asked:
            raise wrong
        port = parts.port or 5432
    except ValueError:
        raise wrong from None  # the cause could show the password
    options = {
        "user": unquote(parts.username), "password": unquote(parts.password) if parts.password else None,
        "host": parts.hostname, "port": port, "database": database,
    }  # fmt: skip
    return {**options, "ssl_context": _tls(mode, authority)}


def _tls(mode: str, authority: str | None) -> Any:
    """None lets pg8000 try TLS and go on without it; False asks for none."""
    if mode in ("disable", "prefer"):
        return False if mode == "disable" else None
    if mode not in ("require", "verify-ca", "verify-full"):
        raise InvalidInput(
            f"The address asks for sslmode={mode!r}.", "there is: disable, prefer, require, verify-ca, verify-full."
        )
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as exc:
        raise InvalidInput(f"The certificates in {authority} cannot be read: {exc}.", "check `sslrootcert`.") from exc
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE  # as libpq means it: encrypted, with whoever answers
    return context
