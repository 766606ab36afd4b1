"""Blue and green: nothing answers before it is warm, the way back is short, and what cannot be loaded changes nothing."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest

from falaj.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from falaj.core.ref import Ref
from falaj.ports.host import Seen
from tests.kits.rollouts import ANNA, DENIED, ENDPOINT, GOOD, NEW, OTHER, Breaking, Place

WHY = "because"


def prepared() -> Place:
    place = Place()
    place.deploy()
    place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason=WHY)
    return place


def test_what_is_prepared_is_loaded_and_answers_nobody() -> None:
    place = prepared()
    assert place.arms() == {"champion": "1", "standby": "2"}
    assert place.shares() == {str(GOOD): 1.0, str(NEW): 0.0}
    assert place.host.wanted["delay"].arms[1].manifest["payload"]
    assert place.champion() == "1"


def test_a_switch_changes_who_answers_and_who_is_champion_in_one_change() -> None:
    place = prepared()
    assert place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason=WHY) == NEW
    assert place.arms() == {"champion": "2", "standby": "1"}
    assert place.shares() == {str(NEW): 1.0, str(GOOD): 0.0}
    assert place.champion() == "2"
    (event,) = place.ledger.events(verb="endpoint.switch")
    assert {change.kind for change in event.changes} == {"endpoint", "decision", "alias"}
    assert event.facts == {"model": str(NEW), "left": str(GOOD), "reason": WHY}
    decision = place.ledger.get("decision", "endpoint/delay|switch")
    assert decision is not None
    assert (decision["verdict"], decision["reason"]) == ("allow", WHY)


def test_to_go_back_after_a_switch_is_to_switch_to_what_stayed_warm() -> None:
    place = prepared()
    place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason=WHY)
    assert place.rollouts.switches.rollback(ANNA, ENDPOINT, reason="it is bad") == GOOD
    assert place.arms() == {"champion": "1", "standby": "2"}
    assert place.champion() == "1"
    (event,) = place.ledger.events(verb="endpoint.rollback")
    assert event.facts["warm"] is True
    with pytest.raises(Conflict, match="no champion to go back to"):
        place.rollouts.switches.rollback(ANNA, ENDPOINT, reason="once more")


def test_a_standby_that_was_never_champion_is_not_what_one_goes_back_to() -> None:
    place = prepared()
    place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason=WHY)
    place.rollouts.switches.prepare(ANNA, ENDPOINT, model=OTHER, reason=WHY)
    assert place.arms() == {"champion": "2", "standby": "4"}
    assert place.rollouts.switches.rollback(ANNA, ENDPOINT, reason="bad") == GOOD
    assert place.arms() == {"champion": "1", "standby": "4"}
    (event,) = place.ledger.events(verb="endpoint.rollback")
    assert event.facts["warm"] is False


def test_going_back_passes_over_what_was_promoted_but_never_served() -> None:
    place = Place()
    place.deploy()
    place.deploy(NEW)
    alias = place.ledger.get("alias", "delay@champion")
    from falaj.core.event import Change, Event

    body = {**(alias or {}), "model": str(OTHER), "before": [str(GOOD), str(NEW)]}
    with place.ledger.transaction() as tx:
        tx.append(Event("model.promote", OTHER, ANNA, place.now, {}, (Change("alias", "delay@champion", body),)))
    assert place.rollouts.switches.rollback(ANNA, ENDPOINT, reason="bad") == GOOD
    assert place.champion() == "1"


def test_nothing_is_switched_to_before_every_worker_has_it() -> None:
    class Slow(Breaking):
        lag = 0

        def look(self, endpoint: str) -> Seen:
            seen = super().look(endpoint)
            return replace(seen, revision=seen.revision - self.lag)

    host = Slow()
    place = Place(host=host)
    place.deploy()
    place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason=WHY)
    host.lag = 1
    with pytest.raises(Conflict, match="not loaded in every worker"):
        place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason=WHY)
    host.stop("delay")
    host.lag = 0
    with pytest.raises(Conflict, match="not loaded in every worker"):
        place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason=WHY)
    assert place.champion() == "1"


def test_a_standby_that_cannot_be_loaded_leaves_everything_as_it_was() -> None:
    host = Breaking()
    place = Place(host=host)
    place.deploy()
    before = place.host.wanted["delay"]
    host.problem = InvalidInput("The model is no ONNX graph.")
    with pytest.raises(InvalidInput, match="ONNX"):
        place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason=WHY)
    host.problem = None
    assert place.rollouts.reconcile() == ["delay"]
    after = place.host.wanted["delay"]
    assert after.arms == before.arms
    assert after.revision == before.revision + 2
    last = list(place.ledger.events(verb="endpoint.prepare"))[-1]
    assert last.facts["taken_back"] is True


def test_a_champion_of_before_that_cannot_be_loaded_any_more_leaves_the_present_one() -> None:
    host = Breaking()
    place = Place(host=host)
    place.deploy()
    place.deploy(NEW)
    host.problem = NotFound("The bytes are gone.")
    with pytest.raises(NotFound, match="bytes"):
        place.rollouts.switches.rollback(ANNA, ENDPOINT, reason="bad")
    host.problem = None
    place.rollouts.reconcile()
    assert place.arms() == {"champion": "2"}
    assert place.champion() == "2"


def test_while_the_host_is_away_the_wish_stands() -> None:
    host = Breaking()
    place = Place(host=host)
    place.deploy()
    host.problem = Unavailable("The machine is gone.")
    with pytest.raises(Unavailable):
        place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason=WHY)
    host.problem = None
    assert place.rollouts.reconcile() == ["delay"]
    assert place.arms() == {"champion": "1", "standby": "2"}


def test_a_standby_is_let_go_and_its_release_has_ended() -> None:
    place = prepared()
    place.rollouts.switches.drop(ANNA, ENDPOINT, reason=WHY)
    assert place.arms() == {"champion": "1"}
    release = place.ledger.get("release", "delay@2")
    assert release is not None
    assert release["outcome"] == "dropped"
    with pytest.raises(Conflict, match="no standby"):
        place.rollouts.switches.drop(ANNA, ENDPOINT, reason=WHY)
    with pytest.raises(Conflict, match="no standby"):
        place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason=WHY)


def test_only_what_a_gate_let_pass_is_prepared_and_only_where_something_is_served() -> None:
    place = Place()
    with pytest.raises(Conflict, match="Nothing is served"):
        place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason=WHY)
    place.deploy()
    with pytest.raises(Conflict, match="No gate"):
        place.rollouts.switches.prepare(ANNA, ENDPOINT, model=DENIED, reason=WHY)
    with pytest.raises(Conflict, match="champion of"):
        place.rollouts.switches.prepare(ANNA, ENDPOINT, model=GOOD, reason=WHY)
    with pytest.raises(NotFound):
        place.rollouts.switches.prepare(ANNA, Ref("endpoint", "dely"), model=NEW, reason=WHY)


def test_who_answers_is_not_switched_while_a_rollout_is_under_way() -> None:
    place = Place()
    rollout = place.begin()
    place.rollouts.switches.prepare(ANNA, ENDPOINT, model=OTHER, reason=WHY)
    with pytest.raises(Conflict, match="under way"):
        place.rollouts.switches.switch(ANNA, ENDPOINT, model=OTHER, reason=WHY)
    with pytest.raises(Conflict, match="under way"):
        place.rollouts.switches.rollback(ANNA, ENDPOINT, reason=WHY)
    place.rollouts.abort(ANNA, rollout, reason="made up my mind")
    assert place.arms() == {"champion": "1", "standby": "4"}
    assert place.rollouts.switches.switch(ANNA, ENDPOINT, model=OTHER, reason=WHY) == OTHER


def test_revisions_only_grow() -> None:
    place = prepared()
    seen = [place.host.wanted["delay"].revision]
    switches = place.rollouts.switches
    for step in (functools.partial(switches.switch, model=NEW), switches.rollback, switches.drop):
        step(ANNA, ENDPOINT, reason=WHY)
        seen.append(place.host.wanted["delay"].revision)
    assert seen == [2, 3, 4, 5]
    before = place.ledger.find("endpoint"), place.ledger.find("alias"), place.ledger.find("release")
    place.ledger.rebuild()
    assert (place.ledger.find("endpoint"), place.ledger.find("alias"), place.ledger.find("release")) == before


def test_two_who_switch_at_once_switch_once_and_two_who_go_back_go_back_once() -> None:
    place = prepared()
    place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason=WHY)
    with pytest.raises(Conflict, match="delay@1 stands by"):
        place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason="me too")
    place.rollouts.switches.rollback(ANNA, ENDPOINT, reason="bad", leaving=NEW)
    with pytest.raises(Conflict, match="delay@1 answers"):
        place.rollouts.switches.rollback(ANNA, ENDPOINT, reason="me too", leaving=NEW)
    assert place.arms() == {"champion": "1", "standby": "2"}
