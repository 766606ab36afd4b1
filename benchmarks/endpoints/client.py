"""The load generator where wrk is not installed: `client.py <url> <key> <file of bodies> <connections> <seconds>`."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop


class _Caller(asyncio.Protocol):
    """One connection in a closed loop: the next request leaves when the last answer is whole."""

    def __init__(self, requests: Any, seconds: list[float], until: float, done: asyncio.Future[int]) -> None:
        self.requests, self.seconds, self.until, self.done = requests, seconds, until, done
        self.held, self.bad = b"", 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self.held += data
        end = self.held.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.held[:end].lower()
        length = int(head[head.index(b"content-length: ") + 16 :].split(b"\r\n", 1)[0])
        if len(self.held) < end + 4 + length:
            return
        self.bad += not head.startswith(b"http/1.1 200")
        self.held = b""
        now = time.perf_counter()
        self.seconds.append(now - self.sent)
        if now < self.until:
            self._send()
        else:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.bad += not self.done.done()
        self._end()

    def _send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(next(self.requests))

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(self.bad)
            self.transport.close()


async def load(url: str, requests: list[bytes], connections: int, spell: float) -> dict[str, float]:
    """What wrk would print: count, seconds, p50 and p99 in milliseconds, and how many answers were bad."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    seconds: list[float] = []
    turn = itertools.cycle(requests)
    started = time.perf_counter()
    done = [loop.create_future() for _ in range(connections)]
    for one in done:
        made = lambda one=one: _Caller(turn, seconds, started + spell, one)  # noqa: E731
        await loop.create_connection(made, parts.hostname, parts.port)
    bad = sum(await asyncio.gather(*done))
    spent = time.perf_counter() - started
    ordered = sorted(seconds)
    at = {name: ordered[int(len(ordered) * part)] * 1000 for name, part in (("p50", 0.5), ("p99", 0.99))}
    return {"count": len(seconds), "seconds": spent, "bad": bad, **at}


def main() -> None:
    url, key, file, connections, seconds = sys.argv[1:]
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    bodies = Path(file).read_bytes().splitlines()
    requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    print(json.dumps(uvloop.run(load(url, requests, int(connections), float(seconds)))))


if __name__ == "__main__":
    main()
