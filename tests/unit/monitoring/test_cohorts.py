"""Cohorts do not depend on how their records came, and matured ones are fair where labels are not."""

from __future__ import annotations

import math
import random
import tracemalloc
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.moments import from_millis, iso, millis
from falaj.core.segment import PredictionId
from falaj.stages.monitoring.cohorts import Cohort, Cut, Joiner, Part, blocks_of
from falaj.stages.rollouts.rules import begin, feed, threshold_of_harm
from falaj.stages.rollouts.spec import Canary

T0 = datetime(2013, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SCOPE = "rollout/delay@1"
CUTS = (
    Cut(millis(T0 + 6 * HOUR), SCOPE, 0, 0.1),
    Cut(millis(T0 + 30 * HOUR), SCOPE, 1, 0.5),
    Cut(millis(T0 + 60 * HOUR), "", 0, 0.0),
)
Record = Mapping[str, Any]


def prediction(row: int, at: datetime, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "kind": "prediction", "id": PredictionId(0, row, millis(at)).issue(b"k"), "at": iso(at), "arm": "champion",
        "model": "model/delay@1", "share": 0.9, "unit": f"u{row}", "request_id": f"r{row}", "features": [1.0, None],
        "score": 0.4, "ms": 1.5, "forced": False,
    }  # fmt: skip
    return body | fields


def label(of: Record, at: datetime, value: int) -> dict[str, Any]:
    return {"kind": "label", "id": of["id"], "at": iso(at), "wrote": iso(at), "label": value}


def share_at(at: datetime) -> float:
    past = [cut for cut in CUTS if cut.at_ms <= millis(at)]
    return past[-1].share if past else 0.0


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    records: list[Record] = []
    for row in range(draw(st.integers(1, 25))):
        at = T0 + draw(st.integers(0, 70 * 4)) * HOUR / 4
        arm = draw(st.sampled_from(["champion", "challenger"]))
        share = share_at(at) if draw(st.integers(0, 9)) else 0.77
        made = prediction(
            row,
            at,
            arm=arm,
            share=share if arm == "challenger" else 1 - share,
            unit=f"u{draw(st.integers(0, 12))}",
            request_id=f"r{draw(st.integers(0, 20))}",
            forced=draw(st.integers(0, 9)) == 0,
            score=draw(st.sampled_from([0.1, 0.9])),
        )
        records.append(made)
        for _ in range(draw(st.integers(0, 3))):
            records.append(label(made, at + draw(st.integers(1, 60)) * HOUR, draw(st.integers(0, 1))))
        if draw(st.integers(0, 5)) == 0:
            records.append({"kind": "failure", "at": iso(at), "wrote": iso(at), "arm": arm, "code": "model", "message": f"{row}"})
    return records


def joined(records: Sequence[Record], looks: Sequence[datetime] = ()) -> list[Cohort]:
    joiner = Joiner(cohort=DAY, maturity=36 * HOUR)
    joiner.cut(CUTS)
    for record in records:
        joiner.add(record)
    return [cohort for at in (*looks, T0 + 30 * DAY) for cohort in joiner.close(at)]


def figures(cohorts: Sequence[Cohort]) -> list[Any]:
    def part(p: Part) -> tuple[Any, ...]:
        return (p.arm, p.at_ms.tolist(), p.scores.tolist(), [str(v) for v in p.labels], p.counts.tolist())

    return [(c.start_ms, c.end_ms, dict(c.failures), [part(p) for p in c.parts]) for c in cohorts]


def oracle(records: Sequence[Record]) -> dict[tuple[int, str], tuple[int, int, int]]:
    """(start, arm) → (units, wrong, assigned), the slow and plain way."""
    edges = sorted({*(millis(T0 + day * DAY) for day in range(-1, 9)), *(cut.at_ms for cut in CUTS)})
    made = {r["id"]: r for r in records if r["kind"] == "prediction"}

    def start_of(r: Record) -> int:
        return max(edge for edge in edges if edge <= PredictionId.read(r["id"]).millis)

    firsts: dict[tuple[Any, ...], Record] = {}
    for r in sorted(made.values(), key=lambda r: (r["at"], PredictionId.read(r["id"]).row)):
        firsts.setdefault((start_of(r), r["arm"], r["request_id"]), r)
    known: dict[str, Record] = {}
    for r in sorted(firsts.values(), key=lambda r: (r["at"], r["arm"])):
        if millis(T0 + 6 * HOUR) <= start_of(r) < millis(T0 + 60 * HOUR):
            known.setdefault(r["unit"], r)
    found: dict[tuple[int, str], list[int]] = {}
    for r in known.values():
        start = start_of(r)
        share = share_at(from_millis(start))
        if r["forced"] or abs(r["share"] - (share if r["arm"] == "challenger" else 1 - share)) > 1e-4:
            continue
        end = next(edge for edge in edges if edge > start)
        deadline = iso(from_millis(end) + 36 * HOUR)
        labels = sorted(
            (x["at"], x["wrote"], x["label"])
            for x in records
            if x["kind"] == "label" and x["id"] == r["id"] and x["at"] <= deadline
        )
        row = found.setdefault((start, r["arm"]), [0, 0, 0])
        row[2] += 1
        if labels:
            row[0] += 1
            row[1] += (r["score"] >= 0.5) != (labels[-1][2] > 0.5)
    return {key: (row[0], row[1], row[2]) for key, row in found.items()}


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(records=logs(), seed=st.integers(0, 99), copies=st.integers(1, 3))
def test_order_and_repetition_do_not_matter(records: list[Record], seed: int, copies: int) -> None:
    shuffled = records * copies
    random.Random(seed).shuffle(shuffled)
    assert figures(joined(shuffled)) == figures(joined(records))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(records=logs())
def test_blocks_are_what_the_plain_count_says(records: list[Record]) -> None:
    blocks = blocks_of(joined(records), threshold=0.5, slow_ms=None, guards=["wrong"], scope=SCOPE)
    found = {}
    for block in blocks:
        for i, arm in enumerate(("champion", "challenger")):
            if block.assigned[i]:
                found[block.start_ms, arm] = (block.units[i], block.bad[i], block.assigned[i])
    assert found == oracle(records)


@settings(max_examples=60, deadline=None)
@given(records=logs())
def test_closing_as_time_goes_by_gives_what_closing_at_the_end_gives(records: list[Record]) -> None:
    in_time = sorted(records, key=lambda r: r["at"])
    joiner = Joiner(cohort=DAY, maturity=36 * HOUR)
    joiner.cut(CUTS)
    closed: list[Cohort] = []
    for record in in_time:
        closed += joiner.close(datetime.fromisoformat(record["at"]) - timedelta(milliseconds=1))
        joiner.add(record)
    closed += joiner.close(T0 + 30 * DAY)
    assert figures(closed) == figures(joined(records))
    assert joiner.open_rows == 0


def test_a_correction_after_maturity_changes_nothing() -> None:
    # The cohort is cut at six o'clock, and so matures at 42 hours.
    made = prediction(1, T0 + HOUR)
    known = [made, label(made, T0 + 5 * HOUR, 1)]
    assert figures(joined([*known, label(made, T0 + 43 * HOUR, 0)])) == figures(joined(known))
    assert figures(joined([*known, label(made, T0 + 41 * HOUR, 0)])) != figures(joined(known))


def test_a_straggler_does_not_open_an_old_cohort_again() -> None:
    joiner = Joiner(cohort=DAY, maturity=36 * HOUR)
    joiner.add(prediction(1, T0 + HOUR))
    assert len(joiner.close(T0 + 3 * DAY)) == 1
    joiner.add(prediction(2, T0 + 2 * HOUR))
    assert joiner.close(T0 + 9 * DAY) == []
    assert joiner.late == 1


def test_what_cannot_be_read_is_counted() -> None:
    joiner = Joiner(cohort=DAY, maturity=36 * HOUR)
    for record in (
        {"kind": "prediction"},
        {"kind": "label", "id": "x"},
        {"kind": "failure", "at": "never"},
        {"kind": "other"},
        {},
    ):
        joiner.add(record)
    assert joiner.late == 3
    assert joiner.close(T0) == []


def test_failures_of_one_unit_count_once_and_the_pulse_sees_rollouts_only() -> None:
    joiner = Joiner(cohort=HOUR, maturity=timedelta(minutes=1), rollouts_only=True)
    joiner.cut(CUTS)
    joiner.add(prediction(1, T0 + HOUR))
    at = T0 + 8 * HOUR
    joiner.add(prediction(2, at))
    for second in range(5):
        late = iso(at + timedelta(seconds=second))
        joiner.add(
            {"kind": "failure", "at": late, "wrote": late, "arm": "challenger", "unit": "u9", "code": "model", "message": "x"}
        )
    (cohort,) = joiner.close(T0 + DAY)
    (block,) = blocks_of([cohort], threshold=0.5, slow_ms=None, guards=["failure"], scope=SCOPE)
    assert (block.units, block.bad) == ((1, 1), (0, 1))


def test_two_hundred_thousand_open_predictions_fit_in_little_memory() -> None:
    joiner = Joiner(cohort=DAY, maturity=36 * HOUR)
    features = [float(i) for i in range(30)]
    tracemalloc.start()
    for row in range(10_000):
        joiner.add(prediction(row, T0 + timedelta(seconds=row), features=features))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert joiner.open_rows == 10_000
    assert used / 10_000 * 225_000 < 150e6


def lived(seed: int, *, matured: bool) -> bool:
    """Whether evidence of harm is found against an equal challenger whose wrong answers are labelled sooner than right ones."""
    rng = np.random.default_rng(seed)
    plan = Canary(steps=(0.1, 0.5), guards=("wrong",), step_units=10_000)
    status, blocks, per_day, row = begin(plan, T0), [], 300, 0
    joiner = Joiner(cohort=DAY, maturity=36 * HOUR if matured else timedelta(0))
    joiner.cut([Cut(millis(T0), SCOPE, 0, 0.2)])
    pending: list[tuple[datetime, Record]] = []
    for day in range(10):
        for _ in range(per_day):
            at = T0 + day * DAY + timedelta(seconds=int(rng.integers(0, 86_400)))
            arm = "challenger" if rng.random() < 0.2 else "champion"
            made = prediction(row, at, arm=arm, share=0.2 if arm == "challenger" else 0.8, score=0.9)
            is_wrong = bool(rng.random() < 0.3)
            delay = (4 if is_wrong else 30) if arm == "challenger" else 12
            pending.append((at + delay * HOUR, label(made, at + delay * HOUR, 0 if is_wrong else 1)))
            joiner.add(made)
            row += 1
        now = T0 + (day + 1) * DAY
        for _at, known in (p for p in pending if p[0] <= now):
            joiner.add(known)
        pending = [p for p in pending if p[0] > now]
        blocks += blocks_of(joiner.close(now), threshold=0.5, slow_ms=None, guards=["wrong"], scope=SCOPE)
        status = feed(plan, status, blocks)
    return status.guards[0].harm.peak >= threshold_of_harm(plan)


@pytest.mark.slow
def test_labels_that_come_sooner_for_bad_news_do_no_harm_in_matured_cohorts() -> None:
    runs = 12
    assert all(lived(seed, matured=False) for seed in range(2))
    assert sum(lived(seed, matured=True) for seed in range(runs)) / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("arm", ["variant-b", "standby", "shadow"])
def test_arms_that_no_rollout_compares_count_in_none(arm: str) -> None:
    """A straggler of an experiment, or a standby that somebody asked for: their units are not those that were split."""
    at = T0 + 8 * HOUR
    own = [prediction(1, at), prediction(2, at, arm="challenger", share=0.1, model="model/delay@2")]
    for share in (0.9, 0.1):
        other = prediction(3, at, arm=arm, share=share, model="model/delay@3")
        failed = {"kind": "failure", "at": iso(at), "wrote": iso(at), "arm": arm, "unit": "u4", "code": "model", "message": "x"}
        cohorts = joined([*own, other, failed])
        assert not any(part.counts.any() for cohort in cohorts for part in cohort.parts if part.arm == arm)
        for guard in ("failure", "wrong", "slow"):
            blocks = blocks_of(cohorts, threshold=0.5, slow_ms=1.0, guards=[guard], scope=SCOPE)
            assert blocks == blocks_of(joined(own), threshold=0.5, slow_ms=1.0, guards=[guard], scope=SCOPE)


def test_a_shadow_record_is_no_prediction_and_a_forced_failure_is_no_failure_of_the_arm() -> None:
    at = T0 + 8 * HOUR
    made = prediction(1, at)
    said = {"kind": "shadow", "of": made["id"], "at": iso(at), "wrote": iso(at), "arm": "champion", "model": "model/delay@2"}
    forced = {"kind": "failure", "at": iso(at), "arm": "challenger", "unit": "u9", "code": "bug", "forced": True}
    assert figures(joined([made, said, forced])) == figures(joined([made]))
    assert figures(joined([made, forced | {"forced": False}])) != figures(joined([made]))


def test_what_a_variant_answered_is_seen_by_a_monitor_as_its_models_own_but_not_what_was_forced() -> None:
    from falaj.stages.monitoring.figures import losses_of, parts_of

    at = T0 + HOUR
    rows = [prediction(1, at, arm="variant-b", share=0.2), prediction(2, at, arm="standby", share=0.0, forced=True)]
    parts = parts_of(joined([*rows, *(label(row, at + HOUR, 1) for row in rows)]), "model/delay@1")
    assert [part.arm for part in parts] == ["standby", "variant-b"]
    assert len(losses_of(parts, 0.5)["wrong"]) == 1
