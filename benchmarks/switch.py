"""Who answers is changed under load: how long until nobody gets the old answer, what it costs the others, and that nothing fails.

A real endpoint, the control plane in this process, and callers in a process of their own that never stop asking: one row a
request by the Open Inference Protocol, keys checked and every prediction logged. The time to the last old answer counts from
before the control plane was asked; it holds what the control plane, the host and the server's own look at its wish take.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import uvloop

from benchmarks.figure import Figure, show
from falaj.adapters.local.signing import sign_envelope
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.codec import canonical, encode
from falaj.core.event import Change, Event
from falaj.core.recipe import Column, Recipe
from falaj.core.ref import Ref
from falaj.inference.models import MANIFEST_TYPE
from falaj.inference.router import split_of
from falaj.stages.rollouts.service import Rollouts
from falaj.stages.training.onnx import to_onnx
from falaj.stages.training.spec import Fitted
from tests.kits.endpoint import Installation
from tests.kits.rollouts import ANNA, ENDPOINT, T0, over

COLUMNS, TREES, LEAVES, CALLERS, UNITS = 20, 200, 31, 16, 1000
RECIPE = Recipe(tuple(Column(f"x{n}", "number", f"x{n}") for n in range(COLUMNS)), {}, {})
CALM_S, AFTER_S, WATCHED_S = 1.5, 1.0, 2.0
"""Before each change, for comparison; after it, what counts as during; and for how long an old answer is looked for."""
ONE, TWO = Ref("model", "delay", "1"), Ref("model", "delay", "2")
Step = tuple[str, float, Callable[["Table"], Any]]
"""What was changed, when it was asked for, and which answers are old by then."""
Table = np.ndarray[Any, np.dtype[Any]]
TOLD = np.dtype([("asked", "f8"), ("answered", "f8"), ("status", "i4"), ("version", "i4"), ("unit", "i4")])


def main() -> int:
    if sys.argv[1:2] == ["load"]:
        uvloop.run(_load(sys.argv[2], sys.argv[3], Path(sys.argv[4])))
        return 0
    return show(figures())


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        place = Installation(Path(folder))
        try:
            rollouts = _begin(place)
            steps, told, shadow = _live(place, rollouts, Path(folder) / "told.npy")
        finally:
            place.close()
    yield Figure("requests", float(len(told)), "", note=f"{CALLERS} callers")
    yield Figure("requests that failed", float((told["status"] != 200).sum()), "", budget=0)
    for name, moment, is_old in steps:
        old = told[is_old(told) & (told["answered"] >= moment) & (told["answered"] < moment + WATCHED_S)]
        last = (old["answered"].max() - moment) * 1000 if len(old) else 0.0
        yield Figure(f"{name}: the last old answer after", last, "ms", budget=1000)
        calm, during = _p99(told, moment - CALM_S, moment), _p99(told, moment, moment + AFTER_S)
        yield Figure(f"{name}: p99 within {AFTER_S:.0f} s", during, "ms", f"before ({calm:.2f} ms)", during / calm)
    yield from _of_shadow(told, shadow)


def _of_shadow(told: Table, shadow: tuple[float, dict[str, float]]) -> Iterator[Figure]:
    """What it costs the callers that every request is copied, and how much of it the shadow had time for."""
    moment, counts = shadow
    calm, during = _rate(told, moment - CALM_S, moment), _rate(told, moment, moment + WATCHED_S)
    yield Figure("shadow of everything: requests", during, "/s", f"before ({calm:.0f}/s)", during / calm)
    calm, during = _p99(told, moment - CALM_S, moment), _p99(told, moment, moment + WATCHED_S)
    yield Figure("shadow of everything: p99", during, "ms", f"before ({calm:.2f} ms)", during / calm)
    calm, during = (
        counts["cpu before"] / _count(told, counts["calm"], counts["calm"] + CALM_S) * 1e6,
        counts["cpu"] / _count(told, moment, moment + WATCHED_S) * 1e6,
    )
    yield Figure("shadow of everything: CPU a request", during, "µs", f"before ({calm:.0f} µs)", during / calm)
    seen = counts["rows"] + counts["dropped"]
    yield Figure(
        "shadow of everything: compared", 100 * counts["rows"] / seen, "%", note=f"of {seen:.0f} copies; the rest was dropped"
    )


def _begin(place: Installation) -> Rollouts:
    """Version 1 is served, 2 is registered; both with a forest of the size that the other benchmarks have."""
    ledger = MemoryLedger()
    rollouts = over(place, ledger=ledger)
    for version in (ONE, TWO):
        digest = place.blobs.put(_onnx(int(version.version or 0)))
        manifest = {"model": str(version), "digest": digest, "recipe": encode(RECIPE), "places": {}}
        envelope = sign_envelope(canonical(manifest), MANIFEST_TYPE, place.signer)
        body = {"ref": str(version), "asset": {"digest": digest}, "manifest": envelope, "gate": "allow"}
        with ledger.transaction() as tx:
            tx.append(Event("model.register", version, ANNA, T0, {}, (Change("model", f"delay@{version.version}", body),)))
    rollouts.deploy(ANNA, ENDPOINT, model=ONE, reason="the first")
    return rollouts


def _live(place: Installation, rollouts: Rollouts, told: Path) -> tuple[list[Step], Table, tuple[float, dict[str, float]]]:
    """Every change; everything that the callers were told; and when the shadow began, with what it counted."""
    switches, experiments = rollouts.switches, rollouts.experiments
    key, ops = place.key("bench", "caller"), place.key("ops", "operator")
    place.host.allow(place.keys)
    steps: list[Step] = []

    def change(name: str, act: Callable[[], Any], is_old: Callable[[Table], Any]) -> None:
        time.sleep(CALM_S)
        steps.append((name, time.monotonic(), is_old))
        act()
        time.sleep(max(0.0, steps[-1][1] + WATCHED_S - time.monotonic()))

    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.switch", "load", place.url, key, str(told)], stdin=subprocess.PIPE
    ) as load:
        time.sleep(2.0)  # until it asks
        switches.prepare(ANNA, ENDPOINT, model=TWO, reason="next")
        change("switch", lambda: switches.switch(ANNA, ENDPOINT, model=TWO, reason="go"), _not(2))
        change("rollback, warm", lambda: switches.rollback(ANNA, ENDPOINT, reason="back"), _not(1))
        switches.switch(ANNA, ENDPOINT, model=TWO, reason="go")
        switches.drop(ANNA, ENDPOINT, reason="cold")
        change("rollback, cold", lambda: switches.rollback(ANNA, ENDPOINT, reason="back"), _not(1))
        experiments.split(ANNA, ENDPOINT, variants={"b": TWO}, weights={"b": 0.1}, reason="which?")
        before = _expected(rollouts)
        change(
            "weights", lambda: experiments.weigh(ANNA, ENDPOINT, weights={"b": 0.6}, reason="more"), lambda t: t["version"] == 0
        )
        steps[-1] = ("weights", steps[-1][1], _moved(before, _expected(rollouts)))
        experiments.unsplit(ANNA, ENDPOINT, winner="champion", reason="over")
        cost = [place.host.look("delay").cpu_seconds]
        calm = time.monotonic()
        time.sleep(CALM_S)
        cost.append(place.host.look("delay").cpu_seconds)
        rollouts.shadows.shadow(ANNA, ENDPOINT, model=TWO, share=1.0, reason="see")
        began = time.monotonic()
        cost.append(place.host.look("delay").cpu_seconds)
        time.sleep(WATCHED_S)
        cost.append(place.host.look("delay").cpu_seconds)
        with place.client(ops) as client:
            text = client.get("/metrics").text
        load.communicate(b"over\n", timeout=30)
    counts = {name: _counter(text, name) for name in ("rows", "dropped")}
    counts |= {"calm": calm, "cpu before": cost[1] - cost[0], "cpu": cost[3] - cost[2]}
    return steps, np.load(told), (began, counts)


def _counter(text: str, name: str) -> float:
    found = [line for line in text.splitlines() if line.startswith(f"falaj_shadow_{name}_total{{")]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def _not(version: int) -> Callable[[Table], Any]:
    return lambda told: told["version"] != version


def _expected(rollouts: Rollouts) -> Table:
    """The version that answers each unit, by the endpoint's record."""
    wanted = rollouts.place.kernel.ledger.get("endpoint", "delay")["wanted"]  # type: ignore[index]
    from falaj.core.codec import decode
    from falaj.ports.host import Wanted

    arms = decode(Wanted, wanted).arms
    split = split_of(arms, wanted["salt"])
    return np.array([int(arms[split.of(f"u{unit}")].model.rpartition("@")[2]) for unit in range(UNITS)])


def _moved(before: Table, after: Table) -> Callable[[Table], Any]:
    """Answers to units that were moved, from the model that they had before."""
    return lambda told: (before != after)[told["unit"]] & (told["version"] != after[told["unit"]])


def _p99(told: Table, since: float, until: float) -> float:
    mine = told[(told["asked"] >= since) & (told["asked"] < until)]
    return float(np.percentile(mine["answered"] - mine["asked"], 99) * 1000)


def _count(told: Table, since: float, until: float) -> float:
    return float(((told["answered"] >= since) & (told["answered"] < until)).sum())


def _rate(told: Table, since: float, until: float) -> float:
    return _count(told, since, until) / (until - since)


def _onnx(seed: int) -> bytes:
    chance = np.random.default_rng(seed)
    x = chance.normal(size=(20_000, COLUMNS)).astype(np.float32)
    y = (x[:, :5].sum(axis=1) + chance.normal(size=len(x)) > 0).astype(int)
    params = {"objective": "binary", "num_leaves": LEAVES, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(params, lightgbm.Dataset(x, y), TREES)
    return to_onnx(Fitted(booster, booster.predict, "lightgbm"), COLUMNS)


# --- The callers, in a process of their own -------------------------------------------------------------------------------


class _Caller(asyncio.Protocol):
    """Asks, waits for the answer, asks again."""

    def __init__(self, number: int, key: str, told: list[tuple[float, float, int, int, int]]) -> None:
        self._unit, self._told, self._asked, self._held = number, told, 0.0, b""
        self._requests = [_request(key, unit) for unit in range(UNITS)]
        self.is_over = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        if not found:
            return
        at = head.lower().find(b"content-length:")
        if len(body) < int(head[at + 15 :].split(b"\r\n", 1)[0]):
            return
        self._note(int(head[9:12]), body)
        self._held = b""
        if self.is_over:
            self._transport.close()
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_over:
            self._note(0, b"")

    def _ask(self) -> None:
        self._unit = (self._unit + CALLERS) % UNITS
        self._asked = time.monotonic()
        self._transport.write(self._requests[self._unit])

    def _note(self, status: int, body: bytes) -> None:
        at = body.find(b'"model_version":"')
        version = int(body[at + 17 : at + 18]) if at >= 0 else 0
        self._told.append((self._asked, time.monotonic(), status, version, self._unit))


def _request(key: str, unit: int) -> bytes:
    body = json.dumps(
        {
            "inputs": [{"name": "input", "shape": [1, COLUMNS], "datatype": "FP32", "data": [0.25 * n for n in range(COLUMNS)]}],
            "parameters": {"unit": f"u{unit}", "at": "2013-05-01T09:30:00Z"},
        }
    )
    head = f"POST /v2/models/delay/infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def _load(url: str, key: str, place: Path) -> None:
    """Asks until a line comes in, then writes down what was told."""
    loop = asyncio.get_running_loop()
    host, _, port = url.removeprefix("http://").partition(":")
    told: list[tuple[float, float, int, int, int]] = []
    callers = [
        (await loop.create_connection(lambda n=n: _Caller(n, key, told), host, int(port)))[1]  # type: ignore[misc]
        for n in range(CALLERS)
    ]
    await loop.run_in_executor(None, sys.stdin.readline)
    for caller in callers:
        caller.is_over = True
    await asyncio.sleep(0.5)
    np.save(place, np.array(told, TOLD))


if __name__ == "__main__":
    sys.exit(main())
