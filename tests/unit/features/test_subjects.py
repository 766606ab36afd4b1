"""Features of people: sealed online, read as ever while there is a key, and gone from training and serving when there is none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from falaj.adapters.local.online import LmdbOnline
from falaj.adapters.sealing.online import SealedOnline
from falaj.core.entity import joined_key
from falaj.core.errors import InvalidInput
from falaj.ports.online import Stored
from falaj.ports.subjects import Finding
from falaj.stages.contracts.service import Contracts
from falaj.stages.contracts.subjects import RowsOfSubjects
from falaj.stages.features.service import Features
from falaj.stages.features.spec import Entity, View, WindowView, count, inputs, mean
from falaj.stages.features.subjects import OnlineSubjects, place_of, whose
from tests.kits.clinic import DAY, NORA, VISITS, Clinic, emirates_id, everything, visits

LATER = DAY + timedelta(days=1)
LAST = View("last", "visits", "emirates_id", ("age", "pressure", "name"), time="at", created="known_at")
OFTEN = WindowView("often", "visits", "emirates_id", "known_at", ("1d",), "1h", (mean("pressure"), count("visits")))
STAYS = View("stays", "visits", Entity("stay", keys=("ward", "emirates_id")), ("pressure",), time="at", created="known_at")
WARDS = WindowView("wards", "visits", "ward", "known_at", ("1d",), "1h", (count("visits"),))
VIEWS = {view.name: view for view in (LAST, OFTEN, STAYS, WARDS)}


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    clinic = Clinic(tmp_path, visits(200))
    yield clinic
    clinic.close()


@pytest.fixture
def online(clinic: Clinic) -> Iterator[SealedOnline]:
    contracts = clinic.contracts()
    inner = LmdbOnline(clinic.state / "online.lmdb", map_size=1 << 24)
    sealed = SealedOnline(inner, lambda view: whose(VIEWS, contracts.contract, view), lambda: clinic.vault)
    yield sealed
    sealed.close()


def filled(clinic: Clinic, online: SealedOnline) -> tuple[Contracts, Features]:
    contracts = clinic.contracts()
    contracts.ingest(NORA, VISITS, until=LATER)
    features = Features(clinic.kernel, contracts, online, VIEWS)
    features.refresh(LATER)
    return contracts, features


def test_views_of_people_are_sealed_and_those_of_wards_are_not(clinic: Clinic, online: SealedOnline) -> None:
    filled(clinic, online)
    there = everything(clinic.state)
    assert not any(emirates_id(n) in there for n in range(20))
    assert "Mariam" not in there
    (row, often, ward, stay) = online.get(
        [
            ("last", emirates_id(3)),
            ("often", emirates_id(3)),
            ("wards", "heart"),
            ("stays", str(joined_key(["heart", emirates_id(3)]))),
        ]
    )
    assert row is not None and row.values[0] == 23 and row.values[2] == "Omar Farooq 3"  # noqa: PT018
    assert often is not None and often.values[1] == 10.0  # noqa: PT018
    assert ward is not None and ward.values == (100.0,)  # noqa: PT018
    assert stay is not None
    assert online.inner.get([("wards", "heart")]) == [ward]
    assert online.count("last") == 20


def test_an_erased_person_is_missing_online_offline_and_for_good(clinic: Clinic, online: SealedOnline) -> None:
    _, features = filled(clinic, online)
    clinic.shred(emirates_id(3))
    asked = [(view, emirates_id(3)) for view in ("last", "often")]
    assert online.get(asked) == [None, None]
    clinic.rows = visits(40, start=2000)
    features.contracts.ingest(NORA, VISITS, until=DAY + timedelta(days=2))  # type: ignore[attr-defined]
    features.refresh(DAY + timedelta(days=2))
    assert online.get(asked) == [None, None]
    assert online.get([("last", emirates_id(4))]) != [None]
    recipe = inputs(LAST["age"], OFTEN["visits_1d"])
    spine = pl.DataFrame({"emirates_id": [emirates_id(3), emirates_id(4)], "at": [LATER, LATER]})
    vectors, _ = features.training_frame(recipe, spine)
    assert str(vectors[0].tolist()) == "[nan, nan]" or vectors[0].tolist()[1] == 0.0
    assert vectors[1].tolist() == [24.0, 10.0]


def test_the_store_is_asked_about_one_person(clinic: Clinic, online: SealedOnline) -> None:
    contracts, _ = filled(clinic, online)
    snapshots = RowsOfSubjects(contracts, "snapshots")
    store = OnlineSubjects(online, VIEWS, contracts.contract, snapshots.rows_of)
    found = [Finding("online", f"view/{name}", 1, readable=True) for name in ("last", "often", "stays")]
    assert store.find(emirates_id(3)) == store.probe(emirates_id(3)) == found
    rows = {row["place"]: row for row in store.export(emirates_id(3))}
    assert rows["view/last"]["name"] == "Omar Farooq 3"
    assert rows["view/often"]["visits_1d"] == 10.0
    assert store.find("784-0000-0000000-0") == []
    clinic.shred(emirates_id(3))
    assert store.probe(emirates_id(3)) == list(store.export(emirates_id(3))) == []
    assert not any(finding.readable for finding in store.find(emirates_id(3)))
    assert [finding.place for finding in store.erase(emirates_id(3))] == ["view/last", "view/often"]
    assert store.find(emirates_id(3)) == store.erase(emirates_id(3)) == []


def test_a_view_that_was_filled_in_clear_fails_the_probe_until_it_is_cleared(clinic: Clinic, online: SealedOnline) -> None:
    contracts = clinic.contracts()
    online.inner.put("last", {emirates_id(3): Stored(1, (23, 120.0, "Omar"))}, "m")
    store = OnlineSubjects(online, VIEWS, contracts.contract, RowsOfSubjects(contracts, "snapshots").rows_of)
    assert store.probe(emirates_id(3)) == [Finding("online", "view/last", 1, readable=True)]
    assert store.erase(emirates_id(3)) == [Finding("online", "view/last (in clear, cleared)", 1, readable=False)]
    assert store.probe(emirates_id(3)) == []


def test_single_rows_of_people_need_an_entity_that_says_whose_they_are(clinic: Clinic) -> None:
    contract = clinic.contracts().contract("visits")
    assert [place_of(view, contract) for view in VIEWS.values()] == [(0, 1), (0, 1), (1, 2), None]
    with pytest.raises(InvalidInput, match="whose it is"):
        place_of(View("bad", "visits", "visit", ("pressure",), time="at"), contract)
    assert place_of(View("good", "visits", "visit", ("ward",), time="at"), contract) is None
    assert whose(VIEWS, clinic.contracts().contract, "nobody") is None
