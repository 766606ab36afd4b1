"""One prediction from request to answer: split, features, model, log; the answer leaves only once the log has it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from falaj.core.actor import Actor
from falaj.core.errors import Bug, FalajError, InvalidInput, NotFound, Unavailable
from falaj.core.moments import iso, millis
from falaj.core.recipe import Value
from falaj.core.segment import PredictionId
from falaj.inference.auth import demand
from falaj.inference.errors import at_place
from falaj.inference.log import PredictionLog
from falaj.inference.metrics import Metrics
from falaj.inference.models import Live, Serving
from falaj.inference.protocol import Infer, Label, check_outputs, unit_of, write_infer
from falaj.inference.router import choose
from falaj.inference.settings import event_time
from falaj.ports.online import Online, Stored

ROLES = ("champion", "challenger")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, under which id, and which arm they insist on, if any."""

    actor: Actor
    request_id: str
    arm: str
    started: float


@dataclass(slots=True)
class _Row:
    live: Live
    at: datetime
    unit: str
    forced: bool
    request_id: str
    request: Mapping[str, Any] | None
    features: Sequence[float]
    stored_at: dict[str, int | None]
    missing: list[str]


class Predictor:
    """Answers from what is served at the moment. `serving` is replaced as a whole by whoever watches what is wanted."""

    def __init__(self, log: PredictionLog, online: Online, metrics: Metrics, clock: str, now: Callable[[], datetime]) -> None:
        self.log, self.online, self.metrics, self.clock, self.now = log, online, metrics, clock, now
        self.serving: Serving | None = None

    def by_entity(self, name: str, requests: Sequence[Mapping[str, Any]], caller: Caller) -> list[dict[str, Any]]:
        """One answer a request. Raises NotFound, InvalidInput naming the field, Denied, Unavailable or Bug."""
        serving, now = self._named(name), self.now()
        rows = []
        for index, request in enumerate(requests):
            try:
                rows.append(self._row(serving, request, caller, now, f"-{index}" if len(requests) > 1 else ""))
            except FalajError as exc:
                raise exc if len(requests) == 1 else at_place(exc, "requests", index) from exc
        try:
            self._look_up(rows)
            scores = self._score(rows)
        except FalajError as exc:
            if not isinstance(exc, InvalidInput):
                self._failed(serving, rows, exc)
            raise
        ids = self._write(serving, rows, scores, caller, "entity")
        threshold = serving.wanted.threshold
        return [_answer(row, score, issued, threshold) for row, score, issued in zip(rows, scores, ids, strict=True)]

    def by_tensor(self, name: str, version: str | None, call: Infer, caller: Caller) -> bytes:
        """The encoded answer. Raises as `by_entity`."""
        serving, now = self._named(name), self.now()
        request_id = caller.request_id or call.id or secrets.token_hex(8)
        at = event_time(self.clock, call.at, now)
        live, forced = self._arm(serving, call.unit or request_id, caller, version)
        model = live.model
        if call.input != model.input:
            raise NotFound.named("input", call.input, [model.input])
        if call.matrix.shape[1] != model.width:
            raise InvalidInput(
                f"The model takes {model.width} columns, got {call.matrix.shape[1]}.",
                f"they are: {', '.join(model.recipe.names)}.",
            )
        check_outputs(call, [output.name for output in model.outputs])
        count = len(call.matrix)
        rows = [
            _Row(live, at, call.unit or request_id, forced, request_id + (f"-{i}" if count > 1 else ""), None, features, {}, [])
            for i, features in enumerate(call.matrix.tolist())
        ]
        try:
            outputs = model.run(call.matrix)
            scores = model.scores(outputs)
        except FalajError as exc:
            self._failed(serving, rows[:1], exc)
            raise
        ids = self._write(serving, rows, scores, caller, "v2")
        about = {
            "model_name": serving.name,
            "model_version": live.version,
            "parameters": {"arm": live.role, "release": live.arm.release},
        }
        return write_infer(
            call, [(o.name, o.datatype, value) for o, value in zip(model.outputs, outputs, strict=True)], ids, about
        )

    def label(self, labels: Sequence[Label], actor: Actor) -> None:
        """Appends labels, all or none. Raises Unavailable."""
        wrote = iso(self.now())
        lines, ats = [], []
        for label in labels:
            ats.append(iso(label.at))
            record: dict[str, Any] = {"kind": "label", "id": label.id, "at": ats[-1], "wrote": wrote, "label": label.value}
            if label.facts is not None:
                record["facts"] = label.facts
            lines.append(_line({**record, "by": actor.name}))
        self.log.append(lines, ats, time.monotonic())
        self.metrics.labels_taken += len(lines)

    def _named(self, name: str) -> Serving:
        serving = self.serving
        if serving is None:
            raise Unavailable("No model is served here yet.", "falaj status says why.")
        if name != serving.name:
            raise NotFound.named("model", name, [serving.name])
        return serving

    def _row(self, serving: Serving, request: Mapping[str, Any], caller: Caller, now: datetime, suffix: str) -> _Row:
        field = serving.wanted.unit
        request_id = caller.request_id + suffix if caller.request_id else secrets.token_hex(8)
        unit = (unit_of(request.get(field), field) if field else "") or request_id
        live, forced = self._arm(serving, unit, caller, None)
        at = event_time(self.clock, request.get(live.model.recipe.time_field), now)
        return _Row(live, at, unit, forced, request_id, request, (), {}, [])

    def _arm(self, serving: Serving, unit: str, caller: Caller, version: str | None) -> tuple[Live, bool]:
        """The unit's arm, unless a person who may do so insists on another; such answers count in no statistics."""
        if caller.arm:
            demand(caller.actor, "force")
            return _one(serving.arms, "arm", caller.arm, lambda live: live.role), True
        live = choose(serving.arms, serving.wanted.salt, unit)
        if version is None or version == live.version:
            return live, False
        other = _one(serving.arms, "version", version, lambda live: live.version)
        demand(caller.actor, "force")
        return other, True

    def _look_up(self, rows: Sequence[_Row]) -> None:
        """Fills in the features of all rows from one read of the online store."""
        wanted: list[tuple[str, str]] = []
        keys_of = []
        for index, row in enumerate(rows):
            try:
                keys_of.append(row.live.model.reader.keys_of(row.request or {}))
            except FalajError as exc:
                raise exc if len(rows) == 1 else at_place(exc, "requests", index) from exc
            wanted += keys_of[-1].items()
        found = iter(self._stored(wanted))
        for index, (row, keys) in enumerate(zip(rows, keys_of, strict=True)):
            stored = {view: next(found) for view in keys}
            values = _fresh(row, stored)
            try:
                row.features = row.live.model.reader.vector(row.request or {}, row.at, values)
            except FalajError as exc:
                raise exc if len(rows) == 1 else at_place(exc, "requests", index) from exc
            except (IndexError, TypeError) as exc:
                raise Bug(f"A stored row does not fit the model's views: {exc}.", "materialise the features again.") from exc

    def _stored(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        if not keys:
            return []
        try:
            return self.online.get(keys)
        except FalajError as exc:
            raise (
                exc if isinstance(exc, Unavailable) else Unavailable(f"The features cannot be read: {exc.message}", exc.hint)
            ) from exc

    def _score(self, rows: Sequence[_Row]) -> list[float]:
        """One run for each arm that has rows."""
        scores = [0.0] * len(rows)
        for live in {row.live.role: row.live for row in rows}.values():
            places = [index for index, row in enumerate(rows) if row.live is live]
            outputs = live.model.run(np.array([rows[index].features for index in places]))
            for index, score in zip(places, live.model.scores(outputs), strict=True):
                scores[index] = score
        return scores

    def _write(self, serving: Serving, rows: Sequence[_Row], scores: Sequence[float], caller: Caller, via: str) -> list[str]:
        """Appends the predictions in one write and issues their ids. Raises Unavailable, and then nothing was predicted."""
        segment, place = self.log.place()
        wrote = iso(self.now())
        seconds = time.perf_counter() - caller.started
        ids, lines, ats = [], [], []
        for index, (row, score) in enumerate(zip(rows, scores, strict=True)):
            arm, at = row.live.arm, iso(row.at)
            issued = PredictionId(segment, place + index, millis(row.at)).issue(self.log.key)
            record = {
                "kind": "prediction",
                "id": issued,
                "at": at,
                "wrote": wrote,
                "endpoint": serving.name,
                "release": arm.release,
                "model": arm.model,
                "digest": arm.digest,
                "arm": arm.role,
                "share": arm.share,
                "unit": row.unit,
                "request_id": row.request_id,
                "via": via,
                "by": caller.actor.name,
                "request": row.request,
                "features": row.features,
                "stored_at": row.stored_at,
                "score": score,
                "ms": round(seconds * 1000, 3),
                "forced": row.forced,
            }
            ids.append(issued)
            lines.append(_line(record))
            ats.append(at)
        self.log.append(lines, ats, time.monotonic())
        counts: dict[tuple[str, str, str], int] = {}
        for row in rows:
            counts[row.live.labels] = counts.get(row.live.labels, 0) + 1
        for labels, count in counts.items():
            self.metrics.answered(labels, seconds, count)
        return ids

    def _failed(self, serving: Serving, rows: Sequence[_Row], error: FalajError) -> None:
        """A valid request that could not be answered counts against its arm; rollouts look at these."""
        wrote = iso(datetime.now(UTC))
        arms = {row.live.role: row for row in rows}.values()
        lines = [
            _line(
                {
                    "kind": "failure",
                    "at": iso(row.at),
                    "wrote": wrote,
                    "endpoint": serving.name,
                    "arm": row.live.role,
                    "release": row.live.arm.release,
                    "model": row.live.arm.model,
                    "code": error.code,
                    "message": error.message[:500],
                }
            )
            for row in arms
        ]
        for row in arms:
            self.metrics.failed(row.live.labels)
        self.log.append(lines, [iso(row.at) for row in arms], time.monotonic())


def _fresh(row: _Row, stored: Mapping[str, Stored | None]) -> dict[str, Sequence[Value | None] | None]:
    """The stored values that a request may use: neither older than their view allows nor from after the request."""
    recipe, at_ms = row.live.model.recipe, millis(row.at)
    values: dict[str, Sequence[Value | None] | None] = {}
    for view in recipe.views:
        found, ttl = stored.get(view), recipe.ttl_ms.get(view)
        if found is None or found.at_ms > at_ms or (ttl is not None and found.at_ms < at_ms - ttl):
            values[view] = row.stored_at[view] = None
            row.missing.append(view)
        else:
            values[view], row.stored_at[view] = found.values, found.at_ms
    return values


def _answer(row: _Row, score: float, issued: str, threshold: float) -> dict[str, Any]:
    return {
        "id": issued,
        "score": score,
        "decision": score >= threshold,
        "arm": row.live.role,
        "model": row.live.arm.model,
        "release": row.live.arm.release,
        "at": iso(row.at),
        "missing_views": row.missing,
    }


def _one(arms: Sequence[Live], what: str, name: str, of: Callable[[Live], str]) -> Live:
    for live in arms:
        if of(live) == name:
            return live
    raise NotFound.named(what, name, [of(live) for live in arms])


def _line(record: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(record)
    except TypeError as exc:
        raise InvalidInput(f"The request cannot be written down: {exc}.", "send plain JSON values.") from exc
