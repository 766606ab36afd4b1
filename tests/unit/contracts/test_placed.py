"""Each row can be found again in its snapshot."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl

from falaj.stages.features.explain import cell
from tests.kits.life import AT, START, life


def test_a_row_says_in_which_snapshot_it_stands_and_where(tmp_path: Path) -> None:
    made = life(tmp_path)
    since, until = AT - timedelta(hours=5), AT + timedelta(hours=3)
    found = made.contracts.placed("sky", since, until, pl.col("zone") == "east")
    assert found["seen_at"].to_list() == [since + timedelta(hours=n) for n in range(1, 9)]
    assert found["_snapshot"].unique(maintain_order=True).to_list() == ["dataset/sky@1", "dataset/sky@2"]
    for asset in made.contracts.assets("sky"):
        rows = made.contracts.snapshots.frame(asset)
        for row in found.filter(pl.col("_snapshot") == str(asset.ref)).to_dicts():
            assert row["_digest"] == asset.digest
            assert rows.row(row["_row"], named=True) == {name: row[name] for name in rows.columns}
    assert made.contracts.placed("sky", None, START - timedelta(days=1), pl.col("zone") == "east").is_empty()
    assert made.contracts.placed("sky", None, AT, pl.col("nothing") == 1).is_empty()
    told = cell(made.contracts, made.features.view("sky_now"), "temp", entity="east", at=AT)
    assert told.rows["_snapshot"].to_list() == ["dataset/sky@1"]
    assert told.rows["_row"].to_list() == [60 * 24 * 2]
