"""A client that sends any bytes at all and says what came back, answer by answer."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httptools

WAIT_S = 20.0
"""For an answer that has to come: long, because this machine may be busy."""


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class _Reader:
    """Takes bytes of answers apart. `whole`: the answers that are complete, those with a 1xx status left out."""

    def __init__(self) -> None:
        self.whole: list[Answer] = []
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._now = Answer()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._now.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._now.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self._now.body += data

    def on_message_complete(self) -> None:
        if self._now.status >= 200:
            self.whole.append(self._now)


class Wire:
    """One connection. Close it, or `end` it to hear what still comes."""

    def __init__(self, host: str, port: int) -> None:
        self._raw = socket.create_connection((host, port), timeout=WAIT_S)
        self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = _Reader()
        self.is_closed = False
        """By the server."""
        self.garbage = b""
        """What the server sent that is no HTTP answer."""

    def send(self, *pieces: bytes) -> None:
        """A server that has heard enough may close meanwhile."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                self._raw.sendall(piece)

    def answers(self, count: int, wait_s: float = WAIT_S) -> list[Answer]:
        """Until so many answers are whole, the server closes, or the time is up."""
        until = time.monotonic() + wait_s
        while len(self._reader.whole) < count and not self.is_closed:
            left = until - time.monotonic()
            if left <= 0:
                break
            self._raw.settimeout(left)
            try:
                data = self._raw.recv(1 << 16)
            except TimeoutError:
                break
            except OSError:
                data = b""
            self.is_closed = not data
            self._take(data)
        return self._reader.whole

    def _take(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except httptools.HttpParserError:
            self.garbage += data

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            self._raw.shutdown(socket.SHUT_WR)

    def end(self) -> list[Answer]:
        """Says that nothing more comes, and listens until the server closes too."""
        self.half_close()
        return self.answers(1 << 30)

    def reset(self) -> None:
        """Goes away without a word."""
        with contextlib.suppress(OSError):
            self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._raw.close()

    def close(self) -> None:
        self._raw.close()


def exchange(host: str, port: int, pieces: Sequence[bytes], count: int) -> tuple[list[Answer], Wire]:
    """The answers to some bytes on a connection of their own, which stays open."""
    wire = Wire(host, port)
    wire.send(*pieces)
    return wire.answers(count), wire
