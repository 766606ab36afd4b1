"""Labels known later: a training sees an outcome only if it was known at its moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings

from falaj.core.errors import InvalidInput
from falaj.stages.features.labels import Outcomes, labelled
from tests.kits.asof import SPAN, START, Case, Row, cases

UTC_US = pl.Datetime("us", "UTC")


def oracle(case: Case, horizon: timedelta, at: datetime) -> list[Any]:
    found: list[Any] = []
    for asked in case.spine:
        best: Row | None = None
        best_order: tuple[Any, ...] = ()
        for place, row in enumerate(case.rows):
            if None in (asked["key"], asked["t"], row["at"], row["created"]) or row["key"] != asked["key"]:
                continue
            if not asked["t"] <= row["at"] <= asked["t"] + horizon or row["created"] > at:
                continue
            order = (-row["at"].timestamp(), row["created"], place)
            if best is None or order > best_order:
                best, best_order = row, order
        found.append((best["at"], best["value"]) if best else (None, None))
    return found


@settings(max_examples=40, deadline=None)
@given(cases())
def test_a_label_is_the_earliest_outcome_that_was_known(case: Case) -> None:
    at, horizon = START + 6 * SPAN, case.ttl or 2 * SPAN
    spine = case.left().with_columns(pl.col("key").cast(pl.String))
    outcomes = Outcomes(case.right().with_columns(pl.col("key").cast(pl.String)), "key", "at", horizon, "created")
    kept = labelled(spine, outcomes, time="t", at=at, missing="keep")
    wanted = oracle(case, horizon, at)
    times = kept["at"].dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    assert list(zip(times.to_list(), kept["value"].to_list(), strict=True)) == wanted
    dropped = labelled(spine, outcomes, time="t", at=at)
    assert dropped["value"].to_list() == [value for when, value in wanted if when is not None]


def test_without_a_moment_everything_in_the_table_is_known() -> None:
    spine = pl.DataFrame({"flight": ["a", "b"], "t": [START] * 2}, schema_overrides={"t": UTC_US})
    columns = {"flight": ["a", "b"], "landed_at": [START + SPAN] * 2, "told_at": [START + 9 * SPAN, None], "late": [1, 0]}
    rows = pl.DataFrame(columns, schema_overrides={"landed_at": UTC_US, "told_at": UTC_US})
    outcomes = Outcomes(rows, "flight", "landed_at", 2 * SPAN, "told_at")
    assert labelled(spine, outcomes, time="t")["late"].to_list() == [1]
    assert labelled(spine, outcomes, time="t", at=START + 8 * SPAN).is_empty()


def test_an_outcome_that_is_corrected_later_counts_once_the_correction_is_known() -> None:
    spine = pl.DataFrame({"flight": ["f"], "t": [START]}, schema_overrides={"t": UTC_US})
    rows = pl.DataFrame(
        {
            "flight": ["f", "f"],
            "landed_at": [START + SPAN] * 2,
            "known_at": [START + 2 * SPAN, START + 5 * SPAN],
            "late": [1, 0],
        },
        schema_overrides={"landed_at": UTC_US, "known_at": UTC_US},
    )
    outcomes = Outcomes(rows, "flight", "landed_at", 4 * SPAN, "known_at")
    seen = [labelled(spine, outcomes, time="t", at=START + n * SPAN, missing="keep")["late"][0] for n in (1, 2, 5)]
    assert seen == [None, 1, 0]


def test_a_moment_or_a_time_without_a_zone_is_refused() -> None:
    rows = pl.DataFrame({"flight": ["f"], "landed_at": [START], "late": [1]}, schema_overrides={"landed_at": UTC_US})
    spine = pl.DataFrame({"flight": ["f"], "t": [START]}, schema_overrides={"t": UTC_US})
    with pytest.raises(InvalidInput, match="time zone"):
        labelled(spine, Outcomes(rows, "flight", "landed_at", SPAN), time="t", at=datetime(2013, 1, 1))
    naive = spine.with_columns(pl.col("t").dt.replace_time_zone(None))
    with pytest.raises(InvalidInput, match="'t' must hold times with a time zone"):
        labelled(naive, Outcomes(rows, "flight", "landed_at", SPAN), time="t", at=datetime(2013, 1, 1, tzinfo=UTC))
    with pytest.raises(InvalidInput, match="'late'"):
        labelled(spine.with_columns(late=0), Outcomes(rows, "flight", "landed_at", SPAN), time="t", at=START)
