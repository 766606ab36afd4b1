"""A load of gRPC calls that costs next to nothing: HTTP/2 frames made beforehand, calls in a closed loop on raw sockets.

A client of grpcio costs more than the servers under test. `python -m benchmarks.endpoints.http2 <port> <key or -> <messages>
<connections> <streams> <seconds>`; the file holds messages, each behind its length in four bytes. Frames: RFC 9113, headers:
RFC 7541, where what was sent once is one byte afterwards.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

METHOD = b"/inference.GRPCInferenceService/ModelInfer"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_WHOLE = 0x7FFFFFFF


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def headers(key: str) -> tuple[bytes, bytes]:
    """(of the first call of a connection, of all later ones)."""
    named = [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
    if key:
        named.append((b"authorization", b"Bearer " + key.encode()))
    first = b"\x83\x86\x44" + _text(METHOD) + b"\x41" + _text(b"127.0.0.1")
    first += b"".join(b"\x40" + _text(name) + _text(value) for name, value in named)
    count = 2 + len(named)
    return first, b"\x83\x86" + bytes(0x80 | index for index in range(61 + count, 61, -1))


def _text(value: bytes) -> bytes:
    assert len(value) < 127
    return bytes((len(value),)) + value


class Connection:
    """So many calls at once on one connection; each answer is followed by the next call."""

    def __init__(self, port: int, key: str, bodies: list[bytes], streams: int, first: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._first, self._later = headers(key)
        self._bodies, self._turn = bodies, first
        self._next, self._window, self._held, self._unsent = 1, 65535, b"", 0
        self._started: dict[int, float] = {}
        self._answered: set[int] = set()
        self.seconds: list[float] = []
        self.bad = 0
        wide = struct.pack(">HI", 4, 1 << 20)
        self._out = [_PREFACE, frame(_SETTINGS, 0, 0, wide), frame(_WINDOW, 0, 0, struct.pack(">I", _WHOLE - 65535))]
        for _ in range(streams):
            self._call()
        self._send()

    def read(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._held += data
        now = time.perf_counter()
        for kind, flags, stream, payload in self._frames():
            if kind == _DATA:
                self._answered.add(stream)
            elif kind == _HEADERS and flags & 1:
                self.seconds.append(now - self._started.pop(stream))
                # A refusal has a status and no message.
                self.bad += stream not in self._answered
                self._answered.discard(stream)
                self._call()
            elif kind in (_SETTINGS, _PING) and not flags & 1:
                self._out.append(frame(kind, 1, 0, payload if kind == _PING else b""))
            elif kind == _WINDOW and stream == 0:
                self._window += int.from_bytes(payload, "big")
                waiting, self._unsent = self._unsent, 0
                for _ in range(waiting):
                    self._call()
            elif kind in (_RESET, _GOAWAY):
                raise ConnectionError(f"the server ended {'a call' if kind == _RESET else 'the connection'}: {payload!r}")
        self._send()

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        held, at = self._held, 0
        while len(held) - at >= 9:
            end = at + 9 + int.from_bytes(held[at : at + 3], "big")
            if len(held) < end:
                break
            yield held[at + 3], held[at + 4], int.from_bytes(held[at + 5 : at + 9], "big"), held[at + 9 : end]
            at = end
        self._held = held[at:]

    def _call(self) -> None:
        body = self._bodies[self._turn]
        if self._window < len(body):
            self._unsent += 1
            return
        self._window -= len(body)
        self._turn = (self._turn + 1) % len(self._bodies)
        stream, self._next = self._next, self._next + 2
        self._out.append(frame(_HEADERS, 4, stream, self._first if stream == 1 else self._later) + frame(_DATA, 1, stream, body))
        self._started[stream] = time.perf_counter()

    def _send(self) -> None:
        if self._out:
            self.socket.sendall(b"".join(self._out))
            self._out = []


def press(connections: list[Connection], seconds: float) -> dict[str, float]:
    with selectors.DefaultSelector() as selector:
        for one in connections:
            selector.register(one.socket, selectors.EVENT_READ, one)
        started = time.perf_counter()
        while (now := time.perf_counter()) < started + seconds:
            for key, _ in selector.select(1):
                key.data.read()
    spent = sorted(value for one in connections for value in one.seconds)
    if not spent:
        raise ConnectionError("no call was answered")
    at = {name: spent[int(len(spent) * part)] * 1000 for name, part in (("p50", 0.5), ("p99", 0.99))}
    return {"count": len(spent), "seconds": now - started, "bad": sum(one.bad for one in connections), **at}


def framed(messages: list[bytes]) -> list[bytes]:
    """As gRPC sends them: not compressed, the length, the message."""
    return [b"\0" + struct.pack(">I", len(message)) + message for message in messages]


def main() -> None:
    port, key, file, count, streams, seconds = sys.argv[1:]
    data, messages = Path(file).read_bytes(), []
    while data:
        size = int.from_bytes(data[:4], "big")
        messages.append(data[4 : 4 + size])
        data = data[4 + size :]
    bodies = framed(messages)
    made = [
        Connection(int(port), "" if key == "-" else key, bodies, int(streams), number * 7 % len(bodies))
        for number in range(int(count))
    ]
    print(json.dumps(press(made, float(seconds))))


if __name__ == "__main__":
    main()
