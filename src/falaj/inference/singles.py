"""Single rows by tensor, the commonest call of all: taken together as arrays, without an object for each step of each call.

What is answered, logged and counted is what `Predictor.answer` would make of the same calls. Whatever is not plain (a number
missing, an arm asked for, a shadow, a mask, a model out of service, a failure) is left to it.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import orjson
from msgspec import Raw, Struct
from numpy.typing import NDArray

from falaj.core.errors import FalajError
from falaj.core.moments import iso, millis
from falaj.core.segment import issue_lines
from falaj.inference.batch import Batcher
from falaj.inference.errors import failed
from falaj.inference.exchange import Asker
from falaj.inference.gather import Gather
from falaj.inference.heads import Known
from falaj.inference.held import Held
from falaj.inference.models import Live, Matrix
from falaj.inference.predict import Predictor
from falaj.inference.tensors import answer_head, array_of, tensor_head
from falaj.inference.text import MAX_TEXT, quoted

LONGEST = 4096
"""Bytes of a body that may be a single row's."""


class _Tensor(Struct, forbid_unknown_fields=True, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: Raw


class _Parameters(Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    unit: str = ""


class _Body(Struct, forbid_unknown_fields=True, gc=False):
    inputs: tuple[_Tensor]
    parameters: _Parameters = _Parameters()
    id: str = ""


class Single(Struct, gc=False):
    """A call that is under way."""

    known: Known
    asker: Asker
    body: bytes
    started: float
    id: str
    request_id: str
    unit: str
    by: str
    """The caller's name, as JSON."""
    row: str
    """The numbers as they came: the text of a JSON array."""


_body = msgspec.json.Decoder(_Body)
_quoted = functools.lru_cache(256)(quoted)
_rows = msgspec.json.Decoder(list[list[float]])


@dataclass(frozen=True, slots=True)
class _Plan:
    """What single rows go by while one revision is served."""

    held: Held
    name: str
    input: str
    width: int
    arms: tuple[_Arm, ...]


@dataclass(frozen=True, slots=True)
class _Arm:
    live: Live
    facts: str
    """What all its log lines have in common."""
    head: str
    """What all its answers begin with."""
    tensors: tuple[str, ...]
    """What each output of an answer begins with."""


@dataclass(frozen=True, slots=True)
class _Run:
    """The calls of one arm, and what its model said, in their order."""

    arm: _Arm
    calls: Sequence[Single]
    scores: Sequence[str]
    outputs: Sequence[str]
    """The text of all tensors of each answer but the prediction's id."""


class Singles:
    """For one event loop, beside the batcher for all other calls, and within its bounds."""

    def __init__(self, predictor: Predictor, batcher: Batcher) -> None:
        self._predictor, self._batcher = predictor, batcher
        self._waiting: list[Single] = []
        self._gather = Gather(lambda: len(self._waiting), batcher.rows, self._flush)
        self._held: Held | None = None
        self._plan: _Plan | None = None

    def take(self, known: Known, body: bytes, started: float, asker: Asker) -> bool:
        """Takes a call on, and tells `asker` the outcome soon and on this loop. False: it is not for here."""
        if len(body) > LONGEST or self._batcher.is_full:
            return False
        plan, opened = self._look(), known.request.opened
        if plan is None or opened.names["name"] != plan.name:
            return False
        try:
            asked = _body.decode(body)
        except (ValueError, RecursionError):
            return False
        tensor, unit, given = asked.inputs[0], asked.parameters.unit, asked.id
        row = str(tensor.data, "ascii")
        if tensor.name != plan.input or tensor.datatype != "FP32" or tensor.shape != [1, plan.width] or "\n" in row:
            return False
        if not _is_plain(unit) or not _is_plain(given):
            return False
        request_id = given or next(self._predictor.unnamed)
        if not self._waiting and not asker.is_alone:
            self._gather.begin()
        by = _quoted(opened.actor.name)
        self._waiting.append(Single(known, asker, body, started, given, request_id, unit or request_id, by, row))
        self._batcher.open += 1
        if asker.is_alone:
            self._flush()
        return True

    def _look(self) -> _Plan | None:
        held = self._predictor.held
        if held is not self._held:
            self._held, self._plan = held, _plan(held) if held is not None else None
        return self._plan

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        most = self._batcher.rows
        for start in range(0, len(waiting), most):
            batch = waiting[start : start + most]
            try:
                self._answer(batch)
            except Exception as exc:
                self._tell((), batch, failed(exc))

    def _answer(self, batch: list[Single]) -> None:
        predictor, plan = self._predictor, self._look()
        predictor.repository.look()
        now, clock = predictor.now(), time.perf_counter()
        try:
            if plan is None or predictor.repository.problem(plan.name) is not None:
                raise ValueError
            runs = _runs(plan, batch)
            ids = self._write(runs, (iso(now), millis(now), clock))
        except (FalajError, ValueError, IndexError):
            # Nothing was logged: who is at fault, and what each of them is told, is found out call by call.
            self._batcher.open -= len(batch)
            for one in batch:
                one.asker.handle(one.known.request_of(one.body, one.started))
            return
        predictor.metrics.batched(len(batch), clock - batch[0].started)
        for run in runs:
            predictor.metrics.answered_many(run.arm.live.labels, [clock - one.started for one in run.calls], len(run.calls))
        calls = [one for run in runs for one in run.calls]
        self._batcher.settle(functools.partial(self._tell, _texts(runs, ids), calls))

    def _write(self, runs: Sequence[_Run], when: tuple[str, int, float]) -> list[str]:
        """Appends all predictions in one write and gives their ids. Raises Unavailable."""
        log, (text, ms, clock), ids = self._predictor.log, when, list[str]()

        def lines(segment: int, row: int) -> list[bytes]:
            made: list[bytes] = []
            for run in runs:
                issued = issue_lines(segment, row + len(made), ms, log.key, len(run.calls))
                made += _lines(run, issued, text, clock)
                ids.extend(issued)
            return made

        log.append(lines)
        return ids

    def _tell(self, texts: Sequence[str], calls: Sequence[Single], problem: FalajError | None) -> None:
        self._batcher.open -= len(calls)
        if problem is not None:
            for one in calls:
                one.asker.refuse(problem, one.known.request.path)
            return
        now = time.perf_counter()
        for one, text in zip(calls, texts, strict=True):
            one.asker.finish(text, now)


def _plan(held: Held) -> _Plan | None:
    """None where what is served now takes more than the plain way."""
    lives = held.serving.arms
    first = lives[0].model
    if held.shadow is not None or any(live.mask.is_on for live in lives):
        return None
    if any((live.model.input, live.model.width) != (first.input, first.width) for live in lives):
        return None
    arms = tuple([_arm(held, live) for live in lives])
    return _Plan(held, held.serving.name, first.input, first.width, arms) if all(arm.head.isascii() for arm in arms) else None


def _arm(held: Held, live: Live) -> _Arm:
    head = answer_head(held.serving.name, live.version, live.role, live.arm.release)
    return _Arm(live, held.about[id(live)], head, tuple([tensor_head(one.name, one.datatype) for one in live.model.outputs]))


_is_plain = re.compile(rf"[ !#-\[\]-~]{{0,{MAX_TEXT}}}").fullmatch
"""ASCII that stands in JSON as it is."""


def _runs(plan: _Plan, batch: Sequence[Single]) -> list[_Run]:
    """One run of each arm's model. Raises FalajError or ValueError where any of the rows or a model is not as it should be."""
    groups: list[list[Single]] = [[] for _ in plan.arms]
    split = plan.held.split.of
    for one in batch:
        groups[split(one.unit)].append(one)
    matrix, start, runs = _matrix(list(chain.from_iterable(groups)), plan), 0, list[_Run]()
    for arm, calls in zip(plan.arms, groups, strict=True):
        if calls:
            runs.append(_run(arm, calls, matrix[start : start + len(calls)]))
            start += len(calls)
    return runs


def _matrix(calls: Sequence[Single], plan: _Plan) -> Matrix:
    """(calls, columns). Raises ValueError for rows of another length or no numbers, InvalidInput for what FP32 cannot carry."""
    rows = _rows.decode(f"[{','.join([one.row for one in calls])}]")
    if set(map(len, rows)) != {plan.width}:
        raise ValueError
    return array_of(plan.input, list(chain.from_iterable(rows))).reshape(-1, plan.width)


def _run(arm: _Arm, calls: Sequence[Single], matrix: Matrix) -> _Run:
    outputs = arm.live.model.run(matrix)
    scores = orjson.dumps(arm.live.model.scores(outputs)).decode()[1:-1].split(",")
    texts = [_tensors(head, value, len(calls)) for head, value in zip(arm.tensors, outputs, strict=True)]
    return _Run(arm, calls, scores, texts[0] if len(texts) == 1 else [",".join(each) for each in zip(*texts, strict=True)])


def _lines(run: _Run, ids: Sequence[str], text: str, clock: float) -> list[bytes]:
    """As `tensor_line` writes a call."""
    shared = f'"at":"{text}","wrote":"{text}",{run.arm.facts},"unit":"'
    return [
        (
            f'{{"kind":"prediction","id":"{issued}",{shared}{one.unit}","request_id":"{one.request_id}","via":"v2",'
            f'"by":{one.by},"request":null,"features":{one.row},"stored_at":{{}},"score":{score},'
            f'"ms":{(clock - one.started) * 1000:.3f},"forced":false}}'
        ).encode()
        for one, issued, score in zip(run.calls, ids, run.scores, strict=True)
    ]


def _tensors(head: str, value: NDArray[Any], count: int) -> list[str]:
    """An output of all rows as one tensor for each. Raises ValueError for one that does not come row by row."""
    if len(value) != count or value.ndim > 2:
        raise ValueError
    text = orjson.dumps(value.tolist()).decode()
    if value.ndim == 1:
        return [f'{head}[1],"data":[{each}]}}' for each in text[1:-1].split(",")]
    shape = f"{head}[1, {value.shape[1]}]"
    return [f'{shape},"data":[{each}]}}' for each in text[2:-2].split("],[")]


def _texts(runs: Sequence[_Run], ids: Sequence[str]) -> list[str]:
    """The answers, in the order of the calls of all runs."""
    issued = iter(ids)
    return [
        f'{run.arm.head}{output},{{"name":"prediction_id","datatype":"BYTES","shape":[1],"data":["{next(issued)}"]}}]'
        f"{_own(one.id)}}}"
        for run in runs
        for one, output in zip(run.calls, run.outputs, strict=True)
    ]


def _own(given: str) -> str:
    return f',"id":"{given}"' if given else ""
