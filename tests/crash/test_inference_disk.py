"""A disk that is full or that does not answer costs answers, never a prediction that was acknowledged."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.inference_kill import Load, count
from tests.kits.disks import small_disk, stubborn_disk
from tests.kits.endpoint import Installation

pytestmark = pytest.mark.slow


def until(is_so: Callable[[], bool], why: str) -> None:
    limit = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < limit, why
        time.sleep(0.02)


def test_a_disk_that_fills_up_refuses_and_loses_nothing_and_is_forgotten_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "serving") as disk:
        place = Installation(tmp_path, {"clock": "replay", "segment_rows": 200, "workers": 2})
        place.store()
        key = place.key("app", "caller")
        try:
            place.host.serve(place.wanted(), place.keys)
            workers = place.workers()
            with Load(place, key, may_refuse=True) as load:
                for _ in range(3):
                    disk.fill(leave=200_000)
                    refused = load.refused
                    until(lambda: load.refused > refused + 100, "the disk never became full")  # noqa: B023
                    time.sleep(1.2)  # also what is written once a second meets no room
                    disk.clear()
                    answered = load.predictions
                    until(lambda: load.predictions > answered + 200, "it did not go on by itself")  # noqa: B023
            assert place.workers() == workers, "a full disk is no reason to start anew"
            assert place.host.look("delay").ready
        finally:
            disk.clear()
            place.close()
        found = count(place, load, Counter(), {})
    assert found.is_good, found
    assert not found.failed
    assert found.labels > 100


def test_a_disk_that_does_not_answer_holds_answers_back_and_loses_nothing(tmp_path: Path) -> None:
    with stubborn_disk(tmp_path / "serving", tmp_path / "image") as disk:
        place = Installation(tmp_path, {"clock": "replay", "segment_rows": 200, "workers": 2})
        place.store()
        key = place.key("app", "caller")
        try:
            place.host.serve(place.wanted(), place.keys)
            workers = place.workers()
            with Load(place, key, may_refuse=True) as load:
                until(lambda: load.predictions > 100, "nothing is answered")
                freezing = disk.freeze(3.0)
                time.sleep(1.0)
                held = load.predictions
                time.sleep(1.0)
                assert load.predictions == held, "what cannot be logged was answered"
                assert freezing.wait() == 0
                until(lambda: load.predictions > held + 100, "it did not go on by itself")
            assert place.workers() == workers
        finally:
            place.close()
        found = count(place, load, Counter(), {})
    assert found.is_good, found
    assert not found.failed


def test_what_dies_while_the_disk_is_full_is_back_once_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "serving") as disk:
        place = Installation(tmp_path, {"clock": "replay", "workers": 2, "grpc": "off"})
        place.store()
        key = place.key("app", "caller")
        try:
            place.host.serve(place.wanted(), place.keys)
            before, workers = place.host.look("delay").pid, place.workers()
            with Load(place, key, may_refuse=True) as load:
                disk.fill(leave=0)
                until(lambda: load.refused > 20, "the disk never became full")
                load.meanwhile = "worker"
                for pid in (workers["http-0"], before):
                    os.kill(pid, signal.SIGKILL)
                time.sleep(2.0)
                disk.clear()
                until(lambda: is_whole(place, {workers["http-0"], before}), "it did not come back by itself")
                load.meanwhile = "nothing"
                answered = load.predictions
                until(lambda: load.predictions > answered + 50, "it does not answer")
        finally:
            disk.clear()
            place.close()
        found = count(place, load, Counter(), {})
    assert found.is_good, found


def is_whole(place: Installation, gone: set[int]) -> bool:
    seen, workers = place.host.look("delay"), set(place.workers().values())
    return seen.ready and seen.pid not in gone and len(workers) == 2 and not workers & gone
