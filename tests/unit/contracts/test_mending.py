"""Mended rows: what they do not mention stays, what they say in text is never guessed, and what they name exists."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from falaj.core.decision import Decision
from falaj.core.errors import InvalidInput, NotFound
from falaj.stages.contracts.mending import merged, read_rows, table
from falaj.stages.contracts.sources import files

from .conftest import ANNA, CONTRACT, DAY, TRIPS, World, trips


@pytest.fixture
def dirty(world: World) -> World:
    """Rows 2 and 4 are broken by their miles, row 5 by its zone, and row 6 has the key of row 1."""
    world.rows = trips(8, miles=pl.Series([0.0, 1.0, -2.0, 3.0, 900.0, 5.0, 6.0, 7.0]))
    world.rows = world.rows.with_columns(
        id=pl.when(pl.col("id") == "t6").then(pl.lit("t1")).otherwise("id"),
        zone=pl.when(pl.col("id") == "t5").then(pl.lit("north")).otherwise("zone"),
    )
    world.contracts().ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    return world


def replayed(world: World, rows: pl.DataFrame) -> Decision:
    return world.contracts().replay(ANNA, TRIPS, rows=rows)


def row(world: World, name: str) -> dict[str, Any]:
    return world.contracts().current("trips").filter(pl.col("id") == name).row(0, named=True)


MENDS = """{"_version": 1, "_row": 2, "miles": 2}
{"_version": 1, "_row": 4, "miles": 4.5, "seats": null}
{"_version": 1, "_row": 5, "zone": "east"}"""


@pytest.mark.parametrize("way", ["jsonl", "rows"])
def test_what_a_row_does_not_mention_stays_and_a_null_erases(dirty: World, way: str) -> None:
    (dirty.folder / "mended.jsonl").write_text(MENDS)
    given = read_rows(dirty.folder, "mended.jsonl") if way == "jsonl" else table([json.loads(m) for m in MENDS.splitlines()])
    assert replayed(dirty, given).reason == "3 rows mended, 0 still broken"
    assert (row(dirty, "t2")["miles"], row(dirty, "t2")["seats"], row(dirty, "t2")["zone"]) == (2.0, 2, "east")
    assert (row(dirty, "t4")["miles"], row(dirty, "t4")["seats"], row(dirty, "t4")["zone"]) == (4.5, None, "east")
    assert (row(dirty, "t5")["miles"], row(dirty, "t5")["seats"], row(dirty, "t5")["zone"]) == (5.0, 0, "east")


def test_a_blank_cell_of_a_csv_file_is_not_mentioned(dirty: World) -> None:
    (dirty.folder / "mended.csv").write_text('_version,_row,miles,seats,zone\n1,2,2.0,,\n1,5,"",,east\n')
    assert replayed(dirty, read_rows(dirty.folder, "mended.csv")).reason == "2 rows mended, 0 still broken"
    assert (row(dirty, "t2")["seats"], row(dirty, "t2")["zone"]) == (2, "east")
    assert row(dirty, "t5")["miles"] == 5.0


@pytest.mark.parametrize("place", [{"_version": 1, "_row": 3}, {"_version": 9, "_row": 2}])
def test_a_row_that_was_never_kept_out_is_named(dirty: World, place: dict[str, int]) -> None:
    says = f"_version {place['_version']} and _row {place['_row']}"
    with pytest.raises(NotFound, match=says):
        replayed(dirty, table([{"_version": 1, "_row": 2, "miles": 1.0}, {**place, "miles": 1.0}]))


def test_a_refused_replay_says_which_rows_broke_what(dirty: World) -> None:
    given = table(
        [{"_version": 1, "_row": 2, "miles": -3.0}, {"_version": 1, "_row": 4, "miles": -1.0}, {"_version": 1, "_row": 6}]
    )
    decision = replayed(dirty, given)
    assert decision.verdict == "deny"
    assert [(item.name, item.seen) for item in decision.failed] == [
        ("miles >= 0", "2 of 3 rows: rows 2, 4 of version 1"),
        ("id came in with the same load", "1 of 3 rows: row 6 of version 1"),
    ]


AT = datetime(2013, 5, 1, 9, 30, tzinfo=UTC)
WAITS = pl.DataFrame({
    "_version": [1], "_row": [0], "at": pl.Series([DAY], dtype=pl.Datetime("us", "UTC")), "n": [1], "x": [0.5],
    "on": [DAY.date()], "naive": pl.Series([None], dtype=pl.Datetime("ms")), "fine": [True],
})  # fmt: skip
LOCAL = {"at": ("%d/%m/%Y %H:%M", "Asia/Dubai"), "on": ("%d.%m.%Y", "")}


def mended(source: Any = None, **values: Any) -> dict[str, Any]:
    return merged(WAITS, table([{"_version": 1, "_row": 0, **values}]), source).row(0, named=True)


@pytest.mark.parametrize("text", ["01/05/2013 13:30", "2013-05-01T09:30:00Z", "2013-05-01T13:30:00.000+04:00"])
def test_a_time_in_text_is_read_as_its_source_declares_it_or_by_its_own_zone(text: str) -> None:
    assert mended(files("x.csv", times=LOCAL, types={"on": "date"}), at=text)["at"] == AT


def test_an_iso_time_of_a_declared_zone_is_read_there() -> None:
    assert mended(files("x.csv", times={"at": ("", "Asia/Dubai")}), at="2013-05-01T13:30:00")["at"] == AT


def test_other_texts_become_what_the_column_holds() -> None:
    source = files("x.csv", times=LOCAL, types={"on": "date"})
    given = mended(source, n="7", x="2.5", on="01.05.2013", fine="False", naive="2013-05-01T13:30:00+04:00")
    assert (given["n"], given["x"], given["on"], given["fine"]) == (7, 2.5, AT.date(), False)
    assert given["naive"] == AT.replace(tzinfo=None)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"at": "2013-05-01 13:30:00"}, "'at' has to be a time with a zone"), ({"at": "01/05/2013 13:30"}, "a time with a zone"),
        ({"naive": "2013-05-01T13:30:00"}, "a time with a zone"), ({"on": "01/05/2013"}, "a day such as"),
        ({"n": "1,5"}, "'n' has to be a number"), ({"n": 1.5}, "'n'"), ({"x": "2,5"}, "'x'"), ({"fine": "yes"}, "true or false"),
        ({"at": 5500000000}, "a time with a zone"),
    ],
)  # fmt: skip
def test_a_text_that_says_nothing_for_sure_is_refused_by_its_column(values: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        mended(**values)


def test_an_hour_that_clocks_bring_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="as its source declares it"):
        mended(files("x.csv", times={"at": ("%Y-%m-%d %H:%M", "Europe/Berlin")}), at="2013-10-27 02:30")


def test_a_time_without_a_zone_is_refused_from_parquet_too() -> None:
    given = pl.DataFrame({"_version": [1], "_row": [0], "at": [datetime(2013, 5, 1, 9, 30)]})
    with pytest.raises(InvalidInput, match="a time with a zone"):
        merged(WAITS, given)


def test_rows_of_several_types_in_one_column_are_no_table() -> None:
    with pytest.raises(InvalidInput, match="several types"):
        table([{"_version": 1, "_row": 0, "n": 1}, {"_version": 1, "_row": 1, "n": "x"}])


def test_a_key_that_comes_with_the_contract_is_replayed_without_mending(dirty: World) -> None:
    dirty.write(CONTRACT.replace("maximum: 500", "maximum: 1000"))
    assert dirty.contracts().replay(ANNA, TRIPS).reason == "1 row mended, 3 still broken"
