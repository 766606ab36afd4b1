from __future__ import annotations

from datetime import timedelta

import pytest

from falaj.core.errors import Denied, InvalidInput, NotFound
from falaj.core.ref import Ref
from falaj.stages.privacy.affected import Affected
from falaj.stages.registry.service import standing_of
from tests.kits.privacy import APPROVER, DAY, DPO, OPERATOR, ROBOT, START, WORKER, House

M = Ref.parse("model/delay@1")
DPIA = "sha256:" + "0" * 64


def marked(house: House, *requests: str) -> None:
    house.model(str(M))
    for request in requests or ("r1",):
        house.affected.mark(WORKER, M, request=request)


def test_a_mark_counts_each_request_once_and_has_ninety_days(house: House) -> None:
    marked(house, "r1", "r1", "r2")
    mark = house.affected.of("delay@1")
    assert mark is not None
    assert (mark["people"], mark["state"], mark["due"]) == (2, "open", "2026-04-15T12:00:00.000Z")


def test_a_retraining_is_asked_for_after_a_while_so_that_erasures_share_one(house: House) -> None:
    marked(house)
    assert house.affected.wanted(START + 29 * DAY) == []
    assert house.affected.wanted(START + 30 * DAY) == [(str(M), START)]
    house.put("alias", "delay@champion", {"model": str(M)})
    assert house.affected.late(START + 90 * DAY) == []
    assert len(house.affected.late(START + 91 * DAY)) == 1
    house.put("alias", "delay@champion", {"model": "model/delay@2"})
    assert house.affected.late(START + 91 * DAY) == []


def test_nobody_waits_longer_than_ninety_days(house: House) -> None:
    for days in (-1, 91):
        with pytest.raises(InvalidInput):
            Affected(house.kernel, timedelta(days=days))


def test_a_version_that_was_removed_stays_so_whatever_is_quarantined_and_justified(house: House) -> None:
    marked(house)
    house.put("standing", "delay@1", {"state": "expired"})
    house.affected.quarantine(APPROVER, M, reason="unlawful training")
    assert standing_of(house.ledger, M).seen == "expired"
    house.affected.justify(DPO, M, reason="the board decided")
    assert standing_of(house.ledger, M).seen == "expired"


def test_a_version_in_quarantine_stands_against_promotion_until_it_is_justified(house: House) -> None:
    marked(house)
    assert standing_of(house.ledger, M).passed
    house.affected.quarantine(APPROVER, M, reason="unlawful training")
    assert standing_of(house.ledger, M).passed is False
    decision = house.affected.justify(DPO, M, reason="the board decided")
    assert decision.allowed
    assert standing_of(house.ledger, M).passed
    mark = house.affected.of("delay@1")
    assert mark is not None
    assert (mark["state"], mark["justified"]["by"]) == ("justified", "person:noura")
    assert house.affected.wanted(START + 60 * DAY) == []
    house.affected.mark(WORKER, M, request="r2")
    again = house.affected.of("delay@1")
    assert again is not None
    assert (again["state"], again["people"]) == ("open", 2)  # another person, another question


@pytest.mark.parametrize(
    ("given", "is_right"),
    [
        ({"exception": "adgm-31-4-c", "dpia": DPIA, "policy": "DEL-1"}, True),
        ({"exception": "difc-22-4-c", "dpia": DPIA, "policy": "DEL-1"}, True),
        ({"exception": "gdpr-17", "dpia": DPIA, "policy": "DEL-1"}, False),
        ({"exception": "adgm-31-4-c", "dpia": "", "policy": "DEL-1"}, False),
        ({"exception": "adgm-31-4-c", "dpia": "sha256:abc", "policy": "DEL-1"}, False),
        ({"exception": "adgm-31-4-c", "dpia": DPIA, "policy": ""}, False),
        ({"exception": "adgm-31-4-c", "dpia": DPIA, "policy": "a b"}, False),
    ],
)
def test_the_laws_exception_needs_its_papers(house: House, given: dict[str, str], is_right: bool) -> None:
    marked(house)
    assert house.affected.justify(DPO, M, reason="x", **given).allowed == is_right
    mark = house.affected.of("delay@1")
    assert mark is not None
    assert mark["state"] == ("justified" if is_right else "open")


def test_only_the_officer_justifies_and_no_program(house: House) -> None:
    marked(house)
    with pytest.raises(Denied):
        house.affected.justify(OPERATOR, M, reason="x")
    assert house.affected.justify(ROBOT, M, reason="x").verdict == "deny"
    mark = house.affected.of("delay@1")
    assert mark is not None
    assert mark["state"] == "open"


def test_what_is_not_there_is_not_found(house: House) -> None:
    house.model("model/delay@2")
    with pytest.raises(NotFound):
        house.affected.quarantine(DPO, Ref.parse("model/delay@9"), reason="x")
    with pytest.raises(NotFound):
        house.affected.justify(DPO, Ref.parse("model/delay@2"), reason="x")
