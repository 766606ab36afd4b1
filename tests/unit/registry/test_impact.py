"""A model with a tier shows its tests and its assessment before it is promoted; one without a tier is asked nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.actor import Actor
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound
from falaj.core.event import Change, Event
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.stages.action import Kernel
from falaj.stages.registry.approvals import Approvals
from falaj.stages.registry.demands import WINDOWS, YEAR
from falaj.stages.registry.dossier import Description, Dossier, Foreign
from falaj.stages.registry.impact import assessment, classes_of, impact, refuse_unready, test_checks
from tests.kits.life import APPROVER, AT, MODEL, SERVICE, Life, life

test_checks.__test__ = False  # type: ignore[attr-defined]  # a rule, not a test
REPORT, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
DPO = Actor("dana", "person", ("dpo",))
LINA = Actor("lina", "person", ("data_scientist",))
VERSION = Ref("model", "delay", "1")
SAID = Description("tells which flights will be late", "high", "noura")


@pytest.fixture
def world(tmp_path: Path) -> Life:
    made = life(tmp_path)
    made.registered("r1")
    return made


def dossier(world: Life) -> Dossier:
    return Dossier(world.kernel)


def tiered(world: Life, tier: str, *versions: Ref) -> None:
    """And approved by as many as any tier asks for."""
    approvals = Approvals(world.kernel)
    approvals.tier(APPROVER, MODEL, tier=tier, responsible="noura")
    for version in versions or (VERSION,):
        assert approvals.approve(APPROVER, version, reason="good").allowed
        assert approvals.approve(DPO, version, reason="good").allowed


def personal(world: Life) -> None:
    """A snapshot behind the model holds personal data."""
    record: Any = world.registry.get(VERSION)
    ref = record["asset"]["inputs"][0]
    body = dict(world.kernel.ledger.get("asset", ref) or {})
    body["labels"] = {**body["labels"], "column_classes": ["personal"]}
    with world.kernel.ledger.transaction() as tx:
        tx.append(Event("dataset.ingest", Ref.parse(ref), SERVICE, AT, {}, (Change("asset", ref, body),)))


def test_a_model_without_a_tier_is_promoted_as_before(world: Life) -> None:
    decision = world.registry.promote(APPROVER, VERSION, reason="yes")
    assert decision.allowed
    assert {check.name for check in decision.checks} == {"gate", "objections", "standing"}


def test_a_model_with_a_tier_waits_for_its_bias_test(world: Life) -> None:
    tiered(world, "tier2")
    denied = world.registry.promote(APPROVER, VERSION, reason="yes")
    assert [(check.name, check.seen) for check in denied.failed] == [("bias", "never tested")]
    assert world.registry.champion("delay") is None
    dossier(world).test(LINA, VERSION, kind="bias", report=REPORT, passed=False, reason="worse in the east")
    assert not world.registry.promote(APPROVER, VERSION, reason="yes").allowed
    dossier(world).test(LINA, VERSION, kind="bias", report=REPORT, passed=True, reason="mended")
    assert world.registry.promote(APPROVER, VERSION, reason="yes").allowed


def test_a_test_that_is_more_than_a_year_old_counts_for_nothing_and_nor_does_one_of_another_version(world: Life) -> None:
    tiered(world, "tier2")
    dossier(world).test(LINA, VERSION, kind="bias", report=REPORT, passed=True, reason="good")
    later = Kernel(world.kernel.ledger, world.kernel.policy, lambda: AT + YEAR + timedelta(seconds=1))
    world.registry.kernel = later
    denied = world.registry.promote(APPROVER, VERSION, reason="yes")
    assert "365 days ago" in denied.failed[0].seen
    world.registry.kernel = world.kernel
    second = world.registered("r2")
    tiered(world, "tier2", second)
    assert [check.name for check in world.registry.promote(APPROVER, second, reason="yes").failed] == ["bias"]


def test_tier1_on_personal_data_wants_an_assessment_of_these_very_weights(world: Life) -> None:
    tiered(world, "tier1")
    dossier(world).test(LINA, VERSION, kind="bias", report=REPORT, passed=True, reason="good")
    assert world.registry.promote(APPROVER, VERSION, reason="yes").allowed
    personal(world)
    assert [check.name for check in world.registry.promote(APPROVER, VERSION, reason="yes").failed] == ["dpia"]
    with pytest.raises(Denied):
        dossier(world).dpia(APPROVER, VERSION, digest=OTHER)
    dossier(world).dpia(DPO, VERSION, digest=OTHER, reason="acceptable")
    decision = world.registry.promote(APPROVER, VERSION, reason="yes")
    assert decision.allowed
    assert "signed by person:dana for these weights" in {check.name: check.seen for check in decision.checks}["dpia"]


def test_an_assessment_of_other_weights_is_none() -> None:
    dpia = {"digest": OTHER, "by": "person:dana", "weights": "sha256:old"}
    check = assessment("tier1", "sha256:new", ["personal"], dpia)
    assert check is not None
    assert check.passed is False
    assert assessment("tier2", "sha256:new", ["personal"], None) is None
    assert assessment("tier1", "sha256:new", ["public"], None) is None


def test_an_unknown_tier_is_a_no() -> None:
    records: Any = {("tier", "model/delay"): {"tier": "tier9"}}
    [check] = impact(lambda kind, key: records.get((kind, key)), VERSION, {"asset": {"digest": "x"}}, AT)
    assert check.passed is False


@given(st.sampled_from(sorted(WINDOWS)), st.integers(-1, 900), st.booleans())
def test_a_test_counts_exactly_as_long_as_its_window(tier: str, days: int, passed: bool) -> None:
    test = {"at": iso(AT - timedelta(days=days)), "verdict": "allow" if passed else "deny", "report": REPORT}
    for window, check in test_checks(VERSION, WINDOWS[tier], {"bias": test, "validation": test}, AT):
        assert check.passed == (passed and timedelta(days=days) <= window.span)
        assert window.status in check.wanted


def test_whoever_gives_it_callers_is_refused_with_what_is_missing(world: Life) -> None:
    get = world.kernel.ledger.get
    refuse_unready(get, VERSION, AT)
    tiered(world, "tier1")
    with pytest.raises(Conflict, match="bias: wanted passed by model/delay@1"):
        refuse_unready(get, VERSION, AT)


def test_a_validation_by_one_of_its_makers_is_denied(world: Life) -> None:
    made = dossier(world)
    maker = replace(SERVICE, roles=("data_scientist",))
    decision = made.test(maker, VERSION, kind="validation", report=REPORT, passed=True, reason="I am sure")
    assert [check.name for check in decision.failed] == ["independent"]
    assert made.test(LINA, VERSION, kind="validation", report=REPORT, passed=True, reason="looked").allowed


def test_out_of_the_loop_is_for_low_risk_alone(world: Life) -> None:
    made = dossier(world)
    assert not made.describe(LINA, MODEL, said=replace(SAID, oversight="out_of_the_loop")).allowed
    assert world.kernel.ledger.get("description", str(MODEL)) is None
    assert made.describe(LINA, MODEL, said=replace(SAID, oversight="out_of_the_loop", risk="low")).allowed


def test_a_third_partys_model_gets_a_version_for_each_thing_that_is_said_of_it(world: Life) -> None:
    made, said = dossier(world), Foreign("ACME", "2026-01", "reads passports", "uae-onshore", "medium", "noura")
    ocr = Ref("model", "ocr")
    assert str(made.declare(LINA, ocr, said=said)) == "model/ocr@1"
    assert str(made.declare(LINA, ocr, said=said)) == "model/ocr@1"
    assert str(made.declare(LINA, ocr, said=replace(said, version="2026-02"))) == "model/ocr@2"
    with pytest.raises(Conflict, match="was made here"):
        made.declare(LINA, MODEL, said=said)


@pytest.mark.parametrize("changes", [{"risk": "dire"}, {"oversight": "none"}, {"responsible": {"lunch": "x"}}, {"purpose": " "}])
def test_what_is_none_of_the_words_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        replace(SAID, **changes)


def test_what_is_no_digest_and_no_version_is_refused(world: Life) -> None:
    made = dossier(world)
    with pytest.raises(InvalidInput, match="no digest"):
        made.test(LINA, VERSION, kind="bias", report="report.pdf", passed=True, reason="x")
    with pytest.raises(InvalidInput, match="no kind"):
        made.test(LINA, VERSION, kind="luck", report=REPORT, passed=True, reason="x")
    with pytest.raises(NotFound):
        made.dpia(DPO, Ref("model", "delay", "9"), digest=REPORT)


def test_people_in_data_that_was_derived_twice_are_people() -> None:
    assets = {
        "dataset/weeks@1": {"labels": {"rows": 3}, "inputs": ["dataset/days@1"]},
        "dataset/days@1": {"labels": {}, "inputs": ["dataset/visits@1", "dataset/weeks@1"]},
        "dataset/visits@1": {"labels": {"classification": "Health"}, "inputs": []},
    }
    found = classes_of(lambda _kind, key: assets.get(key), {"asset": {"inputs": ["dataset/weeks@1"]}})
    assert found == {"health"}
