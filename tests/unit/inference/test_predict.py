"""Calls that are answered together: one model run, one write, and nobody pays for another's mistake."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from falaj.core.errors import Bug, Denied, FalajError, InvalidInput, NotFound, Unavailable
from falaj.core.moments import millis
from falaj.core.segment import PredictionId
from falaj.inference.batch import Batcher
from falaj.inference.calls import Answered, Call, Caller, EntityCall, TensorCall
from falaj.inference.errors import Busy, Late
from falaj.inference.models import Serving
from falaj.inference.tensors import write_infer
from tests.kits.endpoint import REQUEST
from tests.kits.predicting import APP, NOW, Place


@pytest.fixture
def place(tmp_path: Path) -> Any:
    made = Place(tmp_path)
    yield made
    made.log.close()


def caller(**changes: Any) -> Caller:
    return Caller(**{"actor": APP, "request_id": "", "arm": "", "started": 0.0, **changes})


def tensor(*rows: Sequence[float], unit: str = "", **changes: Any) -> TensorCall:
    given = {"name": "delay", "version": None, "input": "X", "at": None, "wanted": None, "id": "", "via": "v2"}
    matrix = np.array(rows or [[700.0, 1.0, 50.0, 5.0]], dtype=np.float32)
    return TensorCall(**{**given, "matrix": matrix, "unit": unit, "caller": caller(), **changes})


def entity(*requests: Any, **changes: Any) -> EntityCall:
    return EntityCall(**{"name": "delay", "requests": requests or [REQUEST], "via": "entity", "caller": caller(), **changes})


def test_all_rows_for_one_model_are_one_run_and_each_call_gets_its_own(place: Place) -> None:
    calls: list[Call] = [tensor([float(n), 1, 50, 5], unit=f"u-{n}") for n in range(40)]
    found = place.predictor.answer(calls)
    assert sum(len(model.runs) for model in place.models) == 2
    assert sum(sum(model.runs) for model in place.models) == 40
    for call, one in zip(calls, found, strict=True):
        assert isinstance(one, Answered)
        assert isinstance(call, TensorCall)
        model = place.models[int(one.live.version) - 1]
        assert one.scores == pytest.approx(model.scores(model.run(call.matrix)))
    assert [record["id"] for record in place.records()] == [one.ids[0] for one in found if isinstance(one, Answered)]


def test_a_bad_call_fails_alone(place: Place) -> None:
    calls: list[Call] = [
        tensor(),
        tensor([1.0, 2.0]),
        tensor(input="Y"),
        tensor(name="other"),
        tensor(wanted=("nothing",)),
        tensor(caller=caller(arm="challenger")),
        tensor(caller=caller(deadline=1e-9)),
        entity({**REQUEST, "distance": "far"}),
        entity(REQUEST, {"origin": "EWR"}),
        entity(),
    ]
    found = place.predictor.answer(calls)
    kinds = [Answered, InvalidInput, NotFound, NotFound, InvalidInput, Denied, Late, InvalidInput, InvalidInput, Answered]
    assert [type(one) for one in found] == kinds
    assert isinstance(found[8], FalajError)
    assert "requests[1]" in found[8].message
    assert len(place.records()) == 2


def test_a_model_that_fails_on_one_calls_rows_answers_the_others(place: Place) -> None:
    place.predictor.serving = Serving(
        place.predictor.serving.wanted, "delay", place.predictor.serving.arms[:1]  # type: ignore[union-attr]
    )  # fmt: skip
    found = place.predictor.answer([tensor(), tensor([666.0, 0, 0, 0]), tensor()])
    assert [type(one) for one in found] == [Answered, Bug, Answered]
    assert sorted(record["kind"] for record in place.records()) == ["failure", "prediction", "prediction"]


def test_features_of_all_calls_are_one_read(place: Place) -> None:
    reads = []
    get = place.online.get
    place.online.get = lambda keys: (reads.append(len(keys)), get(keys))[1]  # type: ignore[method-assign, func-returns-value]
    found = place.predictor.answer([entity(), entity(REQUEST, {**REQUEST, "origin": "JFK"})])
    assert reads == [3]
    assert [type(one) for one in found] == [Answered, Answered]
    assert isinstance(found[1], Answered)
    assert [row["missing_views"] for row in found[1].rows] == [[], ["weather_now"]]


def test_a_store_that_is_away_fails_entities_and_not_tensors(place: Place) -> None:
    def away(_keys: Any) -> Any:
        raise Unavailable("The store is away.")

    place.online.get = away  # type: ignore[method-assign]
    found = place.predictor.answer([entity(), tensor(), entity({"flight_id": "f"})])
    assert [type(one) for one in found] == [Unavailable, Answered, InvalidInput]
    assert sorted(record["kind"] for record in place.records()) == ["failure", "prediction"]


def test_a_full_disk_acknowledges_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    place.log._write = full
    found = place.predictor.answer([tensor(), entity()])
    assert [type(one) for one in found] == [Unavailable, Unavailable]
    assert place.records() == []
    place.log.close()


def test_several_rows_are_one_line_and_have_an_id_each(place: Place) -> None:
    call = tensor([1.0, 1, 1, 1], [2.0, 1, 1, 1], [3.0, 1, 1, 1], id="call-1")
    [found] = place.predictor.answer([call])
    assert isinstance(found, Answered)
    assert len(place.log.folder.joinpath("000000.jsonl").read_bytes().splitlines()) == 1
    records = place.records()
    assert [record["id"] for record in records] == found.ids
    assert [record["request_id"] for record in records] == ["call-1-0", "call-1-1", "call-1-2"]
    assert [record["features"][0] for record in records] == [1, 2, 3]
    assert [record["score"] for record in records] == found.scores
    for part, issued in enumerate(found.ids):
        read = PredictionId.check(issued, place.log.key)
        assert (read.rows, read.part, read.millis) == (3, part, millis(NOW))
    for wrong in (found.ids[0][:-2], found.ids[0][:-1] + "3", found.ids[0].replace("x3", "x4")):
        with pytest.raises(InvalidInput):
            PredictionId.check(wrong, place.log.key)


def test_an_answer_says_the_same_as_the_log(place: Place) -> None:
    call = tensor([1.0, 1, 1, 1], [2.0, 1, 1, 1], id='a "quoted" id', wanted=("prediction_id", "probabilities"))
    [found] = place.predictor.answer([call])
    assert isinstance(found, Answered)
    body = json.loads(write_infer(found, call))
    assert [output["name"] for output in body["outputs"]] == ["prediction_id", "probabilities"]
    assert body["outputs"][0]["data"] == [record["id"] for record in place.records()]
    assert body["outputs"][1]["shape"] == [2, 2]
    assert body["outputs"][1]["data"][1::2] == [record["score"] for record in place.records()]
    assert body["id"] == call.id


def test_ids_that_nobody_gave_are_all_different(place: Place) -> None:
    place.predictor.answer([tensor() for _ in range(100)])
    place.predictor.answer([entity() for _ in range(100)])
    ids = [record["request_id"] for record in place.records()]
    assert len(set(ids)) == 200


def test_without_a_model_everything_is_unavailable(place: Place) -> None:
    place.predictor.serving = None
    assert [type(one) for one in place.predictor.answer([tensor(), entity()])] == [Unavailable, Unavailable]


def test_whatever_waits_is_answered_together_and_too_much_is_told_to_come_back(place: Place) -> None:
    async def run() -> list[Any]:
        batcher, found = Batcher(place.predictor, rows=64, waiting=100), []
        for _ in range(120):
            batcher.submit(tensor(unit="one"), found.append)
        assert [type(one) for one in found] == [Busy] * 20
        while batcher.open:
            await asyncio.sleep(0)
        return found

    found = asyncio.run(run())
    assert [type(one) for one in found].count(Answered) == 100
    assert sorted(run for model in place.models for run in model.runs) == [36, 64]


def test_answers_wait_for_the_disk_where_the_settings_say_so(place: Place) -> None:
    async def run() -> None:
        released = asyncio.Event()
        batcher, found = Batcher(place.predictor, after=released.wait), []  # type: ignore[arg-type]
        batcher.submit(tensor(), found.append)
        await asyncio.sleep(0.01)
        assert len(place.records()) == 1
        assert found == []
        released.set()
        await asyncio.sleep(0.01)
        assert [type(one) for one in found] == [Answered]

    asyncio.run(run())


def test_a_disk_that_cannot_settle_takes_the_answer_back(place: Place) -> None:
    async def run() -> None:
        async def fails() -> None:
            raise Unavailable("The disk is gone.")

        batcher, found = Batcher(place.predictor, after=fails), []
        batcher.submit(tensor(), found.append)
        batcher.submit(tensor([1.0]), found.append)
        await asyncio.sleep(0.01)
        assert [type(one) for one in found] == [Unavailable, InvalidInput]

    asyncio.run(run())
