"""Labels by id and by unit, corrected, withdrawn, late: what counts does not depend on the order in which they came."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.moments import iso, millis
from falaj.core.segment import PredictionId
from falaj.stages.monitoring.cohorts import Joiner
from falaj.stages.monitoring.outcomes import said_of

T0 = datetime(2013, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MATURITY = 36 * HOUR
Record = Mapping[str, Any]


def prediction(row: int, at: datetime, unit: str, request: str = "") -> dict[str, Any]:
    return {
        "kind": "prediction", "id": PredictionId(0, row, millis(at)).issue(b"k"), "at": iso(at), "arm": "champion",
        "model": "model/delay@1", "share": 1.0, "unit": unit, "request_id": request or f"r{row}", "features": [],
        "score": float(row), "ms": 1.0, "forced": False,
    }  # fmt: skip


def label(who: str | Record, at: datetime, value: float | None, wrote: datetime | None = None, **window: datetime) -> Record:
    named = {"unit": who} if isinstance(who, str) else {"id": who["id"]}
    spans = {name: iso(moment) for name, moment in window.items()}
    return {"kind": "label", **named, "at": iso(at), "wrote": iso(wrote or at), "label": value, **spans}


def joiner_of(records: Sequence[Record]) -> Joiner:
    joiner = Joiner(cohort=DAY, maturity=MATURITY)
    for record in records:
        joiner.add(record)
    return joiner


def labels_of(records: Sequence[Record]) -> dict[int, float | None]:
    """row of the prediction → its label once everything is mature."""
    found: dict[int, float | None] = {}
    for cohort in joiner_of(records).close(T0 + 90 * DAY):
        for part in cohort.parts:
            for score, value in zip(part.scores.tolist(), part.labels.tolist(), strict=True):
                found[int(score)] = None if math.isnan(value) else value
    return found


def test_a_label_by_unit_means_its_latest_prediction_before_it_was_known() -> None:
    made = [prediction(0, T0 + HOUR, "f-1"), prediction(1, T0 + 3 * HOUR, "f-1"), prediction(2, T0 + 9 * HOUR, "f-1")]
    other = prediction(3, T0 + 4 * HOUR, "f-2")
    assert labels_of([*made, other, label("f-1", T0 + 5 * HOUR, 1)]) == {0: None, 1: 1, 2: None, 3: None}


def test_a_label_with_a_window_means_every_prediction_of_the_unit_in_it() -> None:
    made = [prediction(row, T0 + hours * HOUR, "f-1") for row, hours in enumerate((1, 3, 6, 9))]
    said = label("f-1", T0 + 8 * HOUR, 1, since=T0 + 3 * HOUR, until=T0 + 6 * HOUR)
    assert labels_of([*made, said]) == {0: None, 1: 1, 2: 1, 3: None}


def test_a_window_never_reaches_behind_the_moment_when_the_outcome_was_known() -> None:
    made = [prediction(0, T0 + HOUR, "f-1"), prediction(1, T0 + 6 * HOUR, "f-1")]
    said = label("f-1", T0 + 3 * HOUR, 1, since=T0, until=T0 + 20 * HOUR)
    assert labels_of([*made, said]) == {0: 1, 1: None}


def test_predictions_of_a_unit_at_the_same_moment_share_its_label() -> None:
    made = [prediction(0, T0 + HOUR, "f-1"), prediction(1, T0 + HOUR, "f-1")]
    assert labels_of([*made, label("f-1", T0 + 2 * HOUR, 1)]) == {0: 1, 1: 1}


def test_a_label_by_unit_meets_the_first_prediction_of_a_request_that_was_sent_again() -> None:
    made = [prediction(0, T0 + HOUR, "f-1", "r"), prediction(1, T0 + 2 * HOUR, "f-1", "r")]
    assert labels_of([*made, label("f-1", T0 + 5 * HOUR, 1)]) == {0: 1}


def test_a_label_may_come_before_the_record_of_its_prediction() -> None:
    assert labels_of([label("f-1", T0 + 2 * HOUR, 1), prediction(0, T0 + HOUR, "f-1")]) == {0: 1}


def test_a_prediction_in_the_next_cohort_is_the_latest_one_too() -> None:
    made = [prediction(0, T0 + 23 * HOUR, "f-1"), prediction(1, T0 + 25 * HOUR, "f-1")]
    assert labels_of([*made, label("f-1", T0 + 26 * HOUR, 1)]) == {0: None, 1: 1}


def test_a_corrected_label_replaces_the_one_before_and_a_withdrawn_one_leaves_none() -> None:
    made = prediction(0, T0, "f-1")
    first, second = label(made, T0 + HOUR, 1), label("f-1", T0 + 2 * HOUR, 0)
    assert labels_of([made, second, first]) == {0: 0}
    assert labels_of([made, label(made, T0 + 3 * HOUR, None), second, first]) == {0: None}
    assert labels_of([made, label(made, T0 + 4 * HOUR, 1), label(made, T0 + 3 * HOUR, None), first]) == {0: 1}


def test_a_correction_of_the_same_moment_counts_by_when_it_was_written() -> None:
    made = prediction(0, T0, "f-1")
    known = T0 + HOUR
    records = [made, label(made, known, 1, wrote=known + HOUR), label(made, known, 0, wrote=known)]
    assert labels_of(records) == {0: 1}


def test_what_is_said_by_id_counts_before_what_is_said_by_unit_at_the_same_moment() -> None:
    made = prediction(0, T0, "f-1")
    assert labels_of([made, label(made, T0 + HOUR, 0), label("f-1", T0 + HOUR, 1)]) == {0: 0}


def test_a_correction_that_comes_after_the_cohort_changes_nothing_and_counts_as_late() -> None:
    made = prediction(0, T0, "f-1")
    correction = label(made, T0 + DAY + MATURITY + HOUR, 0)
    joiner = joiner_of([made, label(made, T0 + HOUR, 1), correction, correction])
    (cohort,) = joiner.close(T0 + 9 * DAY)
    assert cohort.parts[0].labels.tolist() == [1]
    assert joiner.late_labels == 1


def test_a_late_label_counts_once() -> None:
    made = prediction(0, T0, "f-1")
    joiner = joiner_of([made])
    joiner.close(T0 + 9 * DAY)
    late = label(made, T0 + HOUR, 1)
    for record in (late, late, label("f-1", T0 + HOUR, 1), label("f-1", T0 + HOUR, 1)):
        joiner.add(record)
    assert joiner.late_labels == 2


def test_a_label_of_an_unknown_unit_is_held_and_then_counted() -> None:
    joiner = joiner_of([label("f-9", T0 + HOUR, 1), label("f-9", T0 + HOUR, 1), label("f-9", T0 + HOUR, None)])
    joiner.close(T0 + DAY)
    assert joiner.unmatched_labels == 0
    joiner.add(prediction(0, T0, "f-1"))
    joiner.close(T0 + DAY + MATURITY + DAY)
    assert (joiner.unmatched_labels, joiner.late_labels) == (2, 0)


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    units = ["a", "b", "c"]
    made = [
        prediction(row, T0 + draw(st.integers(0, 200)) * HOUR / 2, draw(st.sampled_from(units)), f"r{draw(st.integers(0, 9))}")
        for row in range(draw(st.integers(1, 8)))
    ]
    said: list[Record] = []
    for _ in range(draw(st.integers(0, 10))):
        at = T0 + draw(st.integers(0, 300)) * HOUR / 2
        value = draw(st.sampled_from([0, 1, None]))
        kind = draw(st.sampled_from(["id", "latest", "window"]))
        wrote = at + draw(st.integers(0, 2)) * HOUR
        if kind == "window":
            since = at - draw(st.integers(0, 100)) * HOUR
            until = since + draw(st.integers(0, 60)) * HOUR
            said.append(label(draw(st.sampled_from(units)), at, value, wrote, since=since, until=until))
        else:
            who = draw(st.sampled_from(units)) if kind == "latest" else draw(st.sampled_from(made))
            said.append(label(who, at, value, wrote))
    return [*made, *said]


def oracle(records: Sequence[Record]) -> dict[int, float | None]:
    """What each prediction's label is, the slow and plain way."""
    day = millis(T0 + DAY) - millis(T0)
    made: dict[tuple[int, str], Record] = {}
    for r in sorted((r for r in records if r["kind"] == "prediction"), key=lambda r: (r["at"], r["score"])):
        made.setdefault((PredictionId.read(r["id"]).millis // day, r["request_id"]), r)
    best: dict[int, tuple[Any, ...]] = {}
    for said in (r for r in records if r["kind"] == "label"):
        if "id" in said:
            meant = [r for r in made.values() if r["id"] == said["id"]]
        else:
            meant = [r for r in made.values() if r["unit"] == said["unit"] and r["at"] <= said["at"]]
            if "since" in said:
                meant = [r for r in meant if said["since"] <= r["at"] <= said["until"]]
            else:
                meant = [r for r in meant if r["at"] == max(r["at"] for r in meant)]
        for r in meant:
            start = PredictionId.read(r["id"]).millis // day * day
            if millis(datetime.fromisoformat(said["at"])) > start + day + MATURITY / timedelta(milliseconds=1):
                continue
            value = said["label"]
            rank = (said["at"], said["wrote"], "id" in said, value is None, value or 0)
            best[int(r["score"])] = max(best.get(int(r["score"]), (rank, value)), (rank, value), key=lambda pair: pair[0])
    return {int(r["score"]): best.get(int(r["score"]), (None, None))[1] for r in made.values()}


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(records=logs(), seed=st.integers(0, 99), copies=st.integers(1, 3))
def test_what_counts_depends_neither_on_order_nor_on_repetition(records: list[Record], seed: int, copies: int) -> None:
    shuffled = records * copies
    random.Random(seed).shuffle(shuffled)
    assert labels_of(shuffled) == oracle(records)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(records=logs())
def test_what_counts_for_one_prediction_is_what_counts_among_all(records: list[Record]) -> None:
    """Without a deadline, and where every request is of its own: in one cohort, that is."""
    alone = [r if r["kind"] == "label" else {**r, "request_id": f"{r['score']}"} for r in records]
    joiner = Joiner(cohort=365 * DAY, maturity=365 * DAY)
    for record in alone:
        joiner.add(record)
    found = {}
    for cohort in joiner.close(T0 + 9999 * DAY):
        for part in cohort.parts:
            found |= {
                score: None if math.isnan(v) else v for score, v in zip(part.scores.tolist(), part.labels.tolist(), strict=True)
            }
    for made in (r for r in alone if r["kind"] == "prediction"):
        said = said_of(made, alone)
        assert found[made["score"]] == (None if said is None else said["label"])
