"""Serving against the limits underneath: the model alone, and uvicorn answering a fixed text.

One row a request by the Open Inference Protocol, keys checked and every prediction logged; the load generator is a
process of its own. Figures of one machine; the ratios are what to trust.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import psutil
import uvloop

from falaj.adapters.local.signing import sign_envelope
from falaj.core.codec import canonical, encode
from falaj.core.recipe import Column, Recipe
from falaj.inference.models import MANIFEST_TYPE
from falaj.inference.models.sessions import open_session
from falaj.ports.host import Arm
from falaj.stages.training.onnx import to_onnx
from falaj.stages.training.spec import Fitted
from tests.kits.endpoint import Installation

COLUMNS, TREES, LEAVES, SECONDS = 20, 200, 31, 4.0
RECIPE = Recipe(tuple(Column(f"x{n}", "number", f"x{n}") for n in range(COLUMNS)), {}, {})


def main() -> None:
    if sys.argv[1:2] == ["load"]:
        print(
            json.dumps(
                uvloop.run(_load(*_target(sys.argv[2]), sys.argv[3].encode().decode("unicode_escape").encode(), int(sys.argv[4])))
            )
        )
    else:
        for line in figures():
            print(line)


def figures() -> Iterator[str]:
    data = _onnx()
    alone = _alone(data)
    with tempfile.TemporaryDirectory() as folder, _falaj(Path(folder), data) as (ours, key), _plain() as static:
        for connections in (16, 1):
            limit, found = _measure(static, "", connections), _measure(ours, key, connections)
            yield (
                f"single row, {connections} connections: {found['rps'] / limit['rps']:.2f} of uvicorn with a fixed answer "
                f"({found['rps']:.0f} to {limit['rps']:.0f} requests/s), p50 {found['p50']:.2f} ms, p99 {found['p99']:.2f} ms"
            )
            if connections > 1:
                cpu, least = found["cpu_us"], limit["cpu_us"]
                yield f"CPU: {cpu:.0f} µs a request, {cpu / alone:.1f} times the model alone ({alone:.1f} µs)"
                yield f"CPU: {cpu / least:.1f} times uvicorn with a fixed answer ({least:.0f} µs)"
                yield f"memory: {found['mb']:.0f} MB, {found['mb'] / limit['mb']:.1f} times uvicorn alone ({limit['mb']:.0f} MB)"


def _onnx() -> bytes:
    chance = np.random.default_rng(1)
    x = chance.normal(size=(20_000, COLUMNS)).astype(np.float32)
    y = (x[:, :5].sum(axis=1) + chance.normal(size=len(x)) > 0).astype(int)
    params = {"objective": "binary", "num_leaves": LEAVES, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(params, lightgbm.Dataset(x, y), TREES)
    return to_onnx(Fitted(booster, booster.predict, "lightgbm"), COLUMNS)


def _alone(data: bytes) -> float:
    """Microseconds of one session.run with one row."""
    session = open_session(data)
    row = {"input": np.zeros((1, COLUMNS), dtype=np.float32)}
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        for _ in range(4000):
            session.run(None, row)
        best = min(best, (time.process_time() - started) / 4000)
    return best * 1e6


@contextmanager
def _falaj(folder: Path, data: bytes) -> Iterator[tuple[str, str]]:
    place = Installation(folder)
    digest = place.blobs.put(data)
    manifest = {"model": "model/delay@1", "digest": digest, "recipe": encode(RECIPE), "places": {}}
    arm = Arm(
        "champion",
        "model/delay@1",
        digest,
        1.0,
        "release/delay@1",
        sign_envelope(canonical(manifest), MANIFEST_TYPE, place.signer),
    )
    key = place.key("bench", "caller")
    try:
        place.host.serve(place.wanted(arm), place.keys)
        yield place.url, key
    finally:
        place.close()


@contextmanager
def _plain() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, "-m", "benchmarks.fixed_answer", str(port)]) as server:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _request(key: str) -> str:
    body = json.dumps(
        {
            "inputs": [{"name": "input", "shape": [1, COLUMNS], "datatype": "FP32", "data": [0.25 * n for n in range(COLUMNS)]}],
            "parameters": {"unit": "f-1", "at": "2013-05-01T09:30:00Z"},
        }
    )
    head = f"POST /v2/models/delay/infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}"


def _target(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def _measure(url: str, key: str, connections: int) -> dict[str, float]:
    """Requests a second, percentiles in milliseconds, and what the server's process used meanwhile."""
    process = _listener(_target(url)[1])
    command = [
        sys.executable,
        "-m",
        "benchmarks.serving",
        "load",
        url,
        _request(key).encode("unicode_escape").decode(),
        str(connections),
    ]
    before, started = process.cpu_times(), time.monotonic()
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    after = process.cpu_times()
    assert time.monotonic() - started > SECONDS
    found["cpu_us"] = ((after.user + after.system) - (before.user + before.system)) / found["count"] * 1e6
    found["mb"] = process.memory_info().rss / 1e6
    return found


def _listener(port: int) -> psutil.Process:
    found = next(c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port and c.pid)
    return psutil.Process(found.pid)


class _Caller(asyncio.Protocol):
    """One connection in a closed loop: the next request leaves when the last answer is whole."""

    def __init__(self, request: bytes, seconds: list[float], until: float, done: asyncio.Future[None]) -> None:
        self.request, self.seconds, self.until, self.done = request, seconds, until, done
        self.held = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self.held += data
        end = self.held.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.held[:end]
        length = int(head[head.index(b"content-length: ") + 16 :].split(b"\r\n", 1)[0])
        if len(self.held) < end + 4 + length:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(self.held.decode()))
            return
        self.held = b""
        now = time.perf_counter()
        self.seconds.append(now - self.sent)
        if now < self.until:
            self._send()
        elif not self.done.done():
            self.transport.close()
            self.done.set_result(None)

    def _send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.request)


async def _load(host: str, port: int, request: bytes, connections: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    seconds: list[float] = []
    started = time.perf_counter()
    done = [loop.create_future() for _ in range(connections)]
    for one in done:
        await loop.create_connection(lambda one=one: _Caller(request, seconds, started + SECONDS, one), host, port)  # type: ignore[misc]
    await asyncio.gather(*done)
    spent = time.perf_counter() - started
    ordered = sorted(seconds)
    at = {name: ordered[int(len(ordered) * part)] * 1000 for name, part in (("p50", 0.5), ("p99", 0.99))}
    return {"rps": len(seconds) / spent, "count": len(seconds), **at}


if __name__ == "__main__":
    main()
