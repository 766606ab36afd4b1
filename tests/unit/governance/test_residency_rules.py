"""Data lies where a rule or a grant lets it, and nowhere else, whatever is missing, misspelled, expired or forged."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import FalajError, InvalidInput, NotFound
from falaj.core.places import UNKNOWN
from falaj.core.ref import Ref
from falaj.stages.governance.residency.registry import read_registry, registry, tightened
from falaj.stages.governance.residency.rules import BASES, Grant, Law, Matter, drawn_up, may_lie

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KNOWN = registry()
ONSHORE = Law(KNOWN, "uae-onshore")
PAPER = "sha256:" + "a" * 64
ZONES, CLASSES = sorted(KNOWN.zones), sorted(KNOWN.classes)
DATASETS = ("trips", "claims")
HEALTH = dict.fromkeys(KNOWN.classes["health"].conditions, PAPER)


def matter(*classes: str, datasets: tuple[str, ...] = ("trips",)) -> Matter:
    return Matter(Ref("zone", "all"), classes, datasets)


def grant(**changes: Any) -> Grant:
    made = Grant(
        "move", "clauses", PAPER, ("personal",), ("trips",), "difc", NOW + timedelta(days=90), "amal", NOW - timedelta(days=1),
        {}, {"noura": ("dpo",), "omar": ("approver",)},
    )  # fmt: skip
    return replace(made, **changes)


def lies(cls: str, zone: str, *grants: Grant, law: Law = ONSHORE, at: datetime = NOW, **more: Any) -> bool:
    return may_lie(matter(cls, **more), zone, law, grants, at).allowed


def test_data_stays_where_the_installation_is() -> None:
    for cls in CLASSES:
        assert lies(cls, "uae-onshore"), cls
    assert [zone for zone in ZONES if lies("personal", zone)] == ["uae-onshore"]
    assert [zone for zone in ZONES if lies("public", zone)] == ZONES
    assert may_lie(Matter(Ref("zone", "all")), "difc", ONSHORE, (), NOW).checks[0].name == "unclassified"


def test_in_the_difc_the_rest_of_the_emirates_is_abroad() -> None:
    for home in ("difc", "adgm"):
        law = Law(KNOWN, home)
        assert lies("personal", home, law=law)
        assert not lies("personal", "uae-onshore", law=law)
        assert not lies("health", "uae-onshore", law=law)
        assert not lies("bank-confidential", home, law=law)
    assert KNOWN.sees("difc", "uae-onshore") == KNOWN.sees("adgm", "uae-onshore") == "abroad"
    assert KNOWN.sees("difc", "adgm") == "adequate"


@pytest.mark.parametrize("cls", ["health", "bank-confidential"])
def test_health_and_bank_data_are_nowhere_where_nobody_said_that_it_is_the_emirates(cls: str) -> None:
    assert not lies(cls, "local", law=Law(KNOWN, "local"))
    assert not any(lies(cls, zone) for zone in ZONES if zone != "uae-onshore")


@given(
    zone=st.text(max_size=20), home=st.one_of(st.sampled_from(ZONES), st.text(max_size=20)),
    cls=st.one_of(st.sampled_from(CLASSES), st.text(max_size=20)),
)  # fmt: skip
def test_a_zone_or_a_class_that_nobody_knows_is_denied(zone: str, home: str, cls: str) -> None:
    decision = may_lie(matter(cls), zone, Law(KNOWN, home), [grant(zone=zone, classes=(cls,))], NOW)
    if zone not in KNOWN.zones or home not in KNOWN.zones or cls not in KNOWN.classes:
        assert decision.verdict == "deny"
    assert not may_lie(matter(cls), UNKNOWN, Law(KNOWN, home), [grant(zone=UNKNOWN, classes=(cls,))], NOW).allowed


def test_one_class_that_may_not_is_enough() -> None:
    decision = may_lie(matter("public", "personal"), "eu", ONSHORE, (), NOW)
    assert decision.verdict == "deny"
    assert [(check.name, check.passed) for check in decision.checks] == [("public", True), ("personal", False)]
    assert "personal data may be in uae-onshore, not in eu" in decision.reason


def test_a_grant_lets_its_own_classes_of_its_own_datasets_into_its_own_zone_until_its_end() -> None:
    good = grant()
    assert may_lie(matter("personal"), "difc", ONSHORE, [good], NOW).policies == ("transfer/move",)
    assert not lies("personal", "adgm", good)
    assert not lies("confidential", "difc", good)
    assert not lies("personal", "difc", good, datasets=("trips", "claims"))
    assert not lies("personal", "difc", good, at=good.expires_at)
    assert not lies("personal", "difc", good, at=good.requested_at - timedelta(seconds=1))


@pytest.mark.parametrize(
    "changes",
    [
        {"approvals": {}},
        {"approvals": {"noura": ("dpo",)}},
        {"approvals": {"noura": ("approver",), "omar": ("approver",)}},
        {"approvals": {"amal": ("dpo",), "omar": ("approver",)}},
        {"revoked_at": NOW},
        {"instrument": ""},
        {"instrument": "sha256:short"},
        {"basis": "because"},
        {"basis": "adequacy"},
        {"datasets": ()},
        {"requested_at": NOW - timedelta(days=400)},
        {"basis": "derogation", "requested_at": NOW - timedelta(days=31)},
        {"basis": "derogation", "used_at": NOW},
        {"classes": ("secret",)},
    ],
)
def test_a_grant_that_lacks_something_grants_nothing(changes: dict[str, Any]) -> None:
    assert not lies("secret" if "classes" in changes else "personal", "difc", grant(**changes))


@pytest.mark.parametrize("cls", ["health", "bank-confidential"])
def test_every_condition_of_a_class_has_to_be_shown(cls: str) -> None:
    conditions = dict.fromkeys(KNOWN.classes[cls].conditions, PAPER)
    assert lies(cls, "difc", grant(classes=(cls,), conditions=conditions))
    for name in conditions:
        assert not lies(cls, "difc", grant(classes=(cls,), conditions={k: v for k, v in conditions.items() if k != name}))
        assert not lies(cls, "difc", grant(classes=(cls,), conditions={**conditions, name: "yes"}))


GRANTS = st.builds(
    grant,
    basis=st.sampled_from([*BASES, "none"]),
    instrument=st.sampled_from([PAPER, ""]),
    classes=st.lists(st.sampled_from(CLASSES), max_size=3).map(tuple),
    datasets=st.lists(st.sampled_from(DATASETS), max_size=2).map(tuple),
    zone=st.sampled_from([*ZONES, UNKNOWN]),
    expires_at=st.datetimes(datetime(2026, 10, 1), datetime(2027, 6, 1), timezones=st.just(UTC)),
    conditions=st.sampled_from([{}, HEALTH]),
    approvals=st.sampled_from([{}, {"noura": ("dpo",)}, {"noura": ("dpo",), "omar": ("approver",)}]),
    revoked_at=st.sampled_from([None, NOW]),
    used_at=st.sampled_from([None, NOW]),
)


@given(
    grants=st.lists(GRANTS, max_size=4), classes=st.lists(st.sampled_from(CLASSES), unique=True, max_size=4),
    datasets=st.lists(st.sampled_from(DATASETS), unique=True, max_size=2), zone=st.sampled_from([*ZONES, UNKNOWN]),
    home=st.sampled_from(ZONES), at=st.datetimes(datetime(2026, 10, 1), datetime(2027, 6, 1), timezones=st.just(UTC)),
)  # fmt: skip
def test_grants_never_widen_beyond_their_classes_zone_datasets_and_time(  # noqa: PLR0917  # hypothesis gives them by name
    grants: list[Grant], classes: list[str], datasets: list[str], zone: str, home: str, at: datetime
) -> None:
    law, asked = Law(KNOWN, home), Matter(Ref("zone", "all"), tuple(classes), tuple(datasets))
    plain, with_grants = may_lie(asked, zone, law, (), at), may_lie(asked, zone, law, grants, at)
    if plain.allowed:
        assert with_grants.allowed
    for before, after in zip(plain.checks, with_grants.checks, strict=True):
        if after.passed and not before.passed:
            assert [
                g for g in grants
                if g.zone == zone and after.name in g.classes and set(datasets) <= set(g.datasets) and at < g.expires_at
                and g.revoked_at is None and len(g.approvals) == 2
            ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"basis": "because"}, NotFound),
        ({"zone": "narnia"}, NotFound),
        ({"zone": "uae-onshore"}, InvalidInput),
        ({"basis": "adequacy"}, InvalidInput),
        ({"instrument": "the contract"}, InvalidInput),
        ({"expires_at": NOW + timedelta(days=366)}, InvalidInput),
        ({"basis": "derogation", "expires_at": NOW + timedelta(days=31)}, InvalidInput),
        ({"datasets": ()}, InvalidInput),
        ({"datasets": ("other",)}, NotFound),
        ({"classes": ()}, InvalidInput),
        ({"classes": ("odd",)}, NotFound),
        ({"classes": ("secret",)}, InvalidInput),
        ({"classes": ("health",), "conditions": {"consent": PAPER}}, InvalidInput),
    ],
)
def test_what_could_never_be_good_is_not_even_asked_for(changes: dict[str, Any], error: type[FalajError]) -> None:
    with pytest.raises(error) as raised:
        drawn_up(grant(**{"requested_at": NOW, **changes}), ONSHORE, DATASETS)
    assert raised.value.hint


def test_a_good_request_is_drawn_up() -> None:
    assert drawn_up(grant(requested_at=NOW), ONSHORE, DATASETS)
    assert drawn_up(grant(requested_at=NOW, basis="adequacy", zone="adgm"), Law(KNOWN, "difc"), DATASETS)


# --- the registry ---


def test_the_clouds_of_doha_dammam_and_bahrain_are_not_in_the_emirates() -> None:
    for region in ("gcp:me-central1", "gcp:me-central2", "aws:me-south-1"):
        assert KNOWN.zones[KNOWN.zone_of(region)].country != "AE"
    for region in ("aws:me-central-1", "azure:uaenorth", "azure:uaecentral", "oci:me-abudhabi-1", "oci:me-dubai-1"):
        assert KNOWN.zone_of(region) == "uae-onshore"


def test_a_label_that_two_places_carry_is_no_place() -> None:
    with pytest.raises(InvalidInput, match="azure:uaecentral and oci:me-abudhabi-1"):
        KNOWN.zone_of("UAE Central")


def test_a_provider_without_codes_has_to_be_declared_by_its_networks() -> None:
    with pytest.raises(InvalidInput, match="word of the contract"):
        KNOWN.zone_of("core42:auh-1")
    assert KNOWN.zone_of_region("aws", "me-central-9") == UNKNOWN


def test_a_word_of_a_contract_means_a_class_or_stays_what_no_rule_allows() -> None:
    assert [KNOWN.class_of(word) for word in ("PII", "Sensitive Personal", "bank_confidential", "odd")] == [
        "personal", "sensitive-personal", "bank-confidential", "odd",
    ]  # fmt: skip


@given(
    lists=st.dictionaries(
        st.sampled_from([*CLASSES, "pii", "odd"]), st.lists(st.lists(st.sampled_from(ZONES), max_size=4), max_size=3), max_size=4
    ),
    cls=st.sampled_from(CLASSES), zone=st.sampled_from(ZONES), home=st.sampled_from(ZONES),
)  # fmt: skip
def test_a_pack_only_ever_narrows(lists: dict[str, list[list[str]]], cls: str, zone: str, home: str) -> None:
    narrow = Law(tightened(KNOWN, lists), home)
    named = [one for word, given in lists.items() if KNOWN.class_of(word) == cls for one in given]
    if lies(cls, zone, law=narrow):
        assert lies(cls, zone, law=Law(KNOWN, home))
        assert all(zone in one for one in named)


def test_two_packs_leave_what_both_allow() -> None:
    law = Law(tightened(KNOWN, {"personal": [["uae-onshore", "difc"], ["difc"]]}), "difc")
    assert lies("personal", "difc", law=law)
    assert not lies("personal", "uae-onshore", law=Law(law.registry, "uae-onshore"))


GOOD = {
    "zones": '[zones.a]\ncountry="AE"\nplace="A"\nregime=""\n[zones.a.sees.b]\nview="abroad"\nsource=""\nstatus="enacted"\n'
    '[zones.b]\ncountry=""\nplace="B"\nregime=""\n',
    "regions": '[regions."x:1"]\nplace="P"\nzone="a"\nlabel=""\nstatus="listed"\ngrade="M"\nnote=""\n',
    "residency": '[classes.unclassified]\nallow=["home"]\nwithin_home=true\ntransferable=true\nconditions=[]\ninstrument=""\n'
    'status="enacted"\n',
}


@pytest.mark.parametrize(
    ("file", "was", "now"),
    [
        ("zones", 'view="abroad"', 'view="fine"'),
        ("zones", "sees.b", "sees.c"),
        ("zones", 'status="enacted"', 'status="sure"'),
        ("zones", 'country="AE"', "country=1"),
        ("zones", 'regime=""\n[zones.a', 'odd=""\n[zones.a'),
        ("regions", 'zone="a"', 'zone="c"'),
        ("regions", 'status="listed"', 'status="manual"'),
        ("regions", 'grade="M"', 'grade="Z"'),
        ("regions", '"x:1"', '"x"'),
        ("residency", '["home"]', '["narnia"]'),
        ("residency", '["home"]', '"home"'),
        ("residency", "within_home=true", 'within_home="yes"'),
        ("residency", "unclassified", "other"),
        ("residency", 'status="enacted"', ""),
        ("zones", "[zones.a]", "[zones.a"),
    ],
)
def test_a_damaged_registry_is_refused(file: str, was: str, now: str) -> None:
    assert read_registry(**GOOD).zones
    assert was in GOOD[file]
    with pytest.raises(InvalidInput):
        read_registry(**{**GOOD, file: GOOD[file].replace(was, now, 1)})


@given(file=st.sampled_from(sorted(GOOD)), at=st.integers(0, 400), put=st.text(alphabet='[]="a.\n#{}1 ', max_size=6))
def test_any_harm_to_a_registry_is_refused_or_harmless(file: str, at: int, put: str) -> None:
    text = GOOD[file]
    harmed = text[: at % len(text)] + put + text[at % len(text) + len(put) :]
    try:
        found = read_registry(**{**GOOD, file: harmed})
    except InvalidInput:
        return
    assert all(region.zone in found.zones or not region.zone for region in found.regions.values())
