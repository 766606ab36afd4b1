"""No feature knows the future: a script that shares no code with falaj recomputes them from the raw files."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

from examples.flights import leak_check, source

pytestmark = pytest.mark.slow


def test_random_flights_have_the_features_that_a_slow_script_computes_from_the_raw_files() -> None:
    values, worst, wrong = leak_check.compare(rows=150, seed=11)
    assert wrong == []
    assert values == 150 * 31
    assert worst < 1e-6


def test_the_script_sees_a_leak_of_half_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = source.flights

    def early(since: datetime | None, until: datetime) -> pl.DataFrame:
        later = until + timedelta(minutes=30) if until.year < 2100 else until
        return honest(since, later).with_columns(pl.col("landed_at") - pl.duration(minutes=30))

    monkeypatch.setattr(source, "flights", early)
    _, _, wrong = leak_check.compare(rows=20, seed=11)
    assert {line.split(" ")[3].partition(".")[0] for line in wrong} == {"carrier_delays", "origin_delays"}
