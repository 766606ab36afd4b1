"""The join of what does not fit: the same answer from files, nothing left behind, and a full disk is told."""

from __future__ import annotations

import resource
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from falaj.core.errors import Conflict, InvalidInput, Unavailable
from falaj.stages.features import large
from falaj.stages.features.join import Side, join_views
from falaj.stages.features.keyed import key_column, keyed_spine
from falaj.stages.features.large import Room, join_large, shares
from falaj.stages.features.rules import Events, vectors
from falaj.stages.features.spec import Entity, WindowView, count, distinct, inputs, mean, spread, total
from falaj.stages.features.windows import rows_for
from tests.kits.asof import BROUGHT, START, Case, cases, oracle

UTC_US = pl.Datetime("us", "UTC")


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(cases(), cases())
def test_a_join_by_shares_is_what_the_oracle_says(case: Case, other: Case) -> None:
    second = other.right().rename({name: f"other_{name}" for name in ("key", *BROUGHT)})
    with TemporaryDirectory() as name:
        folder = Path(name)
        case.left().write_parquet(folder / "spine.parquet")
        second.write_parquet(folder / "second.parquet")
        sides = [
            Side(case.right(), "key", "at", case.ttl, case.created),
            Side(pl.scan_parquet(folder / "second.parquet"), "other_key", "other_at", other.ttl, key="key"),
        ]
        spine = pl.scan_parquet(folder / "spine.parquet")
        to = join_large(spine, "t", sides, to=folder / "made", room=Room(500, folder / "aside"))
        assert not any((folder / "aside").iterdir())
        answer = pl.read_parquet(to)
    assert answer["value"].to_list() == [row["value"] for row in oracle(case)]
    again = Case(case.spine, other.rows, other.ttl, False)
    assert answer["other_value"].to_list() == [row["value"] for row in oracle(again)]
    assert answer.select("key", "t").equals(case.left())


def tables(rows: int = 30_000) -> tuple[pl.DataFrame, pl.DataFrame]:
    n = pl.int_range(rows, eager=True)
    start = pl.lit(START).cast(UTC_US)
    spine = pl.select(key=(n * 7919) % 501, t=start + pl.duration(seconds=(n * 104_729) % 90_000))
    held = pl.select(key=(n * 31) % 499, at=start + pl.duration(seconds=(n * 7) % 80_000), value=n)
    return spine, held


@pytest.mark.slow
def test_many_shares_and_parts_give_the_answer_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "_LEAST_ROWS", 1)
    spine, held = tables()
    held.write_parquet(tmp_path / "held.parquet")
    side = Side(pl.scan_parquet(tmp_path / "held.parquet"), "key", "at")
    made = join_large(spine.lazy(), "t", [side], to=tmp_path / "made", room=Room(1_000_000, tmp_path / "aside"))
    assert len([*made.iterdir()]) > 3
    assert pl.read_parquet(made).equals(join_views(spine, "t", [Side(held, "key", "at")]))
    assert [*(tmp_path / "aside").iterdir()] == []


def test_shares_hold_each_row_of_the_spine_once_and_what_it_asks_for(tmp_path: Path) -> None:
    spine, held = tables(5_000)
    found = [*shares(held.lazy(), "key", spine["key"], Room(100_000, tmp_path))]
    assert len(found) > 3
    places = [place for share in found if share.places is not None for place in share.places.tolist()]
    assert sorted(places) == [*range(5_000)]
    assert sum(share.rows.height for share in found) == 5_000
    assert all(set(spine["key"].gather(s.places)) & set(held["key"]) <= set(s.rows["key"]) for s in found if s.places is not None)
    (whole,) = shares(held.lazy(), "key", spine["key"], Room(1 << 40, tmp_path))
    assert whole.places is None
    assert whole.rows.equals(held)


@pytest.mark.slow
@pytest.mark.parametrize("entity", [Entity("plane", key="key", kind="integer"), Entity("both", keys=("key", "other"))])
def test_a_window_view_is_made_share_by_share(tmp_path: Path, entity: Entity) -> None:
    draw = np.random.default_rng(5)
    n = 4_000
    minutes = pl.Series(draw.integers(0, 3_000, n))
    start = pl.lit(START).cast(UTC_US)
    events = pl.select(
        key=pl.lit(pl.Series(draw.integers(0, 40, n))), other=pl.lit("a;b"), at=start + pl.duration(minutes=minutes),
        delay=pl.lit(pl.Series(draw.normal(size=n).round(3))), carrier=pl.lit(pl.Series(draw.choice(["AA", "UA", "DL"], n))),
    )  # fmt: skip
    events = events.with_columns(key=pl.when(pl.int_range(n) % 50 != 0).then("key"))
    figures = (mean("delay", "mean"), spread("delay", "std"), total("delay", "sum"), distinct("carrier", "carriers"), count("n"))
    view = WindowView("recent", "events", entity, "at", ("1h", "6h"), "15m", figures, ttl="1d")
    recipe = inputs(view.all(), time="t")
    spine = events[::3].with_columns(t=pl.col("at") + pl.duration(minutes=61)).drop("at", "delay")
    recipe, spine = keyed_spine(recipe, spine)
    made = rows_for(events, view, spine[key_column(recipe, "recent")], spine["t"])
    wanted, wanted_at = vectors(recipe, spine, {"recent": view}, {"recent": made})
    unread = Events.of(events.lazy(), view)
    assert len([*shares(unread.rows, str(view.entity), spine[key_column(recipe, "recent")], Room(50_000, tmp_path))]) > 3
    found, found_at = vectors(recipe, spine, {"recent": view}, {"recent": unread}, Room(50_000, tmp_path))
    assert np.array_equal(found, wanted, equal_nan=True)
    assert np.array_equal(found_at["recent"], wanted_at["recent"], equal_nan=True)
    assert not np.isnan(wanted).all()
    assert [*tmp_path.iterdir()] == []


def test_nothing_is_left_after_an_error_and_nothing_half_made_is_seen(tmp_path: Path) -> None:
    spine, held = tables(5_000)
    broken = held.lazy().with_columns(pl.col("value").map_elements(lambda _: 1 / 0, return_dtype=pl.Float64))
    with pytest.raises(Exception, match="division"):
        join_large(spine, "t", [Side(broken, "key", "at")], to=tmp_path / "made", room=Room(200_000, tmp_path / "aside"))
    naive = held.with_columns(pl.col("at").dt.replace_time_zone(None))
    with pytest.raises(InvalidInput, match="time zone"):
        join_large(spine, "t", [Side(naive, "key", "at")], to=tmp_path / "made", room=Room(200_000, tmp_path / "aside"))
    assert [*(tmp_path / "aside").iterdir()] == []
    assert not (tmp_path / "made").exists()


def test_a_disk_that_takes_no_more_is_told(tmp_path: Path) -> None:
    spine, held = tables()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    try:
        with pytest.raises(Unavailable, match="lay rows aside") as seen:
            join_large(spine, "t", [Side(held, "key", "at")], to=tmp_path / "made", room=Room(1_000_000, tmp_path / "aside"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "free space" in (seen.value.hint or "")
    assert [*(tmp_path / "aside").iterdir()] == []


def test_an_answer_that_exists_is_not_written_over(tmp_path: Path) -> None:
    spine, held = tables(10)
    with pytest.raises(Conflict, match="exists"):
        join_large(spine, "t", [Side(held, "key", "at")], to=tmp_path, room=Room(1_000_000, tmp_path / "aside"))
    with pytest.raises(InvalidInput, match="memory"):
        join_large(spine, "t", [Side(held, "key", "at")], to=tmp_path / "made", room=Room(0, tmp_path / "aside"))
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="lay rows aside"):
        join_large(spine, "t", [Side(held, "key", "at")], to=tmp_path / "made", room=Room(1, tmp_path / "file"))
