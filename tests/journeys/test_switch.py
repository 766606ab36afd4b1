"""A real endpoint that callers never stop asking, while who answers is switched, taken back, split, weighed and shadowed."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.core.errors import FalajError
from falaj.core.ref import Ref
from falaj.stages.monitoring.shadow import report_of
from falaj.stages.rollouts.service import Rollouts
from tests.kits.endpoint import REQUEST, Installation
from tests.kits.rollouts import ANNA, ENDPOINT, over
from tests.kits.traffic import Traffic, traffic

pytestmark = pytest.mark.slow

ENOUGH = 200
ONE, TWO, THREE = (Ref("model", "delay", version) for version in "123")
PREDICT = "/v1/models/delay:predict"


class Place(Installation):
    def begin(self) -> Rollouts:
        self.store()
        self.app, self.ops = self.key("app", "caller"), self.key("ops", "operator")
        rollouts = over(self, 1, 2, 3)
        rollouts.deploy(ANNA, ENDPOINT, model=ONE, reason="the first")
        return rollouts

    def records(self, kind: str = "prediction") -> list[Any]:
        found = [record for _, record in SegmentPredictions(self.folder / "segments").follow()]
        return [record for record in found if record["kind"] == kind]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    found.close()


def only(busy: Traffic, version: str, moment: float) -> None:
    """Whatever is asked after the control plane said that it is done is answered by that version."""
    assert {one.version for one in busy.wait_for(ENOUGH, moment)} == {version}


def told(line: str) -> None:
    """Printed, not asserted: how long it takes depends on the machine."""
    sys.stdout.write(f"\n{line}")


def test_switches_and_rollbacks_under_load_fail_no_request(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    rollouts = place.begin()
    switches = rollouts.switches
    with traffic(place, place.app) as busy:
        busy.wait_for(ENOUGH, 0)
        switches.prepare(ANNA, ENDPOINT, model=TWO, reason="the next")
        only(busy, "1", time.monotonic() - 0.05)
        for name, step, version in (
            ("switch", functools.partial(switches.switch, model=TWO), "2"),
            ("rollback, warm", switches.rollback, "1"),
            ("switch again", functools.partial(switches.switch, model=TWO), "2"),
        ):
            moment = time.monotonic()
            step(ANNA, ENDPOINT, reason="try it")
            only(busy, version, time.monotonic())
            with capsys.disabled():
                told(f"{name}: the last old answer after {busy.settled(moment, version) * 1000:.0f} ms")
        switches.drop(ANNA, ENDPOINT, reason="to see a cold one")
        moment = time.monotonic()
        assert switches.rollback(ANNA, ENDPOINT, reason="bad") == ONE
        only(busy, "1", time.monotonic())
        with capsys.disabled():
            told(f"rollback, cold: the last old answer after {busy.settled(moment, '1') * 1000:.0f} ms")
    assert busy.failed == []
    assert len(place.records()) == len(busy.told)


def test_weights_change_under_load_without_a_failed_request_and_everybody_else_keeps_their_model(place: Place) -> None:
    rollouts = place.begin()
    experiments = rollouts.experiments
    with traffic(place, place.app) as busy:
        experiments.split(ANNA, ENDPOINT, variants={"b": TWO, "c": THREE}, weights={"b": 0.3, "c": 0.2}, reason="which?")
        before = {one.unit: one.arm for one in busy.wait_for(4 * ENOUGH, time.monotonic())}
        experiments.weigh(ANNA, ENDPOINT, weights={"b": 0.6, "c": 0.2}, reason="b looks good")
        after = {one.unit: one.arm for one in busy.wait_for(4 * ENOUGH, time.monotonic())}
        experiments.unsplit(ANNA, ENDPOINT, winner="b", reason="b it is")
        only(busy, "2", time.monotonic())
    assert busy.failed == []
    both = before.keys() & after.keys()
    assert {(before[unit], after[unit]) for unit in both if before[unit] != after[unit]} == {("champion", "variant-b")}
    assert set(after.values()) == {"champion", "variant-b", "variant-c"}
    counted = [one["arm"] for one in place.records() if one["arm"].startswith("variant-")]
    assert {"variant-b", "variant-c"} == set(counted)


def test_a_split_is_the_same_after_the_server_was_started_anew(place: Place) -> None:
    rollouts = place.begin()
    rollouts.experiments.split(ANNA, ENDPOINT, variants={"b": TWO}, weights={"b": 0.5}, reason="which?")

    def arms() -> list[str]:
        with place.client(place.app) as client:
            requests = [{**REQUEST, "flight_id": f"u{n}"} for n in range(200)]
            return [one["arm"] for one in client.post(PREDICT, json={"requests": requests}).json()["predictions"]]

    before = arms()
    place.host.stop("delay")
    assert rollouts.reconcile() == ["delay"]
    assert arms() == before
    assert 60 < before.count("variant-b") < 140


def test_a_shadow_says_what_it_would_have_said_and_changes_no_answer(place: Place) -> None:
    rollouts = place.begin()
    rollouts.shadows.shadow(ANNA, ENDPOINT, model=TWO, share=1.0, reason="let us see")
    with place.client(place.app) as client, place.client(place.ops) as ops:
        answers = [client.post(PREDICT, json={**REQUEST, "flight_id": f"u{n}"}).json() for n in range(50)]
        tensor = {"name": "X", "shape": [2, 4], "datatype": "FP32", "data": [700.0, 1.0, 50.0, 5.0] * 2}
        call = {"inputs": [tensor], "parameters": {"at": "2013-05-01T09:30:00Z", "unit": "f-1"}}
        outputs = {one["name"]: one["data"] for one in client.post("/v2/models/delay/infer", json=call).json()["outputs"]}
        forced = ops.post(PREDICT, json=REQUEST, headers={"X-Falaj-Arm": "shadow"}).json()
        for _ in range(200):
            if len(said := place.records("shadow")) >= 52:
                break
            time.sleep(0.05)
        metrics = ops.get("/metrics").text
    assert {answer["arm"] for answer in answers} == {"champion"}
    assert (forced["arm"], forced["model"]) == ("shadow", str(TWO))
    assert {one["of"] for one in said} == {*(answer["id"] for answer in answers), *outputs["prediction_id"]}
    by_id = {answer["id"]: answer["score"] for answer in answers}
    assert all(one["answered"] == by_id[one["of"]] for one in said if one["of"] in by_id)
    assert {one["score"] for one in said if one["of"] in by_id} == {forced["score"]}
    assert 'falaj_shadow_rows_total{model="model/delay@2",version="2"} 52' in metrics
    report = report_of((one for one in place.records("shadow")), threshold=0.5)
    assert report["rows"] == 52
    assert report["latency"]["ratio"] > 0


@pytest.mark.parametrize("role", ["standby", "variant-b", "2", "model/delay@3"])
def test_arms_are_asked_for_by_name_only_by_those_who_may(place: Place, role: str) -> None:
    rollouts = place.begin()
    rollouts.switches.prepare(ANNA, ENDPOINT, model=TWO, reason="x")
    rollouts.experiments.split(ANNA, ENDPOINT, variants={"b": THREE}, weights={"b": 0.5}, reason="x")
    with place.client(place.ops) as ops, place.client(place.app) as app:
        answer = ops.post(PREDICT, json=REQUEST, headers={"X-Falaj-Arm": role}).json()
        assert app.post(PREDICT, json=REQUEST, headers={"X-Falaj-Arm": role}).status_code == 403
    assert role in (answer["arm"], answer["model"], answer["model"].rpartition("@")[2])
    assert [one["forced"] for one in place.records()] == [True]


def test_a_standby_with_another_signature_is_refused_and_the_champion_answers_on(place: Place) -> None:
    rollouts = place.begin()
    ledger = rollouts.kernel.ledger
    body = dict(ledger.get("model", "delay@2") or {})
    from falaj.core.event import Change, Event

    with ledger.transaction() as tx:
        forged = {**body, "manifest": {**body["manifest"], "payload": body["manifest"]["payload"][:-8] + "AAAAAAA="}}
        tx.append(Event("model.register", TWO, ANNA, rollouts.kernel.now(), {}, (Change("model", "delay@2", forged),)))
    with traffic(place, place.app, callers=2) as busy:
        with pytest.raises(FalajError, match="manifest"):
            rollouts.switches.prepare(ANNA, ENDPOINT, model=TWO, reason="x")
        only(busy, "1", time.monotonic())
    assert busy.failed == []
    assert rollouts.reconcile() == []
    with pytest.raises(FalajError, match="standby"):
        rollouts.switches.switch(ANNA, ENDPOINT, model=TWO, reason="x")
