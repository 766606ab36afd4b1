"""Splits never look ahead, and each figure is what its definition says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.stages.training.rules import (
    auc,
    brier,
    calibration_error,
    figures,
    log_loss,
    midranks,
    reliability,
    split,
    wrong_rate,
)

START = datetime(2013, 1, 1, tzinfo=UTC)
AT = START + timedelta(days=100)
VALID, HOLDOUT = timedelta(days=10), timedelta(days=20)
DAY = timedelta(days=1)


def series(days: list[float]) -> pl.Series:
    return pl.Series([START + day * DAY for day in days], dtype=pl.Datetime("us", "UTC"))


@given(st.lists(st.tuples(st.floats(0, 120), st.floats(0, 30)), max_size=80))
def test_no_part_sees_what_was_not_known_at_its_border(rows: list[tuple[float, float]]) -> None:
    rows = sorted(rows)
    times, known = series([day for day, _ in rows]), series([day + lag for day, lag in rows])
    parts = split(times, known, AT, valid=VALID, holdout=HOLDOUT, minimum=0)
    inner, border = AT - HOLDOUT - VALID, AT - HOLDOUT
    for row in parts.train:
        assert times[int(row)] <= known[int(row)] <= inner
    for row in parts.valid:
        assert inner < times[int(row)] <= known[int(row)] <= border
    for row in parts.holdout:
        assert border < times[int(row)] <= known[int(row)] <= AT
    assert not set(parts.train) & set(parts.valid) | set(parts.valid) & set(parts.holdout) | set(parts.train) & set(parts.holdout)


def test_every_row_whose_label_came_in_time_is_used_once() -> None:
    days = [day + 0.5 for day in range(100)]
    parts = split(series(days), series([day + 0.1 for day in days]), AT, valid=VALID, holdout=HOLDOUT, minimum=1)
    assert [len(part) for part in (parts.train, parts.valid, parts.holdout)] == [70, 10, 20]


def test_a_label_that_crosses_a_border_is_left_out_before_it() -> None:
    days = [day + 0.5 for day in range(100)]
    parts = split(series(days), series([day + 2 for day in days]), AT, valid=VALID, holdout=HOLDOUT, minimum=1)
    assert [len(part) for part in (parts.train, parts.valid, parts.holdout)] == [68, 8, 18]


def test_too_few_rows_are_refused_by_part() -> None:
    days = [float(day) for day in range(60)]
    with pytest.raises(InvalidInput, match="valid part has 0 labelled rows"):
        split(series(days), series(days), AT, valid=VALID, holdout=HOLDOUT, minimum=1)


scored = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 1), min_size=n, max_size=n),
        st.lists(st.integers(0, 8).map(lambda k: k / 8), min_size=n, max_size=n),
    )
)


@given(scored)
def test_auc_is_the_share_of_pairs_in_the_right_order(data: tuple[list[int], list[float]]) -> None:
    y, score = np.array(data[0], float), np.array(data[1], float)
    pairs = [(a > b) + 0.5 * (a == b) for a in score[y == 1] for b in score[y == 0]]
    if pairs:
        assert auc(y, score) == pytest.approx(np.mean(pairs))
    else:
        assert np.isnan(auc(y, score))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_equal_values_share_their_rank(values: list[int]) -> None:
    ranks = midranks(np.array(values, float))
    assert ranks.sum() == pytest.approx(len(values) * (len(values) + 1) / 2)
    for value, rank in zip(values, ranks, strict=True):
        smaller, equal = sum(v < value for v in values), values.count(value)
        assert rank == smaller + (equal + 1) / 2


def perfect(n: int = 40_000) -> tuple[Any, Any]:
    chance = np.random.default_rng(0)
    score = chance.random(n)
    return (chance.random(n) < score).astype(float), score


def test_a_calibrated_score_has_next_to_no_calibration_error_and_a_shifted_one_has_its_shift() -> None:
    y, score = perfect()
    assert calibration_error(y, score) < 0.01
    assert calibration_error(y, np.clip(score * 0.5, 0, 1)) == pytest.approx(0.25, abs=0.02)


def test_bins_hold_the_same_number_of_rows() -> None:
    y, score = perfect(1003)
    counts = [count for _, _, count in reliability(y, score)]
    assert sum(counts) == 1003
    assert max(counts) - min(counts) <= 1


def test_figures_by_hand() -> None:
    y, score = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.2, 0.4, 0.6])
    assert brier(y, score) == pytest.approx((0.01 + 0.04 + 0.36 + 0.36) / 4)
    assert log_loss(y, score) == pytest.approx(-np.mean(np.log([0.9, 0.8, 0.4, 0.4])))
    assert wrong_rate(y, score, 0.5) == 0.5
    assert wrong_rate(y, score, 0.4) == 0.25, "a score at the threshold is a yes"
    found = figures(y, score, 0.5)
    assert found["roc_auc"] == 0.75
    assert found["rows"] == 4


def test_a_certain_mistake_costs_much_and_not_infinity() -> None:
    assert 20 < log_loss(np.array([1.0]), np.array([0.0])) < 40
