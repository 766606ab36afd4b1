"""On a machine with NVIDIA's driver and the onnxruntime that can use it: what is asked of a graphics card is done by it.

Elsewhere these are skipped, and say so; `FALAJ_TEST_REQUIRE=cuda` makes that a failure.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import pytest

from falaj.core.errors import InvalidInput, Unavailable
from falaj.inference import nvml
from falaj.inference.models import Device, Stored, check_device
from falaj.inference.models.model import program
from tests.kits.endpoint import REQUEST, Installation
from tests.kits.stored import COLUMNS, network, rows, stored

CARD = Device("cuda")
IS_REQUIRED = "cuda" in os.environ.get("FALAJ_TEST_REQUIRE", "").split(",")
IS_THERE = "CUDAExecutionProvider" in ort.get_available_providers() and nvml.devices() is not None

pytestmark = pytest.mark.skipif(not IS_THERE and not IS_REQUIRED, reason="no graphics card, or no onnxruntime for it")


def test_the_card_is_there() -> None:
    check_device(CARD)
    look = nvml.devices()
    assert look is not None
    (name, used, total, busy), *_ = look()
    assert name == "0"
    assert 0 < used < total
    assert 0 <= busy <= 1


@pytest.mark.parametrize("count", [1, 7, 1024])
def test_a_network_says_on_the_card_what_it_says_on_the_processor(count: int) -> None:
    """As a gate measured it, which had the processor: to six digits, and not to the three of a shortened product (TF32)."""
    chance = np.random.default_rng(5)
    wide = {"0.weight": chance.normal(size=(512, COLUMNS)), "0.bias": chance.normal(size=512),
            "2.weight": chance.normal(size=(1, 512)) / 8, "2.bias": np.zeros(1)}  # fmt: skip
    data = network(**{name: value.astype(np.float32) for name, value in wide.items()})
    here, there = (program(data, Stored("safetensors", COLUMNS, {}, device)) for device in (Device(), CARD))
    x = rows(count)
    np.testing.assert_allclose(there.run(x)[0], here.run(x)[0], rtol=2e-6, atol=2e-6)


def test_trees_are_refused_by_the_card_whether_they_come_as_a_graph_or_not() -> None:
    for form in ("onnx", "lightgbm"):
        with pytest.raises(InvalidInput, match=r"cannot run|Trees do not run"):
            program(stored(form), Stored(form, COLUMNS, {}, CARD))


def test_a_card_that_this_machine_has_not_is_refused() -> None:
    with pytest.raises(Unavailable):
        program(network(), Stored("safetensors", COLUMNS, {}, Device("cuda", 97)))


def test_no_more_memory_is_taken_than_allowed() -> None:
    tight = program(network(), Stored("safetensors", COLUMNS, {}, Device("cuda", 0, 64)))
    assert len(tight.run(rows(100))[0]) == 100
    with pytest.raises(Exception, match=r"(?i)memory|alloc"):
        tight.run(np.zeros((8_000_000, COLUMNS), np.float32))
    assert len(tight.run(rows(100))[0]) == 100


def test_an_endpoint_answers_from_the_card_and_tells_how_full_it_is(tmp_path: Path) -> None:
    answers: list[Any] = []
    for provider in ("cpu", "cuda"):
        place = Installation(tmp_path / provider, {"clock": "replay", "provider": provider})
        try:
            place.store()
            key, watch = place.key("app", "caller"), place.key("eyes", "operator")
            place.host.serve(place.wanted(), place.keys)
            headers = {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=place.url, headers=headers, trust_env=False, timeout=60.0) as client:
                answers += [client.post("/v1/models/delay:predict", json=REQUEST).json()["score"] for _ in range(3)]
                if provider == "cuda":
                    told = client.get("/metrics", headers={"Authorization": f"Bearer {watch}"}).text
                    assert 'falaj_gpu_memory_used_bytes{gpu="0"}' in told
        finally:
            place.close()
    assert answers == pytest.approx([answers[0]] * 6, abs=1e-6)
