"""How falaj reaches a Redis: the address, the connection, and Redis' errors as falaj's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlsplit

import redis
from redis import exceptions as wrong
from redis.backoff import NoBackoff
from redis.retry import Retry

from falaj.core.errors import Conflict, Denied, InvalidInput, Unavailable


def connect(url: str, what: str, timeout_s: float) -> redis.Redis:
    """A client that connects when it is first asked. Raises InvalidInput for an address that is none."""
    try:
        return redis.Redis.from_url(
            url, decode_responses=False, socket_timeout=timeout_s, socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 1), client_name="falaj", health_check_interval=30,
        )  # fmt: skip
    except (ValueError, TypeError, wrong.RedisError):
        raise _no_address(what) from None  # the cause would show the password


def place_of(url: str, what: str) -> str:
    """Host and port alone: what else an address holds may be secret. Raises InvalidInput for an address that is none."""
    try:
        parts = urlsplit(url)
        asked = [name for name, _ in parse_qsl(parts.query)]
        if parts.scheme not in ("redis", "rediss") or not parts.hostname or any(not name.startswith("ssl_") for name in asked):
            raise _no_address(what)
        return f"{parts.hostname}:{parts.port or 6379}"
    except ValueError:
        raise _no_address(what) from None


@contextmanager
def translated(where: str, setting: str) -> Iterator[None]:
    """Redis' errors, as falaj's own; none of them says more of the address than `where`."""
    try:
        yield
    except (wrong.AuthenticationError, wrong.NoPermissionError) as exc:
        raise Denied(f"{where} refuses: {exc}.", f"check the user and the password that `{setting}` refers to.") from exc
    except (wrong.ConnectionError, wrong.TimeoutError, wrong.ReadOnlyError, OSError) as exc:
        raise Unavailable(f"{where} does not answer: {exc}", "check that Redis runs there; falaj tries again.") from exc
    except (wrong.RedisError, ValueError) as exc:
        text = str(exc)
        if "used memory > 'maxmemory'" in text:
            raise Unavailable(f"{where} is full.", "raise Redis' maxmemory, or remove what is not needed.") from exc
        if "NOAUTH" in text or "NOPERM" in text:
            raise Denied(f"{where} refuses: {text}.", f"check what `{setting}` refers to.") from exc
        raise Conflict(f"{where} holds something else under falaj's keys: {text}", "remove those keys.") from exc


def _no_address(what: str) -> InvalidInput:
    return InvalidInput(
        f"The address of the {what} is no Redis address.",
        "write redis://host:6379/0, or rediss:// for TLS; behind `?` only ssl_… may stand.",
    )
