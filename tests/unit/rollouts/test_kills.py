"""Kill, revive and drill over a host in memory: what is recorded, who may, and what nothing else undoes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.actor import Actor
from falaj.core.errors import Conflict, InvalidInput, NotFound, Unavailable
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.ports.host import Wanted
from falaj.ports.predictions import Cursor
from falaj.stages.rollouts.kills import DRILL, Kills, Measured, drill_due, judge_drill, last_answer_ms, may_revive
from tests.kits.rollouts import ANNA, ENDPOINT, GOOD, NEW, T0, Breaking, Place

OMAR = Actor("omar", "person", ("approver",))
GOOD_DRILL = Measured(60, 20, refused=21, answered=22)


class Log:
    """A prediction log of these lines, segment by segment."""

    def __init__(self, *segments: list[bytes]) -> None:
        self.segments = segments

    def follow(self, after: Cursor = Cursor()) -> Iterator[tuple[Cursor, Mapping[str, Any]]]:  # noqa: B008  # frozen
        return iter(())

    def line(self, segment: int, row: int) -> bytes:
        return self.segments[segment][row]

    def lines(self, segment: int) -> list[bytes]:
        if segment >= len(self.segments):
            raise NotFound("none")
        return self.segments[segment]

    def seals(self) -> list[Any]:
        return []


def kills(place: Place, rehearse: Measured = GOOD_DRILL, asked: list[Wanted] | None = None) -> Kills:
    def rehearsal(wanted: Wanted) -> Measured:
        (asked if asked is not None else []).append(wanted)
        return rehearse

    return Kills(place.rollouts.place, lambda _endpoint: Log(), lambda: place.now, rehearsal)


def killed(place: Place) -> Mapping[str, str]:
    return place.host.wanted["delay"].killed


def test_a_kill_is_in_the_ledger_and_in_the_hosts_wish_and_a_second_one_keeps_who_was_first() -> None:
    place = Place()
    place.deploy()
    switch = kills(place)
    switch.kill(ANNA, ENDPOINT, reason="it harms people")
    assert (killed(place)["by"], killed(place)["reason"]) == ("anna", "it harms people")
    switch.kill(OMAR, ENDPOINT, reason="to be sure")
    assert killed(place)["by"] == "anna"
    record: Any = place.ledger.get("endpoint", "delay")
    assert record["wanted"]["killed"] == dict(killed(place))
    assert (place.ledger.get("kill", "delay") or {})["confirmed_ms"] == 0


def test_nothing_that_changes_who_answers_brings_it_back() -> None:
    place = Place()
    place.begin()
    kills(place).kill(ANNA, ENDPOINT, reason="stop")
    rollout = place.rollouts.live("delay")
    assert rollout is not None
    place.rollouts.abort(ANNA, rollout, reason="no more")
    place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason="next")
    place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason="next")
    place.rollouts.switches.rollback(ANNA, ENDPOINT, reason="back")
    place.rollouts.deploy(ANNA, ENDPOINT, model=NEW, reason="over")
    place.rollouts.reconcile()
    assert killed(place)["by"] == "anna"


def test_the_one_who_killed_and_a_program_may_not_revive_and_their_refusal_is_kept_as_a_decision() -> None:
    place = Place()
    place.deploy()
    switch = kills(place)
    switch.kill(ANNA, ENDPOINT, reason="stop")
    assert switch.revive(ANNA, ENDPOINT, reason="fine now").verdict == "deny"
    kept: Any = place.ledger.get("decision", f"{ENDPOINT}|revive")
    assert [check["passed"] for check in kept["checks"]] == [False, True]
    assert switch.revive(Actor("robot", "service", ("operator",)), ENDPOINT, reason="fine now").verdict == "deny"
    assert killed(place)
    assert switch.revive(OMAR, ENDPOINT, reason="looked at it").allowed
    assert killed(place) == {}
    with pytest.raises(Conflict, match="is in use"):
        switch.revive(OMAR, ENDPOINT, reason="again")


def test_a_host_that_is_away_does_not_keep_the_kill_out_of_the_ledger() -> None:
    host = Breaking()
    place = Place(host=host)
    place.deploy()
    host.problem = Unavailable("the host is away")
    seen = kills(place).kill(ANNA, ENDPOINT, reason="stop")
    assert (seen.confirmed_ms, seen.ms) == (None, None)
    assert "the host is away" in seen.problem
    host.problem = None
    place.rollouts.reconcile()
    assert killed(place)["by"] == "anna"


def test_what_was_never_served_cannot_be_killed_or_drilled() -> None:
    place = Place()
    with pytest.raises(Conflict):
        kills(place).kill(ANNA, ENDPOINT, reason="stop")
    with pytest.raises(Conflict):
        kills(place).drill(ANNA, ENDPOINT)


def test_a_drill_asks_a_copy_with_signed_models_and_leaves_its_record() -> None:
    place, asked = Place(), list[Wanted]()
    place.deploy()
    decision = kills(place, asked=asked).drill(ANNA, ENDPOINT)
    assert decision.allowed
    assert asked[0].arms[0].manifest
    record: Any = place.ledger.get("drill", "delay")
    assert (record["verdict"], record["confirmed_ms"], record["live"]) == ("allow", 60, False)
    assert killed(place) == {}


def test_a_drill_of_the_endpoint_itself_wants_its_name_and_gives_it_back() -> None:
    place = Place()
    place.deploy()
    with pytest.raises(InvalidInput, match="is not 'delay'"):
        kills(place).drill(ANNA, ENDPOINT, confirm="dely")
    kills(place).drill(ANNA, ENDPOINT, confirm="delay")
    assert killed(place) == {}
    states = [
        bool(change.body["wanted"]["killed"])
        for event in place.ledger.events(verb="endpoint.drill")
        for change in event.changes
        if change.kind == "endpoint" and change.body is not None
    ]
    assert states == [True, False]


def test_a_drill_while_it_is_out_of_use_is_refused_and_changes_nothing() -> None:
    place = Place()
    place.deploy()
    kills(place).kill(ANNA, ENDPOINT, reason="stop")
    with pytest.raises(Conflict, match="answers nobody"):
        kills(place).drill(ANNA, ENDPOINT, confirm="delay")
    assert killed(place)["by"] == "anna"


@pytest.mark.parametrize("call", [1, 2])
def test_a_kill_that_comes_in_the_middle_of_a_drill_stays_and_is_whose_it_is(call: int) -> None:
    place = Place()
    place.deploy()
    times = iter(range(1, 10))

    def wall() -> datetime:
        if next(times) == call:
            kills(place).kill(OMAR, ENDPOINT, reason="in earnest")
        return place.now

    switch = replace(kills(place), wall=wall)
    switch.drill(ANNA, ENDPOINT, confirm="delay")
    assert (killed(place).get("by"), killed(place).get("reason")) == ("omar", "in earnest")
    record: Any = place.ledger.get("endpoint", "delay")
    assert record["wanted"]["killed"] == dict(killed(place))
    assert not kills(place).revive(OMAR, ENDPOINT, reason="fine").allowed


def test_what_is_served_can_be_stopped_when_the_project_declares_it_no_more() -> None:
    place = Place()
    place.deploy()
    switch = kills(place)
    bare = replace(switch, place=replace(switch.place, declared={}))
    bare.kill(ANNA, ENDPOINT, reason="it was forgotten")
    assert killed(place)["by"] == "anna"
    with pytest.raises(Conflict, match="Nothing is served"):
        bare.kill(ANNA, Ref("endpoint", "nothing"), reason="stop")


def test_a_model_that_was_quarantined_meanwhile_is_not_taken_back_into_use() -> None:
    place = Place()
    place.deploy()
    kills(place).kill(ANNA, ENDPOINT, reason="it harms people")
    with place.ledger.transaction() as tx:
        change = Change("standing", f"{GOOD.name}@{GOOD.version}", {"state": "quarantined"})
        tx.append(Event("model.quarantine", GOOD, OMAR, T0, {}, (change,)))
    refused = kills(place).revive(OMAR, ENDPOINT, reason="fine")
    assert [(check.name, check.seen) for check in refused.failed] == [(f"standing of {GOOD}", "quarantined")]
    assert killed(place)["by"] == "anna"


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (GOOD_DRILL, "allow"),
        (Measured(5001, 0, 20, 20), "deny"),
        (Measured(60, 5001, 20, 20), "deny"),
        (Measured(None, 0, 20, 20), "deny"),
        (Measured(60, 20, 0, 20), "deny"),
        (Measured(60, 20, 20, 0), "deny"),
    ],
)
def test_a_drill_shows_something_only_where_answers_were_stopped_in_time(seen: Measured, verdict: str) -> None:
    assert judge_drill(ENDPOINT, seen, (ANNA, T0), live=False).verdict == verdict


@given(st.text(min_size=1), st.text(min_size=1), st.sampled_from(["person", "service", "system"]))
def test_whoever_revives_is_another_person(killer: str, name: str, kind: str) -> None:
    decision = may_revive(ENDPOINT, {"by": killer}, Actor(name, kind), T0, "fine")
    assert decision.allowed == (killer != name and kind == "person")


def test_a_drill_is_due_after_a_month_and_where_the_last_one_failed() -> None:
    last = {"at": "2013-05-01T00:00:00.000Z", "verdict": "allow"}
    assert drill_due(None, T0)
    assert not drill_due(last, T0 + DRILL.span)
    assert drill_due(last, T0 + DRILL.span + timedelta(seconds=1))
    assert drill_due({**last, "verdict": "deny"}, T0)


def test_the_last_answer_is_read_from_the_log_whatever_else_stands_there() -> None:
    begun = datetime(2013, 5, 1, tzinfo=UTC)
    early, late = (f'{{"kind":"prediction","wrote":"2013-05-01T00:00:0{n}.250Z"}}'.encode() for n in (1, 2))
    label = b'{"kind":"label","wrote":"2013-05-01T00:00:09.000Z"}'
    assert last_answer_ms(Log(), begun) == 0
    assert last_answer_ms(Log([early], [late, label, b"{broken"]), begun) == 2250
    assert last_answer_ms(Log([early]), begun + timedelta(days=1)) == 0
