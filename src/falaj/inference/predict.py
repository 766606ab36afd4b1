"""From calls to answers: split, features, one run of each model, the log; what is answered is in the log by then."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.core.actor import Actor
from falaj.core.errors import Bug, FalajError, InvalidInput, NotFound, Unavailable
from falaj.core.moments import iso, millis
from falaj.core.segment import issue
from falaj.inference.auth import demand
from falaj.inference.calls import Answered, Call, Caller, EntityCall, Matrix, TensorCall
from falaj.inference.deadlines import demand_time
from falaj.inference.errors import at_place
from falaj.inference.feedback import Label
from falaj.inference.lines import about, failure_line, line, tensor_line
from falaj.inference.log import PredictionLog
from falaj.inference.metrics import Metrics
from falaj.inference.models import Live, Serving
from falaj.inference.router import choose
from falaj.inference.rows import Row, answer_of, fill, keys_of, read, row_line
from falaj.inference.settings import event_time
from falaj.inference.tensors import check_outputs
from falaj.inference.text import unit_of
from falaj.inference.traces import Stages
from falaj.ports.online import Online

ROLES = ("champion", "challenger")
Outcomes = list[Answered | FalajError | None]


@dataclass(slots=True)
class _Part:
    """Rows of one call for one model."""

    live: Live
    matrix: Matrix
    outputs: list[NDArray[Any]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    problem: FalajError | None = None


@dataclass(slots=True)
class _Job:
    """A call that is under way."""

    place: int
    call: Call
    parts: list[_Part]
    rows: list[Row] = field(default_factory=list)
    """Of a call by entity."""
    at: str = ""
    at_ms: int = 0
    unit: str = ""
    request_id: str = ""
    forced: bool = False
    id: str = ""


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one round of answers goes by, read once: what is served may be replaced at any moment, by another thread."""

    at: datetime
    text: str
    ms: int
    clock: float
    """time.perf_counter"""
    serving: Serving | None
    about: Mapping[int, str]
    """By the identity of an arm: what all its log lines have in common."""


class Predictor:
    """Answers from what is served at the moment. `serving` is replaced as a whole by whoever watches what is wanted.

    `answer` and `label` belong to one thread.
    """

    def __init__(self, log: PredictionLog, online: Online, metrics: Metrics, clock: str, now: Callable[[], datetime]) -> None:
        self.log, self.online, self.metrics, self.clock, self.now = log, online, metrics, clock, now
        self.is_traced = False
        """Whether anybody records requests, and wants to know how long each stage took."""
        self._held: tuple[Serving | None, Mapping[int, str]] = (None, {})
        # A request without an id gets one that no other worker and no other run gives out.
        self._unnamed = map((secrets.token_hex(6) + "-{:x}").format, itertools.count())

    @property
    def serving(self) -> Serving | None:
        return self._held[0]

    @serving.setter
    def serving(self, serving: Serving | None) -> None:
        self._held = (serving, {id(live): about(serving.name, live) for live in serving.arms} if serving else {})

    def answer(self, calls: Sequence[Call]) -> list[Answered | FalajError]:
        """One outcome a call, in order; never raises. All rows for one model are one run of it."""
        found: Outcomes = [None] * len(calls)
        at = self.now()
        turn = _Turn(at, iso(at), millis(at), time.perf_counter(), *self._held)
        jobs: list[_Job] = []
        for place, call in enumerate(calls):
            try:
                jobs.append(self._job(place, call, turn))
            except FalajError as exc:
                found[place] = exc
            except Exception as exc:  # one call must not take the others with it
                found[place] = _bug(exc)
        try:
            stages = Stages(turn.clock) if self.is_traced else None
            if looked_up := [job for job in jobs if job.rows]:
                self._look_up(looked_up, found)
                jobs = [job for job in jobs if found[job.place] is None and _is_in_time(job, found)]
            if stages is not None:
                stages.over("features" if looked_up else "")
            self._run([part for job in jobs for part in job.parts])
            if stages is not None:
                stages.over("model")
            done = [job for job in jobs if not self._has_failed(job, found)]
            for job in done:
                _score_rows(job) if job.rows else None
            self._write(done, turn)
            if stages is not None:
                stages.over("log")
                stages.tell([job.call.caller.span for job in done])
            for job in done:
                found[job.place] = _answered(job, turn.serving)  # type: ignore[arg-type]  # no job without it
        except Exception as exc:
            problem = exc if isinstance(exc, FalajError) else _bug(exc)
            found = [problem if one is None else one for one in found]
        return [one if one is not None else Bug("A call was not answered.") for one in found]

    def label(self, labels: Sequence[Label], actor: Actor) -> None:
        """Appends labels, all or none. Raises Unavailable."""
        wrote = iso(self.now())
        lines = []
        for label in labels:
            record = {"kind": "label", "id": label.id, "at": iso(label.at), "wrote": wrote, "label": label.value}
            if label.facts is not None:
                record["facts"] = label.facts
            lines.append(line({**record, "by": actor.name}))
        self.log.append(lambda _segment, _row: lines)
        self.metrics.labels_taken += len(lines)

    # --- from a call to rows ---

    def _job(self, place: int, call: Call, turn: _Turn) -> _Job:
        serving = turn.serving
        if serving is None:
            raise Unavailable("No model is served here yet.", "falaj status says why.")
        if call.name != serving.name:
            raise NotFound.named("model", call.name, [serving.name])
        if call.caller.deadline:
            demand_time(call.caller.deadline, call.caller.started, turn.clock)
        if isinstance(call, TensorCall):
            return self._tensor_job(place, call, serving, turn)
        return self._entity_job(place, call, serving, turn)

    def _tensor_job(self, place: int, call: TensorCall, serving: Serving, turn: _Turn) -> _Job:
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
        job = _Job(place, call, [_Part(live, call.matrix)], [], turn.text, turn.ms, unit, request_id, forced)
        if call.at is not None or self.clock == "replay":
            at = event_time(self.clock, call.at, turn.at)
            job.at, job.at_ms = iso(at), millis(at)
        return job

    def _entity_job(self, place: int, call: EntityCall, serving: Serving, turn: _Turn) -> _Job:
        """Every request's arm and time; the features are not known yet."""
        many, rows = len(call.requests) > 1, []
        call_id = call.caller.request_id or next(self._unnamed)
        for index, request in enumerate(call.requests):
            try:
                rows.append(self._row(serving, request, call.caller, f"{call_id}-{index}" if many else call_id, turn.at))
            except FalajError as exc:
                raise at_place(exc, "requests", index) if many else exc from exc
        return _Job(place, call, [], rows)

    def _row(self, serving: Serving, request: Mapping[str, Any], caller: Caller, request_id: str, now: datetime) -> Row:
        wanted = serving.wanted.unit
        unit = (unit_of(request.get(wanted), wanted) if wanted else "") or request_id
        live, forced = _arm(serving, unit, caller, None)
        return Row(
            live, event_time(self.clock, request.get(live.model.recipe.time_field), now), unit, forced, request_id, request
        )

    def _look_up(self, jobs: Sequence[_Job], found: Outcomes) -> None:
        """Fills in the features of all rows of all calls from one read of the online store."""
        wanted: list[tuple[_Job, list[dict[str, str]]]] = []
        for job in jobs:
            try:
                wanted.append((job, keys_of(job.rows)))
            except FalajError as exc:
                found[job.place] = exc
        try:
            stored = iter(read(self.online, [pair for _, keys in wanted for row in keys for pair in row.items()]))
        except FalajError as exc:
            for job, _ in wanted:
                self._fail(job, exc, found)
            return
        for job, keys in wanted:
            held = [{view: next(stored) for view in row} for row in keys]
            try:
                fill(job.rows, held)
            except InvalidInput as exc:
                found[job.place] = exc
            except FalajError as exc:
                self._fail(job, exc, found)
            else:
                lives = {id(row.live): row.live for row in job.rows}.values()
                job.parts = [_Part(live, np.array([row.features for row in job.rows if row.live is live])) for live in lives]

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

    def _has_failed(self, job: _Job, found: Outcomes) -> bool:
        problem = next((part.problem for part in job.parts if part.problem is not None), None)
        if problem is not None:
            self._fail(job, problem, found)
        return problem is not None

    # --- the log ---

    def _write(self, jobs: Sequence[_Job], turn: _Turn) -> None:
        """Appends all predictions in one write and issues their ids. Raises Unavailable, and then nothing was predicted."""
        if not jobs:
            return
        clock = time.perf_counter()

        def lines(segment: int, row: int) -> list[bytes]:
            made: list[bytes] = []
            for job in jobs:
                ms = (clock - job.call.caller.started) * 1000
                if isinstance(job.call, TensorCall):
                    made.append(self._line(job, job.call, (segment, row + len(made)), turn, ms))
                    continue
                for one in job.rows:
                    one.id = issue(segment, row + len(made), millis(one.at), self.log.key)
                    made.append(row_line(job.call, one, wrote=turn.text, ms=ms))
            return made

        self.log.append(lines)
        for job in jobs:
            seconds = clock - job.call.caller.started
            for part in job.parts:
                self.metrics.answered(part.live.labels, seconds, len(part.scores))

    def _line(self, job: _Job, call: TensorCall, place: tuple[int, int], turn: _Turn, ms: float) -> bytes:
        part = job.parts[0]
        job.id = issue(*place, job.at_ms, self.log.key, len(part.scores))
        return tensor_line(
            call, part.scores, issued=job.id, times=(job.at, turn.text), facts=turn.about[id(part.live)],
            names=(job.unit, job.request_id), ms=ms, forced=job.forced,
        )  # fmt: skip

    def _fail(self, job: _Job, error: FalajError, found: Outcomes) -> None:
        """A valid request that could not be answered counts against its arm; rollouts look at these."""
        found[job.place] = error
        wrote = iso(self.now())
        at = job.at or (iso(job.rows[0].at) if job.rows else wrote)
        asked = [(row.live, row.unit, row.forced) for row in job.rows] or [(p.live, job.unit, job.forced) for p in job.parts]
        lives = {id(one[0]): one for one in asked}.values()
        lines = [
            failure_line(job.call.name, live, error, times=(at, wrote), unit=unit, forced=forced) for live, unit, forced in lives
        ]
        for live, _, _ in lives:
            self.metrics.failed(live.labels)
        self.log.append(lambda _segment, _row: lines)


def _answered(job: _Job, serving: Serving) -> Answered:
    if job.rows:
        rows = [answer_of(row, serving.wanted.threshold) for row in job.rows]
        return Answered(job.rows[0].live, [row.id for row in job.rows], [row.score for row in job.rows], [], rows)
    part = job.parts[0]
    count = len(part.scores)
    ids = [job.id] if count == 1 else [f"{job.id}.{place:x}" for place in range(count)]
    return Answered(part.live, ids, part.scores, part.outputs, [])


def _is_in_time(job: _Job, found: Outcomes) -> bool:
    """Looking features up may have taken longer than the caller waits."""
    caller = job.call.caller
    if caller.deadline:
        try:
            demand_time(caller.deadline, caller.started)
        except FalajError as exc:
            found[job.place] = exc
            return False
    return True


def _score_rows(job: _Job) -> None:
    for part in job.parts:
        scores = iter(part.scores)
        for row in job.rows:
            if row.live is part.live:
                row.score = next(scores)


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


def _bug(error: Exception) -> Bug:
    return Bug(f"The server failed: {type(error).__name__}: {str(error)[:200]}", "report it with server.log.")
