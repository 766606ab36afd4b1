"""What every request passes before anybody looks at it: a known host name, no foreign page behind it, a body of bearable size."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from falaj.api.near import hint_for, with_colon
from falaj.core.errors import Bug, Denied, FalajError, InvalidInput, NotFound, Unauthenticated

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LIMIT = 1 << 20
"""Bytes of a request's body."""
LONGEST = 600
"""Characters of each text in an error."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = (
    # An answer is data for a program: no browser may guess a page into it, frame it, or keep it for the next user.
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)


class Guards:
    """Refuses a foreign Host (a web page that points its own name at this machine), a change that a foreign page asks for
    (Origin, and Sec-Fetch-Site of the Fetch Metadata standard), and a body beyond the limit."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], limit: int = LIMIT) -> None:
        self.app = app
        self.hosts = frozenset(hosts)
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _guarded(send)
        refusal = self._refusal(scope)
        if refusal is not None:
            await answer(refusal)(scope, receive, send)
            return
        body = await self._body(receive)
        if body is None:
            await answer(self._too_large(), 413)(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)

    def _refusal(self, scope: Scope) -> FalajError | None:
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or host_of(hosts[0]) not in self.hosts:
            return Denied(
                "The request names a host that this control plane does not answer to.",
                "call it by its own address, or add the name to api_host.",
            )
        if scope["method"] not in _SAFE and self._is_foreign(scope):
            return Denied("The change is asked for by a page of another site.", "ask from a program, or from this address.")
        return None

    def _is_foreign(self, scope: Scope) -> bool:
        """Whether a browser says that another site's page is behind it. Programs say neither, and are believed by their key."""
        sites = _values(scope, b"sec-fetch-site")
        return any(site not in ("same-origin", "none") for site in sites) or any(
            _host_of_origin(origin) not in self.hosts for origin in _values(scope, b"origin")
        )

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body, or None as soon as it is longer than the limit; the declared length is not believed."""
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > self.limit:
                return None
        return b"".join(parts)

    def _too_large(self) -> InvalidInput:
        return InvalidInput(f"The body is longer than {self.limit} bytes.", "send less at once.")


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key == name]


def _host_of_origin(origin: str) -> str:
    """The host in an Origin header; empty for `null` and for what cannot be read, which no host is called."""
    try:
        return host_of(urlsplit(origin).netloc)
    except ValueError:
        return ""


def _guarded(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return guarded


def host_of(header: str) -> str:
    """The name in a Host header, without its port."""
    name, colon, port = header.rpartition(":")
    return (name if colon and port.isdigit() else header).lower()


def answer(error: FalajError, status: int = 0) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}
    if error.retryable:
        headers["Retry-After"] = "1"
    told = error.to_dict()
    # What came in is quoted in what goes out: a caller must not be able to make an answer as long as a request.
    short = {name: value[:LONGEST] if isinstance(value, str) else value for name, value in told["error"].items()}
    return JSONResponse({**told, "error": short}, status or error.http_status, headers)


async def on_falaj_error(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, FalajError)
    return answer(exc)


async def on_http_exception(request: Request, exc: Exception) -> Response:
    """What the router itself refuses: a path or a method that no operation has."""
    assert isinstance(exc, HTTPException)
    if exc.status_code == 405:
        hint = hint_for(request.url.path) if with_colon(request.url.path) else "GET reads, POST changes."
        return answer(InvalidInput(f"{request.url.path} does not take {request.method}.", hint), 405)
    return answer(NotFound(f"There is nothing at {request.url.path}.", hint_for(request.url.path)), exc.status_code)


async def on_exception(_request: Request, _exc: Exception) -> Response:
    """The caller learns that it is a bug; what exactly stands in the log, where uvicorn writes it, and not in the answer."""
    return answer(Bug("falaj failed at this request.", "the control plane's log says where."))


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read to the next reader, then what the client does."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        message: dict[str, Any] = {"type": "http.request", "body": body, "more_body": False}
        return message

    return again
