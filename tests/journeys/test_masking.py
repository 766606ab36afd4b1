"""A real server whose log may not hold what is restricted: no byte of it is anywhere, and labels by unit still find it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.core.moments import iso
from falaj.stages.monitoring.cohorts import Joiner
from tests.kits.endpoint import AT, REQUEST, Installation

pytestmark = pytest.mark.slow

SECRETS = ("Zoë-Quillfeather", "TAIL-N14228", "someone@example.org", "unheard-of", "for-Quillfeather")
CLASSES = {
    "request": {
        "flight_id": "restricted",
        "tailnum": "restricted",
        "carrier": "internal",
        "distance": "internal",
        "origin": "public",
    },
    "views": {"weather_now.temp": "internal"},
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Installation]:
    found = Installation(tmp_path)
    found.store()
    wanted = replace(found.wanted(found.arm(classification=CLASSES)), mask={"class:restricted": "hash", "distance": "drop"})
    found.keys_of = found.key("app", "caller")
    found.host.serve(wanted, found.keys)
    yield found
    found.close()


def bytes_of(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_masked_value_is_nowhere_and_the_log_says_what_it_was_written_without(place: Installation) -> None:
    _nothing_masked_is_in_any_file(place)
    _labels_find_the_hashed_unit(place)


def _nothing_masked_is_in_any_file(place: Installation) -> None:
    request = {
        **REQUEST, "flight_id": SECRETS[0], "tailnum": SECRETS[1], "mail": SECRETS[2], SECRETS[3]: 1, "distance": 98765.25,
    }  # fmt: skip
    at = iso(AT)
    tensor = {"name": "X", "shape": [2, 4], "datatype": "FP32", "data": [98765.25, 1, 50, 5, 98765.25, 0, 50, 5]}
    calls = [
        ("/v1/models/delay:predict", request),
        ("/v1/models/delay:predict", {"requests": [request, request], "id": SECRETS[4]}),
        ("/v2/models/delay/infer", {"id": SECRETS[4], "inputs": [tensor], "parameters": {"at": at, "unit": SECRETS[0]}}),
        ("/v1/models/delay:predict", {**request, "distance": SECRETS[0]}),
        (
            "/v1/feedback",
            {"labels": [{"unit": SECRETS[0], "label": 1, "at": iso(AT + timedelta(hours=1)), "facts": {"mail": SECRETS[2]}}]},
        ),
    ]
    with place.client(place.keys_of, **{"X-Request-Id": "for-Quillfeather"}) as client:
        assert [client.post(path, json=body).status_code for path, body in calls] == [200, 200, 200, 422, 200]
        metrics = place.client(place.key("eyes", "operator"))
        place.host.allow(place.keys)
        held = bytes_of(place.folder) + metrics.get("/metrics").content
        metrics.close()
    for secret in (*SECRETS, "98765.25"):
        assert secret.encode() not in held
        assert json.dumps(secret).strip('"').encode() not in held


def _labels_find_the_hashed_unit(place: Installation) -> None:
    records = [record for _, record in SegmentPredictions(place.folder / "segments").follow()]
    made = [record for record in records if record["kind"] == "prediction"]
    assert len(made) == 5
    assert {record["unit"] for record in made} == {records[-1]["unit"]}
    assert made[0]["masked"] == made[-1]["masked"]
    assert made[0]["masked"]["features"] == ["distance"]
    assert made[0]["features"][1:] == [1.0, 50.0, 5.0]
    assert made[0]["features"][0] is None
    assert made[0]["request"]["origin"] == "EWR"
    joiner = Joiner(cohort=timedelta(days=1), maturity=timedelta(hours=36))
    for record in records:
        joiner.add(record)
    (cohort,) = joiner.close(AT + timedelta(days=9))
    assert [value for part in cohort.parts for value in part.labels.tolist()] == [1.0] * len(cohort.parts[0].labels)
    assert joiner.masked == {"model/delay@1": {"distance"}}
