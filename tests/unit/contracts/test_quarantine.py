"""Quarantine: looked at with reasons and places, mended, and replayed once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from falaj.core.asset import Asset
from falaj.core.codec import decode
from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.stages.contracts.mending import read_rows
from falaj.stages.contracts.quarantine import explained

from .conftest import ANNA, CONTRACT, DAY, TRIPS, World, trips

NOW = DAY + timedelta(days=400)
"""What the clock of these tests says."""


@pytest.fixture
def dirty(world: World) -> World:
    """Rows 2 and 4 are broken, and row 6 has the key of row 1."""
    world.rows = trips(8, miles=pl.Series([0.0, 1.0, -2.0, 3.0, 900.0, 5.0, 6.0, 7.0]))
    world.rows = world.rows.with_columns(id=pl.when(pl.col("id") == "t6").then(pl.lit("t1")).otherwise("id"))
    world.contracts().ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    return world


def test_rows_are_shown_with_their_place_their_reasons_and_what_is_wanted(dirty: World) -> None:
    contracts = dirty.contracts()
    rows = contracts.quarantine("trips")
    assert rows.select("_version", "_row", "id", "_reasons").rows() == [
        (1, 2, "t2", ["miles >= 0"]),
        (1, 4, "t4", ["miles <= 500"]),
        (1, 6, "t1", ["id is the key"]),
    ]
    wanted = {found["rule"]: found["wanted"] for found in contracts.report(TRIPS.at(1))["findings"]}
    shown = explained(rows, wanted)
    assert shown[0]["_wanted"] == {"miles >= 0": ">= 0"}
    assert shown[2]["_wanted"] == {"id is the key": "no two rows with the same key"}


def test_listed_values_and_comparisons_are_said_as_the_contract_has_them(world: World) -> None:
    world.rows = trips(2, zone=pl.Series(["north", "east"])).with_columns(
        known_at=pl.when(pl.col("id") == "t1").then(pl.col("at") - timedelta(hours=1)).otherwise("known_at")
    )
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    wanted = {found["rule"]: found["wanted"] for found in contracts.report(TRIPS.at(1))["findings"]}
    assert wanted == {"a known zone": "one of east, west", "known after it happened": "known_at >= at"}


def test_what_stands_and_what_waits_is_counted_now(dirty: World) -> None:
    contracts = dirty.contracts()
    contracts.replay(ANNA, TRIPS, rows=pl.DataFrame({"_version": [1], "_row": [2], "miles": [2.0]}))
    seen = contracts.look("trips")
    assert (seen["quarantined"], seen["waiting"], seen["mended"]) == (2, 2, 1)
    assert seen["promises"]["verdict"] == "deny", "nothing came for a year, though nobody has looked since"
    assert seen["promises"]["at"] == "2014-02-05T00:00:00.000Z"
    dirty.write("no contract at all")
    assert contracts.look("trips")["promises"]["reason"].startswith("not seen: ")


def test_mended_rows_come_in_once_as_a_snapshot_that_says_what_it_mends(dirty: World) -> None:
    contracts = dirty.contracts()
    given = pl.DataFrame({"_version": [1, 1], "_row": [2, 4], "miles": [2.0, -9.0]})
    decision = contracts.replay(ANNA, TRIPS, rows=given)
    assert (decision.verdict, str(decision.subject), decision.reason) == (
        "allow",
        "dataset/trips@2",
        "1 row mended, 1 still broken",
    )
    snapshot = contracts.assets("trips")[-1]
    names = pl.read_parquet(dirty.blobs.path(snapshot.labels["mends"]))
    assert names.rows() == [(1, 2)]
    assert contracts.current("trips").filter(pl.col("id") == "t2").select("miles", "known_at").rows() == [(2.0, NOW)]
    assert contracts.quarantine("trips", waiting=True)["_row"].to_list() == [4, 6]
    assert contracts.quarantine("trips").height == 3, "what came stays as it came"
    leaves = list(dirty.ledger.leaves())
    assert contracts.replay(ANNA, TRIPS, rows=given.head(1)).reason == "nothing to mend"
    assert list(dirty.ledger.leaves()) == leaves


def test_a_new_contract_lets_rows_in_as_they_came_but_never_a_key_that_is_there(dirty: World) -> None:
    dirty.write(CONTRACT.replace("minimum: 0, maximum: 500", "minimum: -5, maximum: 1000"))
    contracts = dirty.contracts()
    decision = contracts.replay(ANNA, TRIPS)
    assert decision.reason == "2 rows mended, 1 still broken"
    assert contracts.frame("trips")["id"].to_list() == ["t0", "t1", "t3", "t5", "t7", "t2", "t4"]
    refused = contracts.replay(ANNA, TRIPS)
    assert (refused.verdict, refused.reason) == ("deny", "none of 1 row keeps the contract")
    assert contracts.look("trips")["decision"]["verdict"] == "allow", "a replay that fails does not stand in a load's way"


def test_mended_rows_move_no_watermark_and_are_no_load(dirty: World) -> None:
    contracts = dirty.contracts()
    before = contracts._head("trips")
    contracts.replay(ANNA, TRIPS, rows=pl.DataFrame({"_version": [1], "_row": [2], "miles": [2.0]}))
    after = contracts._head("trips")
    assert (after.watermark, after.load_rows, after.load_version) == (before.watermark, before.load_rows, 1)
    assert after.known_rows == before.known_rows + 1
    dirty.rows = pl.concat([dirty.rows, trips(40).tail(10).select(dirty.rows.columns)])
    assert contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=9)).subject == TRIPS.at(3)


def test_recent_finds_what_was_mended_beyond_the_watermark(dirty: World) -> None:
    contracts = dirty.contracts()
    contracts.replay(ANNA, TRIPS, rows=pl.DataFrame({"_version": [1], "_row": [2], "miles": [2.0]}))
    since = NOW - timedelta(days=1)
    assert contracts.recent("trips", since, NOW)["id"].to_list() == ["t2"]
    assert contracts.recent("trips", since, NOW - timedelta(hours=1)).height == 0
    assert contracts.frame("trips", until=DAY + timedelta(days=300), by="known").height == 5, "nobody knew it then"


def test_of_two_that_replay_at_once_one_is_refused(dirty: World) -> None:
    contracts, other = dirty.contracts(), dirty.contracts()
    put = dirty.blobs.put
    given = pl.DataFrame({"_version": [1], "_row": [2], "miles": [2.0]})

    def meanwhile(data: bytes) -> str:
        dirty.blobs.put = put  # type: ignore[method-assign]
        other.replay(ANNA, TRIPS, rows=given)
        return put(data)

    dirty.blobs.put = meanwhile  # type: ignore[method-assign]  # a forced interleaving, not a double
    with pytest.raises(Conflict, match="meanwhile"):
        contracts.replay(ANNA, TRIPS, rows=given)
    assert contracts.frame("trips").filter(pl.col("id") == "t2").height == 1


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"_version": [1], "miles": [2.0]}, "no '_row'"),
        ({"_version": [1, 1], "_row": [2, 2], "miles": [2.0, 3.0]}, "the same _version and _row"),
        ({"_version": [1], "_row": [None], "miles": [2.0]}, "has none"),
        ({"_version": [1], "_row": [2], "mile": [2.0]}, "a column 'mile'"),
        ({"_version": [1], "_row": [2], "miles": ["far"]}, "other types"),
    ],
)
def test_mended_rows_that_cannot_be_told_apart_are_refused(dirty: World, rows: dict[str, list[object]], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        dirty.contracts().replay(ANNA, TRIPS, rows=pl.DataFrame(rows))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_file_of_mended_rows_is_read_in_the_types_that_came(dirty: World, kind: str) -> None:
    rows = dirty.contracts().quarantine("trips").filter(pl.col("_row") == 2).with_columns(miles=pl.lit(2.0)).drop("_reasons")
    path = dirty.folder / f"mended.{kind}"
    {"csv": rows.write_csv, "jsonl": rows.write_ndjson, "parquet": rows.write_parquet}[kind](path)
    contracts = dirty.contracts()
    assert contracts.replay(ANNA, TRIPS, rows=read_rows(dirty.folder, path.name)).reason == "1 row mended, 0 still broken"
    assert contracts.current("trips").filter(pl.col("id") == "t2")["at"].to_list() == [DAY + timedelta(hours=2)]


def test_files_outside_the_project_missing_broken_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    for name, error in (
        ("../x.csv", InvalidInput), ("/etc/passwd", InvalidInput), ("x.xlsx", InvalidInput), ("x.csv", NotFound),
        ("broken.parquet", InvalidInput),
    ):  # fmt: skip
        with pytest.raises(error):
            read_rows(tmp_path, name)


def test_values_are_in_the_report_and_never_in_the_ledger(world: World) -> None:
    world.rows = trips(5, zone=pl.Series(["east", "Mrs. Haddad's", "east", "west", "west"]))
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    told = contracts.report(TRIPS)
    assert told["findings"][0]["sample"] == [{"id": "t1", "zone": "Mrs. Haddad's"}]
    assert told["findings"][0]["rows"] == [1]
    assert not any(b"Haddad" in leaf for leaf in world.ledger.leaves())
    quarantined = decode(Asset, world.ledger.get("asset", "quarantine/trips@1"))
    assert quarantined.labels["report"] == contracts.assets("trips")[0].labels["report"]


def test_a_denied_load_has_a_report_until_the_next_comes_in(world: World) -> None:
    good, world.rows = world.rows, trips(5, zone=pl.lit(None, dtype=pl.String))
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    event = list(world.ledger.events())[-1]
    assert str(event.facts["report"]).startswith("sha256:")
    assert contracts.report(TRIPS)["findings"][0]["count"] == 5
    world.rows = good
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    told = contracts.report(TRIPS)
    assert (told["about"], told["findings"]) == ("dataset/trips@1", [])
    assert all(check["passed"] for check in told["checks"])
    assert "miles >= 0" in [check["name"] for check in told["checks"]]
    with pytest.raises(NotFound, match="no load dataset/trips@2"):
        contracts.report(TRIPS.at(2))


def test_a_load_that_is_stopped_before_any_row_is_judged_is_reported(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    world.rows = trips(50, miles=pl.lit("far"))
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=2))
    told = contracts.report(TRIPS)
    assert [check["name"] for check in told["checks"] if check["passed"] is False] == ["miles is a number"]
    assert contracts.report(TRIPS.at(1))["about"] == "dataset/trips@1"
