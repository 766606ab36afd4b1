"""From calls to answers: split, features, one run of each model, the log; what is answered is in the log by then."""

from __future__ import annotations

import functools
import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from falaj.core.actor import Actor
from falaj.core.errors import Bug, FalajError, InvalidInput, NotFound, Unavailable
from falaj.core.moments import iso, millis
from falaj.core.recipe import Value
from falaj.core.segment import issue
from falaj.inference.auth import demand
from falaj.inference.calls import Answered, Call, Caller, EntityCall, Matrix, TensorCall
from falaj.inference.errors import Late, at_place
from falaj.inference.feedback import Label
from falaj.inference.lines import about, line, tensor_line
from falaj.inference.log import PredictionLog
from falaj.inference.metrics import Metrics
from falaj.inference.models import Live, Serving
from falaj.inference.router import choose
from falaj.inference.settings import event_time
from falaj.inference.tensors import check_outputs
from falaj.inference.text import unit_of
from falaj.ports.online import Online, Stored

ROLES = ("champion", "challenger")


@dataclass(slots=True)
class _Part:
    """Rows of one call for one model."""

    live: Live
    matrix: Matrix
    outputs: list[NDArray[Any]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    problem: FalajError | None = None


@dataclass(slots=True)
class _Row:
    """A request by entity."""

    live: Live
    at: datetime
    unit: str
    forced: bool
    request_id: str
    request: Mapping[str, Any]
    features: Sequence[float] = ()
    stored_at: dict[str, int | None] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    score: float = 0.0
    id: str = ""


@dataclass(slots=True)
class _Job:
    """A call that is under way."""

    place: int
    call: Call
    parts: list[_Part]
    rows: list[_Row] = field(default_factory=list)
    """Of a call by entity."""
    at: str = ""
    at_ms: int = 0
    unit: str = ""
    request_id: str = ""
    forced: bool = False
    id: str = ""


@dataclass(frozen=True, slots=True)
class _Now:
    at: datetime
    text: str
    ms: int
    clock: float
    """time.perf_counter"""


class Predictor:
    """Answers from what is served at the moment. `serving` is replaced as a whole by whoever watches what is wanted.

    `answer` and `label` belong to one thread.
    """

    def __init__(self, log: PredictionLog, online: Online, metrics: Metrics, clock: str, now: Callable[[], datetime]) -> None:
        self.log, self.online, self.metrics, self.clock, self.now = log, online, metrics, clock, now
        self._serving: Serving | None = None
        self._about: dict[int, str] = {}
        """By the identity of an arm: what all its log lines have in common."""
        # A request without an id gets one that no other worker and no other run gives out.
        self._unnamed = map((secrets.token_hex(6) + "-{:x}").format, itertools.count())

    @property
    def serving(self) -> Serving | None:
        return self._serving

    @serving.setter
    def serving(self, serving: Serving | None) -> None:
        self._about = {id(live): about(serving.name, live) for live in serving.arms} if serving else {}
        self._serving = serving

    def answer(self, calls: Sequence[Call]) -> list[Answered | FalajError]:
        """One outcome a call, in order; never raises. All rows for one model are one run of it."""
        found: list[Answered | FalajError | None] = [None] * len(calls)
        at = self.now()
        now = _Now(at, iso(at), millis(at), time.perf_counter())
        jobs: list[_Job] = []
        for place, call in enumerate(calls):
            try:
                jobs.append(self._job(place, call, now))
            except FalajError as exc:
                found[place] = exc
            except Exception as exc:  # one call must not take the others with it
                found[place] = _bug(exc)
        try:
            self._look_up([job for job in jobs if job.rows], found)
            jobs = [job for job in jobs if found[job.place] is None]
            self._run([part for job in jobs for part in job.parts])
            done = [job for job in jobs if not self._has_failed(job, found)]
            self._write(done, now)
            for job in done:
                found[job.place] = self._answered(job)
        except Exception as exc:
            problem = exc if isinstance(exc, FalajError) else _bug(exc)
            found = [problem if one is None else one for one in found]
        return [one if one is not None else Bug("A call was not answered.") for one in found]

    def label(self, labels: Sequence[Label], actor: Actor) -> None:
        """Appends labels, all or none. Raises Unavailable."""
        if self._serving is None:
            raise Unavailable("No model is served here yet.", "falaj status says why.")
        wrote, mask = iso(self.now()), self._serving.mask
        lines = []
        for label in labels:
            lines.append(line({**label.record(mask), "wrote": wrote, "by": actor.name}))
        self.log.append(lambda _segment, _row: lines)
        self.metrics.labels_taken += len(lines)

    # --- from a call to rows ---

    def _job(self, place: int, call: Call, now: _Now) -> _Job:
        serving = self._serving
        if serving is None:
            raise Unavailable("No model is served here yet.", "falaj status says why.")
        if call.name != serving.name:
            raise NotFound.named("model", call.name, [serving.name])
        if 0.0 < call.caller.deadline < now.clock:
            raise Late("The request's deadline passed before its turn came.", "allow more time, or send fewer at once.")
        if isinstance(call, TensorCall):
            return self._tensor_job(place, call, serving, now)
        return self._entity_job(place, call, serving, now)

    def _tensor_job(self, place: int, call: TensorCall, serving: Serving, now: _Now) -> _Job:
        request_id = call.caller.request_id or call.id or next(self._unnamed)
        unit = call.unit or request_id
        live, forced = _arm(serving, unit, call.caller, call.version)
        model = live.model
        if call.input != model.input:
            raise NotFound.named("input", call.input, [model.input])
        if call.matrix.shape[1] != model.width:
            raise InvalidInput(
                f"The model takes {model.width} columns, got {call.matrix.shape[1]}.",
                f"they are: {', '.join(model.recipe.names)}.",
            )
        if call.wanted is not None:
            check_outputs(call.wanted, [output.name for output in model.outputs])
        job = _Job(place, call, [_Part(live, call.matrix)], [], now.text, now.ms, unit, request_id, forced)
        if call.at is not None or self.clock == "replay":
            at = event_time(self.clock, call.at, now.at)
            job.at, job.at_ms = iso(at), millis(at)
        return job

    def _entity_job(self, place: int, call: EntityCall, serving: Serving, now: _Now) -> _Job:
        """Every request's arm and time; the features are not known yet."""
        many, rows = len(call.requests) > 1, []
        call_id = call.caller.request_id or next(self._unnamed)
        for index, request in enumerate(call.requests):
            try:
                rows.append(self._row(serving, request, call.caller, (f"{call_id}-{index}" if many else call_id), now))
            except FalajError as exc:
                raise at_place(exc, "requests", index) if many else exc from exc
        return _Job(place, call, [], rows)

    def _row(self, serving: Serving, request: Mapping[str, Any], caller: Caller, request_id: str, now: _Now) -> _Row:
        wanted = serving.wanted.unit
        unit = (unit_of(request.get(wanted), wanted) if wanted else "") or request_id
        live, forced = _arm(serving, unit, caller, None)
        at = event_time(self.clock, request.get(live.model.recipe.time_field), now.at)
        return _Row(live, at, unit, forced, request_id, request)

    def _look_up(self, jobs: Sequence[_Job], found: list[Answered | FalajError | None]) -> None:
        """Fills in the features of all rows of all calls from one read of the online store."""
        keys_of: dict[int, list[dict[str, str]]] = {}
        wanted: list[tuple[str, str]] = []
        for job in jobs:
            try:
                keys_of[job.place] = [_placed(job, i, _keys) for i in range(len(job.rows))]
            except FalajError as exc:
                found[job.place] = exc
                continue
            wanted += [pair for keys in keys_of[job.place] for pair in keys.items()]
        try:
            stored = iter(self._stored(wanted))
        except FalajError as exc:
            for job in jobs:
                if job.place in keys_of:
                    found[job.place] = exc
                    self._note_failure(job, exc)
            return
        for job in jobs:
            if job.place not in keys_of:
                continue
            held = [{view: next(stored) for view in keys} for keys in keys_of[job.place]]
            try:
                for index, (row, values) in enumerate(zip(job.rows, held, strict=True)):
                    row.features = _placed(job, index, functools.partial(_vector, _fresh(row, values)))
            except FalajError as exc:
                found[job.place] = exc
                if not isinstance(exc, InvalidInput):
                    self._note_failure(job, exc)
                continue
            lives = {id(row.live): row.live for row in job.rows}.values()
            job.parts = [_Part(live, np.array([row.features for row in job.rows if row.live is live])) for live in lives]

    def _stored(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        if not keys:
            return []
        try:
            return self.online.get(keys)
        except Unavailable:
            raise
        except FalajError as exc:
            raise Unavailable(f"The features cannot be read: {exc.message}", exc.hint) from exc

    # --- from rows to scores ---

    def _run(self, parts: Sequence[_Part]) -> None:
        """One run for each model that has rows. Where it fails, each part runs alone: one call's rows must not fail another's."""
        groups: dict[int, list[_Part]] = {}
        for part in parts:
            groups.setdefault(id(part.live), []).append(part)
        for group in groups.values():
            try:
                _run_together(group)
            except FalajError as exc:
                if len(group) == 1:
                    group[0].problem = exc
                    continue
                for part in group:
                    try:
                        _run_together([part])
                    except FalajError as alone:
                        part.problem = alone

    def _has_failed(self, job: _Job, found: list[Answered | FalajError | None]) -> bool:
        problem = next((part.problem for part in job.parts if part.problem is not None), None)
        if problem is not None:
            found[job.place] = problem
            self._note_failure(job, problem)
        return problem is not None

    # --- the log ---

    def _write(self, jobs: Sequence[_Job], now: _Now) -> None:
        """Appends all predictions in one write and issues their ids. Raises Unavailable, and then nothing was predicted."""
        if not jobs:
            return
        for job in jobs:
            for part in job.parts:
                rows = iter(part.scores)
                for row in job.rows:
                    if row.live is part.live:
                        row.score = next(rows)
        clock = time.perf_counter()

        def lines(segment: int, row: int) -> list[bytes]:
            made: list[bytes] = []
            for job in jobs:
                seconds = clock - job.call.caller.started
                if job.rows:
                    made += [
                        self._entity_line(job, one, place, (now.text, seconds))
                        for one, place in zip(job.rows, self._places(job, segment, row + len(made)), strict=True)
                    ]
                else:
                    made.append(self._tensor_line(job, segment, row + len(made), (now.text, seconds)))
            return made

        self.log.append(lines)
        for job in jobs:
            seconds = clock - job.call.caller.started
            for part in job.parts:
                self.metrics.answered(part.live.labels, seconds, len(part.scores))

    def _places(self, job: _Job, segment: int, row: int) -> Iterator[str]:
        for index, one in enumerate(job.rows):
            yield issue(segment, row + index, millis(one.at), self.log.key)

    def _tensor_line(self, job: _Job, segment: int, row: int, when: tuple[str, float]) -> bytes:
        [part] = job.parts
        job.id = issue(segment, row, job.at_ms, self.log.key, len(part.scores))
        call: Any = job.call
        names = (job.unit, job.request_id)
        if part.live.mask.is_on:
            call, names = part.live.mask.tensor(call), part.live.mask.names(*names)
        return tensor_line(
            call, part.scores, issued=job.id, times=(job.at, when[0]), facts=self._about[id(part.live)],
            names=names, ms=when[1] * 1000, forced=job.forced,
        )  # fmt: skip

    def _entity_line(self, job: _Job, row: _Row, issued: str, when: tuple[str, float]) -> bytes:
        row.id, arm, caller, mask = issued, row.live.arm, job.call.caller, row.live.mask
        unit, request_id = mask.names(row.unit, row.request_id)
        record = {
            "kind": "prediction",
            "id": issued,
            "at": iso(row.at),
            "wrote": when[0],
            "endpoint": job.call.name,
            "release": arm.release,
            "model": arm.model,
            "digest": arm.digest,
            "arm": arm.role,
            "share": arm.share,
            "unit": unit,
            "request_id": request_id,
            "via": job.call.via,
            "by": caller.actor.name,
            "request": mask.request(row.request),
            "features": mask.features(row.features),
            "stored_at": row.stored_at,
            "score": row.score,
            "ms": round(when[1] * 1000, 3),
            "forced": row.forced,
        }
        if mask.is_on:
            record["masked"] = mask.marker
        if caller.trace:
            record["trace"] = caller.trace
        return line(record)

    def _note_failure(self, job: _Job, error: FalajError) -> None:
        """A valid request that could not be answered counts against its arm; rollouts look at these."""
        wrote = iso(datetime.now(UTC))
        lives = {id(live): live for live in [*(row.live for row in job.rows), *(part.live for part in job.parts)]}
        at = job.at or (iso(job.rows[0].at) if job.rows else wrote)
        lines = [
            line(
                {
                    "kind": "failure",
                    "at": at,
                    "wrote": wrote,
                    "endpoint": job.call.name,
                    "arm": live.role,
                    "release": live.arm.release,
                    "model": live.arm.model,
                    "code": error.code,
                    "message": live.mask.message(error.message[:500]),
                }
            )
            for live in lives.values()
        ]
        for live in lives.values():
            self.metrics.failed(live.labels)
        self.log.append(lambda _segment, _row: lines)

    def _answered(self, job: _Job) -> Answered:
        if job.rows:
            threshold = self._serving.wanted.threshold if self._serving else 0.5
            return Answered(
                job.rows[0].live, [row.id for row in job.rows], [row.score for row in job.rows], [],
                [_answer(row, threshold) for row in job.rows],
            )  # fmt: skip
        [part] = job.parts
        count = len(part.scores)
        ids = [job.id] if count == 1 else [f"{job.id}.{place:x}" for place in range(count)]
        return Answered(part.live, ids, part.scores, part.outputs, [])


def _run_together(parts: Sequence[_Part]) -> None:
    model = parts[0].live.model
    if len(parts) == 1:
        outputs = model.run(parts[0].matrix)
        parts[0].outputs, parts[0].scores = outputs, model.scores(outputs)
        return
    outputs = model.run(np.concatenate([part.matrix for part in parts]))
    scores = model.scores(outputs)
    start = 0
    for part in parts:
        end = start + len(part.matrix)
        part.outputs, part.scores = [output[start:end] for output in outputs], scores[start:end]
        start = end


def _arm(serving: Serving, unit: str, caller: Caller, version: str | None) -> tuple[Live, bool]:
    """The unit's arm, unless somebody who may do so insists on another; such answers count in no statistics."""
    if caller.arm:
        demand(caller.actor, "force")
        return _one(serving.arms, "arm", caller.arm, lambda live: live.role), True
    live = choose(serving.arms, serving.wanted.salt, unit)
    if version is None or version == live.version:
        return live, False
    other = _one(serving.arms, "version", version, lambda live: live.version)
    demand(caller.actor, "force")
    return other, True


def _one(arms: Sequence[Live], what: str, name: str, of: Callable[[Live], str]) -> Live:
    for live in arms:
        if of(live) == name:
            return live
    raise NotFound.named(what, name, [of(live) for live in arms])


_T = TypeVar("_T")


def _placed(job: _Job, index: int, ask: Callable[[_Row], _T]) -> _T:
    """An error of one request among several says which."""
    try:
        return ask(job.rows[index])
    except FalajError as exc:
        raise at_place(exc, "requests", index) if len(job.rows) > 1 else exc from exc


def _keys(row: _Row) -> dict[str, str]:
    return row.live.model.reader.keys_of(row.request)


def _vector(values: Mapping[str, Sequence[Value | None] | None], row: _Row) -> list[float]:
    try:
        return row.live.model.reader.vector(row.request, row.at, values)
    except (IndexError, TypeError) as exc:
        raise Bug(f"A stored row does not fit the model's views: {exc}.", "materialise the features again.") from exc


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


def _answer(row: _Row, threshold: float) -> dict[str, Any]:
    return {
        "id": row.id,
        "score": row.score,
        "decision": row.score >= threshold,
        "arm": row.live.role,
        "model": row.live.arm.model,
        "release": row.live.arm.release,
        "at": iso(row.at),
        "missing_views": row.missing,
    }


def _bug(error: Exception) -> Bug:
    return Bug(f"The server failed: {type(error).__name__}: {str(error)[:200]}", "report it with server.log.")
