"""Scores are plain files that somebody asked for: a person's rows are found in them, and taken out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.asset import Asset
from falaj.core.codec import encode
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.ports.subjects import Finding
from falaj.stages.scoring.subjects import ScoreSubjects
from tests.kits.clinic import emirates_id

WHO = emirates_id(3)


def kept(ledger: MemoryLedger, output: str) -> None:
    ref = Ref("scores", "noshow", output.replace("/", "-").strip(".-") or "x")
    asset = Asset(ref, "sha256:" + "a" * 64, "x", labels={"output": output})
    with ledger.transaction() as tx:
        change = Change("asset", str(ref), encode(asset))
        tx.append(Event("model.score", ref, Actor("anna"), datetime(2026, 1, 1, tzinfo=UTC), {}, (change,)))


def test_rows_are_found_by_texts_and_numbers_and_taken_out(tmp_path: Path) -> None:
    ledger, folder = MemoryLedger(), tmp_path / "scores" / "may"
    folder.mkdir(parents=True)
    pl.DataFrame({"emirates_id": [WHO, emirates_id(4), None], "score": [0.1, 0.2, 0.3]}).write_parquet(
        folder / "part-00000.parquet"
    )
    pl.DataFrame({"patient": [17, 18], "score": [0.4, 0.5]}).write_parquet(folder / "part-00001.parquet")
    kept(ledger, "scores/may")
    store = ScoreSubjects(ledger, tmp_path)
    place = "scores/noshow@scores-may part-00000.parquet"
    assert store.find(WHO) == store.probe(f" {WHO} ") == [Finding("scores", place, 1, readable=True)]
    assert [row["score"] for row in store.export("17")] == [0.4]
    assert store.erase(WHO) == [Finding("scores", place, 1, readable=False)]
    assert store.find(WHO) == store.probe(WHO) == store.erase(WHO) == []
    assert pl.read_parquet(folder / "part-00000.parquet")["score"].to_list() == [0.2, 0.3]
    assert sorted(path.name for path in folder.iterdir()) == ["part-00000.parquet", "part-00001.parquet"]


def test_folders_that_are_gone_or_lead_out_of_the_project_are_passed_over(tmp_path: Path) -> None:
    ledger, outside = MemoryLedger(), tmp_path / "outside"
    outside.mkdir()
    pl.DataFrame({"emirates_id": [WHO]}).write_parquet(outside / "part-00000.parquet")
    (tmp_path / "project").mkdir()
    kept(ledger, "../outside")
    kept(ledger, "gone")
    kept(ledger, ".")
    assert ScoreSubjects(ledger, tmp_path / "project").find(WHO) == []
