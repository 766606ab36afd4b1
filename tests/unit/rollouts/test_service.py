"""A rollout carried out: the decision, what is served and who is champion change together, and a crash mends itself."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from falaj.core.codec import canonical, decode, encode
from falaj.core.errors import Conflict, NotFound, Unavailable
from falaj.core.event import Change, Event
from falaj.core.moments import millis
from falaj.core.ref import Ref
from falaj.ports.host import Wanted
from falaj.stages.rollouts.rules import Block
from falaj.stages.rollouts.service import Rollouts
from tests.kits.rollouts import ANNA, DAY, DENIED, ENDPOINT, GOOD, NEW, T0, Breaking, Place


def live_through(place: Place, rollout: Ref, rates: tuple[float, float], days: int = 30) -> str:
    rng, blocks = np.random.default_rng(1), []
    for day in range(days):
        body = place.rollouts.show(rollout)["status"]
        share = body["epochs"][-1]["share"]
        n_b = int(rng.binomial(2000, share))
        n = (2000 - n_b, n_b)
        bad = (int(rng.binomial(n[0], rates[0])), int(rng.binomial(n_b, rates[1])))
        span = (millis(T0 + day * DAY), millis(T0 + (day + 1) * DAY))
        blocks += [Block("wrong", body["step"], *span, n, bad, n), Block("failure", body["step"], *span, n, (0, 0), n)]
        place.now = T0 + (day + 1) * DAY
        place.rollouts.look(ANNA, rollout, blocks=blocks, now=place.now)
        if place.rollouts.live("delay") is None:
            break
    return str(place.rollouts.show(rollout)["status"]["state"])


def test_the_first_release_goes_to_everybody() -> None:
    place = Place()
    release = place.rollouts.deploy(ANNA, ENDPOINT, model=GOOD, reason="the first")
    assert str(release) == "release/delay@1"
    assert place.shares() == {str(GOOD): 1.0}
    assert place.host.wanted["delay"].arms[0].manifest["payload"]
    alias = place.ledger.get("alias", "delay@champion")
    assert alias is not None
    assert alias["model"] == str(GOOD)


def test_a_model_that_no_gate_let_pass_is_refused() -> None:
    place = Place()
    with pytest.raises(Conflict, match="No gate"):
        place.rollouts.deploy(ANNA, ENDPOINT, model=DENIED, reason="hurry")
    with pytest.raises(NotFound):
        place.rollouts.deploy(ANNA, ENDPOINT, model=Ref("model", "delay", "9"), reason="hurry")
    assert place.host.wanted == {}


def test_only_one_rollout_at_a_time() -> None:
    place = Place()
    with pytest.raises(Conflict, match="Nothing is served"):
        place.rollouts.start(ANNA, ENDPOINT, challenger=NEW)
    place.begin()
    with pytest.raises(Conflict, match="under way"):
        place.rollouts.start(ANNA, ENDPOINT, challenger=NEW)
    with pytest.raises(Conflict, match="under way"):
        place.rollouts.deploy(ANNA, ENDPOINT, model=NEW, reason="hurry")


def test_a_challenger_that_was_quarantined_meanwhile_gets_no_more_callers_and_can_be_ended() -> None:
    place = Place()
    rollout = place.begin()
    with place.ledger.transaction() as tx:
        change = Change("standing", f"{NEW.name}@{NEW.version}", {"state": "quarantined"})
        tx.append(Event("model.quarantine", NEW, ANNA, T0, {}, (change,)))
    with pytest.raises(Conflict, match="quarantined"):
        live_through(place, rollout, (0.2, 0.15))
    assert place.shares() == {str(GOOD): 0.9, str(NEW): 0.1}
    place.rollouts.abort(ANNA, rollout, reason="it is in quarantine")
    assert place.shares() == {str(GOOD): 1.0}


def test_a_good_challenger_becomes_the_champion_in_one_change() -> None:
    place = Place()
    rollout = place.begin()
    assert place.shares() == {str(GOOD): 0.9, str(NEW): 0.1}
    assert live_through(place, rollout, (0.2, 0.15)) == "promoted"
    assert place.shares() == {str(NEW): 1.0}
    assert place.host.wanted["delay"].arms[0].role == "champion"
    last = list(place.ledger.events(verb="rollout.look"))[-1]
    assert {change.kind for change in last.changes} == {"rollout", "decision", "endpoint", "alias", "release"}
    release = place.ledger.get("release", "delay@2")
    assert release is not None
    assert release["outcome"] == "promoted"
    with pytest.raises(Conflict, match="over"):
        place.rollouts.look(ANNA, rollout, blocks=[], now=place.now)


def test_a_bad_challenger_is_taken_back_and_the_champion_keeps_its_name() -> None:
    place = Place()
    rollout = place.begin()
    assert live_through(place, rollout, (0.2, 0.3)) == "rolled_back"
    assert place.shares() == {str(GOOD): 1.0}
    alias = place.ledger.get("alias", "delay@champion")
    assert alias is not None
    assert alias["model"] == str(GOOD)
    body = place.rollouts.show(rollout)
    assert body["ended_at"] is not None
    assert {point["guard"] for point in body["history"]} == {"wrong", "failure"}


def test_a_person_can_take_it_back() -> None:
    place = Place()
    rollout = place.begin()
    decision = place.rollouts.abort(ANNA, rollout, reason="a customer called")
    assert (decision.verdict, decision.reason) == ("deny", "a customer called")
    assert place.shares() == {str(GOOD): 1.0}
    assert place.rollouts.live("delay") is None


def test_figures_alone_are_recorded_once_a_cohort() -> None:
    place = Place()
    rollout = place.begin()
    before = len(list(place.ledger.events()))
    blocks = []
    for hour in range(1, 48):
        start = millis(T0 + timedelta(hours=hour - 1))
        blocks.append(Block("failure", 0, start, start + 3_600_000, (90, 10), (0, 0), (90, 10)))
        place.rollouts.look(ANNA, rollout, blocks=blocks, now=T0 + timedelta(hours=hour))
    assert len(list(place.ledger.events())) - before == 1
    again = Rollouts(place.rollouts.place)
    fresh = again.look(ANNA, rollout, blocks=blocks, now=T0 + timedelta(hours=47, minutes=30))
    assert fresh == place.rollouts.look(ANNA, rollout, blocks=blocks, now=T0 + timedelta(hours=47, minutes=30))
    seen = place.rollouts.look(ANNA, rollout, blocks=blocks, now=T0 + timedelta(hours=48))
    assert any("4230/470" in check.seen or "(0/470)" in check.seen for check in seen.checks)


def test_what_the_host_missed_is_made_good() -> None:
    host = Breaking()
    place = Place(host=host)
    rollout = place.begin()
    host.problem = Unavailable("The machine is gone.")
    with pytest.raises(Unavailable):
        place.rollouts.abort(ANNA, rollout, reason="bad")
    assert len(host.wanted["delay"].arms) == 2
    host.problem = None
    assert place.rollouts.reconcile() == ["delay"]
    assert place.shares() == {str(GOOD): 1.0}
    assert place.rollouts.reconcile() == []
    place.host.stop("delay")
    assert place.rollouts.reconcile() == ["delay"]


def test_no_event_of_a_long_rollout_is_larger_than_the_ledger_takes() -> None:
    place = Place()
    rollout = place.begin()
    live_through(place, rollout, (0.2, 0.246), days=89)
    sizes = [len(canonical(encode(event))) for event in place.ledger.events()]
    assert max(sizes) < 48_000


def test_the_state_follows_from_the_events_alone() -> None:
    place = Place()
    rollout = place.begin()
    live_through(place, rollout, (0.2, 0.3))
    before = place.ledger.find("rollout"), place.ledger.find("endpoint"), place.ledger.find("alias")
    place.ledger.rebuild()
    assert (place.ledger.find("rollout"), place.ledger.find("endpoint"), place.ledger.find("alias")) == before
    endpoint = place.ledger.get("endpoint", "delay")
    assert endpoint is not None
    assert decode(Wanted, endpoint["wanted"]).revision == place.host.wanted["delay"].revision


def test_a_challenger_that_cannot_be_loaded_leaves_no_rollout_and_a_champion_that_cannot_leaves_the_one_before() -> None:
    host = Breaking()
    place = Place(host=host)
    host.problem = Conflict("The bytes are not those that were signed.")
    with pytest.raises(Conflict, match="signed"):
        place.deploy()
    assert place.ledger.get("endpoint", "delay") is None
    host.problem = None
    place.deploy()
    for refused in (
        lambda: place.rollouts.start(ANNA, ENDPOINT, challenger=NEW),
        lambda: place.rollouts.deploy(ANNA, ENDPOINT, model=NEW, reason="x"),
    ):
        host.problem = Conflict("The bytes are not those that were signed.")
        with pytest.raises(Conflict, match="signed"):
            refused()
        host.problem = None
        place.rollouts.reconcile()
        assert place.arms() == {"champion": "1"}
        assert place.champion() == "1"
        assert place.rollouts.busy("delay") is None
    with pytest.raises(NotFound):
        place.rollouts.show(Ref("rollout", "delay", "1"))
