"""Mixed traffic at a given rate: single rows, batches, entities, labels, bad requests, and callers that come and go.

`mixed.py <url> <key> <seconds> <requests a second, 0 for as many as go> [gRPC address]`; prints one JSON object: what was
sent and answered, and how long it took. Requests leave by the clock and not when the last answer came: a slow server does not
slow the load down.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson
import uvloop

CONNECTIONS = 32
CALLS_A_CHANNEL, CALL_EVERY_S = 500, 0.01
TURNS = 2000
"""Requests of a connection before it is closed and another one opened."""
INFER, PREDICT, FEEDBACK = "/v2/models/delay/infer", "/v1/models/delay:predict", "/v1/feedback"
AT = "2013-05-01T09:30:00Z"
ENTITY = {"carrier": "UA", "origin": "EWR", "distance": 700.0, "at": AT}


@dataclass(frozen=True)
class Kind:
    """`share`: of the traffic. `right`: the status that it must be answered with."""

    name: str
    share: float
    right: int


KINDS = (
    Kind("single row", 0.60, 200),
    Kind("64 rows", 0.05, 200),
    Kind("entity", 0.20, 200),
    Kind("20 entities", 0.02, 200),
    Kind("label", 0.05, 200),
    Kind("not JSON", 0.02, 400),
    Kind("wrong width", 0.02, 422),
    Kind("no such model", 0.02, 404),
    Kind("no key", 0.02, 401),
)


def body_of(kind: str, chance: random.Random, ids: deque[str]) -> tuple[str, bytes]:
    """(path, body)."""
    unit = f"f-{chance.randrange(100_000)}"
    if kind in ("single row", "64 rows", "wrong width", "no key", "no such model"):
        path = "/v2/models/other/infer" if kind == "no such model" else INFER
        rows, width = (64 if kind == "64 rows" else 1), (3 if kind == "wrong width" else 4)
        data = [round(chance.uniform(0, 1000), 2) for _ in range(rows * width)]
        tensor = {"name": "X", "shape": [rows, width], "datatype": "FP32", "data": data}
        return path, orjson.dumps({"inputs": [tensor], "parameters": {"unit": unit, "at": AT}})
    if kind == "entity":
        return PREDICT, orjson.dumps({**ENTITY, "flight_id": unit})
    if kind == "20 entities":
        return PREDICT, orjson.dumps({"requests": [{**ENTITY, "flight_id": f"{unit}-{n}"} for n in range(20)]})
    if kind == "label":
        label = {"id": ids[chance.randrange(len(ids))], "label": chance.randrange(2), "at": "2013-05-01T12:00:00Z"}
        return FEEDBACK, orjson.dumps({"labels": [label]})
    return INFER, b'{"inputs":[{"name":'


@dataclass
class Traffic:
    """What all connections share."""

    host: str
    port: int
    key: str
    rate: float
    until: float
    grpc: str = ""
    chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311
    ids: deque[str] = field(default_factory=lambda: deque(maxlen=1000))
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    idle: deque[_Connection] = field(default_factory=deque)
    opening: set[asyncio.Task[Any]] = field(default_factory=set)
    sent: int = 0
    late: int = 0

    def __post_init__(self) -> None:
        # Made beforehand: making a request takes longer than sending it.
        self.ready = {kind: [self._made(kind.name) for _ in range(400)] for kind in KINDS if kind.name != "label"}
        self.order = self.chance.choices(KINDS, [kind.share for kind in KINDS], k=20_000)

    def next(self) -> tuple[Kind, bytes]:
        kind = self.order[self.sent % len(self.order)]
        if kind.name == "label":
            if self.ids:
                return kind, self._made("label")
            kind = KINDS[0]
        return kind, self.ready[kind][self.sent % 400]

    def _made(self, kind: str) -> bytes:
        path, body = body_of(kind, self.chance, self.ids)
        key = f"Authorization: Bearer {self.key}\r\n" if kind != "no key" else ""
        return f"POST {path} HTTP/1.1\r\nHost: x\r\n{key}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _Connection(asyncio.Protocol):
    def __init__(self, traffic: Traffic) -> None:
        self.traffic, self.held, self.turns = traffic, b"", 0
        self.kind: Kind | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.traffic.idle.append(self)

    def go(self) -> None:
        self.kind, request = self.traffic.next()
        self.traffic.sent += 1
        self.began = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.held += data
        end = self.held.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.held[:end].lower()
        length = int(head[head.index(b"content-length: ") + 16 :].split(b"\r\n", 1)[0])
        if len(self.held) < end + 4 + length:
            return
        body, self.held = self.held[end + 4 :], b""
        self._answered(int(head[9:12]), body, b"connection: close" in head)

    def _answered(self, status: int, body: bytes, is_last: bool) -> None:
        traffic, kind = self.traffic, self.kind
        assert kind is not None
        traffic.seconds.append(time.perf_counter() - self.began)
        traffic.counts[kind.name] += 1
        if status != kind.right:
            traffic.wrong.append(f"{kind.name}: {status} {body[:200]!r}")
        elif kind.name == "entity":
            traffic.ids.append(orjson.loads(body)["id"])
        self.kind, self.turns = None, self.turns + 1
        if self.turns >= TURNS or is_last:
            self.transport.close()
        else:
            traffic.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        traffic = self.traffic
        if self in traffic.idle:
            traffic.idle.remove(self)
        if self.kind is not None and time.perf_counter() < traffic.until:
            traffic.wrong.append(f"{self.kind.name}: no answer, {exc!r}")
        traffic.counts["connections"] += 1
        if time.perf_counter() < traffic.until:
            loop = asyncio.get_running_loop()
            task = loop.create_task(loop.create_connection(lambda: _Connection(traffic), traffic.host, traffic.port))
            traffic.opening.add(task)
            task.add_done_callback(traffic.opening.discard)


async def run(traffic: Traffic) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    beside = [asyncio.to_thread(calls, traffic)] if traffic.grpc else []
    others = asyncio.gather(*beside)
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: _Connection(traffic), traffic.host, traffic.port)
    started = time.perf_counter()
    while (now := time.perf_counter()) < traffic.until:
        due = int((now - started) * traffic.rate) - traffic.sent if traffic.rate else len(traffic.idle)
        while due > 0 and traffic.idle:
            traffic.idle.popleft().go()
            due -= 1
        traffic.late = max(traffic.late, due)
        await asyncio.sleep(0 if not traffic.rate else 0.0005)
    await asyncio.sleep(0.5)
    await others
    ordered = sorted(traffic.seconds)
    at = {name: ordered[int(len(ordered) * part)] * 1000 for name, part in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}
    spent = traffic.until - started
    return {
        "rps": len(ordered) / spent,
        "counts": dict(traffic.counts),
        "wrong": len(traffic.wrong),
        "first": traffic.wrong[:5],
        "late": traffic.late,
        **at,
    }


def calls(traffic: Traffic) -> None:
    """Calls over gRPC, beside all the others, one after the other on a channel that is opened anew now and then."""
    import grpc
    from tritonclient.grpc import service_pb2

    asked = service_pb2.ModelInferRequest(model_name="delay")
    tensor = asked.inputs.add(name="X", datatype="FP32", shape=[1, 4])
    tensor.contents.fp32_contents.extend((700.0, 1.0, 50.0, 5.0))
    asked.parameters["at"].string_param = AT
    data = asked.SerializeToString()
    while time.perf_counter() < traffic.until:
        with grpc.insecure_channel(traffic.grpc) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            for number in range(CALLS_A_CHANNEL):
                if time.perf_counter() >= traffic.until:
                    break
                is_bad = number % 10 == 9
                try:
                    infer(
                        data[: number // 10 % 20 + 1] if is_bad else data,
                        metadata=[("authorization", f"Bearer {traffic.key}")],
                        timeout=10,
                    )
                    right = not is_bad
                except grpc.RpcError as exc:
                    right = is_bad and exc.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
                traffic.counts["gRPC"] += 1
                if not right:
                    traffic.wrong.append(f"gRPC: call {number} was not answered as it should be")
                time.sleep(CALL_EVERY_S)


def main() -> None:
    url, key, seconds, rate, *more = sys.argv[1:]
    parts, until = urlsplit(url), time.perf_counter() + float(seconds)
    traffic = Traffic(str(parts.hostname), int(parts.port or 0), key, float(rate), until, grpc="".join(more))
    print(json.dumps(uvloop.run(run(traffic))))


if __name__ == "__main__":
    main()
