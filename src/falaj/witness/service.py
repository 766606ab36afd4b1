"""The witness over HTTP: `POST /add-checkpoint` (C2SP tlog-witness), and for auditors what it has seen and its key."""

from __future__ import annotations

import ipaddress
import socket
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from falaj.core.errors import FalajError, InvalidInput
from falaj.witness.book import Book
from falaj.witness.rules import MOST_BYTES, Answer

WAIT_S = 10.0
"""For the next piece of a request; a connection that says nothing for so long is closed."""
MOST_S = 60.0
"""For a whole connection, however little it says at a time."""
MOST_AT_ONCE = 32
"""Connections; a further one waits for a place, and is closed where it gets none in time."""
_DIGITS = 20
"""Of a length that is read as a number at all."""


class WitnessServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, book: Book, host: str, port: int) -> None:
        """Raises InvalidInput for an address that others than this machine reach: there belongs a proxy that ends TLS."""
        if not ipaddress.ip_address(host).is_loopback:
            raise InvalidInput(
                f"{host} is not of this machine.", "listen on 127.0.0.1, and let a proxy with TLS stand before it."
            )
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.book = book
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__((host, port), _Exchange)

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(timeout=WAIT_S):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        limit = threading.Timer(MOST_S, self.shutdown_request, (request,))
        limit.daemon = True
        limit.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            limit.cancel()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that goes away, or is too slow, is nothing to report."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handle_error(request, client_address)


class _Exchange(BaseHTTPRequestHandler):
    server: WitnessServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "falaj-witness", ""
    timeout = WAIT_S

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or self.headers.get("Transfer-Encoding"):
            self._end(Answer(411, "the request has to say its length\n"))
        elif len(length) > _DIGITS or int(length) > MOST_BYTES:
            self._end(Answer(413, f"a request has at most {MOST_BYTES} bytes\n"))
        elif self.path != "/add-checkpoint":
            self._end(Answer(404, "there is /add-checkpoint\n"))
        else:
            body = self.rfile.read(int(length))
            self._answer(self._guarded(lambda book: book.add_checkpoint(body, time.time)))

    def do_GET(self) -> None:
        """`/key`, and `/checkpoint/<origin>`: the newest of that log that was cosigned here."""
        if self.path == "/key":
            self._answer(Answer(200, self.server.book.vkey + "\n"))
            return
        origin = unquote(self.path.removeprefix("/checkpoint/")) if "/checkpoint/" in self.path else ""
        self._answer(self._guarded(lambda book: _shown(book.seen(origin) if origin else None)))

    def _guarded(self, ask: Callable[[Book], Answer]) -> Answer:
        try:
            return ask(self.server.book)
        except (FalajError, OSError) as exc:  # its folder is broken or full: nothing was cosigned
            sys.stderr.write(f"{exc}\n")
            return Answer(500, "the witness cannot keep its state\n")

    def _end(self, answer: Answer) -> None:
        """For a request whose body is not read: the connection cannot be used any more."""
        self.close_connection = True
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        body = answer.body.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the standard library's name
        """Requests are not written down: what matters of them is in the folder."""


def _shown(found: str | None) -> Answer:
    return Answer(404, "nothing of that was seen here\n") if found is None else Answer(200, found)
