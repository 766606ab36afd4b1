"""A/B tests: who answers whom is written down, changes as little as it can, and ends with a winner."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.decision import Decision
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.inference.router import split_of
from falaj.ports.ledger import Transaction
from tests.kits.rollouts import ANNA, DENIED, ENDPOINT, GOOD, NEW, OTHER, T0, Breaking, Place

VARIANTS = {"b": NEW, "c": OTHER}
WEIGHTS = {"b": 0.3, "c": 0.2}


def begun(place: Place | None = None) -> Place:
    place = place or Place()
    place.deploy()
    place.rollouts.experiments.split(ANNA, ENDPOINT, variants=VARIANTS, weights=WEIGHTS, reason="which one?")
    return place


def answered(place: Place) -> list[str]:
    arms = place.host.wanted["delay"].arms
    split = split_of(arms, place.host.wanted["delay"].salt)
    return [arms[split.of(f"u{n}")].role for n in range(2000)]


def test_an_experiment_gives_each_variant_its_weight_and_the_champion_the_rest() -> None:
    place = begun()
    assert place.arms() == {"champion": "1", "variant-b": "2", "variant-c": "4"}
    assert place.shares() == {str(GOOD): 0.5, str(NEW): 0.3, str(OTHER): 0.2}
    record = place.rollouts.experiments.show(Ref("experiment", "delay", "1"))
    assert record["weights"] == WEIGHTS
    assert record["variants"]["b"] == {"model": str(NEW), "release": "release/delay@2"}
    assert record["variants"]["c"]["release"] == "release/delay@3"
    assert (record["by"], record["reason"], record["salt"]) == ("person:anna", "which one?", "delay.split1.0")
    assert place.rollouts.busy("delay") == Ref("experiment", "delay", "1")
    assert place.rollouts.live("delay") is None


def test_new_weights_move_units_to_and_from_the_champion_alone() -> None:
    place = begun()
    before = answered(place)
    place.rollouts.experiments.weigh(ANNA, ENDPOINT, weights={"b": 0.5, "c": 0.1}, reason="b looks good")
    after = answered(place)
    moved = {(b, a) for b, a in zip(before, after, strict=True) if b != a}
    assert moved == {("champion", "variant-b"), ("variant-c", "champion")}
    record = place.rollouts.experiments.show(Ref("experiment", "delay", "1"))
    assert [point["weights"] for point in record["history"]] == [WEIGHTS, {"b": 0.5, "c": 0.1}]
    assert record["history"][1]["reason"] == "b looks good"


def test_the_winner_becomes_the_champion_in_one_change() -> None:
    place = begun()
    assert place.rollouts.experiments.unsplit(ANNA, ENDPOINT, winner="b", reason="b it is") == NEW
    assert place.arms() == {"champion": "2"}
    assert place.champion() == "2"
    record = place.rollouts.experiments.show(Ref("experiment", "delay", "1"))
    assert record["winner"] == "b"
    assert record["ended_at"] is not None
    outcomes = [(place.ledger.get("release", f"delay@{n}") or {}).get("outcome") for n in (2, 3)]
    assert outcomes == ["promoted", "ended"]
    assert place.rollouts.busy("delay") is None
    assert place.rollouts.switches.rollback(ANNA, ENDPOINT, reason="after all not") == GOOD


def test_the_champion_may_win_too() -> None:
    place = begun()
    assert place.rollouts.experiments.unsplit(ANNA, ENDPOINT, winner="champion", reason="nothing better") == GOOD
    assert place.arms() == {"champion": "1"}
    assert place.champion() == "1"


def test_an_experiment_keeps_rollouts_deploys_and_switches_away_and_the_other_way_round() -> None:
    place = begun()
    place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason="x")
    for refused in (
        lambda: place.rollouts.start(ANNA, ENDPOINT, challenger=NEW),
        lambda: place.rollouts.deploy(ANNA, ENDPOINT, model=NEW, reason="x"),
        lambda: place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason="x"),
        lambda: place.rollouts.experiments.split(ANNA, ENDPOINT, variants=VARIANTS, weights=WEIGHTS, reason="x"),
    ):
        with pytest.raises(Conflict, match="experiment/delay@1 is under way") as told:
            refused()
        assert told.value.hint == "falaj endpoint unsplit delay"
    other = Place()
    other.begin()
    with pytest.raises(Conflict, match="rollout/delay@1 is under way"):
        other.rollouts.experiments.split(ANNA, ENDPOINT, variants=VARIANTS, weights=WEIGHTS, reason="x")


def test_every_experiment_has_a_salt_of_its_own() -> None:
    place = begun()
    first = answered(place)
    place.rollouts.experiments.unsplit(ANNA, ENDPOINT, winner="champion", reason="x")
    place.rollouts.experiments.split(ANNA, ENDPOINT, variants=VARIANTS, weights=WEIGHTS, reason="again")
    assert answered(place) != first
    assert place.rollouts.busy("delay") == Ref("experiment", "delay", "2")


@pytest.mark.parametrize(
    ("variants", "weights", "error"),
    [
        ({}, {}, InvalidInput),
        ({"b": NEW}, {"b": 1.2}, InvalidInput),
        ({"b": NEW}, {"c": 0.2}, InvalidInput),
        ({"B c": NEW}, {"B c": 0.2}, InvalidInput),
        ({"b": DENIED}, {"b": 0.2}, Conflict),
        ({f"v{n}": NEW for n in range(9)}, {f"v{n}": 0.1 for n in range(9)}, InvalidInput),
    ],
)
def test_what_cannot_be_an_experiment_is_refused_and_leaves_nothing(
    variants: dict[str, Ref], weights: dict[str, float], error: type[Exception]
) -> None:
    place = Place()
    place.deploy()
    before = len(list(place.ledger.events()))
    with pytest.raises(error):
        place.rollouts.experiments.split(ANNA, ENDPOINT, variants=variants, weights=weights, reason="x")
    assert len(list(place.ledger.events())) == before
    assert place.arms() == {"champion": "1"}


def test_a_variant_that_cannot_be_loaded_leaves_no_experiment() -> None:
    host = Breaking()
    place = Place(host=host)
    place.deploy()
    host.problem = Conflict("The bytes are not those that were signed.")
    with pytest.raises(Conflict, match="signed"):
        place.rollouts.experiments.split(ANNA, ENDPOINT, variants=VARIANTS, weights=WEIGHTS, reason="x")
    host.problem = None
    place.rollouts.reconcile()
    assert place.arms() == {"champion": "1"}
    assert place.rollouts.busy("delay") is None
    with pytest.raises(NotFound):
        place.rollouts.experiments.show(Ref("experiment", "delay", "1"))


def test_without_an_experiment_there_is_nothing_to_weigh_or_to_end() -> None:
    place = Place()
    place.deploy()
    with pytest.raises(Conflict, match="No experiment"):
        place.rollouts.experiments.weigh(ANNA, ENDPOINT, weights=WEIGHTS, reason="x")
    with pytest.raises(Conflict, match="No experiment"):
        place.rollouts.experiments.unsplit(ANNA, ENDPOINT, winner="b", reason="x")
    begun(place)
    with pytest.raises(NotFound, match="variant"):
        place.rollouts.experiments.unsplit(ANNA, ENDPOINT, winner="d", reason="x")


def test_the_record_of_a_long_experiment_stays_small() -> None:
    from falaj.core.codec import canonical, encode

    place = begun()
    for n in range(120):
        place.rollouts.experiments.weigh(
            ANNA, ENDPOINT, weights={"b": (n % 40 + 1) / 100, "c": (n * 7 % 40 + 1) / 100}, reason="r" * 120
        )
    assert max(len(canonical(encode(event))) for event in place.ledger.events()) < 48_000


def quarantined(place: Place, model: Ref) -> None:
    with place.ledger.transaction() as tx:
        change = Change("standing", f"{model.name}@{model.version}", {"state": "quarantined"})
        tx.append(Event("model.quarantine", model, ANNA, T0, {}, (change,)))


def test_a_variant_that_was_quarantined_meanwhile_gets_no_more_callers_and_may_lose_them() -> None:
    place = begun()
    quarantined(place, NEW)
    weigh = place.rollouts.experiments.weigh
    with pytest.raises(Conflict, match="quarantined"):
        weigh(ANNA, ENDPOINT, weights={**WEIGHTS, "b": WEIGHTS["b"] + 0.01}, reason="more of b")
    record = weigh(ANNA, ENDPOINT, weights={**WEIGHTS, "b": 0.01}, reason="less of b")
    assert record["weights"]["b"] == 0.01


class Meanwhile(MemoryLedger):
    """Does something between what a call reads first and the change that it commits."""

    then: Callable[[], None] | None = None

    def transaction(self) -> AbstractContextManager[Transaction]:
        then, self.then = self.then, None
        if then is not None:
            then()
        return super().transaction()


@pytest.mark.parametrize("step", ["deploy", "start", "prepare", "split", "shadow"])
def test_what_is_said_against_a_model_at_the_last_moment_counts(step: str) -> None:
    ledger = Meanwhile()
    place = Place(ledger=ledger)
    place.deploy()
    rollouts, before = place.rollouts, ledger.get("endpoint", "delay")
    ledger.then = lambda: quarantined(place, NEW)
    call: dict[str, Callable[[], object]] = {
        "deploy": lambda: rollouts.deploy(ANNA, ENDPOINT, model=NEW, reason="x"),
        "start": lambda: rollouts.start(ANNA, ENDPOINT, challenger=NEW),
        "prepare": lambda: rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason="x"),
        "split": lambda: rollouts.experiments.split(ANNA, ENDPOINT, variants={"b": NEW}, weights={"b": 0.1}, reason="x"),
        "shadow": lambda: rollouts.shadows.shadow(ANNA, ENDPOINT, model=NEW, share=0.5, reason="x"),
    }
    with pytest.raises(Conflict, match="quarantined"):
        call[step]()
    assert ledger.then is None
    assert ledger.get("endpoint", "delay") == before
    assert place.arms() == {"champion": "1"}


def test_a_variant_that_was_quarantined_meanwhile_does_not_become_the_champion() -> None:
    place = begun()
    quarantined(place, NEW)
    with pytest.raises(Conflict, match="quarantined"):
        place.rollouts.experiments.unsplit(ANNA, ENDPOINT, winner="b", reason="b it is")
    assert place.champion() == "1"
    assert place.rollouts.experiments.unsplit(ANNA, ENDPOINT, winner="champion", reason="back") == GOOD


def test_a_standby_that_was_quarantined_meanwhile_does_not_become_the_champion() -> None:
    place = Place()
    place.deploy()
    place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason="next")
    quarantined(place, NEW)
    with pytest.raises(Conflict, match="quarantined"):
        place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason="now")
    assert (place.arms(), place.champion()) == ({"champion": "1", "standby": "2"}, "1")


class Author:
    """Keeps one person from releasing one model, and from nothing else."""

    def __init__(self, model: Ref) -> None:
        self.model = model

    def decide(self, actor: Actor, verb: str, subject: Ref, labels: Any) -> Decision:
        is_kept = subject == self.model and verb in ("endpoint.split", "endpoint.switch", "endpoint.deploy")
        return Decision(subject, "policy", "deny" if is_kept else "allow", actor=actor, reason="its author")


def test_whoever_may_not_release_a_variant_neither_gives_it_more_callers_nor_crowns_it() -> None:
    place = begun()
    kernel = replace(place.rollouts.kernel, policy=Author(NEW))
    own = replace(place.rollouts.experiments, place=replace(place.rollouts.place, kernel=kernel))
    with pytest.raises(Denied):
        own.unsplit(ANNA, ENDPOINT, winner="b", reason="mine")
    with pytest.raises(Denied):
        own.weigh(ANNA, ENDPOINT, weights={"b": 0.8, "c": 0.1}, reason="mine")
    assert place.shares() == {str(GOOD): 0.5, str(NEW): 0.3, str(OTHER): 0.2}
    own.weigh(ANNA, ENDPOINT, weights={"b": 0.1, "c": 0.2}, reason="less of it")
    assert own.unsplit(ANNA, ENDPOINT, winner="champion", reason="none of them") == GOOD
