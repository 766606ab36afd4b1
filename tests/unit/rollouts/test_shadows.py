"""Shadows: beside whatever else is going on, and without a word to anybody."""

from __future__ import annotations

import pytest

from falaj.core.errors import Conflict, InvalidInput
from falaj.inference.router import shadowed
from tests.kits.rollouts import ANNA, DENIED, ENDPOINT, NEW, OTHER, Breaking, Place


def test_a_shadow_changes_nothing_about_who_answers() -> None:
    place = Place()
    place.deploy()
    place.rollouts.shadows.shadow(ANNA, ENDPOINT, model=NEW, share=0.2, reason="let us see")
    assert place.arms() == {"champion": "1", "shadow": "2"}
    assert place.champion() == "1"
    assert place.rollouts.busy("delay") is None


def test_a_shadow_goes_on_through_rollouts_experiments_and_switches() -> None:
    place = Place()
    place.deploy()
    place.rollouts.shadows.shadow(ANNA, ENDPOINT, model=OTHER, share=0.2, reason="let us see")
    rollout = place.rollouts.start(ANNA, ENDPOINT, challenger=NEW)
    assert place.arms() == {"champion": "1", "challenger": "2", "shadow": "4"}
    place.rollouts.abort(ANNA, rollout, reason="x")
    place.rollouts.experiments.split(ANNA, ENDPOINT, variants={"b": NEW}, weights={"b": 0.5}, reason="x")
    assert place.arms() == {"champion": "1", "variant-b": "2", "shadow": "4"}
    place.rollouts.experiments.unsplit(ANNA, ENDPOINT, winner="champion", reason="x")
    place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason="x")
    place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason="x")
    assert place.arms() == {"champion": "2", "standby": "1", "shadow": "4"}
    place.deploy()
    assert place.arms()["shadow"] == "4"


def test_a_greater_share_copies_whom_the_smaller_one_copied() -> None:
    place = Place()
    place.deploy()
    found = []
    for share in (0.1, 0.4):
        place.rollouts.shadows.shadow(ANNA, ENDPOINT, model=NEW, share=share, reason="x")
        arm = place.host.wanted["delay"].arms[-1]
        found.append({n for n in range(2000) if shadowed(arm, f"u{n}")})
    assert found[0] < found[1]
    assert len(list(place.ledger.find("release"))) == 2


def test_another_shadow_takes_the_place_and_the_first_has_ended() -> None:
    place = Place()
    place.deploy()
    place.rollouts.shadows.shadow(ANNA, ENDPOINT, model=NEW, share=1.0, reason="x")
    place.rollouts.shadows.shadow(ANNA, ENDPOINT, model=OTHER, share=1.0, reason="x")
    assert place.arms() == {"champion": "1", "shadow": "4"}
    assert (place.ledger.get("release", "delay@2") or {})["outcome"] == "ended"
    assert place.rollouts.shadows.unshadow(ANNA, ENDPOINT, reason="seen enough") == OTHER
    assert place.arms() == {"champion": "1"}
    with pytest.raises(Conflict, match="no shadow"):
        place.rollouts.shadows.unshadow(ANNA, ENDPOINT, reason="x")


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, 0.00001, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    place = Place()
    place.deploy()
    with pytest.raises(InvalidInput, match="share"):
        place.rollouts.shadows.shadow(ANNA, ENDPOINT, model=NEW, share=share, reason="x")


def test_a_shadow_that_may_not_or_cannot_be_loaded_is_none() -> None:
    host = Breaking()
    place = Place(host=host)
    place.deploy()
    with pytest.raises(Conflict, match="No gate"):
        place.rollouts.shadows.shadow(ANNA, ENDPOINT, model=DENIED, share=1.0, reason="x")
    host.problem = InvalidInput("no graph")
    with pytest.raises(InvalidInput):
        place.rollouts.shadows.shadow(ANNA, ENDPOINT, model=NEW, share=1.0, reason="x")
    host.problem = None
    place.rollouts.reconcile()
    assert place.arms() == {"champion": "1"}
