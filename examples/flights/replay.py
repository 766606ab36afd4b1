"""The airline: sends each flight to the endpoint at its scheduled departure, and its outcome when it has landed.

It stands outside falaj. It knows two addresses and two keys, speaks HTTP, retries what was not answered, and never looks at a
model or at a statistic. What it tells falaj about time is only "it is now so late".
"""

from __future__ import annotations

import http.client
import json
import queue
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import polars as pl

PATIENCE = 90.0
"""Seconds for which an unanswered call is tried again: a server that was killed is back long before."""


class Refused(Exception):
    """An answer that no retry will change."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {json.dumps(body)[:600]}")
        self.status = status
        self.body = body


class Client:
    """One caller of one server. Each thread keeps a connection of its own open."""

    def __init__(self, address: Callable[[], str], key: str, trust: ssl.SSLContext | None = None) -> None:
        """`address` is asked again whenever a connection breaks: a server that comes back may have moved.

        `trust`: who vouches for a server at an https address, as in `ssl.create_default_context(cafile=…/keys/authority.pem)`.
        """
        self.address = address
        self.key = key
        self.trust = trust
        self.retries = 0
        self._local = threading.local()
        self._opened: list[http.client.HTTPConnection] = []

    def call(self, method: str, path: str, body: Any = None, *, patience: float = PATIENCE) -> Any:
        """The JSON answer. Raises Refused where no retry will change it, and the last problem when patience runs out."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        until, wait = time.monotonic() + patience, 0.02
        while True:
            try:
                status, answer = self._once(method, path, data, headers)
                if status < 400:
                    return answer
                problem: Exception = Refused(status, answer)
                if status != 429 and not (answer or {}).get("error", {}).get("retryable"):
                    raise problem
            except (OSError, http.client.HTTPException, ValueError) as exc:
                self._drop()
                problem = exc
            if time.monotonic() > until:
                raise problem
            self.retries += 1
            time.sleep(wait)
            wait = min(wait * 2, 1.0)

    def _once(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> tuple[int, Any]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            host = urlsplit(self.address())
            name = host.hostname or "127.0.0.1"
            if host.scheme == "https":
                connection = http.client.HTTPSConnection(name, host.port, timeout=60, context=self.trust)
            else:
                connection = http.client.HTTPConnection(name, host.port, timeout=60)
            self._local.connection = connection
            self._opened.append(connection)
        connection.request(method, path, data, dict(headers))
        answer = connection.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw) if raw else None

    def close(self) -> None:
        """Closes the connections of every thread."""
        for connection in self._opened:
            connection.close()

    def _drop(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None


@dataclass
class Tally:
    """What the airline saw with its own eyes; the crash test compares it with the log."""

    predictions: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """How long each answer took."""
    scores: deque[tuple[str, float]] = field(default_factory=lambda: deque(maxlen=50_000))


REQUEST_FIELDS = ("flight_id", "carrier", "origin", "dest", "tailnum", "distance", "sched_dep", "block_minutes", "network_delay")


def steps(
    flights: pl.DataFrame, start: datetime, end: datetime, every: timedelta
) -> Iterator[tuple[datetime, list[dict[str, Any]], list[dict[str, Any]]]]:
    """(time, flights that depart until the next step, flights that land until then), skipping steps in which nothing happens.

    The first step of each day is never skipped, so that daily work is done at its time.
    """
    departing = _by_step(flights, "sched_dep_at", start, every)
    landing = _by_step(flights.filter(pl.col("landed_at").is_not_null()), "landed_at", start, every)
    count = (end - start) // every
    daily = timedelta(days=1) // every
    for index in range(count):
        leave, arrive = departing.get(index, []), landing.get(index, [])
        if leave or arrive or index % daily == 0:
            yield start + index * every, leave, arrive
    yield end, [], []


def _by_step(flights: pl.DataFrame, column: str, start: datetime, every: timedelta) -> dict[int, list[dict[str, Any]]]:
    number = ((pl.col(column) - pl.lit(start)).dt.total_milliseconds() // (every // timedelta(milliseconds=1))).alias("_step")
    found: dict[int, list[dict[str, Any]]] = {}
    for row in flights.with_columns(number).filter(pl.col("_step") >= 0).sort(column).iter_rows(named=True):
        found.setdefault(row["_step"], []).append(row)
    return found


class Airline:
    """Sends requests and outcomes over a few connections at once."""

    def __init__(self, endpoint: str, caller: Client, connections: int = 4) -> None:
        self.endpoint = endpoint
        self.caller = caller
        self.pool = ThreadPoolExecutor(connections)
        self.tally = Tally()
        self._ids: dict[str, str] = {}
        """flight → prediction, until it lands."""

    def depart(self, flights: Sequence[Mapping[str, Any]]) -> None:
        """Asks for each flight once, and waits for all answers."""
        pending: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        for flight in flights:
            pending.put(flight)
        workers: list[Future[None]] = [self.pool.submit(self._ask, pending) for _ in range(min(len(flights), 4))]
        for worker in workers:
            worker.result()

    def land(self, flights: Sequence[Mapping[str, Any]]) -> None:
        """Sends the outcomes of the flights that were asked for."""
        labels = []
        for flight in flights:
            known = self._ids.pop(flight["flight_id"], None)
            if known is not None:
                labels.append({"id": known, "label": int(flight["late"]), "at": _iso(flight["landed_at"])})
        for low in range(0, len(labels), 500):
            part = labels[low : low + 500]
            self.caller.call("POST", "/v1/feedback", {"labels": part})
            self.tally.labels.extend(label["id"] for label in part)

    def _ask(self, pending: queue.SimpleQueue[Mapping[str, Any]]) -> None:
        path = f"/v1/models/{self.endpoint}:predict"
        while True:
            try:
                flight = pending.get_nowait()
            except queue.Empty:
                return
            request = {name: flight[name] for name in REQUEST_FIELDS} | {"at": _iso(flight["sched_dep_at"])}
            started = time.perf_counter()
            answer = self.caller.call("POST", path, {"requests": [request], "id": flight["flight_id"]})
            self.tally.seconds.append(time.perf_counter() - started)
            prediction = answer["predictions"][0]
            self._ids[flight["flight_id"]] = prediction["id"]
            self.tally.predictions.append(prediction["id"])
            self.tally.scores.append((prediction["id"], prediction["score"]))

    def close(self) -> None:
        self.pool.shutdown()
        self.caller.close()


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
