"""Watches endpoints: follows their logs, judges windows and days, and says when a model should be trained again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from falaj.core.codec import canonical, decode, encode
from falaj.core.decision import Decision, judge
from falaj.core.errors import NotFound
from falaj.core.moments import from_millis, iso, length, millis, moment
from falaj.core.ref import Ref
from falaj.ports.blobs import Blobs
from falaj.ports.host import Host
from falaj.ports.predictions import Cursor, Predictions
from falaj.stages.action import Act, Kernel, action
from falaj.stages.monitoring import drift, figures, performance
from falaj.stages.monitoring.cohorts import Cohort, Cut, Joiner, blocks_of
from falaj.stages.monitoring.drift import DriftReference
from falaj.stages.monitoring.performance import Detector, Promise
from falaj.stages.monitoring.spec import Monitor, alarms_per, alpha_of
from falaj.stages.rollouts.rules import SEEN_FROM_LABELS, Block
from falaj.stages.rollouts.spec import Canary, Endpoint

BATCH = 20_000
"""Records between two looks for cohorts to close while an old log is read again, so that memory stays bounded."""


@dataclass(slots=True)
class _Watch:
    """What is known of one endpoint's log; all of it can be read again from the log."""

    days: Joiner
    pulses: Joiner
    cursor: Cursor = field(default_factory=Cursor)
    latest_ms: int = 0
    closed: list[Cohort] = field(default_factory=list)
    blocks: dict[str, list[Block]] = field(default_factory=dict)


class Monitors:
    """`streams`: endpoint → its prediction log. One object a process; it holds the open cohorts in memory."""

    def __init__(
        self, kernel: Kernel, *, streams: Callable[[str], Predictions], blobs: Blobs, host: Host,
        monitors: Mapping[str, Monitor], endpoints: Mapping[str, Endpoint],
    ) -> None:  # fmt: skip
        """`monitors` and `endpoints` by the endpoint's name."""
        self.kernel = kernel
        self.streams, self.blobs, self.host = streams, blobs, host
        self.monitors, self.endpoints = monitors, endpoints
        self._watches: dict[str, _Watch] = {}
        self._references: dict[str, DriftReference] = {}

    @action("monitor.start")
    def start(self, act: Act, subject: Ref, *, model: Ref, reference: DriftReference, promise: Promise) -> str:
        """Watches a newly released model: what was normal in its training, and how well it did on its holdout.

        Evidence begins anew. Returns the digest under which the reference is kept.
        """
        monitor = self._monitor(subject)
        digest = self.blobs.put(canonical(encode(reference)))
        body = {
            "ref": subject,
            "endpoint": f"endpoint/{monitor.endpoint}",
            "model": model,
            "reference": digest,
            "promise": promise,
            "since": act.now,
            "detectors": performance.detectors(promise, monitor.allowance),
            "judged_ms": millis(act.now),
            "looked_at": None,
            "asked_at": None,
            "asked_for": "",
        }
        with act.change() as draft:
            draft.put("monitor", subject.name, body)
            draft.note(model=str(model), reference=digest, promise=encode(promise))
        return digest

    @action("monitor.look")
    def look(self, act: Act, subject: Ref, *, now: datetime) -> tuple[Decision, Decision]:
        """Judges the window that ends now: (drift, decay). A denied verdict is an alarm, a hold could not see enough.

        Keeps the window's figures, and asks for retraining at most once a cooldown. Raises NotFound before `start`.
        """
        monitor, record = self._monitor(subject), self._record(subject)
        endpoint = self.endpoints[monitor.endpoint]
        self.follow(monitor.endpoint, now)
        recent, matured = self._windows(monitor, record, now)
        reference = self._reference(record["reference"])
        counts = figures.counts_of(reference, recent)
        masked = self._watches[monitor.endpoint].days.masked.get(record["model"], frozenset())
        judged, kept = figures.without(reference, counts, (*monitor.ignore, *masked))
        alpha = alpha_of(monitor)
        found = drift.drift_verdict(judged, kept, alpha=alpha, min_rows=monitor.min_rows)
        detectors, judged_ms = self._observed(monitor, record, endpoint.threshold)
        decayed = performance.decay_verdict(detectors, run_length=_run_length(monitor, endpoint.rollout))
        decisions = (
            Decision(subject, "drift", judge(found), found, act.actor, now, drift.worst(found)),
            Decision(subject, "decay", judge(decayed), decayed, act.actor, now, drift.worst(decayed)),
        )
        moved = drift.compare(judged, kept, alpha=alpha) if sum(map(len, kept)) else []
        window = figures.window_of(recent, matured, moved, endpoint.threshold)
        asked_for = _asks(monitor, record, decisions, now)
        with act.change() as draft:
            draft.put("window", f"{subject.name}/{iso(now)}", {
                "monitor": subject, "model": record["model"], "from": now - length(monitor.window), "to": now,
                "verdicts": {d.rule: d.verdict for d in decisions}, "process": self._process(monitor.endpoint),
                "labels": self.labels(monitor.endpoint), "masked": sorted(masked), **window,
            })  # fmt: skip
            asked = {"asked_at": iso(now), "asked_for": asked_for} if asked_for else {}
            draft.put(
                "monitor", subject.name, {**record, "detectors": detectors, "judged_ms": judged_ms, "looked_at": now, **asked}
            )
            for decision in decisions:
                draft.decide(decision)
            draft.note(drift=decisions[0].verdict, decay=decisions[1].verdict, rows=window["rows"], retrain=asked_for)
        return decisions

    def wants_retrain(self, subject: Ref) -> tuple[str, datetime] | None:
        """Why and since when the model should be trained again; None once another was released. The same answer until then:
        name the run after the time, and asking twice starts one run."""
        record = self.kernel.ledger.get("monitor", subject.name)
        if record is None or record["asked_at"] is None:
            return None
        return record["asked_for"], moment(record["asked_at"])

    def is_due(self, subject: Ref, now: datetime) -> bool:
        """Whether it is time to look again; not before a first whole window, for half of one has other weekdays."""
        record = self.kernel.ledger.get("monitor", subject.name)
        if record is None:
            return False
        monitor = self._monitor(subject)
        if now - moment(record["since"]) < length(monitor.window):
            return False
        last = moment(record["looked_at"] or record["since"])
        return now - last >= length(monitor.look)

    def follow(self, endpoint: str, now: datetime) -> int:
        """Reads what is new in the endpoint's log, closes what is mature, and returns the number of records read."""
        watch = self._watch(endpoint)
        cuts = self._cuts(endpoint)
        watch.days.cut(cuts)
        watch.pulses.cut(cuts)
        read = 0
        for cursor, record in self.streams(endpoint).follow(watch.cursor):
            watch.days.add(record)
            watch.pulses.add(record)
            watch.cursor = cursor
            read += 1
            if record.get("kind") == "prediction":
                watch.latest_ms = max(watch.latest_ms, millis(moment(record["at"])))
            if read % BATCH == 0:
                # The time of the newest prediction: the server's own clock, which no sender of labels can set.
                self._close(endpoint, watch, min(now, from_millis(watch.latest_ms)))
        self._close(endpoint, watch, now)
        return read

    def blocks(self, rollout: Ref) -> Sequence[Block]:
        """Every closed block of a rollout, for `Rollouts.look`. Follow the endpoint first."""
        watch = self._watches.get(rollout.name)
        return tuple(sorted(watch.blocks.get(str(rollout), ()), key=lambda b: (b.end_ms, b.guard))) if watch else ()

    def labels(self, endpoint: str) -> Mapping[str, int]:
        """How many different labels came too late, and how many by unit found no prediction, since this process began to read."""
        days = self._watch(endpoint).days
        return {"late": days.late_labels, "unmatched": days.unmatched_labels}

    def usual_latency(self, endpoint: str, now: datetime, *, percent: float = 95) -> float | None:
        """The champion's latency over the last window in milliseconds, frozen before a rollout; None below 100 predictions."""
        watch = self._watch(endpoint)
        cohorts = [*watch.closed, *watch.days.ended(now)]
        found = [part.latency_ms[~part.forced] for c in cohorts for part in c.parts if part.arm == "champion"]
        values = np.concatenate(found) if found else np.empty(0)
        return float(np.percentile(values, percent)) if len(values) >= 100 else None

    def _close(self, endpoint: str, watch: _Watch, now: datetime) -> None:
        monitor = self.monitors.get(endpoint)
        days, pulses = watch.days.close(now), watch.pulses.close(now)
        for scope in {cohort.cut.scope for cohort in (*days, *pulses) if cohort.cut and cohort.cut.scope}:
            body = self.kernel.ledger.get("rollout", scope.partition("/")[2]) or {}
            plan = decode(Canary, body["plan"])
            threshold, slow_ms = float(body["threshold"]), body["slow_ms"]
            late = [guard for guard in plan.guards if guard in SEEN_FROM_LABELS]
            soon = [guard for guard in plan.guards if guard not in SEEN_FROM_LABELS]
            book = watch.blocks.setdefault(scope, [])
            for cohorts, guards in ((days, late), (pulses, soon)):
                book.extend(blocks_of(cohorts, threshold=threshold, slow_ms=slow_ms, guards=guards, scope=scope))
        watch.closed.extend(days)
        record = self.kernel.ledger.get("monitor", endpoint)
        judged_ms = int(record["judged_ms"]) if record else 2**62
        # Labels come `maturity` later: a window of matured days ends that much earlier.
        span = length(monitor.window) if monitor else timedelta(days=7)
        oldest = millis(now) - round((2 * span) / timedelta(milliseconds=1)) - watch.days.maturity_ms
        watch.closed = [c for c in watch.closed if c.end_ms > min(oldest, judged_ms)]

    def _watch(self, endpoint: str) -> _Watch:
        if endpoint not in self._watches:
            spec, monitor = self.endpoints[endpoint], self.monitors.get(endpoint)
            plan = spec.rollout
            maturity = max(length(plan.maturity), length(monitor.labels_after)) if monitor else length(plan.maturity)
            days = Joiner(cohort=length(plan.cohort), maturity=maturity)
            # A minute, so that what was answered at the end of a pulse is in the log.
            pulses = Joiner(cohort=length(plan.pulse), maturity=timedelta(minutes=1), rollouts_only=True)
            self._watches[endpoint] = _Watch(days, pulses)
        return self._watches[endpoint]

    def _cuts(self, endpoint: str) -> list[Cut]:
        cuts = []
        for _key, body in self.kernel.ledger.find("rollout", prefix=f"{endpoint}@"):
            # Read as they lie: this is asked at every round, and a whole status takes a hundred times as long.
            epochs = body["status"]["epochs"]
            cuts += [Cut(millis(moment(e["since"])), body["ref"], int(e["step"]), float(e["share"])) for e in epochs]
            if epochs[-1]["until"] is not None:
                cuts.append(Cut(millis(moment(epochs[-1]["until"])), "", 0, 0.0))
        return sorted(cuts, key=lambda cut: cut.at_ms)

    def _windows(self, monitor: Monitor, record: Mapping[str, Any], now: datetime) -> tuple[list[Any], list[Any]]:
        """(the parts of the last window, the parts of the last window with labels) of the watched model."""
        watch, span = self._watches[monitor.endpoint], round(length(monitor.window) / timedelta(milliseconds=1))
        recent = [c for c in (*watch.closed, *watch.days.ended(now)) if c.start_ms >= millis(now) - span]
        newest = max((c.end_ms for c in watch.closed), default=0)
        matured = [c for c in watch.closed if c.start_ms >= newest - span]
        return figures.parts_of(recent, record["model"]), figures.parts_of(matured, record["model"])

    def _observed(self, monitor: Monitor, record: Mapping[str, Any], threshold: float) -> tuple[list[Detector], int]:
        detectors = [decode(Detector, body) for body in record["detectors"]]
        judged_ms = int(record["judged_ms"])
        for cohort in self._watches[monitor.endpoint].closed:
            # Cohorts that began before this model was released are not its own.
            if cohort.start_ms < judged_ms:
                continue
            losses = figures.losses_of(figures.parts_of([cohort], record["model"]), threshold)
            if len(losses["wrong"]) >= monitor.min_rows / 10:
                detectors = [performance.observe(detector, losses[detector.name]) for detector in detectors]
            judged_ms = cohort.end_ms
        return detectors, judged_ms

    def _process(self, endpoint: str) -> Mapping[str, Any]:
        try:
            seen = self.host.look(endpoint)
        except NotFound:
            return {}
        return {"memory_bytes": seen.memory_bytes, "cpu_seconds": round(seen.cpu_seconds, 3), "ready": seen.ready}

    def _reference(self, digest: str) -> DriftReference:
        if digest not in self._references:
            self._references[digest] = decode(DriftReference, json.loads(self.blobs.get(digest)))
        return self._references[digest]

    def _monitor(self, subject: Ref) -> Monitor:
        if subject.name not in self.monitors:
            raise NotFound.named("monitor", subject.name, self.monitors)
        return self.monitors[subject.name]

    def _record(self, subject: Ref) -> Mapping[str, Any]:
        record = self.kernel.ledger.get("monitor", subject.name)
        if record is None:
            raise NotFound(f"{subject} watches nothing yet.", "it begins with the first release.")
        return record


def _run_length(monitor: Monitor, plan: Canary) -> float:
    """Days (cohorts) between false alarms of decay, at least: half of the budget is drift's."""
    alarms, span = alarms_per(monitor.false_alarms)
    return max(2.0, (span / length(plan.cohort)) / (0.5 * alarms))


def _asks(monitor: Monitor, record: Mapping[str, Any], decisions: Sequence[Decision], now: datetime) -> str:
    """What retraining is asked for, if the cooldown since the last release and the last request is over."""
    reasons = [d.rule for d in decisions if d.verdict == "deny" and d.rule in monitor.retrain_on]
    last = max(moment(record["since"]), moment(record["asked_at"] or record["since"]))
    return " and ".join(reasons) if reasons and now - last >= length(monitor.cooldown) else ""
