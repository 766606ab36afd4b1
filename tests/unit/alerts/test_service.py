"""Alerts are opened once, close by themselves, and their messages survive whatever happens to the receiver."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.decision import Check, Decision
from falaj.core.errors import NotFound, Unavailable
from falaj.core.ref import Ref
from falaj.stages.action import Kernel
from falaj.stages.alerts.service import Alerts
from falaj.stages.alerts.spec import Alerting

T0 = datetime(2013, 5, 1, tzinfo=UTC)
WORKER, ANNA = Actor("worker", "service"), Actor("anna")
MONITOR = Ref("monitor", "delay")
BAD = Decision(MONITOR, "drift", "deny", (Check("temp", "p > 0.01", "p = 1e-9", False),), reason="temp")
GOOD = Decision(MONITOR, "drift", "allow")
BLIND = Decision(MONITOR, "drift", "hold")


class Everybody:
    def decide(self, actor: Actor, verb: str, subject: Ref, labels: Mapping[str, Any]) -> Decision:
        return Decision(subject, "policy", "allow", actor=actor)


class Post:
    """Keeps what arrives, unless it is told to be down."""

    def __init__(self) -> None:
        self.arrived: list[Mapping[str, Any]] = []
        self.down = False

    def send(self, message: Mapping[str, Any]) -> None:
        if self.down:
            raise Unavailable("nobody home")
        self.arrived.append(message)


class Place:
    def __init__(self) -> None:
        self.now, self.post, self.ledger = T0, Post(), MemoryLedger()
        self.alerts = self.opened()

    def opened(self) -> Alerts:
        return Alerts(Kernel(self.ledger, Everybody(), lambda: self.now), self.post, Alerting(clear_looks=2))

    def state(self, version: int = 1) -> str:
        body = self.ledger.get("alert", f"drift-monitor-delay@{version}")
        assert body is not None
        return str(body["state"])


def test_the_same_trouble_is_one_alert() -> None:
    place = Place()
    refs = [place.alerts.raise_from(WORKER, BAD) for _ in range(3)]
    assert [str(ref) for ref in refs] == ["alert/drift-monitor-delay@1"] * 3
    (alert,) = place.alerts.all()
    assert (alert.count, alert.state) == (3, "open")
    assert alert.facts["checks"] == [{"name": "temp", "wanted": "p > 0.01", "seen": "p = 1e-9"}]


def test_enough_clear_looks_resolve_it_and_blind_ones_do_not() -> None:
    place = Place()
    place.alerts.raise_from(WORKER, BAD)
    for decision in (GOOD, BLIND, BAD, GOOD, BLIND):
        place.alerts.raise_from(WORKER, decision)
    assert place.state() == "open"
    place.alerts.raise_from(WORKER, GOOD)
    assert place.state() == "resolved"
    assert str(place.alerts.raise_from(WORKER, BAD)) == "alert/drift-monitor-delay@2"


def test_clear_looks_are_counted_across_processes() -> None:
    place = Place()
    place.alerts.raise_from(WORKER, BAD)
    for decision, state in ((GOOD, "open"), (BAD, "open"), (GOOD, "open"), (GOOD, "resolved")):
        place.alerts = place.opened()  # as another process has it
        place.alerts.raise_from(WORKER, decision)
        assert place.state() == state
    place.alerts.raise_from(WORKER, GOOD)
    assert [event.verb for event in place.ledger.events()][-3:] == ["alert.open", "alert.clear", "alert.resolve"]


def test_a_person_acknowledges_and_resolves() -> None:
    place = Place()
    ref = place.alerts.raise_from(WORKER, BAD)
    assert ref is not None
    place.alerts.acknowledge(ANNA, ref)
    place.alerts.raise_from(WORKER, BAD)
    assert place.state() == "acknowledged"
    place.alerts.resolve(ANNA, ref, reason="the sensor was replaced")
    place.alerts.deliver_due(WORKER, place.now)
    assert [message["kind"] for message in place.post.arrived] == ["opened", "acknowledged", "resolved"]
    with pytest.raises(NotFound):
        place.alerts.acknowledge(ANNA, Ref("alert", "drift-monitor-delay", "9"))


def test_a_dead_receiver_loses_nothing() -> None:
    place = Place()
    place.post.down = True
    place.alerts.raise_from(WORKER, BAD)
    for minute in range(90):
        place.now = T0 + timedelta(minutes=minute)
        assert place.alerts.deliver_due(WORKER, place.now) == 0
    # The waits double, so an hour and a half costs the ledger few events.
    assert len(list(place.ledger.events(verb="alert.deliver"))) < 12
    place.alerts = place.opened()
    place.post.down = False
    place.now += timedelta(hours=2)
    assert place.alerts.deliver_due(WORKER, place.now) == 1
    assert place.alerts.deliver_due(WORKER, place.now) == 0
    assert [message["id"] for message in place.post.arrived] == ["alert/drift-monitor-delay@1.opened"]


def test_a_crash_between_sending_and_recording_sends_the_same_id_again() -> None:
    place = Place()
    ref = place.alerts.raise_from(WORKER, BAD)
    assert ref is not None

    class Crash(Exception):
        pass

    class Dying(Post):
        def send(self, message: Mapping[str, Any]) -> None:
            super().send(message)
            raise Crash

    dying = Dying()
    with pytest.raises(Crash):
        Alerts(place.alerts.kernel, dying).deliver(WORKER, ref)
    assert place.alerts.deliver_due(WORKER, place.now) == 1
    assert dying.arrived == place.post.arrived
