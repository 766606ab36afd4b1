from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

import pytest

from falaj.adapters.local.policy import CALLS, ROLES, VERBS, RolePolicy
from falaj.core.actor import Actor
from falaj.core.ref import Ref

SUBJECT = Ref("model", "delay", "7")
AMAL = Actor("amal", "person", ("approver",), "uae-onshore")
# What the whole system does; a new verb has to be given to somebody, or nobody may do it.
SYSTEM = [
    "project.init",
    "dataset.ingest",
    "dataset.read",
    "feature.materialise",
    "feature.verify",
    "model.train",
    "model.evaluate",
    "model.register",
    "model.promote",
    "model.rollback",
    "model.describe",
    "model.declare",
    "model.test",
    "model.dpia",
    "evidence.make",
    "model.read",
    "endpoint.deploy",
    "endpoint.read",
    "endpoint.predict",
    "endpoint.feedback",
    "endpoint.prepare",
    "endpoint.switch",
    "endpoint.rollback",
    "endpoint.drop",
    "endpoint.split",
    "endpoint.weigh",
    "endpoint.unsplit",
    "endpoint.shadow",
    "endpoint.unshadow",
    "endpoint.kill",
    "endpoint.revive",
    "endpoint.drill",
    "experiment.read",
    "shadow.read",
    "rollout.start",
    "rollout.look",
    "rollout.abort",
    "rollout.read",
    "monitor.start",
    "monitor.look",
    "monitor.read",
    "alert.open",
    "audit.beat",
    "audit.export",
    "audit.rotate",
    "audit.witness",
    "alert.clear",
    "dataset.replay",
    "dataset.watch",
    "feature.compare",
    "lineage.export",
    "alert.deliver",
    "alert.acknowledge",
    "alert.resolve",
    "alert.read",
    "run.start",
    "run.finish",
    "run.read",
    "key.create",
    "key.confirm",
    "certificate.confirm",
    "key.revoke",
    "key.read",
    "predictions.seal",
    "audit.read",
    "audit.checkpoint",
    "audit.rebuild",
    "worker.tick",
    "certificate.allow",
    "certificate.read",
    "certificate.revoke",
    "certificate.sign",
    "label.take",
    "model.score",
    "stream.replay",
    "token.create",
    "token.revoke",
    "identity.read",
    "identity.logout",
    "model.approve",
    "model.object",
    "model.withdraw",
    "model.tier",
    "access.elevate",
    "access.read",
    "access.review",
    "access.revoke",
    "dataset.expire",
    "export.expire",
    "model.expire",
    "predictions.expire",
    "retention.apply",
    "hold.end",
    "hold.place",
    "hold.release",
    "waiver.ask",
    "waiver.grant",
    "export.read",
    "hold.read",
    "privacy.read",
    "receipt.read",
    "request.approve",
    "request.close",
    "request.extend",
    "request.open",
    "request.read",
    "retention.read",
    "waiver.read",
    "subject.admit",
    "subject.check",
    "subject.consent",
    "subject.erase",
    "subject.export",
    "subject.find",
    "subject.mark",
    "subject.restrict",
    "subject.unrestrict",
    "subject.withdraw",
    "model.mark",
    "receipt.issue",
    "subject.advance",
    "subject.replay",
    "model.justify",
    "model.quarantine",
    "policy.read",
    "transfer.approve",
    "transfer.read",
    "transfer.request",
    "transfer.revoke",
    "transfer.use",
    "zone.attest",
    "zone.deny",
    "zone.read",
]


def decide(actor: Any, verb: Any = "model.promote", subject: Any = SUBJECT, labels: Any = None) -> Any:
    return RolePolicy().decide(actor, verb, subject, {} if labels is None else labels)


def test_every_verb_of_the_system_is_known_and_no_other() -> None:
    assert set(SYSTEM) == VERBS


@pytest.mark.parametrize(("role", "verb"), list(itertools.product(ROLES, SYSTEM)))
def test_the_table_is_what_decides(role: str, verb: str) -> None:
    ruling = decide(Actor("x", roles=(role,)), verb)
    assert ruling.allowed == (verb in ROLES[role])
    assert ruling.reason
    assert ruling.checks[0].passed == ruling.allowed


def test_a_good_request_is_allowed_with_the_role_that_grants_it() -> None:
    ruling = decide(AMAL)
    assert (ruling.verdict, ruling.rule, ruling.actor, ruling.subject) == ("allow", "policy", AMAL, SUBJECT)
    assert ruling.reason == "the role approver may model.promote"


@pytest.mark.parametrize("name", [field.name for field in fields(Actor)])
def test_an_actor_without_any_one_of_its_attributes_is_denied(name: str) -> None:
    actor = Actor(AMAL.name, AMAL.kind, AMAL.roles, AMAL.zone)
    object.__delattr__(actor, name)
    assert decide(actor).verdict == "deny"


@pytest.mark.parametrize(
    "name", [field.name for field in fields(Actor) if field.name != "grant"]
)  # in ordinary times there is none
@pytest.mark.parametrize("value", [None, "", 0, ()])
def test_an_actor_with_any_one_of_its_attributes_empty_is_denied(name: str, value: Any) -> None:
    actor = Actor(AMAL.name, AMAL.kind, AMAL.roles, AMAL.zone)
    object.__setattr__(actor, name, value)
    assert decide(actor).verdict == "deny"


@pytest.mark.parametrize("name", [field.name for field in fields(Ref)])
def test_a_subject_without_any_one_of_its_attributes_is_denied(name: str) -> None:
    subject = Ref("model", "delay", "7")
    object.__delattr__(subject, name)
    assert decide(AMAL, subject=subject).verdict == "deny"


@pytest.mark.parametrize(
    ("actor", "verb", "subject", "labels"),
    [
        (None, "model.promote", SUBJECT, {}),
        (AMAL, None, SUBJECT, {}),
        (AMAL, "model.explode", SUBJECT, {}),
        (AMAL, ["model.promote"], SUBJECT, {}),
        (AMAL, "model.promote", None, {}),
        (AMAL, "model.promote", "model/delay@7", {}),
        (AMAL, "model.promote", SUBJECT, []),
        (Actor("amal", roles=("wizard",)), "model.promote", SUBJECT, {}),
        (Actor("amal", roles=("approver", "wizard")), "model.promote", SUBJECT, {}),
        (Actor("amal", roles=(["approver"],)), "model.promote", SUBJECT, {}),  # type: ignore[arg-type]
        (Actor("amal", roles="approver"), "model.promote", SUBJECT, {}),  # type: ignore[arg-type]
        (Actor("amal", kind="robot", roles=("approver",)), "model.promote", SUBJECT, {}),
    ],
)
def test_what_cannot_be_understood_is_denied_and_never_raises(actor: Any, verb: Any, subject: Any, labels: Any) -> None:
    ruling = decide(actor, verb, subject, labels)
    assert ruling.verdict == "deny"
    assert ruling.reason


def test_labels_that_raise_when_they_are_read_are_denied() -> None:
    class Broken(dict[str, Any]):
        def __contains__(self, key: object) -> bool:
            raise RuntimeError

    assert decide(AMAL, labels=Broken()).reason == "the policy could not be evaluated (RuntimeError)"


@pytest.mark.parametrize("zone", ["difc", "", None, "UAE-onshore"])
def test_a_subject_of_another_or_an_unknown_zone_is_denied(zone: Any) -> None:
    assert decide(AMAL, labels={"zone": "uae-onshore"}).allowed
    assert not decide(AMAL, labels={"zone": zone}).allowed


def test_from_a_place_that_nobody_knows_only_open_data_is_seen() -> None:
    lost = Actor("amal", "person", ("approver",), "unknown")
    assert decide(lost, labels={"classes": ["internal"]}).allowed
    assert decide(lost).allowed
    assert not decide(lost, labels={"classes": ["internal", "personal"]}).allowed
    assert not decide(lost, labels={"classes": 7}).allowed


def test_who_runs_the_place_grants_no_transfer() -> None:
    assert {role for role in ROLES if "transfer.approve" in ROLES[role]} == {"approver", "dpo"}


def test_a_caller_only_calls_whatever_else_it_is() -> None:
    for verb in SYSTEM:
        assert decide(Actor("x", roles=("caller", "operator", "approver")), verb).allowed == (verb in CALLS)


def test_who_makes_a_model_and_who_runs_the_place_do_not_promote_it() -> None:
    assert {role for role in ROLES if "model.promote" in ROLES[role]} == {"approver", "service"}
