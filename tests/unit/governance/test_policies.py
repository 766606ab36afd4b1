"""Policies asked without any consequence: explained, tested, and asked again about what was done."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from falaj.app import App, init_project, open_app
from falaj.core.actor import Actor
from falaj.core.errors import Denied, FalajError, InvalidInput, NotFound
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.operations import OPERATIONS

SETTINGS = {"host": "memory", "online": "memory", "mirror": "none", "runner": "memory", "clock": "replay", "zone": "uae-onshore"}
AUDITOR, AMAL = Actor("noor", roles=("auditor",)), Actor("amal", roles=("approver",))
OPERATOR = Actor("ops", roles=("operator",))
DELAY = Ref("model", "delay", "7")
BY_NAME = {operation.name: operation for operation in OPERATIONS}
CASE = {"actor": {"roles": ["approver"]}, "verb": "model.promote", "subject": "model/delay@7", "want": "allow"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    module = f"project_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text('"""Declares nothing."""\n')
    (tmp_path / "falaj.toml").write_text(f'modules = "{module}"\n')
    init_project(tmp_path, SETTINGS)
    return tmp_path


@pytest.fixture
def app(folder: Path) -> Iterator[App]:
    with open_app(folder, SETTINGS) as app:
        yield app


def do(app: App, name: str, subject: str | None = None, **given: Any) -> Any:
    return BY_NAME[name].do(app, AUDITOR, subject, given)


def put(app: App, kind: str, key: str, body: Any) -> None:
    """As the part that keeps such records would."""
    with app.ledger.transaction() as tx:
        tx.append(Event("thing.keep", Ref("thing", "x"), OPERATOR, app.kernel.now(), {}, (Change(kind, key, body),)))


def tiered(app: App) -> None:
    asset = {"ref": "candidate/delay@r1", "labels": {"classification": "internal"}, "inputs": [], "zone": "local", "digest": "x"}
    record = {"candidate": "candidate/delay@r1", "by": "person:lina", "asset": asset, "gate": "allow"}
    put(app, "model", "delay@7", record)
    put(app, "tier", "model/delay", {"tier": "tier1"})


# --- explain ---


def test_it_explains_who_may_what_decided_and_what_is_missing(app: App) -> None:
    app.keys.create(OPERATOR, Ref("key", "amal"), roles=["approver"])
    tiered(app)
    told = do(app, "policy.explain", "model/delay@7", verb="model.promote")
    by_name = {one.who: one for one in told["answers"]}
    assert not by_name["person:amal"].allowed
    assert by_name["person:amal"].policies == ("R-TWO-PERSONS",)
    assert (by_name["person:operator"].policies, by_name["person:operator"].missing[0]) == (("R-TWO-PERSONS",), "label approvers")
    assert told["labels"]["tier"] == "tier1"
    put(app, "approval", "model/delay@7|omar", {})
    put(app, "approval", "model/delay@7|sara", {})
    told = do(app, "policy.explain", "model/delay@7", verb="model.promote", who="amal")
    assert [(one.allowed, one.policies) for one in told["answers"]] == [(True, ("role.approver",))]
    assert told["set"] == app.kernel.policy.set.digest  # type: ignore[attr-defined]


def test_whoever_has_no_role_for_it_learns_which_would_do(app: App) -> None:
    (one,) = do(app, "policy.explain", "model/fare@1", verb="model.promote", roles="auditor")["answers"]
    assert (one.allowed, one.missing) == (False, ("role approver", "role service"))


def test_without_a_verb_it_tells_all_that_somebody_may_do_to_such_a_thing(app: App) -> None:
    told = do(app, "policy.explain", "model/fare@1")
    assert {one.verb for one in told["answers"]} >= {"model.read", "model.promote", "model.rollback"}
    assert {one.verb.partition(".")[0] for one in told["answers"]} == {"model"}
    with pytest.raises(InvalidInput, match="Nobody named 'nobody'"):
        do(app, "policy.explain", "model/fare@1", who="nobody")


def test_explaining_leaves_no_event(app: App) -> None:
    before = sum(1 for _ in app.ledger.events())
    do(app, "policy.explain", "model/fare@1")
    do(app, "policy.simulate")
    do(app, "policy.list")
    assert sum(1 for _ in app.ledger.events()) == before


# --- expectations ---


def test_expectations_hold_or_say_what_was_seen(app: App) -> None:
    held = do(app, "policy.test", cases={"expect": [CASE, {**CASE, "want": "allow", "by": ["role.approver"]}]})
    assert (held.verdict, held.reason) == ("allow", "2 of 2 expectations hold")
    wrong = do(app, "policy.test", cases={"expect": [CASE, {**CASE, "want": "deny"}, {**CASE, "by": ["R-SOD"]}]})
    assert (wrong.verdict, [check.passed for check in wrong.checks]) == ("deny", [True, False, False])
    assert do(app, "policy.test").verdict == "hold", "nothing was expected, so nothing was shown"


def test_an_expectation_may_bring_its_labels_or_take_those_of_the_ledger(app: App) -> None:
    tiered(app)
    labels = {"tier": "tier1", "authors": ["lina"], "approvals": ["omar", "sara"]}
    cases = [
        {**CASE, "want": "deny", "by": ["R-TWO-PERSONS"]},
        {**CASE, "labels": labels},
        {**CASE, "labels": labels, "actor": {"name": "lina", "roles": ["approver"]}, "want": "deny", "by": ["R-SOD"]},
    ]
    assert do(app, "policy.test", cases={"expect": cases}).verdict == "allow"


def test_the_expectations_of_the_project_are_files(folder: Path) -> None:
    tests = folder / "policies" / "tests"
    tests.mkdir(parents=True)
    (tests / "ours.toml").write_text(
        '[[expect]]\nname = "approvers promote"\nactor = { roles = ["approver"] }\nverb = "model.promote"\n'
        'subject = "model/delay@7"\nwant = "allow"\n'
    )
    with open_app(folder, SETTINGS) as app:
        found = do(app, "policy.test")
        assert [check.name for check in found.checks] == ["ours: approvers promote"]
        (tests / "ours.toml").write_text("[[expect")
        with pytest.raises(InvalidInput, match=r"policies/tests/ours\.toml cannot be read"):
            do(app, "policy.test")
        (tests / "ours.toml").write_text("[else]\n")
        with pytest.raises(InvalidInput, match="something else"):
            do(app, "policy.test")


@pytest.mark.parametrize(
    "case",
    [7, {}, {**CASE, "want": "perhaps"}, {**CASE, "colour": 1}, {**CASE, "actor": {}}, {**CASE, "actor": {"roles": [1]}},
     {**CASE, "labels": []}, {**CASE, "by": [1]}, {**CASE, "verb": 1}, {**CASE, "subject": "nothing"},
     {**CASE, "actor": {"roles": ["approver"], "age": 1}}],
)  # fmt: skip
def test_what_is_no_expectation_is_refused(app: App, case: Any) -> None:
    with pytest.raises((InvalidInput, NotFound)):
        do(app, "policy.test", cases={"expect": [case]})


@pytest.mark.parametrize("cases", [{"expect": 7}, {"else": []}, {"expect": [CASE] * 1001}])
def test_what_is_no_list_of_expectations_is_refused(app: App, cases: Any) -> None:
    with pytest.raises(InvalidInput):
        do(app, "policy.test", cases=cases)


# --- simulate ---


def test_other_packs_are_asked_what_was_done_and_the_differences_told(app: App) -> None:
    tiered(app)
    put(app, "tier", "model/delay", {"tier": "none"})
    app.registry.promote(AMAL, DELAY)
    with pytest.raises(Denied):
        app.registry.promote(AUDITOR, DELAY)
    put(app, "tier", "model/delay", {"tier": "tier1"})  # later: what was decided was decided without it
    same = do(app, "policy.simulate", packs="ae-baseline")
    assert (same.asked, same.denied_now, same.allowed_now, same.differences) == (3, 0, 0, ())
    assert same.not_asked == 4, "what no verb of the role table stands for"
    other = do(app, "policy.simulate", packs="ae-baseline,cbuae-bank")
    assert (other.asked, other.denied_now, other.allowed_now) == (3, 1, 0)
    (one,) = other.differences
    assert (one.verb, one.subject, one.actor, one.was, one.would) == ("model.promote", DELAY, "person:amal", "allow", "deny")
    assert one.policies == ("CBUAE-APPROVAL", "CBUAE-TIER")
    assert other.policy_set not in (same.policy_set, "")
    with pytest.raises(NotFound, match="'ae-basline'"):
        do(app, "policy.simulate", packs="ae-basline")


def test_the_policies_on_disk_are_asked_as_they_stand(app: App, folder: Path) -> None:
    tiered(app)
    put(app, "tier", "model/delay", {"tier": "none"})
    with pytest.raises(Denied):
        app.registry.promote(AUDITOR, DELAY)
    (folder / "policies").mkdir()
    (folder / "policies" / "own.cedar").write_text(
        '@id("auditors-promote")\npermit(principal in Role::"auditor", action == Action::"model.promote", resource);\n'
    )
    found = do(app, "policy.simulate")
    assert (found.denied_now, found.allowed_now, found.differences[0].policies) == (0, 1, ("auditors-promote",))
    with pytest.raises(Denied):
        app.registry.promote(AUDITOR, DELAY)  # a simulation puts nothing in force
    (folder / "policies" / "own.cedar").write_text("permit(")
    with pytest.raises(InvalidInput, match=r"policies/own\.cedar:1"):
        do(app, "policy.simulate")


@pytest.mark.parametrize(("order", "denied"), [("tier first", 1), ("tier later", 0)])
def test_what_kept_no_labels_is_asked_with_those_of_its_time(folder: Path, order: str, denied: int) -> None:
    with open_app(folder, {**SETTINGS, "policy": "roles"}) as app:
        tiered(app)
        if order == "tier later":
            put(app, "tier", "model/delay", {"tier": "none"})
        app.registry.promote(AMAL, DELAY)
        put(app, "tier", "model/delay", {"tier": "tier1" if order == "tier later" else "none"})
        assert "policy" not in next(iter(app.ledger.events(verb="model.promote"))).facts
        with pytest.raises(InvalidInput, match="has no packs"):
            do(app, "policy.simulate")
    with open_app(folder, SETTINGS) as app:
        found = do(app, "policy.simulate")
    assert found.denied_now == denied
    assert [one.policies for one in found.differences] == [("R-TWO-PERSONS",)] * denied


def test_what_lies_before_the_span_is_not_asked(app: App) -> None:
    app.clock.tell(app.kernel.now() + timedelta(days=100))
    assert do(app, "policy.simulate").asked == 0
    assert do(app, "policy.simulate", span="101d").asked == 1


# --- list ---


def test_the_list_shows_packs_policies_and_where_packs_contradict_each_other(folder: Path) -> None:
    with open_app(folder, {**SETTINGS, "packs": "ae-baseline,difc,adgm"}) as app:
        told = do(app, "policy.list", values="residency.personal")
    assert [(one["pack"], one["counsel_signoff"]) for one in told["packs"]] == [
        ("ae-baseline", None),
        ("difc", None),
        ("adgm", None),
    ]
    assert [one["path"] for one in told["conflicts"]] == ["residency.personal.zones"]
    assert [(one["path"], one["value"], one["status"]) for one in told["values"]] == [("residency.personal.zones", (), "assumed")]
    assert {one["policy"] for one in told["policies"]} >= {"R-CALLER", "role.operator", "DIFC-RESIDENCY", "ADGM-ACCESS"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"packs": "ae-basline"}, "no pack named"), ({"policy": "perhaps"}, "must be one of cedar, roles")],
)
def test_a_setting_that_names_nothing_stops_the_start(folder: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(FalajError, match=message), open_app(folder, {**SETTINGS, **settings}) as app:
        assert app.kernel


def test_personal_data_is_kept_to_its_zone_and_its_purposes_through_the_whole_door(folder: Path) -> None:
    asset = {"ref": "dataset/people@1", "digest": "x", "location": "x", "zone": "local", "inputs": [],
             "labels": {"classification": "personal", "purposes": ["care"]}}  # fmt: skip
    people = Ref("dataset", "people")

    def refused(**settings: str) -> list[str]:
        with open_app(folder, {**SETTINGS, **settings}) as app:
            put(app, "asset", "dataset/people@1", asset)
            put(app, "head", "dataset/people", {"version": 1})
            return list(app.kernel.rule(OPERATOR, "dataset.read", people).decision.policies)

    assert refused(purpose="care") == ["role.operator"]
    assert refused() == ["R-PURPOSE"]
    assert refused(purpose="marketing") == ["R-PURPOSE"]
    assert refused(purpose="care", zone="local") == ["R-ZONE"]
    assert refused(purpose="care", zone="eu-west-1") == ["R-ZONE"]
    assert refused(purpose="care", packs="ae-baseline,difc") == ["DIFC-ACCESS", "DIFC-RESIDENCY"]
    assert refused(purpose="care", packs="") == ["role.operator"]


def test_a_view_is_of_the_classes_of_the_dataset_that_it_is_declared_on(tmp_path: Path) -> None:
    module = f"project_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text(
        'import falaj\nages = falaj.View("ages", "people", entity="id", features=("age",), time="at")\n'
    )
    settings = {**SETTINGS, "modules": module, "purpose": "care"}
    init_project(tmp_path, settings)
    with open_app(tmp_path, settings) as app:
        assert app.kernel.rule(OPERATOR, "feature.materialise", Ref("view", "ages")).decision.allowed
        put(app, "head", "dataset/people", {"version": 1})
        put(app, "asset", "dataset/people@1", {"zone": "local", "labels": {"classification": "personal"}, "inputs": []})
        ruling = app.kernel.rule(OPERATOR, "feature.materialise", Ref("view", "ages"))
        assert (ruling.labels["classes"], ruling.decision.policies) == (["personal"], ("R-PURPOSE",))


def test_a_project_that_does_not_import_denies_what_rests_on_its_declarations(tmp_path: Path) -> None:
    module = f"project_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text("raise ValueError\n")
    settings = {**SETTINGS, "modules": module}
    init_project(tmp_path, settings)
    with open_app(tmp_path, settings) as app:
        refused = app.kernel.rule(OPERATOR, "feature.materialise", Ref("view", "ages")).decision
        assert not refused.allowed
        assert "does not import" in refused.reason
        assert app.kernel.rule(OPERATOR, "endpoint.rollback", Ref("endpoint", "delay")).decision.allowed
