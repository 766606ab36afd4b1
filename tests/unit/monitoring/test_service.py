"""An endpoint watched from its log: windows, verdicts, retraining, and the blocks that a rollout decides on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.adapters.memory.blobs import MemoryBlobs
from falaj.adapters.memory.host import MemoryHost
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.codec import canonical, encode
from falaj.core.decision import Decision
from falaj.core.errors import NotFound
from falaj.core.event import Change, Event
from falaj.core.moments import from_millis, iso, millis
from falaj.core.ref import Ref
from falaj.core.segment import PredictionId
from falaj.stages.action import Kernel
from falaj.stages.monitoring.drift import DriftReference, calibrate
from falaj.stages.monitoring.performance import Promise
from falaj.stages.monitoring.service import Monitors
from falaj.stages.monitoring.spec import Monitor
from falaj.stages.rollouts.endpoints import Endpoints
from falaj.stages.rollouts.service import Rollouts
from falaj.stages.rollouts.spec import Canary, Endpoint

T0 = datetime(2013, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WORKER = Actor("worker", "service", ("service",))
MONITOR = Ref("monitor", "delay")
ONE, TWO = Ref("model", "delay", "1"), Ref("model", "delay", "2")
PROMISE = Promise(0.2, 0.16, 5000)


class Everybody:
    def decide(self, actor: Actor, verb: str, subject: Ref, labels: Mapping[str, Any]) -> Decision:
        return Decision(subject, "policy", "allow", actor=actor)


def reference() -> DriftReference:
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(size=8400), rng.uniform(0, 24, 8400), rng.beta(2, 6, 8400)])
    times = millis(T0 - 84 * DAY) + np.arange(8400) * 864_000
    return calibrate(["temp", "hour", "(score)"], rows, times, window=timedelta(days=7))


class Place:
    """A project with a log on disk, 150 predictions a day, labels after five hours."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.row, self.rng = folder, T0, 0, np.random.default_rng(7)
        self.ledger, self.blobs, self.host = MemoryLedger(), MemoryBlobs(), MemoryHost()
        self.kernel = Kernel(self.ledger, Everybody(), lambda: self.now)
        plan = Canary(steps=(0.2, 0.5), step_units=40, guards=("wrong", "failure", "slow"))
        self.endpoints = {"delay": Endpoint("delay", "delay", "flight_id", 0.3, plan)}
        self.rollouts = Rollouts(Endpoints(self.kernel, self.host, self.endpoints, dict))
        for ref in (ONE, TWO):
            body = {"ref": str(ref), "asset": {"digest": f"sha256:{ref.version}"}, "manifest": {}, "gate": "allow"}
            with self.ledger.transaction() as tx:
                tx.append(Event("model.register", ref, WORKER, T0, {}, (Change("model", f"delay@{ref.version}", body),)))
        self.rollouts.deploy(WORKER, Ref("endpoint", "delay"), model=ONE, reason="first")
        self.monitors = self.opened()

    def opened(self) -> Monitors:
        return Monitors(
            self.kernel,
            streams=lambda _name: SegmentPredictions(self.folder),
            blobs=self.blobs,
            host=self.host,
            monitors={"delay": Monitor("delay", cooldown="5d", min_rows=200)},
            endpoints=self.endpoints,
        )

    def start(self) -> None:
        self.monitors.start(WORKER, MONITOR, model=ONE, reference=reference(), promise=PROMISE)

    def live(self, days: int, *, shift: float = 0.0, wrong: tuple[float, float] = (0.2, 0.2), broken: float = 0.0) -> None:
        for _ in range(days):
            for _ in range(150):
                self.ask(shift, wrong, broken)
            self.now += DAY

    def ask(self, shift: float, wrong: tuple[float, float], broken: float) -> None:
        at = from_millis(millis(self.now) + int(self.rng.integers(0, 86_400_000)))
        arms = self.host.wanted["delay"].arms
        arm = arms[-1] if self.rng.random() < arms[-1].share else arms[0]
        lines: list[dict[str, Any]] = []
        if arm.role == "challenger" and self.rng.random() < broken:
            lines = [{"kind": "failure", "at": iso(at), "wrote": iso(at), "arm": arm.role, "unit": f"f{self.row}", "code": "bug"}]
        else:
            score = float(self.rng.beta(2, 6))
            is_wrong = self.rng.random() < wrong[arm.role == "challenger"]
            label = int((score >= 0.3) != is_wrong)
            name = PredictionId(0, self.row, millis(at)).issue(b"k")
            features = [float(self.rng.normal() + shift), float(self.rng.uniform(0, 24))]
            made = {
                "kind": "prediction", "id": name, "at": iso(at), "arm": arm.role, "model": arm.model, "share": arm.share,
                "unit": f"f{self.row}", "request_id": f"q{self.row}", "features": features, "score": score,
                "ms": float(self.rng.gamma(4.0)), "forced": False,
            }  # fmt: skip
            late = iso(at + timedelta(hours=5))
            lines = [made, {"kind": "label", "id": name, "at": late, "wrote": late, "label": label}]
        self.row += 1
        with (self.folder / "000000.jsonl").open("a") as log:
            log.writelines(json.dumps(line) + "\n" for line in lines)

    def look(self) -> dict[str, str]:
        return {d.rule: d.verdict for d in self.monitors.look(WORKER, MONITOR, now=self.now)}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_quiet_month_raises_nothing_and_keeps_its_windows(place: Place) -> None:
    place.start()
    seen = []
    for _ in range(14):
        place.live(1)
        seen.append(place.look())
    assert {found["drift"] for found in seen[2:]} == {"allow"}
    assert seen[-1]["decay"] == "allow"
    windows = place.ledger.find("window")
    assert len(windows) == 14
    last = windows[-1][1]
    assert last["rows"] == 1050
    assert last["performance"]["labelled"] == 1050
    assert last["performance"]["wrong"] == pytest.approx(0.2, abs=0.05)
    assert last["latency_ms"]["p50"] > 0
    assert len(canonical(last)) < 4096
    assert max(len(canonical(encode(event))) for event in place.ledger.events()) < 16_384
    assert place.monitors.wants_retrain(MONITOR) is None


def test_drift_is_told_and_asks_for_retraining_once_a_cooldown(place: Place) -> None:
    place.start()
    place.live(7)
    assert place.look()["drift"] == "allow"
    place.live(7, shift=1.0)
    assert place.look()["drift"] == "deny"
    wish = place.monitors.wants_retrain(MONITOR)
    assert wish == ("drift", place.now)
    decision = place.ledger.get("decision", "monitor/delay|drift")
    assert decision is not None
    assert decision["reason"] == "temp"
    place.live(1, shift=1.0)
    place.look()
    assert place.monitors.wants_retrain(MONITOR) == wish
    # The next release begins anew.
    place.start()
    assert place.monitors.wants_retrain(MONITOR) is None


def test_decay_is_told_from_labels(place: Place) -> None:
    place.start()
    place.live(30, wrong=(0.45, 0.45))
    assert place.look() == {"drift": "allow", "decay": "deny"}
    wish = place.monitors.wants_retrain(MONITOR)
    assert wish is not None
    assert wish[0] == "decay"


def test_before_anything_was_seen_there_is_no_verdict(place: Place) -> None:
    with pytest.raises(NotFound, match="watches nothing"):
        place.look()
    place.start()
    assert place.look() == {"drift": "hold", "decay": "hold"}
    assert not place.monitors.is_due(MONITOR, place.now)
    assert not place.monitors.is_due(MONITOR, place.now + DAY)
    assert place.monitors.is_due(MONITOR, place.now + 7 * DAY)


def canary(place: Place, days: int, **how: Any) -> str:
    place.live(4)
    place.monitors.follow("delay", place.now)
    slow_ms = place.monitors.usual_latency("delay", place.now)
    assert slow_ms is not None
    rollout = place.rollouts.start(WORKER, Ref("endpoint", "delay"), challenger=TWO, slow_ms=slow_ms)
    for day in range(days):
        place.live(1, **how)
        if day == 5:
            # A restart: everything is read from the log again.
            place.monitors = place.opened()
        place.monitors.follow("delay", place.now)
        place.rollouts.look(WORKER, rollout, blocks=place.monitors.blocks(rollout), now=place.now)
        if place.rollouts.live("delay") is None:
            break
    return str(place.rollouts.show(rollout)["status"]["state"])


def test_a_challenger_that_errs_is_taken_back_from_the_log_alone(place: Place) -> None:
    assert canary(place, 40, wrong=(0.2, 0.5)) == "rolled_back"
    assert [arm.model for arm in place.host.wanted["delay"].arms] == [str(ONE)]


def test_a_challenger_that_fails_is_taken_back_within_days_without_labels(place: Place) -> None:
    assert canary(place, 3, broken=0.5) == "rolled_back"


def test_a_better_challenger_is_promoted_from_the_log_alone(place: Place) -> None:
    assert canary(place, 60, wrong=(0.25, 0.1)) == "promoted"
    assert [arm.model for arm in place.host.wanted["delay"].arms] == [str(TWO)]


def test_what_is_read_again_from_the_log_gives_the_same_blocks(place: Place) -> None:
    place.live(4)
    rollout = place.rollouts.start(WORKER, Ref("endpoint", "delay"), challenger=TWO, slow_ms=5.0)
    for _ in range(6):
        place.live(1)
        place.monitors.follow("delay", place.now)
    again = place.opened()
    again.follow("delay", place.now)
    assert again.blocks(rollout) == place.monitors.blocks(rollout)
    assert {block.guard for block in again.blocks(rollout)} == {"wrong", "failure", "slow"}


def test_a_masked_feature_is_no_drift_and_the_window_says_so(place: Place) -> None:
    place.start()
    masked = {"request": ["temp"], "features": ["temp"]}
    ask = place.ask

    def without(shift: float, wrong: tuple[float, float], broken: float) -> None:
        ask(shift, wrong, broken)
        lines = (place.folder / "000000.jsonl").read_text().splitlines()
        made = json.loads(lines[-2])
        lines[-2] = json.dumps(made | {"features": [None, *made["features"][1:]], "masked": masked})
        (place.folder / "000000.jsonl").write_text("\n".join(lines) + "\n")

    place.ask = without  # type: ignore[method-assign]
    place.live(4, shift=3.0)
    assert place.look()["drift"] == "allow"
    ((_, window),) = place.ledger.find("window")
    assert window["masked"] == ["temp"]
    assert [seen["name"] for seen in window["inputs"]] == ["hour", "(score)"]
    assert window["labels"] == {"late": 0, "unmatched": 0}
