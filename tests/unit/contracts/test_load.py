"""Loads in parts: however the source cuts its pieces, the same rows are judged and kept the same."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput, Unavailable
from falaj.ports.source import Source
from falaj.stages.contracts.drafts import Drafts
from falaj.stages.contracts.profile import merge, profile
from falaj.stages.contracts.repeats import repeated
from falaj.stages.contracts.service import Contracts
from falaj.stages.contracts.snapshots import recut, sampled
from falaj.stages.contracts.spec import From

from .conftest import ANNA, DAY, TRIPS, Pieces, World, trips

LATER = DAY + timedelta(days=300)


def untidy(count: int) -> pl.DataFrame:
    """Trips of which some are broken, and some have a key again, far from its first row."""
    rows = trips(count)
    again = pl.when(pl.int_range(pl.len()) % 97 == 96).then(pl.lit("t5")).otherwise(pl.col("id"))
    miles = pl.when(pl.int_range(pl.len()) % 31 == 7).then(-1.0).otherwise(pl.col("miles"))
    return rows.with_columns(id=again, miles=miles)


def taken(world: World, size: int, *, part_rows: int = 1000, count: int = 3500) -> Contracts:
    world.source = None
    contracts = world.contracts(source=From("pieces"), part_rows=part_rows)
    contracts._open_source = lambda _spec: Pieces(untidy(count), size)
    assert contracts.ingest(ANNA, TRIPS, until=LATER).allowed
    return contracts


def opened(world: World, source: Source, **declared: Any) -> Contracts:
    contracts = world.contracts(source=From("pieces"), part_rows=1000, **declared)
    contracts._open_source = lambda _spec: source
    return contracts


@pytest.mark.parametrize("size", [1, 7, 999, 1000, 1001, 5000])
def test_the_same_rows_give_the_same_digests_however_the_source_cuts_them(world: World, tmp_path: Path, size: int) -> None:
    count = 150 if size == 1 else 3500
    part = 40 if size == 1 else 1000
    first = taken(world, 333, part_rows=part, count=count)
    other = World(tmp_path, world.rows)
    second = taken(other, size, part_rows=part, count=count)
    (one,), (two,) = first.assets("trips"), second.assets("trips")
    assert (one.digest, one.labels["profile"], one.labels["parts"]) == (two.digest, two.labels["profile"], two.labels["parts"])
    assert one.labels["report"] == two.labels["report"]
    assert first.quarantine("trips").equals(second.quarantine("trips"))


def test_many_parts_are_judged_as_one_would_be(world: World, tmp_path: Path) -> None:
    parts = taken(world, 500)
    whole = taken(World(tmp_path, world.rows), 500, part_rows=1_000_000)
    assert parts.frame("trips").equals(whole.frame("trips"))
    assert parts.quarantine("trips").equals(whole.quarantine("trips"))
    (one,), (two,) = parts.assets("trips"), whole.assets("trips")
    assert "parts" not in two.labels
    same = ("rows", "columns", "time_first", "time_last", "known_first", "known_last", "since", "until", "contract", "load_rows")
    assert {name: one.labels[name] for name in same} == {name: two.labels[name] for name in same}
    told = [contracts.report(TRIPS) for contracts in (parts, whole)]
    assert told[0] == told[1]


def test_a_key_that_comes_again_in_another_part_is_kept_out(world: World) -> None:
    kept_out = taken(world, 500).quarantine("trips")
    again = kept_out.filter(pl.col("_reasons").list.contains("id is the key"))
    assert again["id"].unique().to_list() == ["t5"]
    assert again["_row"].to_list() == [row for row in range(3500) if row % 97 == 96]


def test_the_list_of_parts_says_what_each_holds_and_only_those_of_a_period_are_read(world: World) -> None:
    contracts = taken(world, 500)
    (asset,) = contracts.assets("trips")
    body = json.loads(world.blobs.get(asset.digest))
    assert [part["rows"] for part in body["parts"]][:1] == [1000]
    assert sum(part["rows"] for part in body["parts"]) == asset.labels["rows"] == contracts.frame("trips").height
    last = body["parts"][-1]["digest"]
    world.blobs._held.pop(last)
    found = contracts.frame("trips", until=DAY + timedelta(hours=20))
    assert found.height == contracts.scan("trips", until=DAY + timedelta(hours=20)).collect().height == 21 - 1


def test_scan_reads_what_frame_reads(world: World) -> None:
    contracts = taken(world, 500)
    for since, until, by in ((None, None, "time"), (DAY + timedelta(hours=900), DAY + timedelta(hours=2100), "known")):
        wanted = contracts.frame("trips", since=since, until=until, by=by)  # type: ignore[arg-type]
        assert contracts.scan("trips", since=since, until=until, by=by).collect().equals(wanted)  # type: ignore[arg-type]
    assert contracts.scan("trips").select(pl.len()).collect().item() == contracts.frame("trips").height


def test_one_row_of_many_parts_is_found(world: World) -> None:
    assert taken(world, 500).row(TRIPS.at(1), "id", "t3001")["at"] == DAY + timedelta(hours=3001)


def test_the_profile_of_many_parts_counts_every_row_in_one_set_of_bins(world: World) -> None:
    contracts = taken(world, 500)
    seen = contracts.profile(TRIPS.at(1))
    good = contracts.frame("trips")
    assert seen["rows"] == good.height
    assert sum(seen["columns"]["miles"]["counts"]) == good.height
    assert seen["columns"]["miles"]["sum"] == pytest.approx(good["miles"].sum())


def test_drafts_are_gone_after_a_load_whatever_came_of_it(world: World) -> None:
    drafts = world.folder / "drafts"
    with pytest.raises(Unavailable, match="the line went dead"):
        opened(world, Pieces(untidy(3500), 500, stops_after=5)).ingest(ANNA, TRIPS, until=LATER)
    assert list(drafts.iterdir()) == []
    taken(world, 500)
    assert list(drafts.iterdir()) == []


def test_a_source_that_stops_half_way_leaves_nothing_and_can_be_asked_again(world: World) -> None:
    source = Pieces(untidy(3500), 500, stops_after=5)
    contracts = opened(world, source)
    with pytest.raises(Unavailable, match="nothing was taken in"):
        contracts.ingest(ANNA, TRIPS, until=LATER)
    assert contracts.look("trips")["version"] == 0
    assert not world.blobs._held
    source.stops_after = None
    assert contracts.ingest(ANNA, TRIPS, until=LATER).allowed
    assert contracts.frame("trips").height + contracts.quarantine("trips").height == 3500


def test_a_load_of_many_parts_that_is_denied_leaves_no_rows(world: World) -> None:
    rows = untidy(3500).with_columns(zone=pl.lit(None, dtype=pl.String))
    contracts = opened(world, Pieces(rows, 500))
    decision = contracts.ingest(ANNA, TRIPS, until=LATER)
    assert decision.verdict == "deny"
    assert not [data for data in world.blobs._held.values() if data.startswith(b"PAR1")]
    assert [found["rule"] for found in contracts.report(TRIPS)["findings"]][-1] == "all zones are there"


def test_pieces_that_differ_are_refused_with_the_column(world: World) -> None:
    class Changing(Pieces):
        def read(self, since: Any, until: Any) -> Any:
            yield trips(5)
            yield trips(5, start=5).with_columns(miles=pl.col("miles").cast(pl.String))

    with pytest.raises(InvalidInput, match="half-way: miles is String after Float64"):
        opened(world, Changing(trips(1), 1)).ingest(ANNA, TRIPS, until=LATER)


def test_a_source_that_hands_out_everything_is_cut_to_the_period(world: World) -> None:
    contracts = opened(world, Pieces(trips(100), 30, known=False))
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(hours=10))
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(hours=20))
    assert contracts.frame("trips")["id"].to_list() == [f"t{n}" for n in range(20)]
    assert contracts.quarantine("trips").height == 0
    assert contracts.assets("trips")[0].labels["origin"] == {"namespace": "test://here", "name": "trips"}


def test_the_contract_of_the_start_judges_the_whole_load(world: World) -> None:
    from .conftest import CONTRACT

    class Slow(Pieces):
        def read(self, since: Any, until: Any) -> Any:
            for number, piece in enumerate(super().read(since, until)):
                if number == 3:
                    world.write(CONTRACT.replace("maximum: 500", "maximum: 1"))
                yield piece

    contracts = opened(world, Slow(trips(3500), 500))
    contracts.ingest(ANNA, TRIPS, until=LATER)
    (asset,) = contracts.assets("trips")
    assert asset.labels["rows"] == 3500
    assert world.blobs.get(asset.labels["contract"]) == CONTRACT.encode()


def test_what_a_killed_load_left_is_swept_and_what_lives_is_not(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead" / "part-000000.parquet").write_bytes(b"PAR1")
    (tmp_path / "dead.lock").touch()
    drafts.sweep_once()
    with drafts.open() as mine:
        (mine.path / "part").write_bytes(b"x")
        assert Drafts(tmp_path).sweep() == 0
        assert (mine.path / "part").is_file()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@given(st.lists(st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=12), max_size=8), st.sampled_from([1, 10**9]))
@settings(max_examples=60, deadline=None)
def test_repeats_are_found_exactly_in_memory_and_on_disk(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int | None]], budget: int
) -> None:
    frames = [pl.DataFrame({"a": part, "b": [1.5] * len(part)}, schema={"a": pl.Int64, "b": pl.Float64}) for part in parts]
    found = repeated(iter(frames), tmp_path_factory.mktemp("keys"), budget).to_list()
    seen: set[int] = set()
    wanted = []
    for row, value in enumerate(value for part in parts for value in part):
        if value is not None and value in seen:
            wanted.append(row)
        seen |= {value} if value is not None else set()
    assert found == wanted


@given(st.lists(st.integers(0, 40), max_size=10), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_cutting_anew_keeps_every_row_in_order(sizes: list[int], rows: int) -> None:
    whole = pl.DataFrame({"a": range(sum(sizes))}, schema={"a": pl.Int64})
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    found = list(recut((whole.slice(start, size) for start, size in zip(starts, sizes, strict=True)), rows))
    assert all(part.height == rows for part in found[:-1])
    assert not found or pl.concat(found).equals(whole)
    assert not any(part.height == 0 for part in found[1:])


def test_a_sample_takes_every_kth_row_of_all() -> None:
    frames = [pl.DataFrame({"a": range(start, start + 64)}) for start in range(0, 640, 64)]
    picked = sampled(frames, 100)["a"].to_list()
    assert picked == list(range(0, 640, 8))
    uneven = [pl.DataFrame({"a": range(start, start + 3)}) for start in range(0, 60, 3)]
    assert sampled(uneven, 7)["a"].to_list() == list(range(0, 60, 16))
    assert sampled(uneven, 1)["a"].to_list() == [0]


def test_profiles_merge_where_a_part_has_no_numbers() -> None:
    empty, full = pl.DataFrame({"a": [None]}, schema={"a": pl.Float64}), pl.DataFrame({"a": [1.0, 2.0, 3.0]})
    for one, two in ((empty, full), (full, empty)):
        both = merge(profile(one), profile(two))["columns"]["a"]
        assert (both["missing"], sum(both["counts"]), both["max"]) == (1, 3, 3.0)
