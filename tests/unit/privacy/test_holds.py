from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.actor import Actor
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound
from falaj.core.ref import Ref
from falaj.stages.privacy.holds import means
from tests.kits.privacy import APPROVER, DAY, DPO, OPERATOR, OTHER_DPO, ROBOT, START, House

CASE = Ref("hold", "case-17")
TRIPS = Ref.parse("dataset/trips@7")
REFS = st.builds(
    Ref, st.sampled_from(["dataset", "model", "endpoint"]), st.sampled_from(["a", "b"]), st.none() | st.sampled_from(["1", "2"])
)


def placed(house: House, scope: str = "dataset/trips", actor: Actor = DPO) -> None:
    assert house.holds.place(actor, CASE, scope=scope, reason="case 17", until=START + 30 * DAY).allowed


@pytest.mark.parametrize(
    ("scope", "is_held"),
    [
        ("all", True),
        ("dataset/trips", True),
        ("dataset/trips@7", True),
        ("dataset/trips@8", False),
        ("dataset/trip", False),
        ("model/trips", False),
    ],
)
def test_a_hold_keeps_what_is_in_its_scope(house: House, scope: str, is_held: bool) -> None:
    placed(house, scope)
    assert house.holds.holding([TRIPS]) == (["hold/case-17"] if is_held else [])


@given(REFS, REFS)
def test_a_scope_without_version_means_every_version_and_one_with_it_that_alone(scope: Ref, ref: Ref) -> None:
    wanted = (scope.kind, scope.name) == (ref.kind, ref.name) and scope.version in (None, ref.version)
    assert means(str(scope), [ref]) == wanted
    assert means("all", [ref])


def test_a_hold_on_a_person_keeps_whatever_may_have_people_in_it(house: House) -> None:
    placed(house, str(house.subjects.subject("T-1")))
    assert house.holds.holding([TRIPS], has_people=True) == ["hold/case-17"]
    assert house.holds.holding([Ref("model", "delay", "1")]) == []
    assert "T-1" not in house.everything().decode()


def test_a_hold_goes_once_two_different_people_say_so(house: House) -> None:
    placed(house)
    first = house.holds.release(DPO, CASE, reason="settled")
    again = house.holds.release(DPO, CASE, reason="settled, really")
    assert (first.verdict, again.verdict) == ("hold", "hold")
    assert house.holds.holding([TRIPS])
    assert house.holds.release(APPROVER, CASE, reason="settled").allowed
    assert house.holds.holding([TRIPS]) == []
    assert [event.verb for event in house.events("hold.")] == ["hold.place", *["hold.release"] * 3]
    assert house.ledger.get("approval", "hold/case-17|amal")["reason"] == "settled"
    with pytest.raises(Conflict, match="released already"):
        house.holds.release(DPO, CASE, reason="settled")


def test_a_program_neither_places_nor_releases(house: House) -> None:
    assert house.holds.place(ROBOT, CASE, scope="all", reason="x", until=START + DAY).verdict == "deny"
    assert house.ledger.get("hold", "case-17") is None
    placed(house)
    house.holds.release(DPO, CASE, reason="settled")
    assert house.holds.release(ROBOT, CASE, reason="settled").verdict == "deny"
    assert house.holds.holding([TRIPS])


def test_whose_role_is_another_may_not(house: House) -> None:
    with pytest.raises(Denied):
        house.holds.place(OPERATOR, CASE, scope="all", reason="x", until=START + DAY)
    placed(house)
    with pytest.raises(Denied):
        house.holds.release(OPERATOR, CASE, reason="x")


def test_a_hold_ends_by_itself_and_that_is_told_before(house: House) -> None:
    placed(house)
    assert house.holds.ending(house.now) == []
    house.now += 17 * DAY
    assert house.holds.ending(house.now) == ["hold/case-17 on dataset/trips ends by itself at 2026-02-14T12:00:00.000Z"]
    house.now += 12 * DAY
    assert house.holds.holding([TRIPS])
    house.now += DAY
    assert house.holds.holding([TRIPS]) == house.holds.ending(house.now) == []
    assert [hold["holds"] for hold in house.holds.listing()] == [False]


def test_what_cannot_be_a_hold_is_refused_and_leaves_nothing(house: House) -> None:
    later = START + DAY
    for scope in ("", "everything", "key/amal", "dataset/../x", "dataset"):
        with pytest.raises(InvalidInput):
            house.holds.place(DPO, CASE, scope=scope, reason="x", until=later)
    with pytest.raises(InvalidInput, match="is past"):
        house.holds.place(DPO, CASE, scope="all", reason="x", until=START)
    for reason in ("", "  ", "a\nb", "x" * 501):
        with pytest.raises(InvalidInput, match="one line"):
            house.holds.place(DPO, CASE, scope="all", reason=reason, until=later)
    with pytest.raises(NotFound):
        house.holds.release(DPO, CASE, reason="x")
    placed(house)
    with pytest.raises(Conflict, match="already"):
        house.holds.place(OTHER_DPO, CASE, scope="model/other", reason="x", until=later)
    assert [hold["scope"] for hold in house.holds.listing()] == ["dataset/trips"]
