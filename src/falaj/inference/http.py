"""HTTP/1.1 at its edge: llhttp parses (through httptools), this module sets limits and keeps answers in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

import httptools

from falaj.core.errors import Bug, FalajError
from falaj.inference.errors import Busy, HeadersTooLarge, Malformed, TooLarge, TooSlow
from falaj.inference.exchange import HEADS, JSON, PEER, Answer, Request, Service, refusal
from falaj.inference.heads import Heads
from falaj.inference.settings import ServerSettings

WANTED = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"inference-header-content-length",
        b"traceparent",
        b"tracestate",
        b"x-falaj-arm",
        b"x-falaj-key",
        b"x-request-id",
        b"x-request-timeout-ms",
    }
)
"""Headers that anything here looks at; the others are counted and forgotten."""
SWEEP_S = 0.5
_PIPELINED = 16
"""Requests of one connection that may wait behind an answer before no more is read from it."""

_PLAIN = Request(b"POST", "", {}, b"", 0.0, None, True)
"""What an answer goes by of a request whose caller goes on."""
_GOOD = (HEADS[200] + JSON).decode()


class Edge:
    """What all connections of a server share. `sweep` closes those that are too slow; call it every SWEEP_S seconds."""

    def __init__(self, service: Service, settings: ServerSettings) -> None:
        self.service, self.settings = service, settings
        self.heads = Heads(service.admits_still)
        self.connections: set[Connection] = set()
        self.most_head = settings.max_header_bytes
        self.is_draining = False
        self.time = time.perf_counter
        self.names = settings.tls_names if settings.tls_clients else ""
        """What of a client's certificate says who it is; empty where clients show none."""

    def connection(self) -> Connection:
        return Connection(self)

    def sweep(self) -> None:
        now, settings = self.time(), self.settings
        for one in list(self.connections):
            one.check(now - settings.request_timeout_s, now - settings.keep_alive_s)

    def drain(self) -> None:
        """Idle connections are closed, the others with their next answer."""
        self.is_draining = True
        for one in list(self.connections):
            one.leave_if_idle()


class Connection(asyncio.Protocol):
    """One connection: a request at a time is answered, in the order in which they came."""

    __slots__ = (
        "_body", "_edge", "_farewell", "_head", "_headers", "_is_busy", "_is_over", "_length", "_method", "_opened", "_parser",
        "_path", "_peer", "_queue", "_since", "_started", "_transport", "_until", "_url", "_waits_for", "_whole",
    )  # fmt: skip

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._queue: deque[Request] = deque()
        self._is_busy = self._is_over = False
        self._since = edge.time()
        """When the request began that is being read; where none is, when the last thing happened."""
        self._waits_for = ""
        """`request` while one is being read, `room` while the caller does not read its answers."""
        self._url, self._head, self._length = b"", 0, 0
        self._headers: dict[bytes, bytes] = {}
        self._body: bytes | bytearray = b""
        self._method, self._path = b"", ""
        self._opened: Any = None
        self._farewell: FalajError | None = None
        """What is wrong with what came behind the requests that are being answered."""
        self._started = 0.0
        self._whole = b""
        """While it is read: all that has come since the last request."""
        self._peer, self._until = b"", 0.0
        """Who the client's certificate says it is, and until when it may (edge.time); where it has one."""

    # --- asyncio's calls ---

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._edge.connections.add(self)
        if self._edge.names:
            self._introduce()
        most = self._edge.settings.max_connections
        if len(self._edge.connections) > most:
            self._end(Busy(f"There are {most} connections already.", "come back in a second."))

    def connection_lost(self, exc: Exception | None) -> None:
        self._edge.connections.discard(self)
        self._is_over = True
        self._queue.clear()

    def eof_received(self) -> bool:
        """A caller that is done with sending may still wait for its answer."""
        if self._is_busy and not self._waits_for and self._transport.get_extra_info("sslcontext") is None:
            self._queue.clear()
            self._is_over = True
            return True
        return False

    def pause_writing(self) -> None:
        self._waits_for, self._since = "room", self._edge.time()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._waits_for, self._since = "", self._edge.time()
        self._read_on()

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        if not (self._is_busy or self._waits_for or self._peer):
            known = self._edge.heads.find(data)
            if known is not None:
                self._is_busy, started, body = True, self._edge.time(), data[known.end :]
                if not self._edge.service.quick(known, body, started, self):
                    self.handle(known.request_of(body, started))
                return
            self._whole = data
        self._read(data)
        self._whole = b""

    def _read(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nothing is spoken here but HTTP/1.1; the request itself was read and is answered, what follows it is not.
            self._is_over = True
        except httptools.HttpParserCallbackError as exc:
            cause = exc.__context__
            self._end(cause if isinstance(cause, FalajError) else Bug(f"The request could not be read: {cause!r:.200}."))
        except httptools.HttpParserError as exc:
            self._end(Malformed(f"This is not HTTP/1.1: {exc}.", "speak HTTP/1.1 to this port."))

    # --- llhttp's calls ---

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body, self._head, self._length = b"", {}, b"", 0, 0
        self._since = self._started = self._edge.time()
        self._waits_for = "request"

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._head += len(url)
        if self._head > self._edge.most_head:
            raise self._too_long()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value)
        name = name.lower()
        if name in WANTED:
            self._headers[name] = value if name not in self._headers else self._again(name, value)
        elif name == b"content-length":
            # llhttp refuses what is no number, two of them, and one beside a transfer coding.
            self._length = int(value) if value.strip().isdigit() else 0
        elif name == b"transfer-encoding":
            # llhttp asks only that `chunked` is the last one; a coding before it would be taken for the body itself.
            if value.strip().lower() != b"chunked":
                raise Malformed(f"The transfer coding {value[:40]!r} is not taken here.", "send the body as it is.")
            self._length = -1
        elif name == b"expect" and value.lower() == b"100-continue":
            self._headers[b"expect"] = value
        if self._head > self._edge.most_head:
            raise self._too_long()

    def on_headers_complete(self) -> None:
        if self._length > self._edge.settings.max_body_bytes:
            raise self._too_large()
        try:
            self._path = self._url.partition(b"?")[0].decode("ascii")
        except UnicodeDecodeError as exc:
            raise Malformed("The path is not ASCII.", "write other characters as %XX.") from exc
        if self._peer:
            self._headers[PEER] = self._peer
        self._method = self._parser.get_method()
        try:
            self._opened = self._edge.service.admit(self._method, self._path, self._headers)
        except FalajError as exc:
            if self._length:
                raise  # a body that nobody reads would be taken for the next request: the connection ends here
            self._opened = exc
        if b"expect" in self._headers and not self._is_busy:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if not self._body:
            self._body = body
        else:
            # One growing buffer: a body in very many pieces must not be copied as many times.
            self._body = self._body if isinstance(self._body, bytearray) else bytearray(self._body)
            self._body += body
        if len(self._body) > self._edge.settings.max_body_bytes:
            raise self._too_large()

    def on_message_complete(self) -> None:
        self._waits_for, self._since = "", self._edge.time()
        keep = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        body = self._body if type(self._body) is bytes else bytes(self._body)
        request = Request(self._method, self._path, self._headers, body, self._started, self._opened, keep)
        self._body = b""
        if self._whole:
            self._edge.heads.learn(self._whole, request, self._length)
        if self._is_busy:
            self._queue.append(request)
            if len(self._queue) >= _PIPELINED:
                self._transport.pause_reading()
        else:
            self.handle(request)

    # --- one request after the other ---

    def handle(self, request: Request) -> None:
        """Answers it, now or later; the requests that come meanwhile wait."""
        self._is_busy = True
        if isinstance(request.opened, FalajError):
            self._respond(request, self._refusal(request.opened, request.path))
        else:
            self._edge.service.handle(request, lambda answer: self._respond(request, answer))

    @property
    def is_alone(self) -> bool:
        return len(self._edge.connections) == 1

    def finish(self, body: str, now: float) -> None:
        """The answer to a request that was taken up by `Service.quick`: ASCII, a JSON text."""
        if self._queue or self._is_over or self._edge.is_draining or self._farewell is not None:
            self._respond(_PLAIN, Answer(200, body.encode()))
        elif not self._transport.is_closing():
            self._transport.write(f"{_GOOD}content-length: {len(body)}\r\n\r\n{body}".encode())
            self._is_busy, self._since = False, now

    def refuse(self, error: FalajError, path: str) -> None:
        """As `finish`, for one that failed."""
        self._respond(_PLAIN, self._refusal(error, path))

    def _respond(self, request: Request, answer: Answer) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        is_last = self._is_over and not self._queue
        keep = request.keep and not self._edge.is_draining and (not is_last or self._farewell is not None)
        body = answer.body
        head = b"%b%bcontent-length: %d\r\n%b\r\n" % (
            HEADS.get(answer.status) or b"HTTP/1.1 %d -\r\n" % answer.status, answer.head, len(body),
            b"" if keep else b"connection: close\r\n",
        )  # fmt: skip
        transport.write(head if request.method == b"HEAD" else head + body)
        self._is_busy = False
        self._since = self._edge.time()
        if is_last and keep and self._farewell is not None:
            self._end(self._farewell)
        elif not keep:
            self._is_over = True
            self._queue.clear()
            transport.close()
        elif self._queue:
            following = self._queue.popleft()
            if len(self._queue) == _PIPELINED // 2:
                self._read_on()
            # Not at once: a long queue of answers that are ready must not become as deep a stack.
            asyncio.get_running_loop().call_soon(self.handle, following)
            self._is_busy = True

    def _refusal(self, error: FalajError, path: str) -> Answer:
        self._edge.service.refused(error)
        return refusal(error, path)

    # --- limits ---

    def check(self, began: float, idle: float) -> None:
        """Ends what is too slow: a request that began before `began`, a connection on which nothing happened since `idle`."""
        if self._waits_for == "request":
            if self._since < began:
                self._end(TooSlow(f"The request took longer than {self._edge.settings.request_timeout_s} s to arrive."))
        elif self._waits_for == "room":
            if self._since < began:
                self._transport.abort()
        elif not self._is_busy and (self._since < idle or 0.0 < self._until <= self._edge.time()):
            self._transport.close()

    def leave_if_idle(self) -> None:
        if not self._is_busy and self._waits_for != "request":
            self._transport.close()

    def _introduce(self) -> None:
        from falaj.inference.tls import peer_of  # brings what nobody needs who speaks plain HTTP

        peer = peer_of(self._transport.get_extra_info("peercert"), self._edge.names)
        if peer is not None:
            self._peer = peer.identity.encode()
            self._until = self._edge.time() + peer.until - time.time()

    def _read_on(self) -> None:
        if not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    def _again(self, name: bytes, value: bytes) -> bytes:
        """W3C Trace Context: a state may come in parts, and two parents are none. Of anything else there is one, or it is
        not plain what was meant."""
        if name == b"tracestate":
            return self._headers[name] + b"," + value
        if name == b"traceparent":
            return b""
        raise Malformed(f"The header {name.decode('latin-1')} came twice.", "send it once.")

    def _too_long(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"The headers are longer than {self._edge.most_head} bytes.")

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is longer than {self._edge.settings.max_body_bytes} bytes.", "send fewer rows in a call.")

    def _end(self, error: FalajError) -> None:
        """Says why, and closes; what is still to be answered comes first."""
        self._is_over = True
        if self._transport.is_closing():
            return
        if self._is_busy:
            self._farewell = error
            return
        answer = self._refusal(error, self._url.partition(b"?")[0].decode("ascii", "replace"))
        head = b"%b%bcontent-length: %d\r\nconnection: close\r\n\r\n" % (
            HEADS.get(answer.status, HEADS[400]), answer.head, len(answer.body),
        )  # fmt: skip
        self._transport.write(head + answer.body)
        self._transport.close()
