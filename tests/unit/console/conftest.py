"""A small ledger with a whole story in it: two releases, a rollout that was taken back, one under way, drift, an alert."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from falaj.adapters.local.signing import verifier
from falaj.adapters.memory.blobs import MemoryBlobs
from falaj.adapters.memory.host import MemoryHost
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.asset import Asset
from falaj.core.codec import encode
from falaj.core.decision import Check, Decision
from falaj.core.event import Change, Event
from falaj.core.moments import iso, millis
from falaj.core.ref import Ref
from falaj.core.run import Run
from falaj.core.segment import Seal
from falaj.stages.action import Kernel
from falaj.stages.alerts.service import Alerts
from falaj.stages.governance.audit import Audit
from falaj.stages.rollouts.endpoints import Endpoints
from falaj.stages.rollouts.rules import Block
from falaj.stages.rollouts.service import Rollouts
from falaj.stages.rollouts.spec import Canary, Endpoint

START = datetime(2013, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ANNA, WORKER = Actor("anna"), Actor("worker", "service")
MONITOR, ENDPOINT = Ref("monitor", "delay"), Ref("endpoint", "delay")
NASTY = "<script>alert('x')</script>&\"'"
"""What somebody may write where the report shows it."""


class AllowAll:
    def decide(self, actor: Actor, verb: str, subject: Ref, labels: object) -> Decision:
        return Decision(subject, "policy", "allow")


class Nobody:
    def send(self, message: Mapping[str, Any]) -> None:
        """Nobody listens."""


@dataclass
class World:
    """What a story is told from: an app's ledger, blobs and audit."""

    ledger: MemoryLedger = field(default_factory=lambda: MemoryLedger("falaj/flights"))
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    now: datetime = START

    def __post_init__(self) -> None:
        kernel = Kernel(self.ledger, AllowAll(), lambda: self.now)
        plan = Canary(steps=(0.2, 0.5), guards=("wrong", "failure"))
        endpoint = Endpoint("delay", "delay", unit="flight_id", threshold=0.3, rollout=plan)
        self.rollouts = Rollouts(Endpoints(kernel, MemoryHost(), {"delay": endpoint}, dict))
        self.alerts = Alerts(kernel, Nobody())
        self.audit = Audit(kernel, verifier(self.ledger.vkey))

    def write(self, verb: str, subject: Ref, *changes: tuple[str, str, Any], **facts: Any) -> None:
        drafted = tuple(Change(kind, key, encode(body)) for kind, key, body in changes)
        with self.ledger.transaction() as tx:
            tx.append(Event(verb, subject, WORKER, self.now, encode(facts), drafted))

    def model(self, version: int, *, verdict: str = "allow") -> Ref:
        candidate, ref = Ref("candidate", "delay", f"release-{version}"), Ref("model", "delay", str(version))
        asset = Asset(candidate, "sha256:" + "0" * 64, "x", labels={"training": "delay"}, run=f"release-{version}")
        checks = (Check("roc_auc", ">= 0.6", "0.71", verdict == "allow"), Check("slice carrier=UA", "<= 0.05", "0.01", True))
        gate = Decision(candidate, "gate", verdict, checks, WORKER, self.now)  # type: ignore[arg-type]
        self.write("model.train", candidate, ("asset", str(candidate), asset))
        self.write("model.evaluate", candidate, ("decision", f"{candidate}|gate", gate))
        if verdict == "allow":
            record = {"ref": ref, "asset": asset, "manifest": {}, "training": "delay", "gate": "allow"}
            self.write("model.register", ref, ("model", f"delay@{version}", record))
        return ref

    def promise(self, model: Ref) -> None:
        self.write("monitor.start", MONITOR, model=str(model), promise={"wrong": 0.2, "brier": 0.15, "rows": 900})

    def look(self, model: Ref, *, drift: str = "allow", labelled: int = 800) -> None:
        """A monitor's look, as its record reads."""
        drifted = drift == "deny"
        temp = {"name": "temp", "p": 1e-9 if drifted else 0.5, "js": 0.03 if drifted else 0.001}
        rest = {"missing": 0.0, "unseen": 0.0, "drifted": drifted}
        seen: dict[str, Any] = {"rows": 900, "labelled": labelled}
        if labelled:
            seen |= {"wrong": 0.21, "brier": 0.151, "base_rate": 0.23, "auc": [0.7, 0.68, 0.72]}
        body = {
            "monitor": MONITOR,
            "model": model,
            "from": self.now - 7 * DAY,
            "to": self.now,
            "verdicts": {"drift": drift, "decay": "allow"},
            "process": {"memory_bytes": 100 << 20, "cpu_seconds": (self.now - START) / DAY, "ready": True},
            "rows": 900,
            "predictions": {"mean": 0.24},
            "latency_ms": {"p50": 0.6, "p95": 1.3, "p99": 2.5},
            "performance": seen,
            "inputs": [temp | rest],
        }
        self.write("monitor.look", MONITOR, ("window", f"delay/{iso(self.now)}", body))

    def roll(self, model: Ref, days: int, wrong: tuple[float, float]) -> Ref:
        """A rollout with so many days of traffic, 200 units of each arm a day."""
        rollout = self.rollouts.start(WORKER, ENDPOINT, challenger=model)
        blocks = []
        for _ in range(days):
            if self.rollouts.live("delay") is None:
                break
            start, self.now = self.now, self.now + DAY
            step = self.rollouts.show(rollout)["status"]["step"]
            share = self.rollouts.show(rollout)["status"]["epochs"][-1]["share"]
            units = (round(1000 * (1 - share)), round(1000 * share))
            for guard, rates in (("wrong", wrong), ("failure", (0.0, 0.0))):
                bad = (round(units[0] * rates[0]), round(units[1] * rates[1]))
                blocks.append(Block(guard, step, millis(start), millis(self.now), units, bad, units))
            self.rollouts.look(WORKER, rollout, blocks=blocks, now=self.now)
        return rollout

    def take_in(self, *, rows: int, reasons: list[list[str]]) -> None:
        good = Asset(Ref("dataset", "flights", "1"), self.blobs.put(b"rows"), "x", labels={"rows": rows})
        out = io.BytesIO()
        pl.DataFrame({"_reasons": reasons}).write_parquet(out)
        bad = Asset(Ref("quarantine", "flights", "1"), self.blobs.put(out.getvalue()), "x", labels={"rows": len(reasons)})
        head = {"version": 1, "watermark": iso(self.now), "known_rows": rows}
        changes = [("asset", str(asset.ref), asset) for asset in (good, bad)]
        self.write("dataset.ingest", good.ref, *changes, ("head", "dataset/flights", head))


def tell(world: World) -> World:
    world.take_in(rows=5000, reasons=[["too late"], ["too late", NASTY]])
    first = world.model(1)
    world.rollouts.deploy(ANNA, ENDPOINT, model=first, reason="first release")
    world.promise(first)
    for day in range(20):
        world.now = START + (day + 1) * DAY
        world.look(first, drift="deny" if 10 <= day < 15 else "allow", labelled=0 if day < 3 else 800)
    run = Run("retrain-delay-20130515", "release", {"reason": "drift"}, "succeeded", outputs=(), started_at=world.now)
    world.write("run.finish", Ref("run", run.id), ("run", run.id, run))
    world.model(0, verdict="deny")
    world.roll(world.model(2), 30, (0.2, 0.5))
    alert = world.alerts.open(WORKER, Ref("alert", "nasty"), key="nasty", title=NASTY, severity="critical", facts={})
    world.alerts.acknowledge(ANNA, alert)
    world.roll(third := world.model(3), 30, (0.3, 0.1))
    world.promise(third)
    world.now += DAY
    world.look(third)
    world.roll(world.model(4), 3, (0.2, 0.2))
    seal = Seal("delay", 0, 5000, "sha256:" + "1" * 64, "sha256:" + "2" * 64, iso(START), iso(world.now))
    world.write("predictions.seal", ENDPOINT, ("seal", "delay/000000", seal))
    world.ledger.checkpoint()
    return world


@pytest.fixture(scope="session")
def world() -> World:
    return tell(World())
