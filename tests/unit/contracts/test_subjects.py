"""What is held about a person is found by token, handed out while there is a key, and nowhere to be read once there is none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from falaj.ports.subjects import Finding
from falaj.stages.contracts import odcs
from falaj.stages.contracts.keeping import _column_classes
from falaj.stages.contracts.subjects import RowsOfSubjects
from tests.kits.clinic import CONTRACT, DAY, NORA, VISITS, Clinic, emirates_id, visits

LATER = DAY + timedelta(days=1)


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    rows = visits(200).with_columns(age=pl.when(pl.col("visit") == "v23").then(999).otherwise("age"))
    clinic = Clinic(tmp_path, rows)
    yield clinic
    clinic.close()


def stores(clinic: Clinic, part_rows: int = 30) -> tuple[RowsOfSubjects, RowsOfSubjects]:
    contracts = clinic.contracts(part_rows=part_rows)
    if not contracts.version("visits"):
        contracts.ingest(NORA, VISITS, until=DAY + timedelta(minutes=150))
        contracts.ingest(NORA, VISITS, until=LATER)
    return RowsOfSubjects(contracts, "snapshots"), RowsOfSubjects(contracts, "quarantine")


def test_a_person_is_found_in_each_file_and_nobody_else_is(clinic: Clinic) -> None:
    snapshots, quarantine = stores(clinic)
    found = snapshots.find(emirates_id(3))
    assert sum(finding.count for finding in found) == 9
    assert {finding.place for finding in found} == {"dataset/visits@1", "dataset/visits@2"}
    assert all(finding.readable for finding in found)
    assert quarantine.find(emirates_id(3)) == [Finding("quarantine", "quarantine/visits@1", 1, readable=True)]
    assert snapshots.find(f" {emirates_id(3)} ") == found
    assert snapshots.find(emirates_id(33)) == quarantine.find(emirates_id(4)) == []


def test_everything_about_a_person_is_handed_out(clinic: Clinic) -> None:
    snapshots, quarantine = stores(clinic)
    rows = list(snapshots.export(emirates_id(3)))
    assert [row["visit"] for row in rows] == [f"v{n}" for n in range(3, 200, 20) if n != 23]
    assert {row["emirates_id"] for row in rows} == {emirates_id(3)}
    assert rows[0] == {
        "store": "snapshots", "place": "dataset/visits@1", "visit": "v3", "emirates_id": emirates_id(3),
        "at": "2026-03-01T00:03:00.000Z", "known_at": "2026-03-01T00:04:00.000Z", "name": "Omar Farooq 3", "age": 23,
        "pressure": rows[0]["pressure"], "born": str(clinic.rows["born"][3]), "smokes": True, "ward": "heart",
    }  # fmt: skip
    assert [(row["visit"], row["age"], row["place"]) for row in quarantine.export(emirates_id(3))] == [
        ("v23", 999, "quarantine/visits@1")
    ]


def test_with_the_key_gone_nothing_is_handed_out_and_every_probe_fails_to_read(clinic: Clinic) -> None:
    both = stores(clinic)
    assert all(store.probe(emirates_id(3)) for store in both), "the probe reads what is there"
    before = [[(finding.place, finding.count) for finding in store.find(emirates_id(3))] for store in both]
    clinic.shred(emirates_id(3))
    for store, held in zip(both, before, strict=True):
        assert store.erase(emirates_id(3)) == store.erase(emirates_id(3)) == []
        assert list(store.export(emirates_id(3))) == store.probe(emirates_id(3)) == []
        found = store.find(emirates_id(3))
        assert [(finding.place, finding.count) for finding in found] == held
        assert not any(finding.readable for finding in found)
        assert store.find(emirates_id(4)) == [] or all(finding.readable for finding in store.find(emirates_id(4)))


def test_what_was_written_before_there_was_a_subject_is_found_and_fails_the_probe(clinic: Clinic) -> None:
    (clinic.folder / "visits.odcs.yaml").write_text(
        CONTRACT.replace("        customProperties: [{property: subject, value: true}]\n", "")
    )
    contracts = clinic.contracts()
    contracts.ingest(NORA, VISITS, until=LATER)
    (clinic.folder / "visits.odcs.yaml").write_text(CONTRACT)
    store = RowsOfSubjects(clinic.contracts(), "snapshots")
    assert store.find(emirates_id(3)) == [Finding("snapshots", "dataset/visits@1 (in clear)", 9, readable=True)]
    clinic.shred(emirates_id(3))
    assert store.probe(emirates_id(3)) == [Finding("snapshots", "dataset/visits@1 (in clear)", 9, readable=True)]
    assert len(list(store.export(emirates_id(3)))) == 9


def test_late_rows_are_found_beside_their_snapshot(clinic: Clinic) -> None:
    every = clinic.rows
    clinic.rows = every.filter(pl.col("visit") != "v50")
    contracts = clinic.contracts(late="2h")
    contracts.ingest(NORA, VISITS, until=DAY + timedelta(minutes=110))
    clinic.rows = every
    contracts.ingest(NORA, VISITS, until=DAY + timedelta(minutes=120))
    store = RowsOfSubjects(contracts, "snapshots")
    places = {finding.place: finding.count for finding in store.find(emirates_id(10))}
    assert places == {"dataset/visits@1": 4, "dataset/visits@2": 2, "dataset/visits@2 late": 1}
    clinic.shred(emirates_id(10))
    assert store.probe(emirates_id(10)) == []


def test_drafts_of_killed_loads_are_swept(clinic: Clinic) -> None:
    snapshots, _ = stores(clinic)
    left = clinic.state / "drafts" / "left"
    left.mkdir(parents=True)
    (clinic.state / "drafts" / "left.lock").touch()
    visits(5).write_parquet(left / "part-000000.parquet")
    assert snapshots.erase(emirates_id(3)) == [Finding("snapshots", "drafts of loads that were killed", 1, readable=False)]
    assert not left.exists()


def test_refused_rows_are_of_the_classes_of_their_columns_as_well(clinic: Clinic) -> None:
    stores(clinic)
    for kind in ("dataset", "quarantine"):
        (_, body), *_ = clinic.kernel.ledger.find("asset", prefix=f"{kind}/visits@")
        assert body["labels"]["column_classes"] == ["health", "personal"]


def test_however_many_classes_there_are_none_is_left_out_that_a_law_speaks_of() -> None:
    columns = "".join(f"      - {{name: c{n}, logicalType: string, classification: a{n:02}}}\n" for n in range(30))
    contract = odcs.read((CONTRACT.partition("    quality:")[0] + columns).encode(), "visits.odcs.yaml")
    assert {"health", "personal"} <= set(_column_classes(contract)["column_classes"])
