from __future__ import annotations

import pytest

from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.core.ref import Ref
from falaj.stages.privacy.requests import identity_check
from tests.kits.privacy import APPROVER, DAY, DPO, ROBOT, START, House

R = Ref("request", "dsr-1")
TOKEN = "ab" * 32


def test_a_request_is_due_by_the_house_and_by_each_law(house: House) -> None:
    shown = house.requests.open(DPO, R, token=TOKEN, kind="access", regimes=("adgm", "pdpl"))
    assert shown["clocks"] == {"internal": "2026-02-05T12:00:00.000Z", "adgm": "2026-03-15T12:00:00.000Z"}
    assert (shown["due"], shown["is_late"]) == ("2026-02-05T12:00:00.000Z", False)


def test_the_longer_time_is_claimed_before_the_first_is_over(house: House) -> None:
    house.requests.open(DPO, R, token=TOKEN, kind="access", regimes=("adgm",))
    house.now += 50 * DAY
    shown = house.requests.extend(DPO, R, reason="many records")
    assert shown["clocks"]["adgm"] == "2026-04-15T12:00:00.000Z"
    with pytest.raises(Conflict):
        house.requests.extend(DPO, R, reason="again")
    other = Ref("request", "dsr-2")
    house.requests.open(DPO, other, token=TOKEN, kind="access", regimes=("adgm",), received=START)
    house.now += 30 * DAY
    with pytest.raises(Conflict, match="its time is over"):
        house.requests.extend(DPO, other, reason="too late")
    third = Ref("request", "dsr-3")
    house.requests.open(DPO, third, token=TOKEN, kind="access", regimes=("pdpl",))
    with pytest.raises(Conflict, match="no regime"):
        house.requests.extend(DPO, third, reason="x")


def test_what_is_pressing_is_told_and_what_is_answered_is_not(house: House) -> None:
    house.requests.open(DPO, R, token=TOKEN, kind="erasure")
    assert house.requests.pressing(house.now) == []
    house.now += 15 * DAY
    assert house.requests.pressing(house.now) == ["request/dsr-1 (erasure) is due: 2026-02-05T12:00:00.000Z"]
    house.now += 15 * DAY
    assert "is LATE" in house.requests.pressing(house.now)[0]
    assert house.requests.listing()[0]["is_late"]
    house.requests.close(DPO, R, outcome="answered")
    assert house.requests.pressing(house.now) == []
    assert house.requests.listing(only_open=True) == []
    with pytest.raises(Conflict):
        house.requests.close(DPO, R, outcome="again")


def test_what_cannot_be_taken_down_is_refused(house: House) -> None:
    with pytest.raises(NotFound):
        house.requests.open(DPO, R, token=TOKEN, kind="wish")
    with pytest.raises(NotFound):
        house.requests.open(DPO, R, token=TOKEN, kind="access", regimes=("mars",))
    for token, received in ((TOKEN, START + DAY), ("T-1", START)):
        with pytest.raises(InvalidInput):
            house.requests.open(DPO, R, token=token, kind="access", received=received)
    house.requests.open(DPO, R, token=TOKEN, kind="access")
    with pytest.raises(Conflict):
        house.requests.open(DPO, R, token=TOKEN, kind="access")
    for call in (house.requests.extend, house.requests.approve):
        with pytest.raises(NotFound):
            call(DPO, Ref("request", "none"), reason="x")


def test_a_program_approves_nothing(house: House) -> None:
    house.requests.open(DPO, R, token=TOKEN, kind="erasure")
    assert house.requests.approve(ROBOT, R, reason="x").verdict == "deny"
    assert house.requests.approve(APPROVER, R, reason="x").allowed
    assert [key for key, _ in house.ledger.find("approval")] == ["request/dsr-1|amal"]


@pytest.mark.parametrize("text", ["", "the man with the hat", "T-1", "ticket t-1", "x" * 81, "a\nb", "ticket/t-1"])
def test_an_identity_check_is_named_and_never_names_the_person(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        identity_check(text, "T-1")
    assert "T-1" not in str(caught.value)
    assert identity_check("ticket/1234", "T-1") == "ticket/1234"
