"""What was so at a moment is what the ledger held at that moment, whatever happened before and since."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.stages.governance.asof import State, history, state_at, terms, told
from falaj.stages.rollouts.kills import Kills, Measured
from falaj.stages.rollouts.service import Rollouts
from tests.kits.rollouts import ANNA, DAY, ENDPOINT, GOOD, NEW, T0, Place

OMAR = Actor("omar", "person", ("operator",))
START = datetime(2026, 3, 1, tzinfo=UTC)
KINDS, KEYS = ("model", "endpoint", "alert", "key"), ("a", "b", "c")

CHANGES = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from(KEYS), st.none() | st.integers(0, 9)), min_size=0, max_size=4
)
STEPS = st.lists(st.tuples(st.integers(0, 3), CHANGES), max_size=25)


def live(ledger: MemoryLedger) -> dict[tuple[str, str], Any]:
    return {(kind, key): body for kind in KINDS for key, body in ledger.find(kind)}


def event(at: datetime, changes: list[tuple[str, str, int | None]]) -> Event:
    made = tuple(Change(kind, key, None if n is None else {"n": n}) for kind, key, n in changes)
    return Event("a.b", Ref("model", "delay"), ANNA, at, {}, made)


@given(STEPS)
def test_the_state_at_a_moment_is_what_the_ledger_held_then(steps: list[Any]) -> None:
    """Live state is written down whenever the clock moves on, and compared with the fold of what is known in the end."""
    ledger, now, held = MemoryLedger(), START, {}
    for wait, changes in steps:
        now += timedelta(minutes=wait)
        with ledger.transaction() as tx:
            tx.append(event(now, changes))
        held[now] = live(ledger)
    events = list(ledger.events())
    for at, records in held.items():
        assert state_at(events, at).records == records
        assert state_at(events, at + timedelta(seconds=59)).records == records
    assert state_at(events, START - timedelta(seconds=1)) == State()


@given(STEPS, st.data())
def test_an_action_that_took_long_does_not_count_before_it_was_committed(steps: list[Any], data: Any) -> None:
    """Times that go back, as of a training that was asked for long ago: each moment still has a state that once was live."""
    ledger, now, seen = MemoryLedger(), START, [dict[tuple[str, str], Any]()]
    asked = []
    for wait, changes in steps:
        now += timedelta(minutes=wait)
        at = now - timedelta(minutes=data.draw(st.integers(0, 10)))
        asked.append(at)
        with ledger.transaction() as tx:
            tx.append(event(at, changes))
        seen.append(live(ledger))
    events = list(ledger.events())
    for at in [START + timedelta(minutes=n) for n in range(-10, 80, 7)]:
        state = state_at(events, at)
        assert state.records == seen[state.events]
        assert all(one <= at for one in asked[: state.events])


def test_what_took_an_hour_was_not_so_within_that_hour() -> None:
    """A deployment that was asked for at noon and committed at one answered nobody at half past twelve."""
    place = Place()
    place.now = START
    kernel = place.rollouts.kernel
    late = iter([START, START + timedelta(hours=1)])
    slow = replace(place.rollouts.place, kernel=replace(kernel, now=lambda: next(late, START + timedelta(hours=1))))
    Rollouts(slow).deploy(ANNA, ENDPOINT, model=GOOD, reason="it loads long")
    events = list(place.ledger.events())
    deployed = next(one for one in events if one.verb == "endpoint.deploy")
    assert (deployed.at, deployed.facts["took_ms"]) == (START, 3_600_000)
    assert ("endpoint", "delay") not in state_at(events, START + timedelta(minutes=30)).records
    assert ("endpoint", "delay") in state_at(events, START + timedelta(hours=1)).records
    assert [term.since for term in terms(events)] == [START + timedelta(hours=1)]


def test_a_record_says_who_wrote_it_last_until_it_is_gone() -> None:
    first, second = event(START, [("model", "a", 1)]), event(START + DAY, [("model", "a", None)])
    state = state_at([first], START)
    assert state.written["model", "a"].by == "person:anna"
    assert state_at([first, second], START + DAY).written == {}


def scene() -> tuple[Place, list[Event]]:
    """Deployed, a canary that is promoted by hand, killed, revived: a day each."""
    place = Place()
    place.deploy()
    place.now += DAY
    place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason="next")
    place.now += DAY
    place.rollouts.switches.switch(OMAR, ENDPOINT, model=NEW, reason="next")
    place.now += DAY
    switch = Kills(place.rollouts.place, lambda _e: _Empty(), lambda: place.now, lambda _w: Measured(1, 1))
    switch.kill(ANNA, ENDPOINT, reason="stop")
    place.now += DAY
    switch.revive(OMAR, ENDPOINT, reason="fine")
    return place, list(place.ledger.events())


class _Empty:
    def seals(self) -> list[Any]:
        return []

    def lines(self, segment: int) -> list[bytes]:
        from falaj.core.errors import NotFound

        raise NotFound("none")

    line: Any = None
    follow: Any = None


def test_terms_say_who_answered_when_and_who_began_and_ended_it() -> None:
    _, events = scene()
    rows = [(t.model, t.role, t.since - T0, t.by, t.until and t.until - T0, t.ended_verb) for t in terms(events)]
    assert rows == [
        (str(GOOD), "champion", 0 * DAY, "person:anna", 2 * DAY, "endpoint.switch"),
        (str(NEW), "champion", 2 * DAY, "person:omar", 3 * DAY, "endpoint.kill"),
        (str(NEW), "champion", 4 * DAY, "person:omar", None, ""),
    ]


def test_what_served_then_is_told_with_its_weights_and_who_put_it_there() -> None:
    _, events = scene()
    then = [event for event in events if event.at <= T0 + 2 * DAY]
    shown = told(state_at(events, T0 + 2 * DAY), [t for t in terms(then) if t.is_open], T0 + 2 * DAY)
    [endpoint] = shown["endpoints"]
    [arm] = endpoint["serving"]
    assert (arm["model"], arm["weights"], arm["by"], arm["share"]) == (str(NEW), "sha256:2", "person:omar", 1.0)
    assert endpoint["out_of_use"] is None
    out = told(state_at(events, T0 + 3 * DAY), [], T0 + 3 * DAY)["endpoints"][0]
    assert (out["serving"], out["out_of_use"]["by"]) == ([], "anna")
    assert told(state_at(events, T0 - DAY), [], T0 - DAY)["endpoints"] == []


def test_the_policies_that_were_asked_are_known_from_the_facts() -> None:
    told_so = Event("endpoint.deploy", ENDPOINT, ANNA, START, {"policy": {"set": "sha256:abc"}})
    assert state_at([told_so, event(START + DAY, [])], START + DAY).policy_set == "sha256:abc"


def test_a_models_history_is_in_order_and_of_that_model_alone() -> None:
    _, events = scene()
    other = Event(
        "model.register", Ref("model", "else", "1"), ANNA, T0, {}, (Change("model", "else@1", {"ref": "model/else@1"}),)
    )
    rows = history([*events, other], "delay")
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert {row["model"].partition("@")[0] for row in rows} == {"model/delay"}
    assert [row["what"] for row in rows if row["what"].startswith("answers")] == [
        "answers", "answers no more", "answers", "answers no more", "answers"
    ]  # fmt: skip
