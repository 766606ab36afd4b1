"""Predictions about people: in the log everything is sealed, a reader with the key sees all of it, and without it nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.adapters.local.vault import SqliteVault
from falaj.adapters.sealing.online import SealedOnline
from falaj.adapters.sealing.predictions import SealedPredictions
from falaj.core.errors import Bug, Conflict, Denied, InvalidInput, Unavailable
from falaj.core.masking import hides_request, masked_of, masking
from falaj.core.moments import millis
from falaj.core.segment import records_of
from falaj.inference.feedback import Label
from falaj.inference.mask import Mask, mask_key
from falaj.inference.personal import PersonalMask, Whose
from falaj.ports.host import EXCLUDED
from falaj.ports.online import Stored
from falaj.ports.subjects import Finding
from falaj.stages.serving.subjects import PredictionSubjects
from tests.kits.endpoint import AT, RECIPE, REQUEST, Installation
from tests.unit.inference.test_predict import APP, Place, caller, entity, tensor

WHO, OTHER = "784-1990-1234567-1", "784-1985-7654321-2"
CLASSES = {"request": dict.fromkeys(("flight_id", "carrier", "origin", "distance"), "internal"), "views": {}}
KEY = mask_key(b"pepper")


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[SqliteVault]:
    made = SqliteVault(tmp_path / "vault" / "subjects.db", tmp_path / "keys" / "vault.kek", b"p" * 32)
    yield made
    made.close()


def sealing(place: Place, vault: SqliteVault, mask: dict[str, str] | None = None, subject: str = "flight_id") -> Place:
    serving = place.predictor.serving
    assert serving is not None
    arms = [(RECIPE, CLASSES)] * 2
    masks = [
        PersonalMask(
            Mask(masking(mask or {}), KEY, arms, arm=arm, unit="flight_id"), KEY, arms, arm=arm, unit="flight_id",
            whose=Whose(vault, "delay", subject),
        )
        for arm in range(2)
    ]  # fmt: skip
    lives = tuple(replace(live, mask=mask) for live, mask in zip(serving.arms, masks, strict=True))
    place.predictor.serving = replace(serving, arms=lives)
    return place


@pytest.fixture
def place(tmp_path: Path, vault: SqliteVault) -> Iterator[Place]:
    made = sealing(Place(tmp_path / "log"), vault)
    yield made
    made.log.close()


def opened(place: Place, vault: SqliteVault) -> list[Any]:
    return [dict(record) for _, record in SealedPredictions(SegmentPredictions(place.folder), "delay", lambda: vault).follow()]


def log_of(place: Place) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(place.folder.iterdir()))


def test_no_line_holds_anything_of_a_request_and_whoever_has_the_key_reads_all_of_it(place: Place, vault: SqliteVault) -> None:
    named = caller(request_id=f"for-{WHO}")
    found = place.predictor.answer([
        entity({**REQUEST, "flight_id": WHO, "distance": 31337.0, "note": "diabetic"}, caller=named),
        tensor([31337.0, 1.0, 50.0, 5.0], unit=WHO, caller=named, raw=b"[31337.0,1.0,50.0,5.0]"),
        tensor([31337.0, 1, 50, 5], [4711.0, 0, 50, 5], unit=WHO, id="call"),
    ])  # fmt: skip
    assert not any(isinstance(one, Exception) for one in found)
    for secret in (WHO.encode(), b"31337", b"4711", b"diabetic", b"EWR"):
        assert secret not in log_of(place)
    assert vault.count() == 1
    one, two, three, four = opened(place, vault)
    assert one["request"]["note"] == "diabetic"
    assert one["request"]["flight_id"] == WHO
    assert one["features"][0] == 31337.0
    assert one["request_id"] == f"for-{WHO}"
    assert two["features"] == [31337.0, 1.0, 50.0, 5.0]
    assert [three["features"][0], four["features"][0]] == [31337.0, 4711.0]
    assert [three["request_id"], four["request_id"]] == ["call-0", "call-1"]
    assert {record["subject"] for record in (one, two, three, four)} == {vault.token(WHO)}
    assert all("masked" not in record and "sealed" not in record for record in (one, two, three, four))


def test_without_the_key_a_record_is_a_masked_one(place: Place, vault: SqliteVault) -> None:
    place.predictor.answer([entity({**REQUEST, "flight_id": WHO}), entity({**REQUEST, "flight_id": OTHER})])
    before = log_of(place)
    reader = SealedPredictions(SegmentPredictions(place.folder), "delay", lambda: vault)
    assert len([record for _, record in reader.follow() if record["features"][0] is not None]) == 2
    vault.shred([vault.token(WHO)])
    gone, there = (record for _, record in reader.follow())
    assert gone["erased"]
    assert hides_request(gone, RECIPE)
    assert masked_of(gone)[1] == {"distance", "carrier", "temp"}, "the hour is that of the time, which every record has"
    assert gone["features"] == [None, None, None, 5.0]
    assert gone["score"] == pytest.approx(there["score"], abs=1)
    assert there["request"]["flight_id"] == OTHER
    assert log_of(place) == before, "not a byte of the log is changed by erasure"


def test_an_erased_person_is_answered_and_nothing_of_it_is_kept(place: Place, vault: SqliteVault) -> None:
    vault.shred([vault.token(WHO)])
    (answer,) = place.predictor.answer([entity({**REQUEST, "flight_id": WHO})])
    assert not isinstance(answer, Exception)
    (record,) = place.records()
    assert record["subject"] == vault.token(WHO)
    assert "sealed" not in record
    assert opened(place, vault)[0]["erased"]


def test_labels_by_unit_still_mean_the_persons_predictions(place: Place, vault: SqliteVault) -> None:
    place.predictor.answer([entity({**REQUEST, "flight_id": WHO})])
    place.predictor.label([Label("", WHO, datetime(2013, 5, 1, tzinfo=UTC), 1, facts={"note": WHO})], APP)
    made, label = opened(place, vault)
    assert made["unit"] == label["unit"]
    assert WHO.encode() not in log_of(place)
    vault.shred([vault.token(WHO)])
    made, label = opened(place, vault)
    assert made["unit"] == label["unit"]


def test_what_the_endpoint_masks_is_not_in_the_sealed_part_either(tmp_path: Path, vault: SqliteVault) -> None:
    place = sealing(Place(tmp_path / "log"), vault, {"distance": "drop"})
    place.predictor.answer([entity({**REQUEST, "flight_id": WHO, "distance": 31337.0}), tensor([1.0, 1, 2, 3], unit=WHO)])
    one, two = opened(place, vault)
    assert one["request"]["distance"] is None
    assert one["request"]["flight_id"] == WHO
    assert [one["features"][0], two["features"][0]] == [None, None]
    assert one["masked"] == {"request": ["distance"], "features": ["distance"]}
    place.log.close()


def test_requests_about_nobody_share_a_key_of_the_endpoint(place: Place, vault: SqliteVault) -> None:
    nobody = [{**REQUEST, "flight_id": value} for value in ("", "  ")]
    calls = [*(entity(request) for request in nobody), tensor([1.0, 1, 2, 3])]
    place.predictor.answer(calls)
    subjects = {record["subject"] for record in place.records()}
    assert len(subjects) == 1
    vault.shred(subjects)
    assert all(record["erased"] for record in opened(place, vault))


def test_failures_say_nothing_of_the_person(place: Place) -> None:
    (found,) = place.predictor.answer([tensor([666.0, 1, 50, 5], unit=WHO, caller=caller(request_id=WHO))])
    assert isinstance(found, Bug)
    assert WHO.encode() not in log_of(place)
    assert b"666" not in log_of(place)


def test_a_sealed_part_that_was_changed_is_told(place: Place, vault: SqliteVault) -> None:
    place.predictor.answer([entity({**REQUEST, "flight_id": WHO})])
    reader = SealedPredictions(SegmentPredictions(place.folder), "delay", lambda: vault)
    (record,) = place.records()
    for wrong in (record["sealed"][:-8] + "AAAAAAA=", "no base64", record["sealed"][:20]):
        with pytest.raises(Conflict):
            reader.opened({**record, "sealed": wrong})
    with pytest.raises(Conflict):
        SealedPredictions(SegmentPredictions(place.folder), "other", lambda: vault).opened(record)


def test_the_line_itself_is_handed_out_as_it_is_proven(place: Place, vault: SqliteVault) -> None:
    place.predictor.answer([entity({**REQUEST, "flight_id": WHO})])
    reader = SealedPredictions(SegmentPredictions(place.folder), "delay", lambda: vault)
    assert WHO.encode() not in reader.line(0, 0)
    assert reader.records(reader.line(0, 0))[0]["request"]["flight_id"] == WHO
    assert next(records_of({"kind": "label"})) == {"kind": "label"}


def test_sealed_features_are_read_once_a_model_of_people_is_served(place: Place, vault: SqliteVault) -> None:
    predictor = place.predictor
    predictor.opening = lambda store: SealedOnline(store, lambda view: predictor.places.get(view), lambda: vault)  # noqa: PLW0108
    serving = predictor.serving
    assert serving is not None
    predictor.serving = serving
    assert predictor.online is predictor.plain, "nothing stands before a store without people"
    for model in place.models:
        model.places_of_people = {"weather_now": (0, 1)}
    predictor.serving = serving
    SealedOnline(place.online, {"weather_now": (0, 1)}.get, lambda: vault).put(
        "weather_now", {"EWR": Stored(millis(AT), (61.0,))}
    )
    predictor.answer([entity({**REQUEST, "flight_id": WHO})])
    assert 61.0 in opened(place, vault)[0]["features"]
    vault.shred([vault.token("EWR")])
    predictor.answer([entity({**REQUEST, "flight_id": WHO})])
    assert opened(place, vault)[1]["stored_at"] == {"weather_now": None}


def test_an_endpoint_about_people_is_not_served_without_a_vault(tmp_path: Path) -> None:
    from falaj.adapters.local.signing import checker
    from falaj.inference.models import Models

    made = Installation(tmp_path)
    arm = made.arm(classification={**CLASSES, "subjects": {"request": "flight_id"}})
    with pytest.raises(InvalidInput, match="no vault"):
        Models(made.blobs, checker(made.signer.public_key), KEY).open(made.wanted(arm))
    made.host.close()


def test_the_logs_are_asked_about_one_person(place: Place, vault: SqliteVault) -> None:
    def log(_endpoint: str) -> SealedPredictions:
        return SealedPredictions(SegmentPredictions(place.folder), "delay", lambda: vault)

    store = PredictionSubjects(["delay"], log, vault.token)
    assert store.find(WHO) == []
    calls = [entity({**REQUEST, "flight_id": WHO}), entity({**REQUEST, "flight_id": OTHER}), tensor([1.0, 1, 2, 3], unit=WHO)]
    place.predictor.answer(calls)
    found = [Finding("predictions", "endpoint/delay segment 0", 2, readable=True)]
    assert store.find(WHO) == store.probe(WHO) == found
    rows = list(store.export(WHO))
    assert [row["request"] and row["request"]["flight_id"] for row in rows] == [WHO, None]
    vault.shred([vault.token(WHO)])
    assert store.find(WHO) == [replace(found[0], readable=False)]
    assert store.probe(WHO) == store.erase(WHO) == list(store.export(WHO)) == []
    assert store.probe(OTHER) == [replace(found[0], count=1)]


def test_what_was_logged_before_there_was_a_subject_fails_the_probe(tmp_path: Path, vault: SqliteVault) -> None:
    place = Place(tmp_path / "log")
    place.predictor.answer([entity({**REQUEST, "flight_id": WHO})])
    log = SealedPredictions(SegmentPredictions(place.folder), "delay", lambda: vault)
    store = PredictionSubjects(["delay"], lambda _endpoint: log, vault.token)
    assert store.probe(WHO) == [Finding("predictions", "endpoint/delay segment 0 (in clear)", 1, readable=True)]
    place.log.close()


def exclude(place: Place, *tokens: str) -> None:
    (place.folder.parent / EXCLUDED).write_text(json.dumps({"tokens": tokens}))
    place.predictor.excluded.look()


def answered(place: Place, call: Any) -> None:
    [found] = place.predictor.answer([call])
    assert not isinstance(found, Exception), found


def test_nobody_is_answered_about_who_is_excluded_and_nothing_is_logged_of_it(place: Place, vault: SqliteVault) -> None:
    one, other = entity({**REQUEST, "flight_id": WHO}), entity({**REQUEST, "flight_id": OTHER})
    answered(place, one)
    before = log_of(place)
    exclude(place, vault.token(WHO))
    calls = [one, tensor([1.0, 1, 50, 5], unit=f" {WHO}"), entity({**REQUEST, "flight_id": OTHER}, {**REQUEST, "flight_id": WHO})]
    found = place.predictor.answer(calls)
    assert [type(error) for error in found] == [Denied] * 3
    assert "requests[1]: " in str(found[2])
    assert WHO not in str(found)
    assert log_of(place) == before
    answered(place, other)
    answered(place, tensor([1.0, 1, 50, 5], unit=OTHER))
    answered(place, tensor([1.0, 1, 50, 5]))
    exclude(place)
    answered(place, one)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"tokens": "abc"}', '{"tokens": null}'])
def test_where_it_cannot_be_read_who_is_excluded_nobody_is_answered_about(place: Place, text: str) -> None:
    (place.folder.parent / EXCLUDED).write_text(text)
    place.predictor.excluded.look()
    [found] = place.predictor.answer([entity({**REQUEST, "flight_id": OTHER})])
    assert isinstance(found, Unavailable)
    assert place.predictor.excluded.has("whoever")
    (place.folder.parent / EXCLUDED).unlink()
    place.predictor.excluded.look()
    answered(place, entity({**REQUEST, "flight_id": OTHER}))


def test_an_endpoint_about_nobody_asks_for_nobody(tmp_path: Path) -> None:
    place = Place(tmp_path / "log")
    (tmp_path / EXCLUDED).write_text("{")
    place.predictor.excluded.look()
    answered(place, entity(REQUEST))
    assert place.predictor.held is not None
    assert place.predictor.held.whose is None
    place.log.close()
