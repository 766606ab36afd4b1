"""Several workers are one endpoint to whoever calls it, also while one of them leaves or dies."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from falaj.adapters.local.predictions import SegmentPredictions
from tests.kits.endpoint import REQUEST, Installation
from tests.unit.inference.test_metrics import one, samples

pytestmark = pytest.mark.slow

PREDICT = "/v1/models/delay:predict"
ARM = {"model": "model/delay@1", "version": "1", "arm": "champion"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Installation]:
    found = Installation(tmp_path, {"clock": "replay", "workers": 2})
    found.store()
    yield found
    found.close()


def test_any_worker_shows_the_sum_of_all_and_no_counter_falls_when_one_is_killed(place: Installation) -> None:
    key = place.key("ops", "operator", "caller")
    place.host.serve(place.wanted(), place.keys)
    for _ in range(20):
        with place.client(key) as client:  # a new connection each time: both workers get some
            assert client.post(PREDICT, json=REQUEST).status_code == 200

    def shown() -> float:
        with place.client(key) as client:
            return one(client.get("/metrics").text, "falaj_requests_total", **ARM)

    until(lambda: shown() == 20)
    assert [shown() for _ in range(10)] == [20] * 10
    victim = place.workers()["http-0"]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(place.workers()) == 2 and victim not in place.workers().values())
    assert [shown() for _ in range(10)] == [20] * 10
    with place.client(key) as client:
        text = client.get("/metrics").text
    assert one(text, "falaj_worker_restarts_total", kind="http") == 1
    assert {dict(labels)["worker"] for name, labels in samples(text) if name == "falaj_ready"} >= {"http-0", "http-1"}


def test_a_request_that_is_half_there_when_its_worker_leaves_is_answered(place: Installation) -> None:
    key = place.key("app", "caller")
    place.host.serve(place.wanted(), place.keys)
    before = place.workers()
    body = json.dumps(REQUEST).encode()
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    host, _, port = place.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(head + body[:10])
        time.sleep(0.2)
        place.host.options["segment_rows"] = 100
        (place.folder / "settings.json").write_text(
            json.dumps({**json.loads((place.folder / "settings.json").read_text()), "segment_rows": 100})
        )
        until(lambda: leaving(place, set(before.values())))
        raw.sendall(body[10:])
        answer = raw.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    until(lambda: not set(place.workers().values()) & set(before.values()))


def test_an_endpoint_that_is_stopped_leaves_nothing_unsealed(place: Installation) -> None:
    key = place.key("app", "caller")
    place.host.serve(place.wanted(), place.keys)
    with place.client(key) as client:
        for _ in range(3):
            client.post(PREDICT, json=REQUEST)
    place.host.stop("delay")
    log = SegmentPredictions(place.folder / "segments")
    assert sum(seal.rows for seal in log.seals()) == 3
    told = json.loads((place.folder / "server.json").read_text())
    assert (told["ready"], told["workers"]) == (False, {})


def leaving(place: Installation, pids: set[int]) -> bool:
    """Whether all of these workers were told to go, and one is still there."""
    told = []
    for path in (place.folder / "workers").glob("*.json"):
        try:
            told.append(json.loads(path.read_bytes()))
        except (OSError, ValueError):
            return False
    ours = [one for one in told if one["pid"] in pids]
    return bool(ours) and all(one["leaving"] for one in ours)


def until(is_so: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < limit
        time.sleep(0.02)
