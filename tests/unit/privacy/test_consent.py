from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import Denied, InvalidInput, NotFound
from falaj.core.ref import Ref
from falaj.stages.privacy.consent import Standing, permitted
from tests.kits.privacy import DAY, DPO, OPERATOR, START, House

TOKEN = "ab" * 32
STATES = st.sampled_from(["given", "withdrawn"])
STANDINGS = st.builds(
    Standing,
    st.booleans(),
    st.booleans(),
    st.dictionaries(
        st.sampled_from(["training", "marketing"]),
        st.fixed_dictionaries({"state": STATES, "version": st.sampled_from(["v1", "v2"])}),
    ),
)


@given(STANDINGS, st.booleans(), st.sampled_from(["", "v1", "v2"]))
def test_one_thing_that_speaks_against_it_is_enough(standing: Standing, needs_consent: bool, version: str) -> None:
    decision = permitted(TOKEN, standing, "training", needs_consent=needs_consent, version=version)
    consent = standing.consents.get("training")
    withdrawn = consent is not None and consent["state"] == "withdrawn"
    given_one = consent is not None and consent["state"] == "given" and version in ("", consent["version"])
    against = standing.is_erased or standing.is_restricted or withdrawn or (needs_consent and not given_one)
    assert decision.allowed == (not against)
    assert decision.verdict == ("deny" if against else "allow")


def test_having_said_nothing_is_a_no_where_consent_is_the_basis() -> None:
    assert permitted(TOKEN, Standing(), "training", needs_consent=True).verdict == "deny"
    assert permitted(TOKEN, Standing(), "training", needs_consent=False).allowed


def test_a_consent_counts_for_its_purpose_and_its_wording_until_it_is_withdrawn(house: House) -> None:
    subject = house.subjects.subject("T-1")
    token = subject.name
    assert not house.consent.may_use(token, "training").allowed
    house.consent.consent(DPO, subject, purpose="training", version="v1", evidence="form 7")
    assert house.consent.may_use(token, "training").allowed
    assert house.consent.may_use(token, "training", version="v1").allowed
    assert not house.consent.may_use(token, "training", version="v2").allowed
    assert not house.consent.may_use(token, "marketing").allowed
    house.consent.withdraw(DPO, subject, purpose="training")
    assert not house.consent.may_use(token, "training").allowed
    assert not house.consent.may_use(token, "training", needs_consent=False).allowed
    assert house.consent.excluded("training") == {token}
    assert house.consent.excluded("marketing") == frozenset()
    house.consent.consent(DPO, subject, purpose="training", version="v2")
    assert house.consent.may_use(token, "training").allowed
    assert house.consent.excluded("training") == frozenset()
    assert [event.verb for event in house.events("subject.")] == ["subject.consent", "subject.withdraw", "subject.consent"]
    assert b"T-1" not in house.everything()


def test_who_is_restricted_is_used_for_nothing_and_kept(house: House) -> None:
    subject = house.subjects.subject("T-1")
    house.consent.consent(DPO, subject, purpose="training", version="v1")
    house.consent.restrict(DPO, subject, reason="accuracy is contested")
    assert not house.consent.may_use(subject.name, "training").allowed
    assert house.consent.excluded("anything") == {subject.name}
    house.consent.unrestrict(DPO, subject, reason="mended")
    assert house.consent.may_use(subject.name, "training").allowed
    with pytest.raises(NotFound):
        house.consent.unrestrict(DPO, subject, reason="again")


def test_only_the_officer_speaks_for_people(house: House) -> None:
    subject = house.subjects.subject("T-1")
    for call in (
        lambda: house.consent.consent(OPERATOR, subject, purpose="training", version="v1"),
        lambda: house.consent.withdraw(OPERATOR, subject, purpose="training"),
        lambda: house.consent.restrict(OPERATOR, subject, reason="x"),
        lambda: house.subjects.find(OPERATOR, subject, person="T-1"),
    ):
        with pytest.raises(Denied):
            call()
    assert house.ledger.find("consent") == []


def test_what_is_no_token_no_purpose_no_version_is_refused_and_leaves_nothing(house: House) -> None:
    good = house.subjects.subject("T-1")
    for subject in (Ref("subject", "t-1"), Ref("model", good.name), Ref("subject", good.name[:63])):
        with pytest.raises(InvalidInput):
            house.consent.consent(DPO, subject, purpose="training", version="v1")
    for purpose, version in (
        ("Training", "v1"),
        ("", "v1"),
        ("a|b", "v1"),
        ("training", ""),
        ("training", "v 1"),
        ("x" * 65, "v1"),
    ):
        with pytest.raises(InvalidInput):
            house.consent.consent(DPO, good, purpose=purpose, version=version)
    with pytest.raises(InvalidInput):
        house.consent.may_use(good.name, "No Purpose")
    assert house.events() == []


def test_a_milestone_is_past_and_known_by_name(house: House) -> None:
    subject = house.subjects.subject("T-1")
    house.consent.mark(DPO, subject, event="relationship_end", at=START - DAY)
    with pytest.raises(InvalidInput, match="not past"):
        house.consent.mark(DPO, subject, event="relationship_end", at=START + DAY)
    with pytest.raises(NotFound):
        house.consent.mark(DPO, subject, event="birthday", at=START)
