"""Late and changed rows: kept as versions, known when they were taken in, and never twice."""

from __future__ import annotations

import math
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput

from .conftest import ANNA, CONTRACT, DAY, TRIPS, World, reading, trips

WHOLE = CONTRACT.replace(
    '      - {name: known after it happened, type: custom, engine: falaj, implementation: "known_at >= at"}\n',
    "      - {metric: rowCount, mustBeGreaterOrEqualTo: 0}\n",
)


def day(number: int) -> object:
    return DAY + timedelta(days=number)


@pytest.fixture
def table(world: World) -> World:
    world.write(WHOLE)
    world.rows = trips(30).drop("known_at")
    world.source = lambda _since, _until: world.rows
    return world


def change(world: World, row: str, **columns: object) -> None:
    is_it = pl.col("id") == row
    world.rows = world.rows.with_columns(
        pl.when(is_it).then(pl.lit(value)).otherwise(pl.col(name)).alias(name) for name, value in columns.items()
    )


@pytest.mark.parametrize("part_rows", [7, 1000])
def test_a_changed_row_is_kept_as_a_version_and_the_others_once(table: World, part_rows: int) -> None:
    contracts = table.contracts(brings="all", part_rows=part_rows)
    contracts.ingest(ANNA, TRIPS, until=day(1))
    change(table, "t3", miles=111.0)
    table.rows = pl.concat([table.rows, trips(1, start=30).drop("known_at")])
    decision = contracts.ingest(ANNA, TRIPS, until=day(2))
    assert decision.reason == "2 rows taken in"
    assert contracts.frame("trips").height == 32
    newest = contracts.frame("trips", since=day(1), by="known")  # type: ignore[arg-type]
    assert newest.select("id", "known_at", "miles").rows() == [("t3", day(2), 111.0), ("t30", day(2), 30.0)]
    for at, miles in ((day(1), 3.0), (day(2), 111.0), (None, 111.0)):
        current = contracts.current("trips", at)  # type: ignore[arg-type]
        assert current.filter(pl.col("id") == "t3")["miles"].to_list() == [miles]
        assert current["id"].n_unique() == current.height == (30 if at == day(1) else 31)


def test_a_table_that_has_not_changed_makes_no_version_whatever_is_wrong_with_it(table: World) -> None:
    change(table, "t5", miles=-1.0)
    table.rows = pl.concat([table.rows, table.rows.filter(pl.col("id") == "t7")])
    contracts = table.contracts(brings="all")
    contracts.ingest(ANNA, TRIPS, until=day(1))
    before = contracts.look("trips")
    assert contracts.quarantine("trips").height == 2
    decision = contracts.ingest(ANNA, TRIPS, until=day(2))
    assert (decision.allowed, decision.reason) == (True, "no new rows")
    after = contracts.look("trips")
    moves = {"watermark": "", "promises": ""}
    assert {**after, **moves} == {**before, **moves}
    change(table, "t5", miles=5.0)
    contracts.ingest(ANNA, TRIPS, until=day(3))
    assert contracts.current("trips")["id"].n_unique() == 30
    assert contracts.quarantine("trips").height == 2


def test_null_and_nan_are_no_change(table: World) -> None:
    table.write(WHOLE.replace("{name: seats", "{name: note, logicalType: string}\n      - {name: seats"))
    table.rows = table.rows.with_columns(
        note=pl.when(pl.col("id") == "t1").then(pl.lit("x")).otherwise(None),
        miles=pl.when(pl.col("id") == "t2").then(None).otherwise("miles"),
    )
    contracts = table.contracts(brings="all")
    contracts.ingest(ANNA, TRIPS, until=day(1))
    assert contracts.ingest(ANNA, TRIPS, until=day(2)).reason == "no new rows"
    change(table, "t1", note=None)
    assert contracts.ingest(ANNA, TRIPS, until=day(3)).reason == "1 row taken in"
    extra = table.rows.with_columns(extra=pl.lit(math.nan))
    table.source = lambda _since, _until: extra
    loose = table.contracts(brings="all", new_columns="allow")
    assert loose.ingest(ANNA, TRIPS, until=day(4)).reason == "30 rows taken in"
    assert loose.ingest(ANNA, TRIPS, until=day(5)).reason == "no new rows", "a NaN equals itself"


def test_rows_that_vanish_are_told_and_stay(table: World) -> None:
    contracts = table.contracts(brings="all")
    contracts.ingest(ANNA, TRIPS, until=day(1))
    table.rows = table.rows.head(20)
    change(table, "t1", miles=7.5)
    decision = contracts.ingest(ANNA, TRIPS, until=day(2))
    assert decision.checks[-1].seen == "10"
    assert contracts.current("trips").height == 30


def test_a_whole_table_without_a_key_is_refused(table: World) -> None:
    contracts = reading(table.contracts(brings="all"), key=())
    with pytest.raises(InvalidInput, match="names no key"):
        contracts.ingest(ANNA, TRIPS, until=day(1))
    with pytest.raises(InvalidInput, match="names no key"):
        contracts.current("trips")


def test_recent_counts_a_whole_table_from_when_it_was_taken_in(table: World) -> None:
    contracts = table.contracts(brings="all")
    contracts.ingest(ANNA, TRIPS, until=day(1))
    change(table, "t3", miles=111.0)
    assert contracts.recent("trips", day(1), day(3)).height == 0  # type: ignore[arg-type]
    contracts.ingest(ANNA, TRIPS, until=day(2))
    assert contracts.recent("trips", day(1), day(3))["id"].to_list() == ["t3"]  # type: ignore[arg-type]


def test_a_row_that_comes_late_with_its_own_known_time_is_a_version_too(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=day(1))
    late = trips(1, miles=pl.lit(9.5)).with_columns(known_at=pl.lit(day(1)) + timedelta(hours=2))
    world.rows = pl.concat([world.rows, late.select(world.rows.columns).cast(dict(world.rows.schema))])
    contracts.ingest(ANNA, TRIPS, until=day(9))
    assert contracts.current("trips", day(1)).filter(pl.col("id") == "t0")["miles"].to_list() == [0.0]  # type: ignore[arg-type]
    assert contracts.current("trips").filter(pl.col("id") == "t0")["miles"].to_list() == [9.5]


_TABLE = st.dictionaries(st.integers(0, 6), st.one_of(st.none(), st.integers(0, 3)), max_size=6)


@pytest.mark.slow
@given(st.lists(_TABLE, min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_the_state_at_any_time_is_what_the_tables_said(
    tmp_path_factory: pytest.TempPathFactory, tables: list[dict[int, int | None]]
) -> None:
    world = World(tmp_path_factory.mktemp("w"), trips(10))
    world.write(WHOLE)
    contracts = world.contracts(brings="all", part_rows=3, source=lambda _since, _until: world.rows)
    known: dict[str, float | None] = {}
    states = []
    for number, table in enumerate(tables, 1):
        world.rows = trips(10).drop("known_at").filter(pl.col("id").is_in([f"t{n}" for n in table]))
        values = pl.Series([table[int(name[1:])] for name in world.rows["id"]], dtype=pl.Float64)
        world.rows = world.rows.with_columns(miles=values)
        contracts.ingest(ANNA, TRIPS, until=day(number))
        known |= {f"t{n}": None if value is None else float(value) for n, value in table.items()}
        states.append(dict(known))
    for number, state in enumerate(states, 1):
        current = contracts.current("trips", day(number))  # type: ignore[arg-type]
        assert dict(current.select("id", "miles").rows()) == state
    assert contracts.frame("trips").select("id", "known_at").is_unique().all()
