"""An endpoint that takes messages beside its calls: answers, dead letters, metrics, and a worker that is killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.adapters.local.stream import FileStream
from falaj.core.message import Message
from falaj.stages.rollouts.spec import StreamIO
from tests.kits.endpoint import Installation
from tests.kits.messages import entity, tensor

pytestmark = pytest.mark.slow
IO = StreamIO("requests", "answers", batch=20)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    made.store()
    made.host.serve(replace(made.wanted(), stream=asdict(IO)), made.keys)
    yield made
    made.close()


def stream(place: Installation, name: str) -> FileStream:
    return FileStream(place.state / "streams", name)


def logged(place: Installation) -> list[Any]:
    found = SegmentPredictions(place.folder / "segments").follow()
    return [record for _, record in found if record["kind"] == "prediction"]


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_messages_are_answered_beside_calls_and_counted_with_them(place: Installation) -> None:
    requests = stream(place, "requests")
    requests.produce([Message(entity(f"f{n}"), f"f{n}", id=f"m{n}") for n in range(100)])
    requests.produce([Message(b"broken", "x"), Message(tensor([1, 2, 3, 4], [4, 3, 2, 1]), "t")])
    until(lambda: requests.lag("falaj") == 0)
    answers = list(stream(place, "answers").replay())
    assert sorted(one.message.key for one in answers) == sorted(["t", *(f"f{n}" for n in range(100))])
    assert {json.loads(one.message.value)["id"] for one in answers[:100]} == {record["id"] for record in logged(place)[:100]}
    (letter,) = stream(place, "requests.dead").replay()
    assert letter.message.value == b"broken"
    key = place.key("ops", "operator")
    place.host.allow(place.keys)
    with place.client(key) as client:
        until(lambda: "falaj_stream_produced_total 101" in client.get("/metrics").text)
        text = client.get("/metrics").text
    assert "falaj_stream_dead_total 1" in text
    assert 'falaj_stream_lag{worker="stream-0"}' in text
    assert 'falaj_predictions_total{model="model/delay@1",version="1",arm="champion"} 102' in text


def test_a_killed_stream_worker_comes_back_and_nothing_is_lost_or_doubled(place: Installation) -> None:
    requests = stream(place, "requests")
    for start in range(3):
        told = json.loads((place.folder / "workers" / "stream-0.json").read_text())
        requests.produce([Message(entity(f"f{n}"), f"f{n}", id=f"m{n}") for n in range(start * 400, (start + 1) * 400)])
        until(lambda: requests.lag("falaj") < 300)
        os.kill(told["pid"], signal.SIGKILL)
        until(lambda pid=told["pid"]: _pid(place) not in (0, pid))  # type: ignore[misc]
    until(lambda: requests.lag("falaj") == 0)
    assert sorted(record["request_id"] for record in logged(place)) == sorted(f"requests[m{n}]" for n in range(1_200))
    assert sorted(one.message.key for one in stream(place, "answers").replay()) == sorted(f"f{n}" for n in range(1_200))


def test_another_declaration_is_followed_without_losing_a_message(place: Installation) -> None:
    requests, others = stream(place, "requests"), stream(place, "others")
    requests.produce([Message(entity(f"f{n}"), f"f{n}") for n in range(50)])
    place.host.serve(replace(place.wanted(), stream=asdict(StreamIO("others", "answers"))), place.keys)
    others.produce([Message(entity(f"o{n}"), f"o{n}") for n in range(50)])
    until(lambda: others.lag("falaj") == 0)
    left = requests.lag("falaj")
    answers = [one.message.key for one in stream(place, "answers").replay()]
    assert len(answers) == len(set(answers)) == len(logged(place)) == 100 - left
    place.host.serve(replace(place.wanted(), stream=asdict(IO)), place.keys)
    until(lambda: requests.lag("falaj") == 0)
    assert len(list(stream(place, "answers").replay())) == len(logged(place)) == 100
    place.host.serve(place.wanted(), place.keys)
    until(lambda: not (place.folder / "workers" / "stream-0.json").exists())


def _pid(place: Installation) -> int:
    try:
        return int(json.loads((place.folder / "workers" / "stream-0.json").read_text())["pid"])
    except (OSError, ValueError):
        return 0
