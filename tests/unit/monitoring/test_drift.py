"""Drift is found where there is some, and alarms stay within their budget where there is none."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest

from falaj.core.codec import decode, encode
from falaj.core.errors import InvalidInput
from falaj.stages.monitoring import drift
from falaj.stages.monitoring.drift import DriftReference
from falaj.stages.monitoring.spec import Monitor, alarms_per, alpha_of
from falaj.stages.monitoring.tails import f_tail

HOUR_MS = 3_600_000
WEEK = timedelta(days=7)
NAMES = [f"f{i}" for i in range(6)] + ["kind"]


def stream(rng: np.random.Generator, weeks: int, per_hour: int = 4, *, memory: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Weeks of rows: six numbers, each around a level that wanders with the given memory from hour to hour, and a category."""
    hours = weeks * 7 * 24
    level = np.zeros((hours, 6))
    for i in range(1, hours):
        level[i] = memory * level[i - 1] + rng.normal(0, math.sqrt(1 - memory**2) if memory else 0, 6)
    times = np.repeat(np.arange(hours), per_hour) * HOUR_MS
    numbers = np.repeat(level, per_hour, axis=0) * 0.5 + rng.normal(size=(hours * per_hour, 6))
    kind = rng.choice(4, size=(len(times), 1), p=[0.4, 0.3, 0.2, 0.1]).astype(float)
    return np.hstack([numbers, kind]), times


def drifted(reference: DriftReference, window: np.ndarray, alpha: float) -> list[str]:
    counts = [drift.count(bins, window[:, i]) for i, bins in enumerate(reference.features)]
    checks = drift.drift_verdict(reference, counts, alpha=alpha, min_rows=100)
    return [check.name for check in checks if check.passed is False]


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_without_drift_alarms_keep_to_their_budget(memory: float) -> None:
    rng, alpha, looks, alarms = np.random.default_rng(11), 0.1, 0, 0
    for _ in range(25):
        rows, times = stream(rng, 12, memory=memory)
        week = times // (7 * 24 * HOUR_MS)
        reference = drift.calibrate(NAMES, rows[week < 8], times[week < 8], window=WEEK)
        for w in range(8, 12):
            looks += 1
            alarms += bool(drifted(reference, rows[week == w], alpha))
    assert alarms / looks <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / looks)


def reference_and_next(seed: int, memory: float = 0.0) -> tuple[DriftReference, np.ndarray]:
    rows, times = stream(np.random.default_rng(seed), 13, memory=memory)
    week = times // (7 * 24 * HOUR_MS)
    return drift.calibrate(NAMES, rows[week < 12], times[week < 12], window=WEEK), rows[week == 12]


def test_a_shift_of_three_tenths_of_a_standard_deviation_is_found() -> None:
    reference, window = reference_and_next(1)
    window[:, 2] += 0.3
    assert drifted(reference, window, 1 / 60) == ["f2"]


def test_missing_values_are_found() -> None:
    reference, window = reference_and_next(2)
    window[::25, 3] = np.nan
    assert drifted(reference, window, 1 / 60) == ["f3"]


def test_a_changed_mix_of_categories_is_found() -> None:
    reference, window = reference_and_next(3)
    kind = window[:, 6]
    kind[(kind == 0) & (np.arange(len(kind)) % 3 == 0)] = 3
    assert drifted(reference, window, 1 / 60) == ["kind"]


def test_a_value_that_was_never_seen_is_found() -> None:
    reference, window = reference_and_next(4)
    window[::20, 6] = 9
    window[::20, 0] = 1e6
    assert set(drifted(reference, window, 1 / 60)) == {"f0", "kind"}


def test_a_trifle_is_no_drift_however_many_rows_there_are() -> None:
    rng = np.random.default_rng(5)
    rows, times = rng.normal(size=(400_000, 1)), np.arange(400_000) * (8 * 7 * 24 * HOUR_MS // 400_000)
    reference = drift.calibrate(["x"], rows, times, window=WEEK)
    counts = [drift.count(reference.features[0], rng.normal(0.05, 1, 200_000))]
    (moved,) = drift.compare(reference, counts, alpha=0.05)
    assert moved.p < 1e-6
    assert not moved.drifted


def test_a_restless_reference_asks_for_more() -> None:
    calm, _ = reference_and_next(6)
    restless, window = reference_and_next(6, memory=0.97)
    assert all(r.scale > 2 * c.scale for r, c in zip(restless.features[:6], calm.features[:6], strict=True))
    window[:, 2] += 1.5
    assert "f2" in drifted(restless, window, 0.1)


def test_too_few_rows_are_no_verdict() -> None:
    reference, window = reference_and_next(7)
    counts = [drift.count(bins, window[:20, i]) for i, bins in enumerate(reference.features)]
    checks = drift.drift_verdict(reference, counts, alpha=0.1, min_rows=100)
    assert [check.passed for check in checks] == [None]


def test_a_reference_of_two_windows_is_refused() -> None:
    rows, times = stream(np.random.default_rng(8), 2)
    with pytest.raises(InvalidInput, match="at least 3"):
        drift.calibrate(NAMES, rows, times, window=WEEK)


def test_a_feature_that_is_always_missing_or_constant_is_harmless() -> None:
    rows, times = stream(np.random.default_rng(9), 5)
    rows[:, 0], rows[:, 1] = np.nan, 3.0
    reference = drift.calibrate(NAMES, rows, times, window=WEEK)
    assert drifted(reference, rows[-600:], 1 / 60) == []
    rows[:, 0] = 1.0
    assert drifted(reference, rows[-600:], 1 / 60) == ["f0"]


def test_the_reference_survives_the_ledger() -> None:
    reference, _ = reference_and_next(10)
    assert decode(DriftReference, encode(reference)) == reference


def test_a_budget_is_shared_among_looks() -> None:
    assert alarms_per("2 per 4w") == (2.0, timedelta(weeks=4))
    assert alpha_of(Monitor("delay", look="1d", false_alarms="1 per 30d")) == pytest.approx(1 / 60)
    for wrong in ("often", "0 per 30d", "1 per month"):
        with pytest.raises(InvalidInput):
            Monitor("delay", false_alarms=wrong)


@pytest.mark.parametrize(
    ("value", "above", "below", "tail"),
    [(1.0, 1, 1, 0.5), (4.0, 2, 10, 0.0529221), (10.0, 1, 8, 0.0133491), (3.0, 5, 1000, 0.0107499), (0.5, 9, 20, 0.8572465)],
)
def test_the_tail_of_f_is_that_of_the_tables(value: float, above: float, below: float, tail: float) -> None:
    assert f_tail(value, above, below) == pytest.approx(tail, rel=1e-5)
