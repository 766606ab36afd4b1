"""Takes labels in by the file: each once, however often the file is given, and only those of predictions that were made."""

from __future__ import annotations

import hashlib
import itertools
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from falaj.core.errors import FalajError, InvalidInput
from falaj.core.moments import millis, moment
from falaj.core.ref import Ref
from falaj.core.segment import PredictionId
from falaj.ports.predictions import Predictions
from falaj.stages.action import Act, Kernel, action

AT_ONCE = 1000
"""Labels that are written together."""
NAMED = 20
"""So many refused rows are told one by one."""
_ROW = ("id", "unit", "label", "at", "since", "until")


class Door(Protocol):
    """The prediction log of an endpoint, as labels come in to it."""

    def read(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The record of a label, as the log is to hold it. Raises FalajError for one that means nothing."""
        ...

    def write(self, records: Sequence[Mapping[str, Any]], by: str) -> None:
        """All or none, on the disk when it returns. Raises Unavailable."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Taken:
    """What became of a file's rows."""

    rows: int = 0
    taken: int = 0
    same: int = 0
    """In the log already, or earlier in the file."""
    late: int = 0
    """Of those taken: the cohort of their prediction was closed, so that no monitor and no rollout counts them."""
    unknown: int = 0
    """Of a unit without a prediction that they could mean; not written."""
    refused: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)
    """Of the first refused rows: `row`, counted from 1, and `why`."""


class Labels:
    """`door_of(endpoint)` opens the log for writing; `spans_of(endpoint)`: (cohort, maturity) of whoever waits longest."""

    def __init__(
        self,
        kernel: Kernel,
        predictions_of: Callable[[str], Predictions],
        door_of: Callable[[str], Door],
        spans_of: Callable[[str], tuple[timedelta, timedelta]],
    ) -> None:
        self.kernel = kernel
        self.predictions_of, self.door_of, self.spans_of = predictions_of, door_of, spans_of

    @action("label.take")
    def take(self, act: Act, endpoint: Ref, *, pieces: Iterable[Sequence[Mapping[str, Any]]]) -> Taken:
        """Writes each label that the log does not hold yet. Taking the same rows again writes none, also after a crash.

        `pieces`: rows with `label`, `at` and `id` or `unit`, and maybe `since`, `until` and `withdrawn`. A row that means
        nothing is counted and told, and keeps no other from being taken.
        """
        done, summed = Taken(), hashlib.sha256()
        spans, door = self.spans_of(endpoint.name), self.door_of(endpoint.name)
        try:
            known = _Known.of(self.predictions_of(endpoint.name))
            for group in _groups(_fresh(pieces, known, done, door)):
                door.write(group, act.actor.name)
                done.taken += len(group)
                done.late += sum(known.is_late(record, spans, act.now) for record in group)
                for record in group:
                    summed.update(_line(record))
        finally:
            door.close()
        with act.change() as draft:
            counts = {name: getattr(done, name) for name in ("rows", "taken", "same", "late", "unknown", "refused")}
            draft.note(**counts, sha256=f"sha256:{summed.hexdigest()}")
        return done


class _Known:
    """What the log holds: its labels as 64-bit marks, and of every unit the times of its predictions."""

    def __init__(self, marks: NDArray[np.uint64], units: NDArray[np.uint64], at: NDArray[np.int64]) -> None:
        order = np.lexsort((at, units))
        self._marks, self._units, self._at = np.unique(marks), units[order], at[order]
        self._fresh: set[int] = set()

    @classmethod
    def of(cls, log: Predictions) -> _Known:
        marks, units, at = array("Q"), array("Q"), array("q")
        for _, record in log.follow():
            if record.get("kind") == "label":
                marks.append(_mark(record))
            elif record.get("kind") == "prediction":
                units.append(_hash(str(record.get("unit") or record.get("request_id") or "")))
                at.append(PredictionId.read(record["id"]).millis)
        return cls(np.array(marks, np.uint64), np.array(units, np.uint64), np.array(at, np.int64))

    def has(self, record: Mapping[str, Any]) -> bool:
        """Whether the log, or what is to be written, holds it; from now on it does."""
        mark = _mark(record)
        place = int(np.searchsorted(self._marks, mark))
        if (place < len(self._marks) and int(self._marks[place]) == mark) or mark in self._fresh:
            return True
        self._fresh.add(mark)
        return False

    def meant(self, record: Mapping[str, Any]) -> int | None:
        """The time of the latest prediction that the label means; None where there is none."""
        if "id" in record:
            return PredictionId.read(record["id"]).millis
        unit = np.uint64(_hash(record["unit"]))
        first, last = (int(np.searchsorted(self._units, unit, side)) for side in ("left", "right"))
        until = min(_millis(record[name]) for name in ("at", "until") if record.get(name))
        place = first + int(np.searchsorted(self._at[first:last], until, "right")) - 1
        since = _millis(record["since"]) if record.get("since") else None
        if place < first or (since is not None and int(self._at[place]) < since):
            return None
        return int(self._at[place])

    def is_late(self, record: Mapping[str, Any], spans: tuple[timedelta, timedelta], now: datetime) -> bool:
        """Whether the cohort of the prediction is closed by now, or was when the outcome became known."""
        cohort, maturity = (round(span / timedelta(milliseconds=1)) for span in spans)
        at = self.meant(record)
        closes = (at // cohort + 1) * cohort + maturity if at is not None else 0
        return closes <= millis(now) or closes < _millis(record["at"])


def _fresh(pieces: Iterable[Sequence[Mapping[str, Any]]], known: _Known, done: Taken, door: Door) -> Iterator[Mapping[str, Any]]:
    """The records that are to be written; what becomes of all other rows is counted."""
    for row in itertools.chain.from_iterable(pieces):
        done.rows += 1
        record = _record(row, done, door)
        if record is not None and _is_new(record, known, done):
            yield record


def _groups(records: Iterator[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    while group := list(itertools.islice(records, AT_ONCE)):
        yield group


def _record(row: Mapping[str, Any], done: Taken, door: Door) -> Mapping[str, Any] | None:
    """The row as a record of the log; None where it means nothing, which is told."""
    try:
        return door.read(_said(row))
    except FalajError as exc:
        done.refused += 1
        if len(done.problems) < NAMED:
            done.problems.append({"row": done.rows, "why": exc.message})
        return None


def _is_new(record: Mapping[str, Any], known: _Known, done: Taken) -> bool:
    if known.meant(record) is None:
        done.unknown += 1
        return False
    if known.has(record):
        done.same += 1
        return False
    return True


def _said(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table as a label is sent. An empty cell says nothing, so that a label is withdrawn only in so many words."""
    said = {name: row[name] for name in _ROW if row.get(name) not in (None, "")}
    if str(row.get("withdrawn") or "").lower() in ("true", "1", "yes"):
        return {**said, "label": None}
    if "label" not in said:
        raise InvalidInput("The row has no label.", "leave such rows out, or write true in a column `withdrawn`.")
    return {**said, "label": _number(said["label"])}


def _number(given: Any) -> Any:
    if isinstance(given, bool):
        return int(given)
    if not isinstance(given, str):
        return given
    try:
        number = float(given)
    except ValueError:
        return given
    return int(number) if number.is_integer() else number


def _mark(record: Mapping[str, Any]) -> int:
    who = ["id", record["id"]] if "id" in record else ["unit", str(record.get("unit"))]
    label = None if record.get("label") is None else float(record["label"])
    times = [_millis(record[name]) if record.get(name) else None for name in ("at", "since", "until")]
    return _hash(json.dumps([*who, label, *times]))


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, default=str).encode() + b"\n"


def _millis(at: str) -> int:
    return millis(moment(at))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
