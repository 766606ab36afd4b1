"""Every kind of line that a masked endpoint writes: predictions by entity and by tensor, failures, labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from falaj.core.errors import Bug
from falaj.core.masking import masking
from falaj.inference.feedback import Label
from falaj.inference.mask import Mask, mask_key
from tests.kits.endpoint import RECIPE, REQUEST
from tests.unit.inference.test_predict import APP, Place, caller, entity, tensor

WHO = "Quillfeather"
CLASSES = {
    "request": {"flight_id": "restricted", "carrier": "internal", "origin": "internal", "distance": "restricted"},
    "views": {"weather_now.temp": "internal"},
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    serving = made.predictor.serving
    assert serving is not None
    arms = [(RECIPE, CLASSES)] * 2
    masks = [
        Mask(masking({"class:restricted": "hash"}), mask_key(b"pepper"), arms, arm=arm, unit="flight_id") for arm in range(2)
    ]
    lives = tuple(replace(live, mask=mask) for live, mask in zip(serving.arms, masks, strict=True))
    made.predictor.serving = replace(serving, arms=lives)
    yield made
    made.log.close()


def test_no_line_holds_what_is_masked_and_every_line_has_the_same_unit(place: Place) -> None:
    named = caller(request_id=f"for-{WHO}")
    raw = tensor([31337.0, 1.0, 50.0, 5.0], unit=WHO, caller=named, raw=b"[31337.0,1.0,50.0,5.0]")
    calls = [
        entity({**REQUEST, "flight_id": WHO, "distance": 31337.0}, caller=named),
        raw,
        tensor([31337.0, 1, 50, 5], [31337.0, 0, 50, 5], unit=WHO, id=f"call-{WHO}"),
        tensor([666.0, 1, 50, 5], unit=WHO, caller=named),
    ]
    found = place.predictor.answer(calls)
    assert isinstance(found[3], Bug)
    place.predictor.label([Label("", WHO, datetime(2013, 5, 1, tzinfo=UTC), 1, facts={"note": WHO})], APP)
    data = b"".join(path.read_bytes() for path in place.folder.iterdir())
    for secret in (WHO.encode(), b"31337.", b"666."):
        assert secret not in data
    records = place.records()
    assert sorted({record["kind"] for record in records}) == ["failure", "label", "prediction"]
    assert len({record["unit"] for record in records}) == 1
    made = [record for record in records if record["kind"] == "prediction"]
    assert [record["features"] for record in made] == [
        [None, 1.0, 50.0, 5.0], [None, 1.0, 50.0, 5.0], [None, 1.0, 50.0, 5.0], [None, 0.0, 50.0, 5.0],
    ]  # fmt: skip
    assert all(record["masked"] == {"request": ["distance", "flight_id"], "features": ["distance"]} for record in made)
    assert made[0]["request"]["carrier"] == "UA"


def test_a_call_without_a_unit_is_no_less_masked(place: Place) -> None:
    place.predictor.answer(
        [tensor(caller=caller(request_id=f"for-{WHO}")), tensor([666.0, 1, 50, 5], caller=caller(request_id=WHO))]
    )
    assert WHO.encode() not in b"".join(path.read_bytes() for path in place.folder.iterdir())
