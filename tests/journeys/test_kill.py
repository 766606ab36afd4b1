"""The kill switch of a real endpoint: over every protocol, under calls, after everything was started anew; and its drill."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.adapters.local.stream import FileStream
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.message import Message
from falaj.core.ref import Ref
from falaj.inference.auth import hmac_of
from falaj.rehearsal import Rehearsal, wall
from falaj.stages.privacy.affected import Affected
from falaj.stages.rollouts.kills import Kills
from falaj.stages.rollouts.recalls import Recalls
from falaj.stages.rollouts.service import Rollouts
from falaj.stages.rollouts.spec import StreamIO
from tests.kits.endpoint import REQUEST, Installation
from tests.kits.messages import entity
from tests.kits.rollouts import ANNA, ENDPOINT, over
from tests.kits.traffic import traffic
from tests.unit.inference.test_grpc import caller, infer

pytestmark = pytest.mark.slow
PREDICT, INFER = "/v1/models/delay:predict", "/v2/models/delay/infer"
AT = "2013-05-01T09:30:00Z"
REFUSED, ANSWERED = [503, 503, "UNAVAILABLE"], [200, 200, "OK"]
ROW = {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}], "parameters": {"at": AT}}
OMAR = Actor("omar", "person", ("operator",))
WORKER = Actor("worker", "service", ("service",))
ONE, TWO = Ref("model", "delay", "1"), Ref("model", "delay", "2")


@dataclass
class Place:
    installation: Installation
    rollouts: Rollouts
    kills: Kills
    ledger: MemoryLedger
    app: str
    ops: str

    def answers(self) -> list[Any]:
        """By entity and by tensor over REST, by tensor over gRPC."""
        with self.installation.client(self.app) as client:
            rest = [client.post(PREDICT, json=REQUEST).status_code, client.post(INFER, json=ROW).status_code]
        told = json.loads((self.installation.folder / "server.json").read_bytes())
        with grpc.insecure_channel(told["grpc_url"], (("grpc.enable_retries", 0),)) as channel:
            try:
                caller(channel, self.app)("ModelInfer", infer(parameters={"at": {"string_param": AT}}))
            except grpc.RpcError as exc:
                return [*rest, exc.code().name]
        return [*rest, "OK"]

    def logged(self) -> int:
        log = SegmentPredictions(self.installation.folder / "segments")
        return sum(record["kind"] == "prediction" for _, record in log.follow())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Installation(tmp_path, {"clock": "replay"})
    made.store()
    app, ops = made.key("app", "caller"), made.key("ops", "operator")
    ledger = MemoryLedger()
    rollouts = over(made, 1, 2, ledger=ledger)
    rollouts.deploy(ANNA, ENDPOINT, model=ONE, reason="the first")
    rehearsal = Rehearsal(made.host, lambda key: hmac_of(made.pepper, key.encode()), lambda _endpoint: None)

    def log(endpoint: str) -> SegmentPredictions:
        return SegmentPredictions(made.state / "serving" / endpoint / "segments")

    yield Place(made, rollouts, Kills(rollouts.place, log, wall, rehearsal), ledger, app, ops)
    made.close()


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_under_calls_every_answer_ends_and_comes_back_on_another_persons_word(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    with traffic(place.installation, place.app) as busy:
        busy.wait_for(100, 0)
        moment = time.monotonic()
        seen = place.kills.kill(ANNA, ENDPOINT, reason="it harms people")
        confirmed = time.monotonic()
        after = busy.wait_for(100, confirmed)
        assert {one.status for one in after} == {503}
        last = max(one.answered for one in busy.told if one.status == 200) - moment
        with capsys.disabled():
            sys.stdout.write(f"\nkill: {seen}, by the callers' clock the last answer after {last * 1000:.0f} ms\n")
        assert seen.confirmed_ms is not None
        assert not place.kills.revive(ANNA, ENDPOINT, reason="it was me").allowed
        assert not place.kills.revive(WORKER, ENDPOINT, reason="I repair things").allowed
        assert {one.status for one in busy.wait_for(50, time.monotonic())} == {503}
        assert place.kills.revive(OMAR, ENDPOINT, reason="looked at it").allowed
        assert {one.status for one in busy.wait_for(100, time.monotonic())} == {200}


def test_what_is_told_is_clear_and_names_nobody(place: Place) -> None:
    place.kills.kill(ANNA, ENDPOINT, reason="it harms people")
    with place.installation.client(place.app) as client:
        answer = client.post(INFER, json=ROW)
        assert answer.status_code == 503
        assert "taken out of use at" in answer.json()["error"]
        assert "retry-after" in answer.headers
        assert "anna" not in answer.text
        assert "harms" not in answer.text
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/health/live").status_code == 200
    with place.installation.client(place.ops) as client:
        assert client.post("/v2/repository/models/delay/load", json={}).status_code == 503  # not a way around
    assert place.answers() == REFUSED


def test_it_holds_after_a_restart_of_everything_and_whatever_the_worker_does(place: Place) -> None:
    place.kills.kill(ANNA, ENDPOINT, reason="it harms people")
    before = place.logged()
    for pid in place.installation.workers().values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: place.installation.host.look("delay").ready)
    assert place.answers() == REFUSED
    place.installation.host.stop("delay")
    assert place.rollouts.reconcile() == ["delay"]
    assert place.answers() == REFUSED
    assert place.rollouts.reconcile() == []
    # Another model, deployed while it is out of use, does not bring it back.
    place.rollouts.deploy(ANNA, ENDPOINT, model=TWO, reason="a better one")
    assert place.answers() == REFUSED
    assert place.logged() == before
    assert place.kills.revive(OMAR, ENDPOINT, reason="the better one is good").allowed
    assert place.answers() == ANSWERED


def test_a_model_that_cannot_be_loaded_does_not_keep_an_endpoint_in_use(place: Place) -> None:
    digest = place.installation.arm(1).digest
    for path in (place.installation.state / "blobs").rglob("*"):
        if path.is_file() and digest.endswith(path.name[-40:]):
            path.unlink()
    wanted = json.loads((place.installation.folder / "wanted.json").read_bytes())
    for pid in place.installation.workers().values():
        os.kill(pid, signal.SIGKILL)
    wanted |= {"revision": wanted["revision"] + 1, "killed": {"by": "anna", "at": "2013-05-01T00:00:00Z", "reason": "x"}}
    (place.installation.folder / "wanted.json").write_text(json.dumps(wanted))

    def is_refused() -> bool:
        try:
            return place.answers() == REFUSED
        except OSError:
            return False

    until(is_refused)


def test_messages_wait_and_none_is_lost(place: Place) -> None:
    made = place.installation
    held = place.ledger.get("endpoint", "delay") or {}
    io = StreamIO("requests", "answers", batch=20)
    declared = replace(place.rollouts.place.declared["delay"], stream=io)
    place.rollouts.place.declared["delay"] = declared  # type: ignore[index]
    place.rollouts.deploy(ANNA, ENDPOINT, model=TWO, reason="with messages")
    requests = FileStream(made.state / "streams", "requests")
    requests.produce([Message(entity(f"a{n}"), f"a{n}", id=f"a{n}") for n in range(40)])
    until(lambda: requests.lag("falaj") == 0)
    place.kills.kill(ANNA, ENDPOINT, reason="it harms people")
    before = place.logged()
    requests.produce([Message(entity(f"b{n}"), f"b{n}", id=f"b{n}") for n in range(40)])
    time.sleep(1.5)
    assert place.logged() == before
    assert requests.lag("falaj") == 40
    assert place.kills.revive(OMAR, ENDPOINT, reason="looked at it").allowed
    until(lambda: requests.lag("falaj") == 0)
    answers = [one.message.key for one in FileStream(made.state / "streams", "answers").replay()]
    assert sorted(answers) == sorted([*(f"a{n}" for n in range(40)), *(f"b{n}" for n in range(40))])
    assert held["wanted"]["endpoint"] == "delay"


def test_a_drill_measures_a_copy_and_the_endpoint_answers_all_the_while(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with traffic(place.installation, place.app) as busy:
        busy.wait_for(20, 0)
        decision = place.kills.drill(OMAR, ENDPOINT)
        busy.wait_for(20, time.monotonic())
    assert busy.failed == []
    assert {check.name: check.passed for check in decision.checks}["refused after"], decision
    record: Any = place.ledger.get("drill", "delay")
    with capsys.disabled():
        sys.stdout.write(f"\ndrill: {record}\n")
    assert (record["live"], record["by"], record.get("problem", "")) == (False, "person:omar", "")
    assert record["answered"] > 0
    assert not (place.installation.state / "serving" / "delay-drill" / "wanted.json").exists()
    assert place.answers() == ANSWERED


def test_a_drill_of_the_endpoint_itself_leaves_it_in_use(place: Place) -> None:
    decision = place.kills.drill(OMAR, ENDPOINT, confirm="delay")
    assert decision.checks[0].name == "time"
    assert place.answers() == ANSWERED
    assert [event.verb for event in place.ledger.events(verb="endpoint.drill")] == ["endpoint.drill"] * 3


def test_a_version_that_is_put_into_quarantine_while_it_answers_is_left_for_the_one_before_and_then_for_none(
    place: Place,
) -> None:
    place.rollouts.deploy(ANNA, ENDPOINT, model=TWO, reason="a better one")
    recalls, affected = Recalls(place.rollouts, place.kills), Affected(place.rollouts.kernel)
    with traffic(place.installation, place.app) as busy:
        assert answering(place) == "model/delay@2"
        affected.quarantine(OMAR, TWO, reason="it learned from somebody who was erased")
        [first] = recalls.carry_out(WORKER)
        since = time.monotonic()
        assert first.reason == "model/delay@2 is quarantined: taken back to model/delay@1"
        assert {one.status for one in busy.wait_for(100, since)} == {200}, "nobody waits for the one before"
        assert answering(place) == "model/delay@1"
        affected.quarantine(OMAR, ONE, reason="this one too")
        [second] = recalls.carry_out(WORKER)
        since = time.monotonic()
        assert "taken out of use" in second.reason
        assert {one.status for one in busy.wait_for(50, since)} == {503}
    assert place.rollouts.reconcile() == []
    assert recalls.carry_out(WORKER) == []
    assert place.answers() == REFUSED
    assert not place.kills.revive(OMAR, ENDPOINT, reason="we need it").allowed
    assert affected.justify(OMAR, ONE, reason="nothing of that person is in it").allowed
    assert place.kills.revive(OMAR, ENDPOINT, reason="justified").allowed
    assert place.answers() == ANSWERED
    assert answering(place) == "model/delay@1"


def answering(place: Place) -> str:
    with place.installation.client(place.app) as client:
        return str(client.post(PREDICT, json=REQUEST).json()["model"])
