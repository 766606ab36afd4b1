"""Rows that come when the watermark has passed their known time: taken in once, and known from then on."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.stages.contracts.spec import Dataset, Derived, From

from .conftest import ANNA, CONTRACT, DAY, TRIPS, Pieces, World, trips

LOOSE = CONTRACT.replace("primaryKey: true, ", "")
"""Without a key, so that rows may be there twice."""


def hour(number: float) -> datetime:
    return DAY + timedelta(hours=number)


def some(*rows: tuple[str, float, float | None], dtype: Any = None) -> pl.DataFrame:
    """Each (id, hours after DAY when it became known, miles)."""
    frame = trips(len(rows)).with_columns(
        id=pl.Series([name for name, _, _ in rows], dtype=pl.String),
        at=pl.lit(DAY).cast(pl.Datetime("ms", "UTC")),
        known_at=pl.Series([hour(at) for _, at, _ in rows], dtype=dtype or pl.Datetime("ms", "UTC")),
        miles=pl.Series([miles for _, _, miles in rows], dtype=pl.Float64),
        seats=pl.lit(1, dtype=pl.Int64),
        zone=pl.lit("east"),
    )
    return frame


@pytest.fixture
def loose(world: World) -> World:
    world.write(LOOSE)
    return world


def test_a_late_row_comes_in_once_and_is_known_from_then_on(world: World) -> None:
    world.rows = some(("t1", 1, 1.0), ("t2", 5, 2.0))
    contracts = world.contracts(late="6h")
    contracts.ingest(ANNA, TRIPS, until=hour(6))
    world.rows = pl.concat([world.rows, some(("t3", 2, 3.0), ("t4", 7, 4.0))])
    decision = contracts.ingest(ANNA, TRIPS, until=hour(8))
    assert decision.reason == "2 rows taken in; late: 1 row"
    assert world.asked[-1] == (hour(0), hour(8))
    assert contracts.frame("trips").select("id", "known_at").rows() == [
        ("t1", hour(1)), ("t2", hour(5)), ("t3", hour(8)), ("t4", hour(7)),
    ]  # fmt: skip
    assert contracts.frame("trips", until=hour(7), by="known")["id"].to_list() == ["t1", "t2", "t4"], "nobody knew it then"
    for until in (9, 10, 11):
        assert contracts.ingest(ANNA, TRIPS, until=hour(until)).reason == "no new rows"


def test_without_it_a_late_row_is_never_read(world: World) -> None:
    world.rows = some(("t1", 1, 1.0))
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=hour(6))
    world.rows = pl.concat([world.rows, some(("t3", 2, 3.0))])
    assert contracts.ingest(ANNA, TRIPS, until=hour(8)).reason == "no new rows"


def test_a_late_row_that_breaks_the_contract_is_kept_out_once(world: World) -> None:
    world.rows = some(("t1", 1, -1.0))
    contracts = world.contracts(late="6h")
    contracts.ingest(ANNA, TRIPS, until=hour(3))
    world.rows = pl.concat([world.rows, some(("t2", 2, math.nan), ("t3", 4, 1.0))])
    for until in (4, 5, 6):
        contracts.ingest(ANNA, TRIPS, until=hour(until))
    assert contracts.quarantine("trips")["id"].to_list() == ["t1", "t2"]


def test_a_row_that_was_mended_is_not_kept_out_again(world: World) -> None:
    world.rows = some(("t1", 1, -1.0), ("t2", 1, 1.0))
    contracts = world.contracts(late="6h")
    contracts.ingest(ANNA, TRIPS, until=hour(3))
    contracts.replay(ANNA, TRIPS, rows=pl.DataFrame({"_version": [1], "_row": [0], "miles": [1.0]}))
    assert contracts.ingest(ANNA, TRIPS, until=hour(4)).reason == "no new rows"


def test_a_new_version_of_a_row_in_the_same_window_is_no_repetition(world: World) -> None:
    world.rows = some(("t1", 1, 1.0))
    contracts = world.contracts(late="6h")
    contracts.ingest(ANNA, TRIPS, until=hour(3))
    world.rows = pl.concat([world.rows, some(("t1", 4, 9.0))])
    contracts.ingest(ANNA, TRIPS, until=hour(5))
    assert contracts.current("trips")["miles"].to_list() == [9.0]
    assert contracts.quarantine("trips").height == 0


def test_a_column_that_the_contract_names_later_makes_no_row_new(world: World) -> None:
    world.write(CONTRACT.replace("      - {name: seats, logicalType: integer, logicalTypeOptions: {format: i8}}\n", ""))
    world.rows = some(("t1", 1, 1.0))
    world.contracts(late="6h").ingest(ANNA, TRIPS, until=hour(3))
    world.write(CONTRACT)
    assert world.contracts(late="6h").ingest(ANNA, TRIPS, until=hour(4)).reason == "no new rows"


@pytest.mark.parametrize("dtype", [pl.Datetime("us", "Asia/Dubai"), pl.Datetime("ns", "UTC")])
def test_times_of_other_units_and_zones_are_the_same_times(world: World, dtype: Any) -> None:
    world.rows = some(("t1", 1, 1.0), dtype=dtype)
    reader = Pieces(world.rows, 1, known=False)
    contracts = world.contracts(late="6h", source=From("pieces"))
    contracts._open_source = lambda _source: reader
    contracts.ingest(ANNA, TRIPS, until=hour(3))
    world.rows = pl.concat([world.rows, some(("t2", 2, 1.0), dtype=dtype)])
    reader.rows = world.rows
    contracts.ingest(ANNA, TRIPS, until=hour(4))
    assert contracts.ingest(ANNA, TRIPS, until=hour(5)).reason == "no new rows"
    assert contracts.frame("trips")["known_at"].to_list() == [hour(1), hour(4)]


def test_equal_rows_without_a_key_are_counted_by_their_own_known_times(loose: World) -> None:
    contracts = loose.contracts(late="5h")
    loose.rows = some(("t9", 0.5, 1.0))
    contracts.ingest(ANNA, TRIPS, until=hour(5))
    loose.rows = pl.concat([loose.rows, some(("t1", 1, 1.0))])
    contracts.ingest(ANNA, TRIPS, until=hour(6))
    loose.rows = pl.concat([loose.rows, some(("t1", 3, 1.0))])
    assert contracts.ingest(ANNA, TRIPS, until=hour(8)).reason == "1 row taken in; late: 1 row"
    assert contracts.frame("trips")["id"].to_list() == ["t9", "t1", "t1"]


@pytest.mark.parametrize("source", [None, Derived(("trips",), sql="select * from trips")], ids=["whole", "derived"])
def test_what_is_read_as_a_whole_has_no_late_rows(source: Derived | None) -> None:
    with pytest.raises(InvalidInput, match="come late"):
        Dataset(
            "x", "x.yaml", source or (lambda _a, _b: trips(1)), "at", "known_at", brings="known" if source else "all", late="1d"
        )
    with pytest.raises(InvalidInput, match="length"):
        Dataset("x", "x.yaml", lambda _a, _b: trips(1), "at", "known_at", late="soon")


def test_of_equal_rows_it_is_the_same_ones_that_came_before(loose: World) -> None:
    contracts = loose.contracts(late="6h")
    loose.rows = some(("t1", 6.5, 1.0))
    contracts.ingest(ANNA, TRIPS, until=hour(8))
    contracts.ingest(ANNA, TRIPS, until=hour(12))
    loose.rows = some(("t1", 10.5, 1.0), ("t1", 6.5, 1.0))
    for until in (16, 20, 24):
        contracts.ingest(ANNA, TRIPS, until=hour(until))
    assert contracts.frame("trips").select("id", "known_at").rows() == [("t1", hour(6.5)), ("t1", hour(16))]


@pytest.mark.parametrize("part_rows", [1, 2, 3, 1000])
def test_a_late_row_is_not_taken_for_one_that_a_later_part_brings_again(loose: World, part_rows: int) -> None:
    contracts = loose.contracts(late="6h", part_rows=part_rows)
    loose.rows = some(("t1", 1, 1.0))
    contracts.ingest(ANNA, TRIPS, until=hour(4))
    loose.rows = some(("t1", 3, 1.0), ("t2", 3, 1.0), ("t1", 1, 1.0), ("t1", 6, 1.0))
    for until in (8, 12):
        contracts.ingest(ANNA, TRIPS, until=hour(until))
    assert contracts.frame("trips").select("id", "known_at").sort("known_at", "id").rows() == [
        ("t1", hour(1)), ("t1", hour(6)), ("t1", hour(8)), ("t2", hour(8)),
    ]  # fmt: skip


LATE, STEP, LOADS = 6, 4, 5
_ROW = st.tuples(
    st.sampled_from(["t1", "t2", "x"]), st.integers(1, 2 * STEP * LOADS - 2 * LATE), st.sampled_from([1.0, -1.0, None, math.nan]),
    st.integers(0, 2 * LATE - 1),
)  # fmt: skip


@pytest.mark.slow
@given(st.lists(_ROW, max_size=14), st.sampled_from([2, 1000]))
@settings(max_examples=10, deadline=None)
@example([*[("t1", 1, 1.0, 0)] * 3, ("t1", 5, 1.0, 4), ("t1", 1, 1.0, 0)], 2)
def test_any_order_of_arrival_within_it_ends_with_the_rows_of_an_order_in_time(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, int, float | None, int]], part_rows: int
) -> None:
    """Half hours; the last loads give the latest row time to come."""
    every = some(*((name, known / 2, miles) for name, known, miles, _ in drawn))
    arrivals = pl.Series([hour((known + delay) / 2) for _, known, _, delay in drawn], dtype=pl.Datetime("ms", "UTC"))
    ends = []
    for times in (arrivals, every["known_at"]):
        world = World(tmp_path_factory.mktemp("w"), every)
        world.write(LOOSE)

        def source(since: datetime | None, until: datetime, times: pl.Series = times) -> pl.DataFrame:
            rows = every.filter((times <= until) & (every["known_at"] <= until))
            return rows.filter(pl.col("known_at") > since) if since is not None else rows

        contracts = world.contracts(late=f"{LATE}h", part_rows=part_rows, source=source)
        for number in range(1, LOADS + 2):
            assert contracts.ingest(ANNA, TRIPS, until=hour(number * STEP)).allowed
        good, bad = contracts.frame("trips").drop("known_at"), contracts.quarantine("trips").select("id", "miles")
        ends.append([Counter(map(str, frame.rows())) for frame in (good, bad)])
    assert ends[0] == ends[1]
