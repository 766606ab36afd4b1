"""Decay is found, and the time to a false alarm is at least what was promised."""

from __future__ import annotations

import math

import numpy as np
import pytest

from falaj.core.codec import decode, encode
from falaj.stages.monitoring.performance import Detector, Promise, auc, decay_verdict, detectors, observe

PROMISE = Promise(0.2, 0.15, 5000)


def days_to_alarm(rng: np.random.Generator, rate: float, run_length: float, most: int) -> int:
    """Days whose rate swings around `rate`, as on days of bad weather."""
    (wrong, _brier) = detectors(PROMISE, 0.0)
    for day in range(1, most + 1):
        today = min(max(rate + rng.normal(0, 0.06), 0.0), 1.0)
        wrong = observe(wrong, (rng.random(300) < today).astype(float))
        if wrong.log_r >= math.log(run_length):
            return day
    return most


def test_false_alarms_are_as_rare_as_promised() -> None:
    rng = np.random.default_rng(1)
    lengths = [days_to_alarm(rng, 0.2, 30, 300) for _ in range(40)]
    # On the very border of what was promised the average is close to its bound.
    assert np.mean(lengths) + 3 * np.std(lengths) / math.sqrt(40) >= 30
    below = [days_to_alarm(rng, 0.17, 30, 300) for _ in range(20)]
    assert np.mean(below) >= 60


def test_ten_points_of_decay_are_found_within_a_month() -> None:
    rng = np.random.default_rng(2)
    assert np.quantile([days_to_alarm(rng, 0.3, 120, 200) for _ in range(40)], 0.9) <= 31


def test_better_than_promised_is_no_decay() -> None:
    rng = np.random.default_rng(3)
    found = detectors(PROMISE, 0.02)
    for _ in range(60):
        found = tuple(observe(d, rng.random(200) * 0.2) for d in found)
    checks = decay_verdict(found, run_length=60)
    assert [check.passed for check in checks] == [True, True]


def test_without_labels_there_is_no_verdict() -> None:
    found = tuple(observe(d, np.empty(0)) for d in detectors(PROMISE, 0.02))
    assert [check.passed for check in decay_verdict(found, run_length=60)] == [None, None]


def test_one_step_expects_no_more_than_one_on_the_border() -> None:
    (wrong, _) = detectors(PROMISE, 0.0)
    once = math.exp(observe(wrong, np.ones(1)).log_r) * 0.2 + math.exp(observe(wrong, np.zeros(1)).log_r) * 0.8
    assert once == pytest.approx(1.0, abs=1e-6)


def test_a_detector_survives_the_ledger() -> None:
    (wrong, _) = detectors(PROMISE, 0.02)
    wrong = observe(wrong, np.array([0.0, 1.0]))
    assert decode(Detector, encode(wrong)) == wrong


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    scores = np.array([0.1, 0.4, 0.4, 0.8, 0.9, 0.2, 0.7, 0.4, 0.6, 0.95])
    labels = np.array([0, 0, 1, 1, 1, 0, 0, 1, 0, 1])
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[labels == 1] for n in scores[labels == 0]]
    found = auc(scores, labels)
    assert found is not None
    area, low, high = found
    assert area == pytest.approx(np.mean(pairs))
    assert low < area < high
    assert auc(scores[:6], labels[:6]) is None
