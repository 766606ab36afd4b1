"""Reads the ledger's records and events into the parts of a Story."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from falaj.console.story import (
    Alarm,
    Books,
    Episode,
    Guard,
    Input,
    Intake,
    Judged,
    Look,
    Mark,
    Points,
    Promise,
    Served,
    Step,
    Story,
    Told,
    Watched,
)
from falaj.core.asset import Asset
from falaj.core.codec import decode
from falaj.core.decision import Check, Decision
from falaj.core.errors import FalajError
from falaj.core.event import Event
from falaj.core.leaf import event_of
from falaj.core.moments import moment
from falaj.core.ref import Ref
from falaj.ports.ledger import Ledger

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REASONS = "_reasons"
REASONS_SHOWN = 8


def tell(app: Told, verified: Decision | None) -> Story:
    ledger = app.ledger
    books, since, until = _books(ledger, verified)
    endpoints = tuple(_watched(ledger, name, until) for name, _ in ledger.find("endpoint"))
    starts = [served.since for watched in endpoints for served in watched.served]
    ends = [look.at for watched in endpoints for look in watched.looks]
    return Story(
        books.checkpoint.partition("\n")[0].rpartition("/")[2] or "falaj",
        min(starts, default=since),
        max([*ends, *([] if ends else [until])]),
        endpoints,
        tuple(sorted((_alarm(body) for _, body in ledger.find("alert")), key=lambda alarm: alarm.opened)),
        tuple(sorted(_gates(ledger), key=lambda judged: judged.at or EPOCH)),
        tuple(_intakes(app)),
        books,
    )


def _books(ledger: Ledger, verified: Decision | None) -> tuple[Books, datetime, datetime]:
    count, first, last = 0, b"", b""
    for leaf in ledger.leaves():
        first, last, count = first or leaf, leaf, count + 1
    checkpoints = ledger.checkpoints()
    sealed = sum(int(body["rows"]) for _, body in ledger.find("seal"))
    note = checkpoints[-1].note if checkpoints else ""
    verdict, checks = (verified.verdict, verified.checks) if verified else ("unseen", ())
    books = Books(count, len(checkpoints), note, verdict, checks, sealed)
    return books, _time_of(first), _time_of(last)


def _time_of(leaf: bytes) -> datetime:
    try:
        return event_of(leaf).at
    except FalajError:
        return EPOCH


def _watched(ledger: Ledger, name: str, until: datetime) -> Watched:
    looks = tuple(_look(body) for _, body in ledger.find("window", prefix=f"{name}/"))
    episodes = tuple(sorted((_episode(ledger, body, until) for _, body in _of(ledger, "rollout", name)), key=lambda e: e.started))
    retrains = [_retrain(body) for _, body in ledger.find("run", prefix=f"retrain-{name}-")]
    marks = sorted([*_turns(looks, "drift"), *_turns(looks, "decay"), *retrains], key=lambda mark: mark.at)
    return Watched(
        name, tuple(_served(ledger, name, until)), episodes, looks, tuple(_promises(ledger, name, until)), tuple(marks)
    )


def _of(ledger: Ledger, kind: str, name: str) -> list[tuple[str, Mapping[str, Any]]]:
    return ledger.find(kind, prefix=f"{name}@")


def _served(ledger: Ledger, name: str, until: datetime) -> Iterator[Served]:
    """The champion over time; rollouts that left the champion as it was change nothing here."""
    now: Served | None = None
    for event, body in _history(ledger, ("endpoint.", "rollout."), "endpoint", name):
        arm = next((arm for arm in body["wanted"]["arms"] if arm["role"] == "champion"), None)
        if arm is None or (now is not None and now.model == arm["model"]):
            continue
        if now is not None:
            yield replace(now, until=event.at)
        now = Served(arm["model"], arm["release"], event.at, until)
    if now is not None:
        yield now


def _history(ledger: Ledger, verbs: Sequence[str], kind: str, key: str) -> Iterator[tuple[Event, Mapping[str, Any]]]:
    events = [event for verb in verbs for event in ledger.events(verb=verb)]
    for event in sorted(events, key=lambda event: event.seq):
        for change in event.changes:
            if (change.kind, change.key) == (kind, key) and change.body is not None:
                yield event, change.body


def _episode(ledger: Ledger, body: Mapping[str, Any], until: datetime) -> Episode:
    ref, status, plan = Ref.parse(body["ref"]), body["status"], body["plan"]
    ended = moment(body["ended_at"]) if body["ended_at"] else None
    steps = tuple(
        Step(epoch["share"], moment(epoch["since"]), moment(epoch["until"]) if epoch["until"] else ended or until)
        for epoch in status["epochs"]
    )
    points = _points(ledger, ref, body)
    guards = tuple(_guard(guard, points) for guard in status["guards"])
    decision = ledger.get("decision", f"{ref}|rollout")
    error = float(plan["error"])
    return Episode(
        str(ref),
        body["champion"],
        body["challenger"],
        moment(body["started_at"]),
        ended,
        status["state"],
        status["reason"],
        steps,
        guards,
        math.log10(max(len(guards), 1) / error),
        math.log10(1 / error),
        tuple(decode(Check, check) for check in (decision or {}).get("checks", ())),
    )


def _points(ledger: Ledger, ref: Ref, body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Every point of the curves: a record keeps some of them, the events of its rollout keep them all."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    key = f"{ref.name}@{ref.version}"
    for event in ledger.events(verb="rollout.", subject=ref):
        for change in event.changes:
            if (change.kind, change.key) == ("rollout", key) and change.body is not None:
                found |= {(point["at"], point["guard"]): point for point in change.body["history"]}
    found |= {(point["at"], point["guard"]): point for point in body["history"]}
    return [found[place] for place in sorted(found)]


def _guard(guard: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> Guard:
    own = [point for point in points if point["guard"] == guard["name"]]

    def curve(name: str) -> Points:
        return tuple((moment(point["at"]), float(point[name])) for point in own)

    units, bad = (_pair(guard[name]) for name in ("units", "bad"))
    return Guard(guard["name"], curve("log10_e_harm"), curve("log10_e_inferior"), units, bad)


def _pair(values: Sequence[Any]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _look(body: Mapping[str, Any]) -> Look:
    seen, process, predictions = body["performance"], body.get("process") or {}, body.get("predictions") or {}
    area = seen.get("auc")
    inputs = tuple(
        Input(item["name"], float(item["js"]), bool(item["drifted"]), float(item["missing"]), float(item["unseen"]))
        for item in body["inputs"]
    )
    return Look(
        moment(body["to"]),
        body["model"],
        int(body["rows"]),
        body["verdicts"].get("drift", "hold"),
        body["verdicts"].get("decay", "hold"),
        predictions.get("mean"),
        dict(body.get("latency_ms") or {}),
        int(seen.get("labelled", 0)),
        seen.get("wrong"),
        seen.get("brier"),
        seen.get("base_rate"),
        (area[0], area[1], area[2]) if area else None,
        process.get("memory_bytes") or None,
        process.get("cpu_seconds"),
        inputs,
    )


def _turns(looks: Sequence[Look], kind: str) -> Iterator[Mark]:
    """Where a verdict turned to deny; a hold in between could not see, and begins nothing anew."""
    denied = False
    for look in looks:
        verdict = getattr(look, kind)
        if verdict == "deny" and not denied:
            what = ", ".join(item.name for item in look.inputs if item.drifted) if kind == "drift" else look.model
            yield Mark(look.at, kind, what)
        denied = verdict == "deny" if verdict != "hold" else denied


def _retrain(body: Mapping[str, Any]) -> Mark:
    outputs = [ref for ref in body["outputs"] if ref.startswith("model/")]
    came = f"gave {outputs[0]}" if outputs else f"{body['state']}, no model passed its gates"
    return Mark(moment(body["started_at"]), "retrain", f"asked for by {body['params'].get('reason', 'a person')}: {came}")


def _promises(ledger: Ledger, name: str, until: datetime) -> Iterator[Promise]:
    starts = [event for event in ledger.events(verb="monitor.start") if event.subject.name == name]
    for place, event in enumerate(starts):
        end = starts[place + 1].at if place + 1 < len(starts) else until
        said = event.facts["promise"]
        yield Promise(str(event.facts["model"]), event.at, end, float(said["wrong"]), float(said["brier"]))


def _alarm(body: Mapping[str, Any]) -> Alarm:
    acknowledged = next((message["at"] for message in body["outbox"] if message["kind"] == "acknowledged"), None)
    return Alarm(
        body["ref"],
        body["title"],
        body["severity"],
        body["state"],
        moment(body["opened_at"]),
        moment(acknowledged) if acknowledged else None,
        body["acknowledged_by"],
        moment(body["resolved_at"]) if body["resolved_at"] else None,
        body["resolved_by"],
        body["reason"],
        int(body["count"]),
    )


def _gates(ledger: Ledger) -> Iterator[Judged]:
    models = {decode(Asset, body["asset"]).ref: str(body["ref"]) for _, body in ledger.find("model")}
    for key, body in ledger.find("decision"):
        if not key.endswith("|gate"):
            continue
        decision = decode(Decision, body)
        asset = ledger.get("asset", str(decision.subject)) or {}
        training = str(asset.get("labels", {}).get("training", ""))
        model = models.get(decision.subject, "")
        yield Judged(str(decision.subject), model, training, decision.at, decision.verdict, decision.reason, decision.checks)


def _intakes(app: Told) -> Iterator[Intake]:
    found: dict[str, list[Asset]] = {}
    for kind in ("dataset", "quarantine"):
        for _, body in app.ledger.find("asset", prefix=f"{kind}/"):
            asset = decode(Asset, body)
            found.setdefault(asset.ref.name, []).append(asset)
    for name, assets in sorted(found.items()):
        good = [asset for asset in assets if asset.ref.kind == "dataset"]
        bad = [asset for asset in assets if asset.ref.kind == "quarantine"]
        head = app.ledger.get("head", f"dataset/{name}") or {}
        refused = app.ledger.get("decision", f"dataset/{name}|contract") or {}
        yield Intake(
            name,
            len(good),
            sum(int(asset.labels.get("rows", 0)) for asset in good),
            sum(int(asset.labels.get("rows", 0)) for asset in bad),
            moment(head["watermark"]) if head.get("watermark") else None,
            tuple(_reasons(app, bad)),
            str(refused.get("reason", "")),
        )


def _reasons(app: Told, quarantined: Sequence[Asset]) -> list[tuple[str, int]]:
    """Counted from the rows themselves; without the library that reads them, nothing is said."""
    if not quarantined:
        return []
    try:
        import polars as pl
    except ModuleNotFoundError:
        return []
    counted: Counter[str] = Counter()
    for asset in quarantined:
        try:
            frame = pl.read_parquet(io.BytesIO(app.blobs.get(asset.digest)), columns=[_REASONS])
        except (FalajError, pl.exceptions.PolarsError, OSError):
            continue  # the trace and the audit say what is wrong with a file; the report counts what can be read
        counted.update(str(reason) for reason in frame[_REASONS].explode().drop_nulls().to_list())
    return counted.most_common(REASONS_SHOWN)
