"""From calls to answers: split, features, one run of each model, the log; what is answered is in the log by then."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from falaj.core.actor import Actor
from falaj.core.errors import Bug, FalajError, InvalidInput, NotFound, Unavailable
from falaj.core.moments import iso, millis
from falaj.core.segment import issue
from falaj.inference.calls import Answered, Call, Caller, EntityCall, TensorCall
from falaj.inference.deadlines import demand_time
from falaj.inference.errors import at_place, failed
from falaj.inference.excluded import Excluded
from falaj.inference.feedback import Label
from falaj.inference.held import Held, held_of
from falaj.inference.jobs import Job, Outcomes, Part, answered, copies, is_in_time, run_together, score_rows
from falaj.inference.lines import failure_line, line, tensor_line
from falaj.inference.log import PredictionLog
from falaj.inference.metrics import Metrics
from falaj.inference.models import Serving
from falaj.inference.repository import Repository
from falaj.inference.rows import Row, fill, keys_of, read, row_line
from falaj.inference.settings import event_time
from falaj.inference.shadow import Shadows
from falaj.inference.tensors import check_outputs
from falaj.inference.text import unit_of
from falaj.inference.traces import Stages
from falaj.ports.online import Online


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one round of answers goes by, read once: what is served may be replaced at any moment, by another thread."""

    at: datetime
    text: str
    ms: int
    clock: float
    """time.perf_counter"""
    held: Held | None
    about: Mapping[int, str]
    """As `held` has it."""


class Predictor:
    """Answers from what is served at the moment. `serving` is replaced as a whole by whoever watches what is wanted.

    `answer` and `label` belong to one thread.
    """

    def __init__(self, log: PredictionLog, online: Online, metrics: Metrics, clock: str, now: Callable[[], datetime]) -> None:
        self.log, self.online, self.metrics, self.clock, self.now = log, online, metrics, clock, now
        self.plain = online
        """The store itself. `online` opens what is sealed in it, while a model is served that reads features of people."""
        self.opening: Callable[[Online], Online] | None = None
        """Makes the one of the other."""
        self.places: Mapping[str, tuple[int, int]] = {}
        """View → which part of its entity's key names a person, of how many; views that are about nobody are not in it."""
        self.shadows: Shadows | None = None
        self.repository = Repository(log, now)
        self.excluded = Excluded(log.folder.parent)
        """Whom what is served may not be asked about."""
        self.is_traced = False
        """Whether anybody records requests, and wants to know how long each stage took."""
        self._held: Held | None = None
        self.unnamed = map((secrets.token_hex(6) + "-{:x}").format, itertools.count())
        """A request without an id gets one that no other worker and no other run gives out."""

    @property
    def held(self) -> Held | None:
        return self._held

    @property
    def serving(self) -> Serving | None:
        return self._held.serving if self._held is not None else None

    @serving.setter
    def serving(self, serving: Serving | None) -> None:
        """Raises InvalidInput for arms that make no split."""
        self._held = held_of(serving) if serving is not None else None
        arms = serving.arms if serving is not None else ()
        self.places = {view: place for live in arms for view, place in live.model.places_of_people.items()}
        self.online = self.opening(self.plain) if self.places and self.opening is not None else self.plain

    def answer(self, calls: Sequence[Call]) -> list[Answered | FalajError]:
        """One outcome a call, in order; never raises. All rows for one model are one run of it."""
        found: Outcomes = [None] * len(calls)
        at = self.now()
        held = self._held
        turn = _Turn(at, iso(at), millis(at), time.perf_counter(), held, held.about if held is not None else {})
        jobs: list[Job] = []
        self.repository.look()
        for place, call in enumerate(calls):
            try:
                jobs.append(self._job(place, call, turn))
            except FalajError as exc:
                found[place] = exc
            except Exception as exc:  # one call must not take the others with it
                found[place] = failed(exc)
        try:
            stages = Stages(turn.clock) if self.is_traced else None
            if looked_up := [job for job in jobs if job.rows]:
                self._look_up(looked_up, found)
                jobs = [job for job in jobs if found[job.place] is None and is_in_time(job, found)]
            if stages is not None:
                stages.over("features" if looked_up else "")
            self._run([part for job in jobs for part in job.parts])
            if stages is not None:
                stages.over("model")
            done = [job for job in jobs if not self._has_failed(job, found)]
            for job in done:
                score_rows(job) if job.rows else None
            self._write(done, turn)
            if stages is not None:
                stages.over("log")
                stages.tell([job.call.caller.span for job in done])
            if held is not None:
                self._tell(done, held, found)
        except Exception as exc:
            problem = exc if isinstance(exc, FalajError) else failed(exc)
            found = [problem if one is None else one for one in found]
        return [one if one is not None else Bug("A call was not answered.") for one in found]

    def _tell(self, jobs: Sequence[Job], held: Held, found: Outcomes) -> None:
        for job in jobs:
            found[job.place] = answered(job, held.serving)
        if held.shadow is not None and self.shadows is not None:
            self.shadows.start()
            self.shadows.offer(copies(jobs, held.serving, held.shadow))

    def label(self, labels: Sequence[Label], actor: Actor) -> None:
        """Appends labels, all or none. Raises Unavailable."""
        serving = self.serving
        if serving is None:
            raise Unavailable("No model is served here yet.", "falaj status says why.")
        wrote = iso(self.now())
        lines = [line({**label.record(serving.mask), "wrote": wrote, "by": actor.name}) for label in labels]
        self.log.append(lambda _segment, _row: lines)
        self.metrics.labels_taken += len(lines)

    def note(self, lines: Sequence[bytes]) -> None:
        """Appends records that nobody waits for; they are lost where the log cannot be written. The same thread."""
        with contextlib.suppress(FalajError):
            self.log.append(lambda _segment, _row: lines)

    # --- from a call to rows ---

    def _job(self, place: int, call: Call, turn: _Turn) -> Job:
        held = turn.held
        if held is None:
            raise Unavailable("No model is served here yet.", "falaj status says why.")
        if call.name != held.serving.name:
            raise NotFound.named("model", call.name, [held.serving.name])
        problem = self.repository.problem(call.name)
        if problem is not None:
            raise problem
        if call.caller.deadline:
            demand_time(call.caller.deadline, call.caller.started, turn.clock)
        if held.whose is not None:
            self.excluded.refuse(held.whose, call, held.serving.wanted.unit)
        if isinstance(call, TensorCall):
            return self._tensor_job(place, call, held, turn)
        return self._entity_job(place, call, held, turn)

    def _tensor_job(self, place: int, call: TensorCall, held: Held, turn: _Turn) -> Job:
        request_id = call.caller.request_id or call.id or next(self.unnamed)
        unit = call.unit or request_id
        live, forced = held.arm(unit, call.caller, call.version)
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
        job = Job(place, call, [Part(live, call.matrix)], [], turn.text, turn.ms, unit, request_id, forced)
        if call.at is not None or self.clock == "replay":
            at = event_time(self.clock, call.at, turn.at)
            job.at, job.at_ms = iso(at), millis(at)
        return job

    def _entity_job(self, place: int, call: EntityCall, held: Held, turn: _Turn) -> Job:
        """Every request's arm and time; the features are not known yet."""
        many, rows = len(call.requests) > 1, []
        call_id = call.caller.request_id or next(self.unnamed)
        for index, request in enumerate(call.requests):
            try:
                rows.append(self._row((held, turn.at), request, call.caller, f"{call_id}-{index}" if many else call_id))
            except FalajError as exc:
                raise at_place(exc, "requests", index) if many else exc from exc
        return Job(place, call, [], rows)

    def _row(self, when: tuple[Held, datetime], request: Mapping[str, Any], caller: Caller, request_id: str) -> Row:
        held, now = when
        wanted = held.serving.wanted.unit
        unit = (unit_of(request.get(wanted), wanted) if wanted else "") or request_id
        live, forced = held.arm(unit, caller, None)
        at = event_time(self.clock, request.get(live.model.recipe.time_field), now)
        return Row(live, at, unit, forced, request_id, request)

    def _look_up(self, jobs: Sequence[Job], found: Outcomes) -> None:
        """Fills in the features of all rows of all calls from one read of the online store."""
        wanted: list[tuple[Job, list[dict[str, str]]]] = []
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
                job.parts = [Part(live, np.array([row.features for row in job.rows if row.live is live])) for live in lives]

    # --- from rows to scores ---

    def _run(self, parts: Sequence[Part]) -> None:
        """One run for each model that has rows. Where it fails, each part runs alone: one call's rows must not fail another's."""
        groups: dict[int, list[Part]] = {}
        for part in parts:
            groups.setdefault(id(part.live), []).append(part)
        for group in groups.values():
            try:
                run_together(group)
            except FalajError as exc:
                if len(group) == 1:
                    group[0].problem = exc
                    continue
                for part in group:
                    try:
                        run_together([part])
                    except FalajError as alone:
                        part.problem = alone

    def _has_failed(self, job: Job, found: Outcomes) -> bool:
        for part in job.parts:
            if part.problem is not None:
                self._fail(job, part.problem, found)
                return True
        return False

    # --- the log ---

    def _write(self, jobs: Sequence[Job], turn: _Turn) -> None:
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

    def _line(self, job: Job, call: TensorCall, place: tuple[int, int], turn: _Turn, ms: float) -> bytes:
        part = job.parts[0]
        mask, names, facts = part.live.mask, (job.unit, job.request_id), turn.about[id(part.live)]
        if mask.is_on:
            values = mask.inner_features(call.matrix.ravel().tolist(), call.matrix.shape[1])
            for name, text in mask.sealed(names, None, values).items():
                facts += f',"{name}":"{text}"'  # hexadecimal and base64
            call, names = mask.tensor(call), mask.names(*names)
        job.id = issue(*place, job.at_ms, self.log.key, len(part.scores))
        return tensor_line(
            call, part.scores, issued=job.id, times=(job.at, turn.text), facts=facts,
            names=names, ms=ms, forced=job.forced,
        )  # fmt: skip

    def _fail(self, job: Job, error: FalajError, found: Outcomes) -> None:
        """A valid request that could not be answered counts against its arm; rollouts look at these."""
        found[job.place] = error
        wrote = iso(self.now())
        at = job.at or (iso(job.rows[0].at) if job.rows else wrote)
        asked = [(row.live, (row.unit, row.request_id), row.forced) for row in job.rows]
        asked = asked or [(part.live, (job.unit, job.request_id), job.forced) for part in job.parts]
        lives = {id(one[0]): one for one in asked}.values()
        lines = [
            failure_line(job.call.name, live, error, times=(at, wrote), whose=(live.mask.names(*names)[0], forced))
            for live, names, forced in lives
        ]
        for live, _, _ in lives:
            self.metrics.failed(live.labels)
        self.log.append(lambda _segment, _row: lines)
