"""Whoever made a model does not decide alone whether it answers anybody, and one objection is enough to stop it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.actor import Actor
from falaj.core.decision import judge
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound
from falaj.core.event import Change, Event
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.stages.labels import Labels
from falaj.stages.registry.dossier import Dossier
from falaj.stages.registry.rules import TIERS, Standing, authors_of, own_approval, separation
from tests.kits.life import AT, GATE, MODEL, Life, life
from tests.kits.rollouts import ANNA, ENDPOINT, GOOD, NEW, T0, Place

LINA = Actor("lina", "person", ("data_scientist",))
SAMI = Actor("sami", "person", ("ml_engineer", "approver"))
NOURA = Actor("noura", "person", ("approver",))
OMAR = Actor("omar", "person", ("dpo",))
HUDA = Actor("huda", "person", ("approver",))
NOW = datetime(2026, 5, 1, tzinfo=UTC)
NAMES = st.sampled_from(["lina", "sami", "noura", "omar", "huda"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Life, Ref]:
    """A version that Lina trained and registered and Sami judged."""
    world = life(tmp_path_factory.mktemp("life"))
    candidate = world.trainer.train(LINA, MODEL, training="delay", at=AT, run_id="r1")
    decision = world.gates.evaluate(SAMI, candidate, gate=GATE)
    version = world.registry.register(LINA, MODEL, candidate=candidate, decision=decision)
    # What else a tier asks for is there, so that people are all that is missing.
    Dossier(world.kernel).test(LINA, version, kind="bias", report="sha256:" + "a" * 64, passed=True, reason="even")
    return world, version


@pytest.fixture
def world(made: tuple[Life, Ref]) -> tuple[Life, Ref]:
    """The same version, about which nobody has said anything."""
    found, version = made
    with found.kernel.ledger.transaction() as tx:
        said = [(kind, key) for kind in ("approval", "objection", "tier", "alias", "key") for key, _ in tx.find(kind)]
        tx.append(Event("test.clear", version, LINA, AT, {}, tuple(Change(kind, key, None) for kind, key in said)))
    return made


def test_the_authors_are_whoever_trained_judged_or_registered_it(world: tuple[Life, Ref]) -> None:
    found, version = world
    record = found.registry.get(version)
    assert record["authors"] == ["lina", "sami"]
    assert record["asset"]["labels"]["authors"] == ["lina", "sami"]


def test_whoever_started_the_run_is_an_author_though_a_runner_did_the_work() -> None:
    runner = Actor("runner", "service", ("service",))
    run, candidate = Ref("run", "r9"), Ref("candidate", "delay", "r9")
    events = [
        Event("run.start", run, LINA, NOW),
        Event("model.train", candidate, runner, NOW),
        Event("model.read", candidate, HUDA, NOW),
        Event("model.evaluate", candidate, runner, NOW),
    ]
    assert authors_of(events) == ("lina", "runner")


def test_tier_1_takes_two_people_who_did_not_make_it(world: tuple[Life, Ref]) -> None:
    found, version = world
    registry, approvals = found.registry, found.registry.approvals
    approvals.tier(NOURA, MODEL, tier="tier1", responsible="huda")
    refused = registry.promote(NOURA, version)
    assert (refused.verdict, [check.name for check in refused.failed]) == ("deny", ["approvals"])
    assert approvals.approve(NOURA, version, reason="read the report").allowed
    assert approvals.approve(NOURA, version, reason="read it again").allowed
    assert not registry.promote(NOURA, version).allowed
    assert approvals.approve(OMAR, version, reason="no personal data").allowed
    allowed = registry.promote(NOURA, version)
    assert allowed.allowed
    [counted] = [check for check in allowed.checks if check.name == "approvals"]
    assert counted.seen == "noura, omar"
    assert counted.wanted == "2 by people who did not make it (tier1)"


def test_tier_2_takes_one_and_without_a_tier_the_gate_decides_as_before(world: tuple[Life, Ref]) -> None:
    found, version = world
    assert found.registry.promote(NOURA, version).allowed
    found.registry.approvals.tier(NOURA, MODEL, tier="tier2", responsible="huda")
    assert not found.registry.promote(NOURA, version).allowed
    found.registry.approvals.approve(HUDA, version, reason="yes")
    assert found.registry.promote(NOURA, version).allowed


def test_an_author_approves_nothing_and_that_is_recorded(world: tuple[Life, Ref]) -> None:
    found, version = world
    refused = found.registry.approvals.approve(SAMI, version, reason="it is good")
    assert (refused.verdict, refused.checks[-1].seen) == ("deny", "sami is one of its authors")
    assert found.kernel.ledger.find("approval") == []
    event = list(found.kernel.ledger.events(verb="model.approve", subject=version))[-1]
    assert (event.actor.name, event.facts["verdict"]) == ("sami", "deny")


@pytest.mark.parametrize(
    "who",
    [
        Actor("bot", "service", ("approver",)),
        Actor("setup", "system", ("approver",)),
        Actor("huda", "person", ("approver",), grant="access/1"),
    ],
)  # fmt: skip
def test_a_program_approves_nothing_and_neither_does_whoever_acts_in_an_emergency(world: tuple[Life, Ref], who: Actor) -> None:
    found, version = world
    assert not found.registry.approvals.approve(who, version, reason="yes").allowed
    assert found.kernel.ledger.find("approval") == []


def test_a_version_of_which_nobody_recorded_the_authors_is_approved_by_nobody() -> None:
    check = own_approval("huda", "person", "", None)
    assert not check.passed
    assert not separation(Standing("tier2", None, ("huda",)))[-1].passed


def holds_key(world: Life, name: str, role: str, standing: str, made_by: str) -> None:
    body = {
        "id": name,
        "name": name,
        "kind": "person",
        "roles": [role],
        "revoked_at": None,
        "made_by": made_by,
        "standing": standing,
    }
    with world.kernel.ledger.transaction() as tx:
        tx.append(Event("test.say", MODEL, LINA, NOW, {}, (Change("key", name, body),)))


@pytest.mark.parametrize("standing", ["first", "confirmed"])
def test_an_author_has_no_second_name_that_approves(world: tuple[Life, Ref], standing: str) -> None:
    found, version = world
    approvals = found.registry.approvals
    approvals.tier(NOURA, MODEL, tier="tier2", responsible="huda")
    holds_key(found, "huda", "approver", standing, "lina")
    refused = approvals.approve(HUDA, version, reason="it is good")
    assert [check.seen for check in refused.failed] == ["made by lina"]
    assert Labels(found.kernel.ledger)(version)["approvals"] == []
    assert not found.registry.promote(NOURA, version).allowed
    holds_key(found, "huda", "approver", standing, "amal")
    assert approvals.approve(HUDA, version, reason="it is good").allowed
    assert found.registry.promote(NOURA, version).allowed


def test_an_approval_by_a_first_key_is_none_for_whoever_made_it_and_asks_also_once_the_key_is_gone(
    world: tuple[Life, Ref],
) -> None:
    found, version = world
    approvals, maker = found.registry.approvals, Actor("amal", "person", ("operator", "approver"))
    approvals.tier(NOURA, MODEL, tier="tier2", responsible="huda")
    holds_key(found, "huda", "approver", "first", "amal")
    approvals.approve(HUDA, version, reason="it is good")
    holds_key(found, "huda", "approver", "confirmed", "sara")
    assert not found.registry.promote(maker, version).allowed
    assert found.registry.promote(NOURA, version).allowed
    approvals.approve(HUDA, version, reason="said again, by a key that somebody else confirmed")
    assert found.registry.promote(maker, version).allowed


def test_an_approval_that_counts_for_nobody_is_not_told_to_policy_either(world: tuple[Life, Ref]) -> None:
    found, version = world
    body = {"ref": str(version), "name": "huda", "made_by": ["lina"], "alone": []}
    with found.kernel.ledger.transaction() as tx:
        tx.append(Event("test.say", MODEL, LINA, NOW, {}, (Change("approval", f"{version}|huda", body),)))
    assert Labels(found.kernel.ledger)(version)["approvals"] == []
    found.registry.approvals.tier(NOURA, MODEL, tier="tier2", responsible="huda")
    assert not found.registry.approvals.show(version)["separation"].allowed


def test_one_objection_stops_it_until_it_is_withdrawn_by_whoever_made_it(world: tuple[Life, Ref]) -> None:
    found, version = world
    approvals = found.registry.approvals
    for about in (version, MODEL):
        approvals.object(LINA, about, reason="the label leaks")
        refused = found.registry.promote(NOURA, version)
        assert [check.seen for check in refused.failed] == ["open: lina"]
        with pytest.raises(Denied, match="not noura's to take back"):
            approvals.withdraw(NOURA, about, reason="she is wrong", name="lina")
        with pytest.raises(NotFound):
            approvals.withdraw(NOURA, about, reason="mine")
        assert approvals.withdraw(LINA, about, reason="mended") == ["objection"]
        assert found.registry.promote(NOURA, version).allowed
    approvals.object(LINA, version, reason="again")
    assert approvals.withdraw(OMAR, version, reason="she left; looked into it", name="lina") == ["objection"]


def test_an_approval_that_was_taken_back_counts_no_more(world: tuple[Life, Ref]) -> None:
    found, version = world
    approvals = found.registry.approvals
    approvals.tier(NOURA, MODEL, tier="tier2", responsible="huda")
    approvals.approve(HUDA, version, reason="yes")
    assert approvals.show(version)["separation"].allowed
    assert approvals.withdraw(HUDA, version, reason="I misread it", what="approval") == ["approval"]
    assert not found.registry.promote(NOURA, version).allowed
    shown = approvals.show(version)
    assert (shown["approvals"], shown["separation"].verdict, shown["tier"]["responsible"]) == ([], "deny", "huda")


def test_a_tier_is_raised_by_whoever_approves_and_lowered_by_the_dpo_alone(world: tuple[Life, Ref]) -> None:
    found, _ = world
    approvals = found.registry.approvals
    approvals.tier(NOURA, MODEL, tier="tier2", responsible="huda")
    approvals.tier(NOURA, MODEL, tier="tier1", responsible="huda")
    with pytest.raises(Denied, match="only the dpo"):
        approvals.tier(NOURA, MODEL, tier="tier2", responsible="huda")
    approvals.tier(OMAR, MODEL, tier="tier2", responsible="huda")
    with pytest.raises(InvalidInput):
        approvals.tier(OMAR, MODEL, tier="tier3", responsible="huda")
    with pytest.raises(InvalidInput):
        approvals.tier(OMAR, MODEL, tier="tier1", responsible="")


def test_a_word_about_what_does_not_exist_or_without_a_reason_is_refused(world: tuple[Life, Ref]) -> None:
    found, version = world
    approvals = found.registry.approvals
    with pytest.raises(NotFound):
        approvals.approve(NOURA, MODEL.at(99), reason="yes")
    with pytest.raises(NotFound):
        approvals.object(NOURA, Ref("model", "nothing"), reason="no")
    for reason in ("", "  ", "x" * 2001):
        with pytest.raises(InvalidInput):
            approvals.approve(NOURA, version, reason=reason)


@given(st.sampled_from(["", "tier1", "tier2", "tier9"]), st.one_of(st.none(), st.lists(NAMES)), st.lists(NAMES), st.lists(NAMES))
def test_the_rule_is_what_it_says(tier: str, authors: list[str] | None, approvals: list[str], objections: list[str]) -> None:
    standing = Standing(tier, tuple(authors) if authors is not None else None, tuple(dict.fromkeys(approvals)), tuple(objections))
    verdict = judge(separation(standing))
    others = set(approvals) - set(authors or ())
    fits = tier == "" or (tier in TIERS and authors is not None and len(others) >= TIERS[tier])
    assert (verdict == "allow") == (not objections and fits)
    assert verdict != "hold"


# --- what answers ---


def said(place: Place, kind: str, key: str, body: dict[str, str]) -> None:
    with place.ledger.transaction() as tx:
        tx.append(Event("test.say", GOOD, ANNA, NOW, {}, (Change(kind, key, body),)))


def test_a_model_with_a_tier_answers_nobody_by_any_way_before_it_is_approved() -> None:
    place = Place()
    place.deploy(GOOD)
    said(place, "tier", "model/delay", {"tier": "tier2", "responsible": "huda"})
    rollouts = place.rollouts
    for way in (
        lambda: rollouts.deploy(ANNA, ENDPOINT, model=NEW, reason="now"),
        lambda: rollouts.start(ANNA, ENDPOINT, challenger=NEW),
        lambda: rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason="now"),
    ):
        with pytest.raises(Conflict, match="may not answer anybody yet"):
            way()
    assert place.champion() == "1"
    assert not rollouts.place.is_agreed(NEW)
    record = dict(place.ledger.get("model", "delay@2") or {})
    said(place, "model", "delay@2", {**record, "authors": ["anna"]})  # type: ignore[dict-item]
    said(place, "approval", "model/delay@2|huda", {"ref": "model/delay@2", "name": "huda"})
    said(place, "test", "delay@2|bias", {"verdict": "allow", "at": iso(T0), "report": "sha256:a"})
    assert rollouts.place.is_agreed(NEW)
    alone = {"ref": "model/delay@2", "name": "huda", "made_by": [ANNA.name], "alone": [ANNA.name]}
    said(place, "model", "delay@2", {**record, "authors": ["lina"]})  # type: ignore[dict-item]
    said(place, "approval", "model/delay@2|huda", alone)  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="seen none"):
        rollouts.deploy(ANNA, ENDPOINT, model=NEW, reason="on the word of a key that I made")
    said(place, "approval", "model/delay@2|huda", {**alone, "alone": []})  # type: ignore[dict-item]
    rollouts.deploy(ANNA, ENDPOINT, model=NEW, reason="now")
    assert place.champion() == "2"


def test_an_objection_while_a_model_stands_by_keeps_it_from_becoming_champion_and_not_from_being_left() -> None:
    place = Place()
    place.deploy(GOOD)
    place.rollouts.switches.prepare(ANNA, ENDPOINT, model=NEW, reason="soon")
    said(place, "objection", "model/delay|lina", {"ref": "model/delay", "name": "lina"})
    with pytest.raises(Conflict, match="open: lina"):
        place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason="now")
    assert place.champion() == "1"
    said(place, "objection", "model/delay|lina", None)  # type: ignore[arg-type]
    place.rollouts.switches.switch(ANNA, ENDPOINT, model=NEW, reason="now")
    said(place, "objection", "model/delay@2|lina", {"ref": "model/delay@2", "name": "lina"})
    place.rollouts.switches.rollback(ANNA, ENDPOINT, reason="she is right")
    assert place.champion() == "1"


def test_the_records_are_where_policy_reads_them(world: tuple[Life, Ref], tmp_path: Path) -> None:
    found, version = world
    found.registry.approvals.tier(NOURA, MODEL, tier="tier1", responsible="huda")
    found.registry.approvals.approve(NOURA, version, reason="yes")
    ledger = found.kernel.ledger
    assert dict(ledger.get("tier", "model/delay") or {})["tier"] == "tier1"
    assert dict(ledger.get("approval", f"{version}|noura") or {})["role"] == "approver"
