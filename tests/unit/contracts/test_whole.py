"""Steps over all rows: what they say of `known` does not count, and every row that changed comes in."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

from falaj.core.errors import InvalidInput
from falaj.core.ref import Ref
from falaj.stages.contracts.service import Contracts
from falaj.stages.contracts.spec import Dataset, Derived
from falaj.stages.contracts.trial import rows_of

from .conftest import ANNA, DAY, TRIPS, World, trips

PARTS = Ref("dataset", "parts")
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: 5b1d
version: 1.0.0
status: active
team: {name: taxis}
schema:
  - name: parts
    properties:
      - {name: zone, logicalType: string, primaryKey: true, primaryKeyPosition: 1}
      - {name: seats, logicalType: integer, primaryKey: true, primaryKeyPosition: 2}
      - {name: part, logicalType: number}
      - {name: last, logicalType: timestamp}
      - {name: known_at, logicalType: timestamp, required: true}
"""
SQL = (
    'select zone, seats, count(*) * 1.0 / sum(count(*)) over () as part, max("at") as last, max(known_at) as known_at '
    "from trips group by zone, seats"
)


@pytest.fixture(autouse=True)
def _one_group_moves(world: World) -> None:
    """On the second day rows of one group come in alone."""
    world.rows = pl.concat([trips(24), trips(3, start=24, zone=pl.lit("east"), seats=pl.lit(1, dtype=pl.Int64))])


def day(number: float) -> datetime:
    return DAY + timedelta(days=number)


def shares(trips: pl.DataFrame) -> pl.DataFrame:
    found = trips.group_by("zone", "seats").agg(pl.len().alias("n"), pl.col("at").max().alias("last"), pl.col("known_at").max())
    return found.with_columns(part=pl.col("n") / pl.col("n").sum()).drop("n")


def declared(source: Derived) -> Dataset:
    return Dataset("parts", "parts.odcs.yaml", source, time="last", known="known_at")


def ingested(world: World, source: Derived, *days: float) -> Contracts:
    world.others = {"parts": declared(source)}
    (world.folder / "parts.odcs.yaml").write_text(CONTRACT)
    contracts = world.contracts()
    for number in days:
        contracts.ingest(ANNA, TRIPS, until=day(number))
        contracts.ingest(ANNA, PARTS, until=day(number))
    return contracts


@pytest.mark.parametrize(
    "source", [Derived(("trips",), sql=SQL, over="all"), Derived(("trips",), function=shares, over="all")], ids=["sql", "python"]
)
def test_a_group_that_got_no_row_itself_is_updated_where_its_part_changed(world: World, source: Derived) -> None:
    contracts = ingested(world, source, 1, 3)
    current = contracts.current("parts")
    assert current["part"].sum() == pytest.approx(1.0)
    assert current.height == 10
    assert current["known_at"].unique().to_list() == [day(3)], "what the query says there does not count"
    assert contracts.current("parts", day(2))["part"].sum() == pytest.approx(1.0)


def test_no_row_is_told_to_be_gone_that_is_there(world: World) -> None:
    contracts = ingested(world, Derived(("trips",), sql=SQL, over="all"), 1)
    contracts.ingest(ANNA, TRIPS, until=day(9))
    decision = contracts.ingest(ANNA, PARTS, until=day(9))
    assert (decision.checks[-1].name, decision.checks[-1].seen) == ("info: rows that the source no longer has", "0")


def test_a_changed_query_is_computed_anew_for_every_group(world: World) -> None:
    ingested(world, Derived(("trips",), sql=SQL, over="all"), 1)
    contracts = ingested(world, Derived(("trips",), sql=SQL.replace("* 1.0", "* 100.0"), over="all"), 3)
    assert contracts.current("parts")["part"].sum() == pytest.approx(100.0)


def test_a_trial_of_such_a_step_sees_all_of_it(world: World) -> None:
    source = Derived(("trips",), sql=SQL, over="all")
    contracts = ingested(world, source, 1)
    contracts.ingest(ANNA, TRIPS, until=day(3))
    rows = rows_of(contracts, declared(source), day(1), day(3))
    assert rows.height == 10
    assert rows["known_at"].unique().to_list() == [day(3)]


def test_a_broken_step_is_told_though_no_input_moved(world: World) -> None:
    ingested(world, Derived(("trips",), sql=SQL, over="all"), 1)
    world.others = {"parts": declared(Derived(("trips",), sql="select now() from trips", over="all"))}
    with pytest.raises(InvalidInput, match=r"asks now\(\)"):
        world.contracts().ingest(ANNA, PARTS, until=day(1))


def test_a_load_that_was_taken_in_before_says_so(world: World) -> None:
    contracts = world.contracts()
    first = contracts.ingest(ANNA, TRIPS, until=day(1))
    again = contracts.ingest(ANNA, TRIPS, until=day(0.5))
    assert first.reason == "24 rows taken in"
    assert again.reason == "nothing to take in: everything until 2013-01-02T00:00:00.000Z was taken in by dataset/trips@1"
    assert (again.verdict, again.subject, again.failed) == ("allow", TRIPS.at(1), ())
