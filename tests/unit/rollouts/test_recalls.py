"""A version in quarantine leaves every endpoint that it answers on: back to one that may answer, or out of use."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.actor import Actor
from falaj.core.errors import Conflict, Unavailable
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.ports.host import Arm, Wanted
from falaj.stages.rollouts.endpoints import Held
from falaj.stages.rollouts.kills import Kills, Measured
from falaj.stages.rollouts.recalls import Recalls, next_step
from tests.kits.rollouts import ANNA, ENDPOINT, GOOD, NEW, OTHER, T0, Breaking, Place

WORKER = Actor("worker", "service", ("service",))
OMAR = Actor("omar", "person", ("operator",))


class Log:
    """A prediction log in which nothing was ever written."""

    def seals(self) -> list[Any]:
        return []

    def lines(self, _number: int) -> list[bytes]:
        from falaj.core.errors import NotFound

        raise NotFound("There is no such segment.")


@pytest.fixture
def place() -> Place:
    return Place()


def recalls(place: Place) -> Recalls:
    log: Any = Log()
    kills = Kills(place.rollouts.place, lambda _endpoint: log, lambda: place.now, lambda _wanted: Measured(1, 1))
    return Recalls(place.rollouts, kills)


def quarantine(place: Place, model: Ref, state: str | None = "quarantined") -> None:
    body = None if state is None else {"state": state, "at": T0}
    with place.ledger.transaction() as tx:
        tx.append(Event("model.quarantine", model, ANNA, T0, {}, (Change("standing", f"{model.name}@{model.version}", body),)))


def told(place: Place) -> str:
    [decision] = recalls(place).carry_out(WORKER)
    assert (decision.verdict, decision.rule, decision.subject) == ("deny", "quarantine", ENDPOINT)
    assert recalls(place).carry_out(WORKER) == [], "the same again does nothing"
    assert not {f"model/delay@{version}" for version in place.arms().values()} & bad(place) or killed(place)
    return decision.reason


def bad(place: Place) -> set[str]:
    return {f"model/{key}" for key, _ in place.ledger.find("standing")}


def killed(place: Place) -> bool:
    return bool(place.host.wanted["delay"].killed)


def test_where_nothing_is_in_quarantine_nothing_happens(place: Place) -> None:
    place.deploy()
    before = len(list(place.ledger.events()))
    assert recalls(place).carry_out(WORKER) == []
    assert len(list(place.ledger.events())) == before


def test_the_champion_goes_back_to_the_one_before(place: Place) -> None:
    place.deploy()
    place.deploy(NEW)
    quarantine(place, NEW)
    assert told(place) == "model/delay@2 is quarantined: taken back to model/delay@1"
    assert (place.arms(), place.champion(), killed(place)) == ({"champion": "1"}, "1", False)


def test_what_is_in_quarantine_too_is_passed_over(place: Place) -> None:
    for model in (GOOD, NEW, OTHER):
        place.deploy(model)
    quarantine(place, OTHER)
    quarantine(place, NEW, "expired")
    told(place)
    assert (place.arms(), place.champion()) == ({"champion": "1"}, "1")


def test_without_a_version_before_the_endpoint_goes_out_of_use(place: Place) -> None:
    place.deploy()
    quarantine(place, GOOD)
    assert "taken out of use, since endpoint/delay has no champion to go back to" in told(place)
    assert killed(place)
    place.rollouts.reconcile()
    assert killed(place)
    log: Any = Log()
    kills = Kills(place.rollouts.place, lambda _endpoint: log, lambda: place.now, lambda _wanted: Measured(1, 1))
    denied = kills.revive(OMAR, ENDPOINT, reason="we need it")
    assert (denied.verdict, denied.reason) == ("deny", "standing of model/delay@1: quarantined")
    assert killed(place)
    quarantine(place, GOOD, None)
    assert kills.revive(OMAR, ENDPOINT, reason="it was justified").allowed


def test_a_rollout_of_it_ends_and_the_champion_stays(place: Place) -> None:
    place.begin()
    quarantine(place, NEW)
    assert "was ended" in told(place)
    assert (place.shares(), place.rollouts.live("delay")) == ({"model/delay@1": 1.0}, None)


def test_a_champion_under_a_rollout_is_left_after_the_rollout(place: Place) -> None:
    place.deploy(OTHER)
    place.begin()  # deploys the first one
    quarantine(place, GOOD)
    told(place)
    assert (place.arms(), place.rollouts.live("delay")) == ({"champion": "4"}, None)


def test_standby_shadow_and_variants_go_too(place: Place) -> None:
    place.deploy()
    place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason="next")
    place.rollouts.shadows.shadow(ANNA, ENDPOINT, model=NEW, share=0.5, reason="look")
    place.rollouts.experiments.split(ANNA, ENDPOINT, variants={"b": NEW}, weights={"b": 0.5}, reason="which")
    quarantine(place, NEW)
    told(place)
    assert (place.arms(), place.rollouts.busy("delay")) == ({"champion": "1"}, None)


def test_a_warm_standby_that_was_left_does_not_stay_loaded(place: Place) -> None:
    place.deploy()
    place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason="next")
    place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason="go")
    quarantine(place, NEW)
    told(place)
    assert place.arms() == {"champion": "1"}


def test_a_standby_is_not_switched_to_and_a_challenger_not_crowned_once_it_is_in_quarantine(place: Place) -> None:
    place.deploy()
    place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason="next")
    quarantine(place, NEW)
    with pytest.raises(Conflict, match="quarantined"):
        place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason="go")
    assert place.champion() == "1"


def test_where_the_version_before_cannot_be_loaded_the_endpoint_goes_out_of_use() -> None:
    host = Breaking()
    place = Place(host=host)
    place.deploy()
    place.deploy(NEW)
    quarantine(place, NEW)
    host.problem = Unavailable("The host is away.")
    [decision] = recalls(place).carry_out(WORKER)
    assert "taken out of use (not every server has confirmed it: The host is away.), since The host is away." in decision.reason
    host.problem = None
    place.rollouts.reconcile()
    assert killed(place)


roles = st.sampled_from(["champion", "challenger", "standby", "shadow", "variant-b"])


@given(st.dictionaries(roles, st.integers(1, 4), min_size=1), st.sets(st.integers(1, 4)), st.booleans(), st.booleans())
def test_there_is_a_step_exactly_as_long_as_something_may_not_answer(
    arms: dict[str, int], withheld: set[int], rolls: bool, splits: bool
) -> None:
    made = tuple(Arm(role, f"model/delay@{version}", "d", 0.0, "release/delay@1") for role, version in arms.items())
    wanted = Wanted("delay", 1, made, "salt", 0.5)
    held = Held(wanted, "rollout/delay@1" if rolls else None, "experiment/delay@1" if splits else None)
    names = frozenset(f"model/delay@{version}" for version in withheld)
    step = next_step(held, names)
    assert (step is None) == (not names.intersection(arm.model for arm in made))
    assert step is None or step[1] in names
