"""Joins predictions with the labels that come later, in cohorts that are closed once their labels had time to come.

A cohort holds the predictions of a period of event time. It is cut where a rollout changes the share, and closed
`maturity` after its end, all at once: labels do not count by arrival, for wrong predictions may be noticed sooner.
Which records make up a closed cohort does not depend on the order in which they came, nor on how often. What a label means
is said in `outcomes`.
"""

from __future__ import annotations

import bisect
import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput
from falaj.core.masking import masked_of
from falaj.core.moments import millis, moment
from falaj.core.segment import PredictionId
from falaj.stages.monitoring.outcomes import Outcomes, Rows, Said, copy
from falaj.stages.rollouts.rules import SEEN_FROM_LABELS, Block

Floats = NDArray[np.floating[Any]]
ARMS = ("champion", "challenger")
"""Those that a rollout compares. Variants, standby and shadow answer too, but count in no rollout."""


@dataclass(frozen=True, slots=True)
class Cut:
    """From here on the challenger has this share. `scope` names the rollout, in which a unit counts once; empty is no rollout."""

    at_ms: int
    scope: str
    step: int
    share: float


@dataclass(frozen=True, slots=True)
class Part:
    """The predictions of one model in one cohort, one row each, in order of time; `counts` marks those that a rollout may use."""

    arm: str
    model: str
    at_ms: NDArray[np.int64]
    units: NDArray[np.uint64]
    scores: Floats
    latency_ms: Floats
    labels: Floats
    """NaN where none came in time."""
    features: Floats
    forced: NDArray[np.bool_]
    """The caller chose the arm."""
    counts: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cohort:
    start_ms: int
    end_ms: int
    cut: Cut | None
    parts: tuple[Part, ...]
    failures: Mapping[str, int]
    """By arm."""


@dataclass(slots=True)
class _Shelf:
    """The open predictions of one arm and model: one array a field, no object a record."""

    ids: array[int] = field(default_factory=lambda: array("Q"))
    at: array[int] = field(default_factory=lambda: array("q"))
    units: array[int] = field(default_factory=lambda: array("Q"))
    requests: array[int] = field(default_factory=lambda: array("Q"))
    scores: array[float] = field(default_factory=lambda: array("d"))
    latency: array[float] = field(default_factory=lambda: array("f"))
    shares: array[float] = field(default_factory=lambda: array("f"))
    forced: array[int] = field(default_factory=lambda: array("b"))
    features: array[float] = field(default_factory=lambda: array("f"))


class Joiner:
    """Takes log records in any order and gives cohorts. It keeps open cohorts only, and can be made again from the log.

    `rollouts_only`: takes nothing outside rollouts and keeps neither features nor labels; for the guards that need no label.
    """

    def __init__(self, *, cohort: timedelta, maturity: timedelta, rollouts_only: bool = False) -> None:
        self.size_ms = round(cohort / timedelta(milliseconds=1))
        self.maturity_ms = round(maturity / timedelta(milliseconds=1))
        self.rollouts_only = rollouts_only
        self.cuts: tuple[Cut, ...] = ()
        self.late = 0
        """Predictions and failures that came after their cohort was closed, and records that could not be read."""
        self._times: list[int] = []
        self._open: dict[int, dict[tuple[str, str], _Shelf]] = {}
        self._failures: dict[int, dict[str, set[int]]] = {}
        self.masked: dict[str, frozenset[str]] = {}
        """Model → features that its predictions were logged without: nothing can be said of their drift."""
        self._outcomes = Outcomes()
        self._closed_ms = -(2**62)
        self._scope = ""
        self._met: list[NDArray[np.uint64]] = []

    def cut(self, cuts: Sequence[Cut]) -> None:
        """All the times at which the share changed, in order. Say a new one before the records behind it come."""
        self.cuts = tuple(cuts)
        self._times = [cut.at_ms for cut in cuts]

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes one log record. What cannot be read is counted in `late`, never raised: logs outlive formats."""
        taken = _TAKE.get(record.get("kind", ""))
        if taken is None:
            return
        try:
            taken(self, record)
        except (KeyError, TypeError, ValueError, InvalidInput):
            self.late += 1

    def ended(self, now: datetime) -> Iterator[Cohort]:
        """Open cohorts whose time is over, with the labels so far; for what needs no labels."""
        at = millis(now)
        for start in sorted(self._open.keys() | self._failures.keys()):
            if self._end(start) <= at:
                yield self._joined(start)

    def close(self, now: datetime) -> list[Cohort]:
        """Cohorts that are mature now, in order, each of them once; they are then forgotten."""
        at = millis(now)
        closed = []
        for start in sorted(self._open.keys() | self._failures.keys()):
            end = self._end(start)
            if end + self.maturity_ms > at:
                break
            cohort = self._joined(start)
            self._meet(cohort)
            closed.append(cohort)
            self._open.pop(start, None)
            self._failures.pop(start, None)
        # What is over is over also where nothing came: a straggler must not open an old cohort again.
        behind = at - self.maturity_ms
        self._closed_ms = max(self._closed_ms, self._edge(behind))
        self._outcomes.forget(lambda period: period + self.size_ms <= behind, self._closed_ms)
        return closed

    @property
    def late_labels(self) -> int:
        """Different labels that were known or came too late for the cohort of their prediction. The log has them all."""
        return self._outcomes.late.count

    @property
    def unmatched_labels(self) -> int:
        """Different labels by unit that no prediction was open for until they could mean none any more."""
        return self._outcomes.unmatched.count

    @property
    def open_rows(self) -> int:
        return sum(len(shelf.ids) for shelves in self._open.values() for shelf in shelves.values())

    def _take_prediction(self, record: Mapping[str, Any]) -> None:
        place = PredictionId.read(record["id"])
        start = self._start(place.millis)
        if start is None:
            return
        arm, model = str(record["arm"]), str(record["model"])
        features = () if self.rollouts_only else [_NAN if v is None else float(v) for v in record["features"]]
        score, latency, share = float(record["score"]), float(record["ms"]), float(record["share"])
        request = str(record.get("request_id") or record["id"])
        unit = str(record.get("unit") or request)
        if record.get("masked") and not record.get("erased"):  # one erased person does not hide a feature of all others
            self.masked[model] = self.masked.get(model, frozenset()) | masked_of(record)[1]
        shelf = self._open.setdefault(start, {}).setdefault((arm, model), _Shelf())
        if shelf.ids and len(features) * len(shelf.ids) != len(shelf.features):
            raise InvalidInput(f"A prediction of {model} has {len(features)} features.")
        shelf.ids.append(place.number)
        shelf.at.append(place.millis)
        shelf.units.append(_hash(unit))
        shelf.requests.append(_hash(request))
        shelf.scores.append(score)
        shelf.latency.append(latency)
        shelf.shares.append(share)
        shelf.forced.append(bool(record.get("forced")))
        shelf.features.extend(features)

    def _take_label(self, record: Mapping[str, Any]) -> None:
        if self.rollouts_only:
            return
        value = _NAN if record["label"] is None else float(record["label"])
        said = Said(_millis(record["at"]), _millis(record.get("wrote") or record["at"]), value)
        if "id" not in record:
            since, until = (_millis(record[name]) if record.get(name) else None for name in ("since", "until"))
            unit, last = _hash(str(record["unit"])), said.at if until is None else min(until, said.at)
            if last < self._closed_ms:
                self._outcomes.late.add(_hash(f"{unit}|{since}|{until}|{said.at}|{value}"))
            else:
                self._outcomes.of_unit(unit, said, since, until)
            return
        place = PredictionId.read(record["id"])
        start = self._edge(place.millis)
        if start < self._closed_ms or said.at > self._end(start) + self.maturity_ms:
            self._outcomes.late.add(_hash(f"{record['id']}|{said.at}|{value}"))
        else:
            self._outcomes.of_id(place.millis // self.size_ms * self.size_ms, place.number, said)

    def _take_failure(self, record: Mapping[str, Any]) -> None:
        if record.get("forced"):
            return  # whoever asked for the arm by name is no sample of those who are given it
        start = self._start(_millis(record["at"]))
        if start is None:
            return
        # One failing unit that asks again and again is one failure, where the record says which unit it was.
        who = record.get("unit") or record.get("request_id") or record.get("id")
        mark = str(who) if who else "|".join(str(record.get(key)) for key in ("at", "wrote", "release", "code", "message"))
        self._failures.setdefault(start, {}).setdefault(str(record["arm"]), set()).add(_hash(mark))

    def _cut_of(self, at_ms: int) -> Cut | None:
        index = bisect.bisect_right(self._times, at_ms)
        return self.cuts[index - 1] if index else None

    def _start(self, at_ms: int) -> int | None:
        """Where the cohort of that moment starts; None where it takes no part."""
        start = self._edge(at_ms)
        if start < self._closed_ms:
            self.late += 1
            return None
        if self.rollouts_only:
            cut = self._cut_of(at_ms)
            if cut is None or not cut.scope:
                return None
        return start

    def _edge(self, at_ms: int) -> int:
        floor, cut = at_ms // self.size_ms * self.size_ms, self._cut_of(at_ms)
        return max(floor, cut.at_ms) if cut else floor

    def _end(self, start: int) -> int:
        end = start // self.size_ms * self.size_ms + self.size_ms
        index = bisect.bisect_right(self._times, start)
        return min(end, self._times[index]) if index < len(self._times) else end

    def _joined(self, start: int) -> Cohort:
        end, cut = self._end(start), self._cut_of(start)
        labels = self._outcomes.latest(
            start // self.size_ms * self.size_ms, end + self.maturity_ms, lambda: self._rows_from(start)
        )
        parts = [_part(arm, model, shelf, labels, cut) for (arm, model), shelf in sorted(self._open.get(start, {}).items())]
        failures = {arm: len(marks) for arm, marks in self._failures.get(start, {}).items()}
        return Cohort(start, end, cut, self._counted(parts, cut), failures)

    def _rows_from(self, start: int) -> Rows:
        """The predictions of that cohort and of all after it, a request once: what a unit's latest may be among."""
        shelves = [shelf for first, held in self._open.items() if first >= start for shelf in held.values()]
        kept = [(shelf, _firsts(shelf)) for shelf in shelves]
        # An empty one in front: there is nothing to put together where no cohort is open.
        ids = np.concatenate([np.empty(0, np.uint64), *(copy(shelf.ids, "Q")[rows] for shelf, rows in kept)])
        units = np.concatenate([np.empty(0, np.uint64), *(copy(shelf.units, "Q")[rows] for shelf, rows in kept)])
        at = np.concatenate([np.empty(0, np.int64), *(copy(shelf.at, "q")[rows] for shelf, rows in kept)])
        return Rows(ids, units, at)

    def _counted(self, parts: list[Part], cut: Cut | None) -> tuple[Part, ...]:
        """The same parts, in which a unit counts only at its first prediction of the rollout."""
        if cut is None or not cut.scope or not parts:
            return tuple(parts)
        where = np.concatenate([np.full(len(p.at_ms), i) for i, p in enumerate(parts)])
        at, units = np.concatenate([p.at_ms for p in parts]), np.concatenate([p.units for p in parts])
        may = np.concatenate([p.counts for p in parts])
        # A forced first prediction still makes the unit known: what follows is no fresh unit.
        order = np.lexsort((where, at, units))
        first = np.zeros(len(units), bool)
        first[order] = np.append(True, units[order][1:] != units[order][:-1])
        if self._met and self._scope == cut.scope:
            first &= ~np.isin(units, np.concatenate(self._met))
        keep = first & may
        return tuple(replace(part, counts=keep[where == i]) for i, part in enumerate(parts))

    def _meet(self, cohort: Cohort) -> None:
        scope = cohort.cut.scope if cohort.cut else ""
        if scope != self._scope:
            self._scope, self._met = scope, []
        if scope:
            self._met.extend(part.units for part in cohort.parts)


def blocks_of(
    cohorts: Iterable[Cohort], *, threshold: float, slow_ms: float | None, guards: Sequence[str], scope: str
) -> list[Block]:
    """What each guard sees of closed cohorts of the rollout `scope`."""
    blocks = []
    for cohort in cohorts:
        if cohort.cut is None or cohort.cut.scope != scope:
            continue
        for guard in guards:
            figures = [_figures(cohort, arm, guard, threshold, slow_ms) for arm in ARMS]
            units, bad, assigned = zip(*figures, strict=True)
            if sum(assigned):
                block = Block(guard, cohort.cut.step, cohort.start_ms, cohort.end_ms, _pair(units), _pair(bad), _pair(assigned))
                blocks.append(block)
    return blocks


def _figures(cohort: Cohort, arm: str, guard: str, threshold: float, slow_ms: float | None) -> tuple[int, int, int]:
    """(units, bad, assigned)"""
    parts = [part for part in cohort.parts if part.arm == arm]
    total = sum(int(part.counts.sum()) for part in parts)
    failures = cohort.failures.get(arm, 0)
    if guard in SEEN_FROM_LABELS:
        labelled = [part.counts & ~np.isnan(part.labels) for part in parts]
        bad = [(part.scores >= threshold) != (part.labels > 0.5) for part in parts]
        wrong = sum(int((b & known).sum()) for b, known in zip(bad, labelled, strict=True))
        return sum(int(known.sum()) for known in labelled), wrong, total
    if guard == "slow":
        slow = sum(int(((part.latency_ms > (slow_ms or np.inf)) & part.counts).sum()) for part in parts)
        return total, slow, total + failures
    return total + failures, failures, total + failures


def _part(arm: str, model: str, shelf: _Shelf, labels: tuple[NDArray[np.uint64], Floats], cut: Cut | None) -> Part:
    ids, at, rows = copy(shelf.ids, "Q"), copy(shelf.at, "q"), _firsts(shelf)
    found = np.full(len(rows), np.nan)
    if len(labels[0]):
        places = np.minimum(np.searchsorted(labels[0], ids[rows]), len(labels[0]) - 1)
        hit = labels[0][places] == ids[rows]
        found[hit] = labels[1][places[hit]]
    forced = copy(shelf.forced, "b")[rows] != 0
    may = ~forced & (arm in ARMS)
    if cut is not None and cut.scope:
        share = cut.share if arm == "challenger" else 1 - cut.share
        may &= np.abs(copy(shelf.shares, "f")[rows] - share) < 1e-4
    width = len(shelf.features) // max(len(shelf.ids), 1)
    features = copy(shelf.features, "f").reshape(len(shelf.ids), width)[rows]
    scores, latency = copy(shelf.scores, "d")[rows], copy(shelf.latency, "f")[rows]
    return Part(arm, model, at[rows], copy(shelf.units, "Q")[rows], scores, latency, found, features, forced, may)


def _firsts(shelf: _Shelf) -> NDArray[np.int64]:
    """The rows that count, in order of time: of a request the first prediction; the same record twice is the same request."""
    ids, at, requests = copy(shelf.ids, "Q"), copy(shelf.at, "q"), copy(shelf.requests, "Q")
    order = np.lexsort((ids, at, requests))
    first = order[np.append(True, requests[order][1:] != requests[order][:-1])] if len(order) else order
    rows: NDArray[np.int64] = first[np.lexsort((ids[first], at[first]))]
    return rows


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return values[0], values[1]


def _millis(at: str) -> int:
    return millis(moment(at))


def _hash(text: str) -> int:
    """64 bits: among a million units the chance of any two meeting is 3 in 100 million."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


_NAN = float("nan")
_TAKE = {
    "prediction": Joiner._take_prediction,
    "label": Joiner._take_label,
    "failure": Joiner._take_failure,
}
