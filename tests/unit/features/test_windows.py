"""Windows against a slow oracle, and the state that is kept between two grid points against the whole history."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.core.moments import length, millis
from falaj.stages.features.spec import WindowView, count, distinct, greatest, last, least, mean, share, spread, total
from falaj.stages.features.windows import WindowState, grid_points, newest_point, rows_for, window_rows

START = datetime(2013, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MILLISECOND = timedelta(milliseconds=1)
EVERY = 30 * MINUTE
VIEW = WindowView(
    "delays",
    "flights",
    entity="carrier",
    time="landed_at",
    windows=("45m", "3h"),
    every="30m",
    aggregates=(
        mean("delay"),
        share("late"),
        count("landed"),
        count("known", "delay"),
        total("delay", "minutes"),
        least("delay", "lowest"),
        greatest("delay", "highest"),
        spread("delay", "spread"),
        last("delay", "newest"),
        distinct("delay", "delays"),
        distinct("tail", "tails"),
        count("long", "delay", where=(">", 60)),
    ),
)
SCHEMA: dict[str, Any] = {
    "carrier": pl.String,
    "landed_at": pl.Datetime("us", "UTC"),
    "delay": pl.Float64,
    "late": pl.Int8,
    "tail": pl.String,
}
Row = dict[str, Any]

# Times on the very edge of a window, a microsecond beside it, and anywhere.
moments = st.one_of(
    st.none(),
    st.tuples(st.integers(-4, 24), st.sampled_from([0, 15, 7]), st.sampled_from([-1, 0, 1])).map(
        lambda n: START + n[0] * EVERY + n[1] * MINUTE + n[2] * timedelta(microseconds=1)
    ),
)
numbers = st.one_of(st.none(), st.just(math.nan), st.integers(-60, 600).map(float), st.floats(-1e6, 1e6))
events = st.lists(
    st.fixed_dictionaries(
        {
            "carrier": st.sampled_from([None, "AA", "UA", "zz"]),
            "landed_at": moments,
            "delay": numbers,
            "late": st.sampled_from([None, 0, 1]),
            "tail": st.sampled_from([None, "", "N1", "N2", "N3"]),
        }
    ),
    max_size=25,
)


def frame(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA)


def oracle(rows: list[Row], grid: list[datetime]) -> dict[tuple[str, datetime], dict[str, float | None]]:
    found = {}
    for carrier in {row["carrier"] for row in rows if row["carrier"] is not None}:
        own = [row for row in rows if row["carrier"] == carrier and row["landed_at"] is not None]
        for point in grid:
            if not any(point - timedelta(hours=3) < row["landed_at"] <= point for row in own):
                continue
            values: dict[str, float | None] = {}
            for window in VIEW.windows:
                inside = [row for row in own if point - length(window) < row["landed_at"] <= point]
                delays = [row["delay"] for row in inside if row["delay"] is not None and not math.isnan(row["delay"])]
                lates = [row["late"] for row in inside if row["late"] is not None]
                values[f"delay_{window}"] = math.fsum(delays) / len(delays) if delays else None
                values[f"late_{window}"] = sum(1 for late in lates if late) / len(lates) if lates else None
                values[f"landed_{window}"] = float(len(inside))
                values[f"known_{window}"] = float(len(delays))
                values[f"minutes_{window}"] = math.fsum(delays)
                values[f"lowest_{window}"] = min(delays, default=None)
                values[f"highest_{window}"] = max(delays, default=None)
                values[f"spread_{window}"] = statistics.stdev(delays) if len(delays) > 1 else None
                timed = [(row["landed_at"], row["delay"]) for row in inside if row["delay"] in delays]
                values[f"newest_{window}"] = max((-((START - at) // MILLISECOND), d) for at, d in timed)[1] if timed else None
                values[f"delays_{window}"] = float(len(set(delays)))
                values[f"tails_{window}"] = float(len({row["tail"] for row in inside if row["tail"] is not None}))
                values[f"long_{window}"] = float(sum(1 for delay in delays if delay > 60))
            found[carrier, point] = values
    return found


GRID = [START + n * EVERY for n in range(-2, 32)]


@settings(max_examples=40, deadline=None)
@given(events)
def test_every_row_is_what_the_oracle_says(rows: list[Row]) -> None:
    made = window_rows(frame(rows), VIEW, GRID)
    wanted = oracle(rows, GRID)
    assert made.columns == ["carrier", "at", *VIEW.places]
    assert [(r["carrier"], r["at"]) for r in made.to_dicts()] == sorted(wanted)
    for row in made.to_dicts():
        for name, value in wanted[row["carrier"], row["at"]].items():
            assert row[name] == (None if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)), name


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(events, st.data())
def test_the_state_answers_bit_by_bit_as_the_whole_history_does(rows: list[Row], data: st.DataObject) -> None:
    """Events arrive in any order and in any parts, but each before the grid point that it counts for."""
    state, left = WindowState(VIEW), list(rows)
    for point in GRID[: data.draw(st.integers(1, len(GRID)))]:
        due = [row for row in left if row["landed_at"] is None or row["landed_at"] <= point]
        extra = [row for row in left if row not in due and data.draw(st.booleans())]
        arrived = data.draw(st.permutations(due + extra))
        left = [row for row in left if not any(row is one for one in arrived)]
        cut = data.draw(st.integers(0, len(arrived)))
        state.add(frame(arrived[:cut]))
        state.add(frame(arrived[cut:]))
        assert state.rows(point).equals(window_rows(frame(rows), VIEW, [point]))
        state.forget(point)


@settings(max_examples=40, deadline=None)
@given(events, st.lists(st.tuples(st.sampled_from(["AA", "UA", "zz", "never"]), st.integers(-60, 900)), min_size=1, max_size=8))
def test_the_rows_for_requests_are_the_newest_of_the_whole_grid(rows: list[Row], asked: list[tuple[str, int]]) -> None:
    entities = pl.Series([entity for entity, _ in asked])
    times = [START + minute * MINUTE for _, minute in asked]
    made = rows_for(frame(rows), VIEW, entities, pl.Series(times, dtype=pl.Datetime("us", "UTC")))
    everything = window_rows(frame(rows), VIEW, [START + n * EVERY for n in range(-4, 32)])
    for entity, at in zip(entities, times, strict=True):
        whole = everything.filter((pl.col("carrier") == entity) & (pl.col("at") <= at)).tail(1)
        part = made.filter((pl.col("carrier") == entity) & (pl.col("at") <= at)).tail(1)
        assert part.equals(whole)


@settings(max_examples=40, deadline=None)
@given(events, st.integers(0, 30))
def test_the_newest_rows_are_those_that_a_request_now_would_read(rows: list[Row], step: int) -> None:
    now = START + step * EVERY + 11 * MINUTE
    state = WindowState(VIEW)
    state.add(frame(rows))
    names, at, values = state.newest(now)
    whole = window_rows(frame(rows), VIEW, grid_points(VIEW, START - timedelta(hours=3), now))
    wanted = whole.group_by("carrier", maintain_order=True).last().sort("carrier")
    order = sorted(range(len(names)), key=names.__getitem__)
    assert [names[place] for place in order] == wanted["carrier"].to_list()
    assert [int(at[place]) for place in order] == wanted["at"].dt.epoch("ms").to_list()
    assert np.array_equal(values[order], wanted.select(pl.col(VIEW.places).fill_null(math.nan)).to_numpy(), equal_nan=True)


def flight(minutes: float, delay: float | None = 1.0, carrier: str = "UA", tail: str | None = "N1") -> Row:
    return {"carrier": carrier, "landed_at": START + minutes * MINUTE, "delay": delay, "late": 0, "tail": tail}


def test_an_event_at_the_grid_point_is_in_and_one_exactly_a_window_ago_is_out() -> None:
    made = window_rows(frame([flight(0), flight(180)]), VIEW, [START + timedelta(hours=3)])
    assert made["landed_3h"].to_list() == [1.0]


def test_an_entity_without_events_in_the_longest_window_has_no_row_offline_and_none_online() -> None:
    rows = frame([flight(-20), flight(60, carrier="AA")])
    after = START + timedelta(hours=3)
    assert window_rows(rows, VIEW, [after])["carrier"].to_list() == ["AA"]
    state = WindowState(VIEW)
    state.add(rows)
    assert state.rows(after)["carrier"].to_list() == ["AA"]
    names, at, values = state.newest(after)
    # UA's last row is the last one at which its flight was still in a window: what a request reads until the ttl is over.
    assert (names[1], int(at[1])) == ("UA", millis(START + timedelta(hours=2, minutes=30)))
    assert values[1][VIEW.places.index("landed_3h")] == 1.0
    assert values[1][VIEW.places.index("landed_45m")] == 0.0
    assert math.isnan(values[1][VIEW.places.index("delay_45m")])
    state.forget(after)
    assert state.newest(after + EVERY)[0] == ["AA"]


def test_a_state_that_has_seen_many_entities_keeps_only_the_living() -> None:
    state = WindowState(VIEW)
    for day in range(20):
        state.add(frame([flight(day * 1440 + n % 60, float(n), f"{day}-{n}") for n in range(100)]))
        state.forget(START + timedelta(days=day, hours=1))
    assert len(state.names) <= 300
    last = START + timedelta(days=19, hours=1)
    names, _, values = state.newest(last)
    assert sorted(names) == sorted(f"19-{n}" for n in range(100))
    by_name = dict(zip(names, values[:, VIEW.places.index("delay_3h")].tolist(), strict=True))
    assert by_name["19-42"] == 42.0


def test_sums_of_fractions_are_the_same_wherever_history_begins() -> None:
    random = np.random.default_rng(5)
    rows = frame([flight(n, float(random.normal()) * 1e6) for n in range(3_000)])
    point = START + 2_970 * MINUTE
    long, short = window_rows(rows, VIEW, [point]), window_rows(rows.tail(400), VIEW, [point])
    assert long.equals(short)


def test_an_infinite_value_spoils_only_the_windows_that_hold_it() -> None:
    rows = frame([flight(0, math.inf), flight(100, 5.0)])
    made = window_rows(rows, VIEW, [START, START + 120 * MINUTE])
    assert made["delay_45m"].to_list() == [math.inf, 5.0]


@pytest.mark.parametrize("offset", [0.0, 1e9, -3e15])
def test_a_spread_loses_nothing_far_from_zero(offset: float) -> None:
    made = window_rows(frame([flight(n, offset + n % 3) for n in range(120)]), VIEW, [START + 120 * MINUTE])
    assert made["spread_3h"].to_list() == pytest.approx([statistics.stdev([n % 3 for n in range(120)])], rel=1e-12)


def test_one_value_has_no_spread_and_equal_values_have_none_at_all() -> None:
    made = window_rows(frame([flight(0, 5.0), flight(0, 0.1, "AA"), flight(1, 0.1, "AA")]), VIEW, [START + 30 * MINUTE])
    assert made.sort("carrier")["spread_3h"].to_list() == [0.0, None]


def test_of_two_events_at_one_moment_the_greater_value_is_the_last_whatever_came_first() -> None:
    for rows in ([flight(0, 5.0), flight(0, 7.0)], [flight(0, 7.0), flight(0, 5.0)]):
        state = WindowState(VIEW)
        for row in rows:
            state.add(frame([row]))
        assert state.rows(START)["newest_3h"].to_list() == [7.0]
        assert window_rows(frame(rows), VIEW, [START])["newest_3h"].to_list() == [7.0]


def test_long_windows_that_overlap_are_laid_out_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    rows = frame([flight(float(m), float(random.normal()), tail=f"N{m % 40}") for m in random.integers(0, 900, 400)])
    whole = window_rows(rows, VIEW, GRID)
    monkeypatch.setattr("falaj.stages.features.events._AT_ONCE", 7)
    assert window_rows(rows, VIEW, GRID).equals(whole)


def test_a_state_forgets_the_texts_that_no_window_holds() -> None:
    state = WindowState(VIEW)
    for day in range(10):
        state.add(frame([flight(day * 1440 + n % 50, tail=f"N{day}-{n % 70}") for n in range(100)]))
        state.forget(START + timedelta(days=day, hours=1))
        point = START + timedelta(days=day, hours=1)
        assert state.rows(point)["tails_3h"].to_list() == [70.0]
    assert len(state.labels["tail"]) <= 2 * 100 + 64 + 100


def test_grid_points_are_whole_multiples_since_1970() -> None:
    points = grid_points(VIEW, START, START + timedelta(hours=1))
    assert points.tolist() == [millis(START + EVERY), millis(START + 2 * EVERY)]
    assert newest_point(VIEW, START + 29 * MINUTE) == START
    assert newest_point(VIEW, START + 30 * MINUTE) == START + EVERY


def test_events_in_another_time_zone_are_the_same_events() -> None:
    rows = frame([flight(n * 17.0) for n in range(30)])
    elsewhere = rows.with_columns(pl.col("landed_at").dt.convert_time_zone("America/New_York").dt.cast_time_unit("ns"))
    assert window_rows(rows, VIEW, GRID).equals(window_rows(elsewhere, VIEW, GRID))


def test_no_events_give_no_rows_with_every_column() -> None:
    made = window_rows(frame([]), VIEW, GRID)
    assert made.height == 0
    assert made.columns == ["carrier", "at", *VIEW.places]
    assert WindowState(VIEW).rows(START).equals(made)


@pytest.mark.parametrize(("column", "values"), [("delay", ["ten"]), ("landed_at", [datetime(2013, 1, 1)])])
def test_a_column_of_the_wrong_kind_is_named(column: str, values: list[Any]) -> None:
    wrong = frame([flight(0)]).with_columns(pl.Series(column, values))
    with pytest.raises(InvalidInput, match=column):
        window_rows(wrong, VIEW, GRID)


def test_a_column_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidInput, match="'late'"):
        window_rows(frame([flight(0)]).drop("late"), VIEW, GRID)
