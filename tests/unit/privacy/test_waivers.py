from __future__ import annotations

from datetime import timedelta

import pytest

from falaj.core.actor import Actor
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound
from falaj.core.ref import Ref
from tests.kits.privacy import APPROVER, DAY, DPO, OPERATOR, OTHER_DPO, ROBOT, START, House

W = Ref("waiver", "w1")
OTHER_APPROVER = Actor("fatima", "person", ("approver",))


def asked(house: House, floor: str = "1y", name: str = "health_record", days: int = 30) -> str:
    return house.waivers.ask(OPERATOR, W, name=name, floor=floor, reason="migration", until=START + days * DAY).verdict


def test_a_waiver_counts_once_two_others_granted_it_one_of_them_the_dpo(house: House) -> None:
    assert asked(house) == "allow"
    assert house.waivers.granted() == []
    assert house.waivers.grant(APPROVER, W, reason="fine").verdict == "hold"
    assert house.waivers.grant(APPROVER, W, reason="fine again").verdict == "hold"
    assert house.waivers.granted() == []
    assert house.waivers.grant(DPO, W, reason="fine").verdict == "allow"
    [waiver] = house.waivers.granted()
    assert waiver.counts(START)
    assert [row["counts"] for row in house.waivers.listing()] == [True]
    house.now += 30 * DAY
    assert not waiver.counts(house.now)
    assert [row["counts"] for row in house.waivers.listing()] == [False]
    assert [event.verb for event in house.events("waiver.")] == ["waiver.ask", *["waiver.grant"] * 3]


def test_two_approvers_without_the_dpo_are_not_enough(house: House) -> None:
    asked(house)
    decisions = [house.waivers.grant(actor, W, reason="fine") for actor in (APPROVER, OTHER_APPROVER)]
    assert [decision.verdict for decision in decisions] == ["hold", "hold"]
    assert decisions[1].checks[1].passed is None
    assert house.waivers.granted() == []
    assert house.waivers.grant(OTHER_DPO, W, reason="fine").allowed


def test_nobody_grants_what_they_asked_for(house: House) -> None:
    house.waivers.ask(DPO, W, name="health_record", floor="1y", reason="x", until=START + DAY)
    assert house.waivers.grant(DPO, W, reason="fine").verdict == "deny"
    assert house.waivers.grant(APPROVER, W, reason="fine").verdict == "hold"
    assert house.waivers.granted() == []
    assert house.waivers.grant(OTHER_DPO, W, reason="fine").allowed


def test_a_program_asks_for_none_and_grants_none(house: House) -> None:
    assert house.waivers.ask(ROBOT, W, name="health_record", floor="1y", reason="x", until=START + DAY).verdict == "deny"
    asked(house)
    assert house.waivers.grant(ROBOT, W, reason="x").verdict == "deny"
    assert house.ledger.find("approval") == []


def test_what_is_kept_for_ever_cannot_be_waived(house: House) -> None:
    assert asked(house, "1d", "model_version_ever_in_production") == "deny"
    assert house.ledger.get("waiver", "w1") is None


@pytest.mark.parametrize("floor", ["25y", "30y", "forever"])
def test_what_lowers_nothing_is_no_waiver(house: House, floor: str) -> None:
    assert asked(house, floor) == "deny"
    assert house.ledger.get("waiver", "w1") is None


def test_a_waiver_is_for_a_while_for_a_class_and_has_a_name_of_its_own(house: House) -> None:
    for days in (0, -1, 91):
        with pytest.raises(InvalidInput, match="would end"):
            asked(house, days=days)
    with pytest.raises(NotFound) as caught:
        asked(house, name="health_records")
    assert "health_record" in caught.value.hint
    with pytest.raises(InvalidInput):
        asked(house, floor="soon")
    asked(house)
    with pytest.raises(Conflict):
        asked(house)
    with pytest.raises(NotFound):
        house.waivers.grant(DPO, Ref("waiver", "w2"), reason="x")
    with pytest.raises(Denied):
        house.waivers.grant(OPERATOR, W, reason="x")


def test_a_waiver_that_is_over_or_granted_is_granted_no_more(house: House) -> None:
    asked(house)
    house.now += timedelta(days=31)
    with pytest.raises(Conflict, match="is over"):
        house.waivers.grant(DPO, W, reason="late")
