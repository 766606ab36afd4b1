"""Columns whose type changed over time: read as the contract has them now, compared where nothing is lost, else told."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from falaj.core.errors import Conflict
from falaj.stages.contracts.alike import aligned, is_exact
from falaj.stages.contracts.service import Contracts

from .conftest import ANNA, CONTRACT, DAY, TRIPS, World, trips

DAY_1, DAY_2 = DAY + timedelta(days=1), DAY + timedelta(days=2)
RULES = "    quality:\n      - {name: known"


def changed(world: World, first: pl.Expr, second: pl.Expr, kind: str = "integer") -> Contracts:
    """`tip` comes in without a contract, and is named in it a day later."""
    world.rows = trips(48).with_columns(tip=first)
    world.contracts(new_columns="allow").ingest(ANNA, TRIPS, until=DAY_1)
    world.write(CONTRACT.replace(RULES, f"      - {{name: tip, logicalType: {kind}}}\n{RULES}"))
    world.rows = trips(48).with_columns(tip=second)
    contracts = world.contracts(new_columns="allow")
    assert contracts.ingest(ANNA, TRIPS, until=DAY_2).allowed
    return contracts


def test_the_type_of_the_contract_wins_where_every_value_has_it(world: World) -> None:
    contracts = changed(world, pl.col("seats").cast(pl.String), pl.col("seats"))
    for rows in (contracts.frame("trips"), contracts.scan("trips").collect(), contracts.current("trips")):
        assert rows["tip"].dtype == pl.Int64
        assert rows["tip"].to_list() == rows["seats"].to_list()
    assert contracts.frame("trips", until=DAY + timedelta(hours=5))["tip"].dtype == pl.Int64, "of a period too"


@pytest.mark.parametrize("text", ["a few", "007", "1.5"])
def test_a_value_that_is_not_of_the_type_is_a_conflict_with_the_column_and_the_snapshots(world: World, text: str) -> None:
    contracts = changed(world, pl.lit(text), pl.col("seats"))
    says = "'tip' has no one type: String in dataset/trips@1; Int64 in dataset/trips@2"
    with pytest.raises(Conflict, match=says):
        contracts.frame("trips")
    with pytest.raises(Conflict, match=says):
        contracts.scan("trips")
    assert contracts.frame("trips", until=DAY + timedelta(hours=5))["tip"].to_list() == [text] * 6, "alone it stays what it was"


def test_a_diff_of_two_types_compares_them_where_nothing_is_lost(world: World) -> None:
    second = trips(24, seats=pl.col("seats") + pl.int_range(pl.len()).is_in([1, 2]).cast(pl.Int64))
    contracts = changed(world, pl.col("seats").cast(pl.String), pl.col("seats"))
    found = contracts.diff(TRIPS.at(1), TRIPS.at(2))
    assert found["columns"]["changed"] == {"tip": ["String", "Int64"]}
    assert found["rows"]["added"] == found["rows"]["removed"] == 24
    world.rows = second.with_columns(tip=pl.col("seats"), known_at=pl.lit(DAY_2) + timedelta(hours=1))
    contracts.ingest(ANNA, TRIPS, until=DAY_2 + timedelta(days=1))
    assert contracts.diff(TRIPS.at(1), TRIPS.at(3))["rows"] == {
        "before": 24, "after": 24, "added": 0, "removed": 0, "changed": 2, "same": 22,
    }  # fmt: skip
    assert contracts.diff(TRIPS.at(1), TRIPS.at(3), state=True)["rows"]["changed"] == 2


def test_a_diff_of_types_with_nothing_in_common_only_tells_them(world: World) -> None:
    world.rows = trips(24).with_columns(tip=pl.concat_list(pl.lit(1, dtype=pl.Int64)))
    contracts = world.contracts(new_columns="allow")
    contracts.ingest(ANNA, TRIPS, until=DAY_1)
    world.rows = trips(24).with_columns(tip=pl.lit(1.5), known_at=pl.lit(DAY_1) + timedelta(hours=1))
    contracts.ingest(ANNA, TRIPS, until=DAY_2)
    found = contracts.diff(TRIPS.at(1), TRIPS.at(2))
    assert found["columns"]["changed"] == {"tip": ["List(Int64)", "Float64"]}
    assert (found["rows"]["changed"], found["rows"]["same"]) == (0, 24)


def test_the_drift_of_states_is_of_the_states(world: World) -> None:
    world.rows = trips(48, miles=pl.when(pl.int_range(pl.len()) < 24).then(10.0).otherwise(400.0))
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY_1)
    contracts.ingest(ANNA, TRIPS, until=DAY_2)
    assert contracts.diff(TRIPS.at(1), TRIPS.at(2))["drift"]["miles"] == 1.0
    assert contracts.diff(TRIPS.at(1), TRIPS.at(2), state=True)["drift"]["miles"] == pytest.approx(0.311278, abs=1e-6)


TIME = pl.Datetime("ms", "UTC")


@pytest.mark.parametrize(
    ("value", "wanted", "fits"),
    [
        ("7", pl.Int64, True), ("07", pl.Int64, False), ("x", pl.Int64, False), ("1.5", pl.Float64, True), (None, pl.Int64, True),
        ("true", pl.Boolean, True), ("yes", pl.Boolean, False), ("2013-05-01T09:30:00Z", TIME, True), (7, pl.Date, False),
        ("2013-05-01 09:30:00", TIME, False), ("2013-05-01", pl.Date, True), (7, pl.String, True), (True, pl.Int64, False),
        (date(2013, 5, 1), TIME, True), (datetime(2013, 5, 1, 9, tzinfo=UTC), pl.Date, False), (2**60 + 1, pl.Float64, False),
        (1.5, pl.Int64, False), (2.0, pl.Int64, True), ([1], pl.String, False),
    ],
)  # fmt: skip
def test_what_is_the_same_in_another_type(value: Any, wanted: Any, fits: bool) -> None:
    dtype = pl.String() if value is None else None
    assert is_exact(pl.LazyFrame({"x": pl.Series([value], dtype=dtype)}), "x", wanted) is fits


def test_texts_and_others_that_no_contract_names_are_texts() -> None:
    parts = [("a@1", pl.DataFrame({"x": ["a"]})), ("a@2", pl.DataFrame({"x": [1]}))]
    assert [rows["x"].to_list() for rows in aligned(parts, {})] == [["a"], ["1"]]
    with pytest.raises(Conflict, match="Int64 in a@2; Date in a@3"):
        aligned([parts[1], ("a@3", pl.DataFrame({"x": [date(2013, 5, 1)]}))], {})
