"""Labels until their predictions are judged: said by id or by unit, corrected, withdrawn, in whatever order they came.

A label by id speaks of one prediction. A label by unit speaks of the unit's latest prediction at or before its own time, and
with a window (`since`, `until`) of every prediction of the unit in it. Of all that was said of a prediction the last counts:
by the label's time, then by when it was written, then by id before by unit; one that withdraws says that nothing is known.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint64]
Moments = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]
NAN = float("nan")
_LATEST = -(2**62)
"""The `since` of a label that means the latest prediction."""
MARKS = 1_000_000
"""So many late labels are told from their repetitions; what comes beyond counts as often as it comes."""


class Said(NamedTuple):
    """When the outcome became known, when the label was written (milliseconds), and the label; NaN withdraws it."""

    at: int
    wrote: int
    value: float


class Rows(NamedTuple):
    """Predictions that a label by unit may mean, in any order."""

    ids: Ids
    units: Ids
    at: Moments


@dataclass(slots=True)
class _ById:
    ids: array[int] = field(default_factory=lambda: array("Q"))
    at: array[int] = field(default_factory=lambda: array("q"))
    wrote: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class _ByUnit:
    """`found`: whether a prediction was there for it."""

    units: array[int] = field(default_factory=lambda: array("Q"))
    since: array[int] = field(default_factory=lambda: array("q"))
    until: array[int] = field(default_factory=lambda: array("q"))
    at: array[int] = field(default_factory=lambda: array("q"))
    wrote: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    found: array[int] = field(default_factory=lambda: array("b"))


class Once:
    """Counts different things by 64-bit marks, so that what is sent twice counts once."""

    def __init__(self) -> None:
        self.count = 0
        self._marks: set[int] = set()

    def add(self, mark: int) -> None:
        if mark in self._marks:
            return
        self.count += 1
        if len(self._marks) < MARKS:
            self._marks.add(mark)


class Outcomes:
    """The labels that open cohorts may need. `late` and `unmatched` count what was said too late or of nobody."""

    def __init__(self) -> None:
        self.late, self.unmatched = Once(), Once()
        self._by_id: dict[int, _ById] = {}
        """By the period of the prediction, before cutting, since a label does not know of cuts."""
        self._by_unit = _ByUnit()

    def of_id(self, period: int, place: int, said: Said) -> None:
        kept = self._by_id.setdefault(period, _ById())
        kept.ids.append(place)
        kept.at.append(said.at)
        kept.wrote.append(said.wrote)
        kept.values.append(said.value)

    def of_unit(self, unit: int, said: Said, since: int | None, until: int | None) -> None:
        """With neither `since` nor `until` the latest prediction is meant. Nothing after the label's own time is."""
        kept = self._by_unit
        kept.units.append(unit)
        kept.since.append(_LATEST if since is None else since)
        kept.until.append(said.at if until is None else min(until, said.at))
        kept.at.append(said.at)
        kept.wrote.append(said.wrote)
        kept.values.append(said.value)
        kept.found.append(0)

    def latest(self, period: int, deadline: int, rows: Callable[[], Rows]) -> tuple[Ids, Floats]:
        """Ids and values, sorted by id: of each id the last label that was known before the deadline.

        `rows`: every prediction of the cohort and of those after it, asked for only where a label by unit is held.
        """
        kept = self._by_id.get(period, _ById())
        ids, at, wrote = copy(kept.ids, "Q"), copy(kept.at, "q"), copy(kept.wrote, "q")
        values, ranks = copy(kept.values, "d"), np.ones(len(ids), np.int8)
        if self._by_unit.units:
            found = self._resolved(deadline, rows())
            ids, at, wrote = np.append(ids, found[0]), np.append(at, found[1]), np.append(wrote, found[2])
            values, ranks = np.append(values, found[3]), np.append(ranks, np.zeros(len(found[0]), np.int8))
        in_time = at <= deadline
        ids, at, wrote, values, ranks = (column[in_time] for column in (ids, at, wrote, values, ranks))
        order = np.lexsort((values, ranks, wrote, at, ids))
        ids, values = ids[order], values[order]
        last = np.append(ids[1:] != ids[:-1], True) if len(ids) else np.empty(0, bool)
        return ids[last], values[last]

    def forget(self, is_over: Callable[[int], bool], closed: int) -> None:
        """Drops the labels of periods that are over, and by unit those that mean nothing from `closed` on."""
        for period in [period for period in self._by_id if is_over(period)]:
            del self._by_id[period]
        kept = self._by_unit
        over = np.frombuffer(kept.until, np.int64) < closed if kept.until else np.empty(0, bool)
        if not over.any():
            return
        columns = {name: getattr(kept, name) for name in _ByUnit.__slots__}
        for place in np.flatnonzero(over & (copy(kept.found, "b") == 0)).tolist():
            self.unmatched.add(hash(tuple(str(columns[name][place]) for name in ("units", "since", "until", "at", "values"))))
        self._by_unit = _ByUnit(*(
            array(values.typecode, copy(values, values.typecode)[~over].tobytes()) for values in columns.values()
        ))  # fmt: skip

    def _resolved(self, deadline: int, rows: Rows) -> tuple[Ids, Moments, Moments, Floats]:
        """(ids, at, wrote, values): each label by unit that was known by the deadline, once for each prediction it means."""
        kept = self._by_unit
        which = np.flatnonzero(copy(kept.at, "q") <= deadline)
        units, since = copy(kept.units, "Q")[which], copy(kept.since, "q")[which]
        ranks = _ranks(np.concatenate([rows.units, units, units]), np.concatenate([rows.at, since, copy(kept.until, "q")[which]]))
        count = len(rows.ids)
        order = np.argsort(ranks[:count], kind="stable")
        ladder = ranks[:count][order]
        first = np.searchsorted(ladder, ranks[count : count + len(which)], "left")
        behind = np.searchsorted(ladder, ranks[count + len(which) :], "right")
        if count:
            # The latest prediction: what stands before `behind`, with all of the same unit and moment.
            newest = np.searchsorted(ladder, ladder[np.maximum(behind - 1, 0)], "left")
            first = np.where(since == _LATEST, np.maximum(first, newest), first)
        spans = np.maximum(behind - first, 0)
        for place in which[spans > 0].tolist():
            kept.found[place] = 1
        where = np.repeat(which, spans)
        places = np.arange(len(where)) - np.repeat(np.cumsum(spans) - spans, spans) + np.repeat(first, spans)
        at, wrote, values = copy(kept.at, "q"), copy(kept.wrote, "q"), copy(kept.values, "d")
        return rows.ids[order][places], at[where], wrote[where], values[where]


def said_of(prediction: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The label that counts for one prediction, of all that the records say of it and of its unit; None where nothing does.

    The same rule for one as `Outcomes` has for all, without a deadline.
    """
    unit, own = str(prediction.get("unit") or ""), prediction["id"]
    held = list(records)
    firsts: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for record in sorted((r for r in held if r.get("kind") == "prediction"), key=lambda r: (r["at"], str(r["id"]))):
        if str(record.get("unit") or "") == unit:
            firsts.setdefault((record.get("arm"), record.get("model"), record.get("request_id") or record["id"]), record)
    made = list(firsts.values())
    found: list[tuple[tuple[Any, ...], Mapping[str, Any]]] = []
    for record in held:
        if record.get("kind") != "label":
            continue
        if "id" in record:
            is_meant = record["id"] == own
        else:
            is_meant = str(record.get("unit")) == unit and any(r["id"] == own for r in _meant(record, made))
        if is_meant:
            value = record.get("label")
            rank = (record["at"], record.get("wrote") or record["at"], "id" in record, value is None, value or 0)
            found.append((rank, record))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _meant(label: Mapping[str, Any], made: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    before = [r for r in made if r["at"] <= label["at"]]
    if label.get("since") or label.get("until"):
        since, until = label.get("since") or "", label.get("until") or label["at"]
        return [r for r in before if since <= r["at"] <= until]
    newest = max((r["at"] for r in before), default="")
    return [r for r in before if r["at"] == newest]


def _ranks(units: Ids, at: Moments) -> NDArray[np.int64]:
    """The place of each (unit, time) among all different ones, in order."""
    order = np.lexsort((at, units))
    is_new = np.append(True, (units[order][1:] != units[order][:-1]) | (at[order][1:] != at[order][:-1]))
    ranks = np.empty(len(units), np.int64)
    ranks[order] = np.cumsum(is_new[: len(order)])
    return ranks


def copy(values: array[Any], kind: str) -> NDArray[Any]:
    """A copy, since an array that lends its memory out cannot grow."""
    return np.array(np.frombuffer(values, dtype=kind)) if values else np.empty(0, dtype=kind)
