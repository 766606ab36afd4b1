"""HTTP at its edge: uvicorn's parser with limits on headers, time, connections and waiting requests."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any, ClassVar

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from falaj.core.errors import Conflict, FalajError, InvalidInput, Unavailable
from falaj.inference.errors import RETRY_AFTER_S, Busy, body_of
from falaj.inference.settings import ServerSettings


class HeadersTooLarge(InvalidInput):
    """More header bytes than the server reads."""

    http_status = 431


class TooSlow(InvalidInput):
    """The request did not arrive in time."""

    http_status = 408


class Guarded(HttpToolsProtocol):
    """uvicorn's protocol with limits. What is over them is answered here, before anything was read into memory."""

    settings: ClassVar[ServerSettings]
    _head = 0
    _is_whole = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            self._end(Busy(f"There are {self.settings.max_connections} connections already.", "come back in a second."))
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_whole:
            self._unwatch()
        elif self._timer is None:
            self._watch()

    def on_message_begin(self) -> None:
        self._head, self._is_whole = 0, False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        self._is_whole = True
        super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        super()._start_asgi_task(cycle, app if len(self.tasks) < self.settings.max_waiting else _busy)

    def _should_upgrade(self) -> bool:
        return False

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > self.settings.max_header_bytes:
            self._end(HeadersTooLarge(f"The headers are longer than {self.settings.max_header_bytes} bytes."))
            raise ValueError("headers too large")  # makes the parser stop

    def _watch(self) -> None:
        self._timer = self.loop.call_later(self.settings.request_timeout_s, self._late)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if not self._is_whole:
            self._end(TooSlow(f"The request took longer than {self.settings.request_timeout_s} s to arrive."))
        else:
            self.transport.close()

    def _end(self, error: FalajError) -> None:
        if not self.transport.is_closing():
            self.transport.write(_raw(error))
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._end(_NoHttp(msg))


def guarded(settings: ServerSettings) -> type[asyncio.Protocol]:
    """The protocol with these limits: uvicorn makes one for each connection, so they belong to the class."""
    return type("Limited", (Guarded,), {"settings": settings})


class _NoHttp(InvalidInput):
    http_status = 400


def _raw(error: FalajError) -> bytes:
    body = orjson.dumps(body_of(error, "/v1"))
    retry = f"retry-after: {RETRY_AFTER_S}\r\n" if error.retryable else ""
    status = f"HTTP/1.1 {error.http_status} {type(error).__name__}\r\n"
    return (
        f"{status}content-type: application/json\r\ncontent-length: {len(body)}\r\n{retry}connection: close\r\n\r\n".encode()
        + body
    )


async def _busy(scope: Any, receive: Any, send: Any) -> None:
    error = Busy("More requests wait than this server takes on.", "come back in a second.")
    body = orjson.dumps(body_of(error, scope["path"]))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send(
        {"type": "http.response.start", "status": 429, "headers": [*headers, (b"retry-after", str(RETRY_AFTER_S).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


def listen(settings: ServerSettings) -> socket.socket:
    """The listening socket. Raises Conflict where the port is taken, Unavailable where the address is not this machine's."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(1024)
    except OSError as exc:
        listener.close()
        where = f"{settings.host}:{settings.port}"
        if exc.errno == errno.EADDRINUSE:
            raise Conflict(f"{where} is taken by another program.", "set serve_port to a free port, or to 0.") from exc
        raise Unavailable(
            f"Nothing can listen on {where}: {exc.strerror}.", "set serve_host to an address of this machine."
        ) from exc
    listener.setblocking(False)
    return listener


def uvicorn_server(app: Any, settings: ServerSettings) -> uvicorn.Server:
    """uvicorn on uvloop and httptools, silent, with this module's limits; stops gracefully within `drain_s`."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=guarded(settings),
            loop="uvloop",
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=settings.keep_alive_s,
            timeout_graceful_shutdown=settings.drain_s,
        )
    )
