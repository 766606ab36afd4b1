"""Calls under way: what becomes of each between its arrival and its answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.core.errors import FalajError
from falaj.core.moments import from_millis
from falaj.inference.calls import Answered, Call, Matrix
from falaj.inference.deadlines import demand_time
from falaj.inference.models import Live, Serving
from falaj.inference.router import shadowed
from falaj.inference.rows import Row, answer_of
from falaj.inference.shadow import Copied

Outcomes = list[Answered | FalajError | None]
"""One place a call; None while it is under way."""
_PARTS = [f".{place:x}" for place in range(1024)]
"""How the ids of the rows of one call end: writing them takes a third of the time that way."""


@dataclass(slots=True)
class Part:
    """Rows of one call for one model."""

    live: Live
    matrix: Matrix
    outputs: Sequence[NDArray[Any]] = ()
    scores: Sequence[float] = ()
    problem: FalajError | None = None


@dataclass(slots=True)
class Job:
    """A call that is under way."""

    place: int
    call: Call
    parts: list[Part]
    rows: Sequence[Row] = ()
    """Of a call by entity."""
    at: str = ""
    at_ms: int = 0
    unit: str = ""
    request_id: str = ""
    forced: bool = False
    id: str = ""


def answered(job: Job, serving: Serving) -> Answered:
    if job.rows:
        rows = [answer_of(row, serving.wanted.threshold) for row in job.rows]
        return Answered(job.rows[0].live, [row.id for row in job.rows], [row.score for row in job.rows], [], rows)
    part = job.parts[0]
    return Answered(part.live, ids_of(job), part.scores, part.outputs, [])


def ids_of(job: Job) -> list[str]:
    count = len(job.parts[0].scores)
    if count == 1:
        return [job.id]
    issued, parts = job.id, _PARTS[:count] if count <= len(_PARTS) else [f".{place:x}" for place in range(count)]
    return [issued + part for part in parts]


def is_in_time(job: Job, found: Outcomes) -> bool:
    """Looking features up may have taken longer than the caller waits."""
    caller = job.call.caller
    if caller.deadline:
        try:
            demand_time(caller.deadline, caller.started)
        except FalajError as exc:
            found[job.place] = exc
            return False
    return True


def score_rows(job: Job) -> None:
    for part in job.parts:
        scores = iter(part.scores)
        for row in job.rows:
            if row.live is part.live:
                row.score = next(scores)


def run_together(parts: Sequence[Part]) -> None:
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


def copies(jobs: Sequence[Job], serving: Serving, shadow: Live) -> Iterator[Copied]:
    """What the shadow is shown: of whoever is sampled, unless the caller chose the arm."""
    threshold = serving.wanted.threshold
    for job in jobs:
        if not job.rows:
            part = job.parts[0]
            if not job.forced and shadowed(shadow.arm, job.unit):
                at = [from_millis(job.at_ms)] * len(part.scores)
                yield Copied(shadow, part.live, ids_of(job), part.scores, part.matrix, at, threshold)
            continue
        for part in job.parts:
            rows = [row for row in job.rows if row.live is part.live]
            mine = [place for place, row in enumerate(rows) if not row.forced and shadowed(shadow.arm, row.unit)]
            if mine:
                seen = [rows[place] for place in mine]
                yield Copied(
                    shadow, part.live, [row.id for row in seen], [row.score for row in seen], part.matrix[mine],
                    [row.at for row in seen], threshold, [row.request for row in seen],
                )  # fmt: skip
