"""A model of each format behind a real endpoint: one row and seventy get the scores of its file, and it says what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from falaj.core.codec import encode
from falaj.core.recipe import Column, Recipe
from falaj.inference.models import FORMATS, scorer
from tests.kits.endpoint import Installation
from tests.kits.stored import COLUMNS, rows, stored

pytestmark = pytest.mark.slow
RECIPE = Recipe(tuple(Column(f"x{number}", "number", f"x{number}") for number in range(COLUMNS)), {}, {})


def test_every_format_is_served_one_after_the_other_by_the_same_endpoint(tmp_path: Path) -> None:
    place = Installation(tmp_path)
    key = place.key("caller", "caller")
    try:
        for form, platform in FORMATS.items():
            digest = place.blobs.put(stored(form))
            arm = place.arm(digest=digest, format=form, recipe=encode(RECIPE), places={})
            place.host.serve(place.wanted(replace(arm, digest=digest)), place.keys)
            with place.client(key) as client:
                assert client.get("/v2/models/delay").json()["platform"] == platform
                for count in (1, 70):
                    x = rows(count, missing=0.0)
                    data = {"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
                    answer = client.post(
                        "/v2/models/delay/infer", json={"inputs": [data], "parameters": {"at": "2013-05-01T09:30:00Z"}}
                    ).json()
                    found = next(output["data"] for output in answer["outputs"] if output["name"] == "probabilities")
                    assert found == pytest.approx(scorer(stored(form), form, COLUMNS)(x).tolist(), abs=1e-7), answer
    finally:
        place.close()
