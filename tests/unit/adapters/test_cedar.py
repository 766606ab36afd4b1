from __future__ import annotations

import itertools
import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.adapters.cedar import policy as module
from falaj.adapters.cedar.policies import Source
from falaj.adapters.cedar.policy import CedarPolicy
from falaj.adapters.cedar.question import Question, question
from falaj.adapters.local.policy import CALLS, GROUPS, ROLES, VERBS, RolePolicy
from falaj.core.actor import Actor
from falaj.core.decision import Decision
from falaj.core.errors import InvalidInput
from falaj.core.ref import Ref
from tests.kits.policies import NOTHING, PAIRS, Asking, forbids, policy, without

SUBJECT = Ref("model", "delay", "7")
AMAL = Actor("amal", "person", ("approver",))
PLAIN = CedarPolicy(roles=ROLES, groups=GROUPS)
AWAITED = {"model.approve", "model.expire", "dataset.expire", "predictions.expire", "subject.erase"}
"""Verbs that rules speak of before a role has them."""


def decide(actor: Any, verb: Any = "model.promote", subject: Any = SUBJECT, labels: Any = NOTHING) -> Any:
    return PLAIN.decide(actor, verb, subject, labels)


def put(asking: Asking, pack: str) -> tuple[CedarPolicy, Question]:
    asked = policy(pack, asking.zone, asking.purpose)
    return asked, question(asking.actor, asking.verb, asking.subject, asking.told, asked.place)


def answer(asking: Asking, pack: str) -> Decision:
    return policy(pack, asking.zone, asking.purpose).decide(asking.actor, asking.verb, asking.subject, asking.told)


# --- the role table ---


@pytest.mark.parametrize("role", ROLES)
def test_it_says_what_the_role_table_says(role: str) -> None:
    for verb in VERBS:
        actor = Actor("x", roles=(role,))
        ruling = decide(actor, verb)
        assert ruling.allowed == RolePolicy().decide(actor, verb, SUBJECT, {}).allowed == (verb in ROLES[role]), verb
        assert ruling.reason.removesuffix(" (R-CALLER)") == RolePolicy().decide(actor, verb, SUBJECT, {}).reason


def test_two_roles_may_what_either_may() -> None:
    for one, other in itertools.combinations([role for role in ROLES if role != "caller"], 2):
        for verb in VERBS:
            assert decide(Actor("x", roles=(one, other)), verb).allowed == (verb in ROLES[one] | ROLES[other])


def test_an_answer_names_what_decided_and_the_whole_set() -> None:
    ruling = decide(AMAL)
    assert (ruling.policies, ruling.reason) == (("role.approver",), "the role approver may model.promote")
    assert ruling.policy_set == PLAIN.set.digest
    assert PLAIN.set.digest.startswith("sha256:")
    refused = decide(Actor("x", roles=("caller", "operator")), "key.create")
    assert (refused.policies, refused.reason) == (("R-CALLER",), "a caller may only call endpoints (R-CALLER)")
    assert decide(Actor("x", roles=("auditor",))).policies == ()


def test_a_caller_only_calls_whatever_else_it_is() -> None:
    for verb in VERBS:
        assert decide(Actor("x", roles=("caller", "operator", "approver")), verb).allowed == (verb in CALLS)


def test_groups_speak_of_verbs_that_exist_or_are_awaited() -> None:
    assert set().union(*GROUPS.values()) - VERBS <= AWAITED


def test_the_digest_of_a_set_is_that_of_its_policies_in_any_order_and_of_nothing_else() -> None:
    one, two = (
        Source("a.cedar", '@id("a") permit(principal, action, resource);'),
        Source("b.cedar", '@id("b") permit(principal, action, resource);'),
    )
    digest = PLAIN.changed([one, two]).set.digest
    assert digest == PLAIN.changed([Source("x", f"// said otherwise\n{two.text}\n\n{one.text}")]).set.digest
    assert digest not in (PLAIN.set.digest, PLAIN.changed([one]).set.digest)
    changed = Source("b.cedar", two.text.replace("permit", "forbid"))
    assert digest != PLAIN.changed([one, changed]).set.digest


def test_from_a_place_that_nobody_knows_only_open_data_is_seen_as_the_role_table_says_alone() -> None:
    lost = Actor("amal", "person", ("approver",), "unknown")
    for classes in itertools.product(["public", "internal", "confidential", "personal", "health", "nonsense"], repeat=2):
        labels = {**NOTHING, "classes": list(classes)}
        alone = RolePolicy(zone="unknown").decide(lost, "model.promote", SUBJECT, labels)
        ruling = decide(lost, labels=labels)
        assert ruling.allowed == alone.allowed == (set(classes) <= {"public", "internal"})
        assert ruling.allowed or ruling.policies == ("R-UNKNOWN",)
    assert decide(lost).allowed


# --- fails closed ---


@pytest.mark.parametrize("grant", [None, 0, ("access/1",), b"access/1", {"id": "access/1"}])
def test_a_grant_that_is_no_text_is_denied(grant: Any) -> None:
    refused = decide(replace(AMAL, grant=grant))
    assert (refused.verdict, refused.reason) == ("deny", "the actor's grant is not a text")
    assert decide(replace(AMAL, grant="access/1")).allowed


def test_an_actor_without_any_grant_at_all_is_denied() -> None:
    actor = replace(AMAL)
    object.__delattr__(actor, "grant")
    assert decide(actor).verdict == "deny"


ATTRIBUTES = [field.name for field in fields(Actor) if field.name != "grant"]
"""All but the id of an emergency's access: most have an empty one, it is noted with what they do, and decides nothing."""


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_actor_without_any_one_of_its_attributes_is_denied(name: str) -> None:
    actor = replace(AMAL)
    object.__delattr__(actor, name)
    assert decide(actor).verdict == "deny"


@pytest.mark.parametrize("name", ATTRIBUTES)
@pytest.mark.parametrize("value", [None, "", 0, ()])
def test_an_actor_with_any_one_of_its_attributes_empty_is_denied(name: str, value: Any) -> None:
    actor = replace(AMAL)
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
        (None, "model.promote", SUBJECT, NOTHING),
        (AMAL, None, SUBJECT, NOTHING),
        (AMAL, "model.explode", SUBJECT, NOTHING),
        (AMAL, "processing", SUBJECT, NOTHING),
        (AMAL, ["model.promote"], SUBJECT, NOTHING),
        (AMAL, "model.promote", None, NOTHING),
        (AMAL, "model.promote", "model/delay@7", NOTHING),
        (AMAL, "model.promote", SUBJECT, []),
        (AMAL, "model.promote", SUBJECT, {}),
        (Actor("amal", roles=("wizard",)), "model.promote", SUBJECT, NOTHING),
        (Actor("amal", roles=("approver", "wizard")), "model.promote", SUBJECT, NOTHING),
        (Actor("amal", roles=(["approver"],)), "model.promote", SUBJECT, NOTHING),  # type: ignore[arg-type]
        (Actor("amal", roles="approver"), "model.promote", SUBJECT, NOTHING),  # type: ignore[arg-type]
        (Actor("amal", kind="robot", roles=("approver",)), "model.promote", SUBJECT, NOTHING),
    ],
)
def test_what_cannot_be_understood_is_denied_and_never_raises(actor: Any, verb: Any, subject: Any, labels: Any) -> None:
    ruling = decide(actor, verb, subject, labels)
    assert ruling.verdict == "deny"
    assert ruling.reason


def test_labels_that_raise_when_they_are_read_are_denied() -> None:
    class Broken(dict[str, Any]):
        def get(self, *_: Any) -> Any:
            raise RuntimeError

    assert decide(AMAL, labels=Broken()).reason == "the policy could not be evaluated (RuntimeError)"


@pytest.mark.parametrize("label", NOTHING)
def test_labels_that_do_not_say_all_that_they_must_are_denied(label: str) -> None:
    ruling = decide(AMAL, labels={name: value for name, value in NOTHING.items() if name != label})
    assert ruling.verdict == "deny"
    assert f"attribute `{label}`" in ruling.reason


@pytest.mark.parametrize(
    "labels",
    [
        {"classes": "personal"},
        {"held": "no"},
        {"tier": 1},
        {"zone": 7},
        {"purposes": [1]},
        {"approvals": [None]},
        {"authors": 0.5},
    ],
)
def test_labels_of_another_type_are_denied(labels: Any) -> None:
    ruling = decide(AMAL, labels={**NOTHING, **labels})
    assert ruling.verdict == "deny"
    assert "could not be evaluated" in ruling.reason


def test_a_forbid_that_errors_is_not_left_out() -> None:
    """Cedar skips a policy that errors: without this border an overflow in a forbid would let everything pass."""
    text = '@id("overflows") forbid(principal, action, resource) when { 9223372036854775807 + 1 > 0 };'
    ruling = PLAIN.changed([Source("own.cedar", text, own=True)]).decide(AMAL, "model.promote", SUBJECT, NOTHING)
    assert ruling.verdict == "deny"
    assert "overflow" in ruling.reason


def test_an_engine_that_raises_lets_nothing_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    import cedarpy

    def gone(*_: Any, **__: Any) -> Any:
        raise RuntimeError("gone")

    monkeypatch.setattr(cedarpy, "is_authorized", gone)
    asked = CedarPolicy(roles=ROLES, groups=GROUPS)
    assert asked.decide(AMAL, "model.promote", SUBJECT, NOTHING).reason == "the policy could not be evaluated (RuntimeError)"


# --- every forbid of every pack ---


def test_a_question_is_put_once_and_any_other_one_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of another person, verb or thing, nor with other labels or roles, nor of other policies."""
    import cedarpy

    real, put_to = cedarpy.is_authorized, list[Any]()
    monkeypatch.setattr(cedarpy, "is_authorized", lambda *args: put_to.append(args) or real(*args))
    asked = CedarPolicy(roles=ROLES, groups=GROUPS)
    first = asked.decide(AMAL, "model.promote", SUBJECT, NOTHING)
    assert asked.decide(AMAL, "model.promote", SUBJECT, NOTHING) == first
    assert len(put_to) == 1
    others = (
        (replace(AMAL, name="omar"), "model.promote", SUBJECT, NOTHING),
        (replace(AMAL, roles=("auditor",)), "model.promote", SUBJECT, NOTHING),
        (AMAL, "model.approve", SUBJECT, NOTHING),
        (AMAL, "model.promote", Ref("model", "delay", "8"), NOTHING),
        (AMAL, "model.promote", SUBJECT, {**NOTHING, "held": True}),
    )
    for other in others:
        before = len(put_to)
        mine = asked.decide(*other)
        assert len(put_to) == before + 1
        assert mine == PLAIN.decide(*other)
        assert asked.decide(*other).subject == other[2]
    put_to.clear()
    source = Source("own.cedar", '@id("own-1") forbid(principal, action, resource);', own=True)
    assert asked.changed([source]).decide(AMAL, "model.promote", SUBJECT, NOTHING).verdict == "deny"
    assert len(put_to) == 1
    assert asked.decide(AMAL, "model.promote", SUBJECT, NOTHING) == first


def test_an_error_is_not_remembered_and_no_more_answers_are_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KNOWN", 3)
    asked = CedarPolicy(roles=ROLES, groups=GROUPS)
    for number in range(10):
        assert asked.decide(AMAL, "model.promote", Ref("model", "delay", str(number)), NOTHING).allowed
        assert len(asked._known) <= 3
    before = dict(asked._known)
    assert asked.decide(AMAL, "model.promote", SUBJECT, {**NOTHING, "tier": 7}).verdict == "deny"
    assert asked._known == before


def test_every_forbid_of_every_pack_has_its_pair_of_questions() -> None:
    assert set(forbids()) == set(PAIRS)


@pytest.mark.parametrize("name", PAIRS)
def test_a_forbid_refuses_what_it_is_there_for_and_nothing_beside_it(name: str) -> None:
    pack, passes, refused = PAIRS[name]
    assert answer(passes, pack).allowed, answer(passes, pack).reason
    ruling = answer(refused, pack)
    assert ruling.verdict == "deny"
    assert name in ruling.policies
    assert f"({name})" in ruling.reason
    only = [other for other in PAIRS if PAIRS[other][0] == pack and other in ruling.policies]
    assert only == [name], "the pair shows this forbid alone"


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_refused_stays_refused_without_any_one_attribute(name: str) -> None:
    pack, _, refused = PAIRS[name]
    asked, whole = put(refused, pack)
    for left_out, rest in without(whole):
        assert asked.answer(rest, refused.actor, refused.subject).verdict == "deny", left_out


@pytest.mark.parametrize("name", PAIRS)
def test_what_passes_is_refused_without_any_attribute_that_the_forbid_reads(name: str) -> None:
    pack, passes, _ = PAIRS[name]
    asked, whole = put(passes, pack)
    read = asked.reads(name)
    left_out = [place for place, rest in without(whole) if place in read]
    assert left_out or not read, f"{name} reads {read}, of which the question has none"
    for place, rest in without(whole):
        if place in read:
            assert asked.answer(rest, passes.actor, passes.subject).verdict == "deny", place


def test_reading_the_attributes_of_a_policy_finds_them() -> None:
    assert policy("ae-baseline").reads("R-PURPOSE") == {
        "resource.classes",
        "resource.purposes",
        "context.purpose",
    }


def test_no_forbid_keeps_anybody_from_taking_a_model_back() -> None:
    worst = {"classes": ["health", "nonsense"], "held": True, "tier": "tier9", "zone": "elsewhere"}
    for verb in ("model.rollback", "endpoint.rollback", "rollout.abort", "endpoint.drop", "key.revoke", "audit.checkpoint"):
        ruling = policy("ae-baseline,cbuae-bank,health-ae,difc,adgm").decide(
            Actor("x", roles=("operator",)), verb, SUBJECT, worst
        )
        assert ruling.allowed, f"{verb}: {ruling.reason}"


def test_what_nobody_classified_is_free_in_the_zone_of_an_installation_that_names_none() -> None:
    asked = policy("ae-baseline", "local", "")
    for verb in sorted(VERBS - CALLS):
        role = next(role for role in ROLES if verb in ROLES[role])
        assert asked.decide(Actor("x", roles=(role,)), verb, SUBJECT, {**NOTHING, "zone": "local", "classes": ["public"]}).allowed


def test_what_is_local_is_where_the_installation_stands() -> None:
    told = {**NOTHING, "classes": ["personal"], "zone": "local", "purposes": ["delay-prediction"]}
    local = Actor("x", roles=("operator",))
    assert policy("ae-baseline", "uae-onshore").decide(local, "dataset.read", Ref("dataset", "x"), told).allowed
    assert policy("ae-baseline", "local").decide(local, "dataset.read", Ref("dataset", "x"), told).policies == ("R-ZONE",)


def test_packs_together_refuse_what_any_of_them_refuses() -> None:
    both = policy("ae-baseline,difc,adgm", "difc")
    read = PAIRS["DIFC-RESIDENCY"][1]
    ruling = both.decide(read.actor, read.verb, read.subject, read.told)
    assert ruling.policies == ("ADGM-ACCESS", "ADGM-RESIDENCY")


# --- the project's own policies ---

VERB = st.sampled_from(sorted(VERBS))
SCOPES = st.builds(
    lambda who, what, when: f"permit({who}, {what}, resource){when};",
    st.sampled_from(["principal", 'principal in Role::"auditor"', 'principal == Actor::"person:amal"', "principal is Actor"]),
    st.one_of(st.just("action"), VERB.map(lambda verb: f"action == Action::{json.dumps(verb)}"),
              st.sampled_from(sorted(GROUPS)).map(lambda group: f"action in Action::{json.dumps(group)}")),
    st.sampled_from(["", " when { true }", " unless { false }", ' when { resource.kind == "dataset" || true }',
                     " when { resource has zone }", ' when { principal.kind == "person" }']),
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.lists(SCOPES, min_size=1, max_size=4), st.sampled_from(sorted(PAIRS)))
def test_no_permit_lifts_what_a_pack_forbids(permits: list[str], name: str) -> None:
    pack, _, refused = PAIRS[name]
    own = "\n".join(f'@id("own-{n}") {text}' for n, text in enumerate(permits))
    changed = policy(pack, refused.zone, refused.purpose, own)
    ruling = changed.decide(refused.actor, refused.verb, refused.subject, refused.told)
    assert ruling.verdict == "deny"
    assert name in ruling.policies


LABELS = st.fixed_dictionaries(
    {
        "classes": st.lists(st.sampled_from(["public", "personal", "health", "bank-confidential", "nonsense"]), max_size=2),
        "held": st.booleans(),
        "tier": st.sampled_from(["none", "tier1", "tier2", "tier9"]),
    },
    optional={
        "zone": st.sampled_from(["local", "uae-onshore", "difc", "mars"]),
        "purposes": st.lists(st.sampled_from(["delay-prediction", "marketing"])),
        "authors": st.lists(st.sampled_from(["amal", "lina"])),
        "approvals": st.lists(st.sampled_from(["amal", "omar", "sara"])),
        "state": st.sampled_from(["expired", "quarantined"]),
    },
)
ACTORS = st.builds(
    Actor,
    st.sampled_from(["amal", "omar"]),
    st.sampled_from(["person", "service"]),
    st.lists(st.sampled_from(sorted(ROLES)), min_size=1, max_size=3).map(tuple),
    st.sampled_from(["local", "uae-onshore", "difc", "unknown"]),
)


@settings(deadline=None, max_examples=200)
@given(ACTORS, VERB, LABELS, st.sampled_from(["cbuae-bank", "health-ae", "difc", "adgm"]))
def test_another_pack_never_allows_more(actor: Actor, verb: str, labels: dict[str, Any], pack: str) -> None:
    fewer, more = policy("ae-baseline"), policy(f"ae-baseline,{pack}")
    if not fewer.decide(actor, verb, SUBJECT, labels).allowed:
        assert not more.decide(actor, verb, SUBJECT, labels).allowed


@settings(deadline=None, max_examples=200)
@given(ACTORS, VERB, LABELS)
def test_an_allow_has_a_permit_and_a_deny_by_policy_has_its_reason(actor: Actor, verb: str, labels: dict[str, Any]) -> None:
    ruling = policy("ae-baseline,cbuae-bank").decide(actor, verb, SUBJECT, labels)
    effects = {policy("ae-baseline,cbuae-bank").set.statements[name].effect for name in ruling.policies}
    assert effects == ({"permit"} if ruling.allowed else {"forbid"} if ruling.policies else set())
    assert ruling.reason


ANY = "(principal, action, resource)"
OWN = {
    "not a policy": ("permit(principal, action", r"own\.cedar:1: this policy does not end"),
    "a typo": (f"\n\n// ours\npermit{ANY} whem {{ true }};", r"own\.cedar:4: this is no Cedar policy: .*whem"),
    "no id": (f"permit{ANY};", r"own\.cedar:1: the policy has no @id"),
    "an odd id": (f'@id("a b") permit{ANY};', r"own\.cedar:1: the policy has no @id"),
    "twice": (f'@id("a") permit{ANY};\n@id("a") forbid{ANY};', r"own\.cedar:2: .*'a'"),
    "a pack's id": (f'@id("R-HOLD") permit{ANY};', r"own\.cedar:1: the id 'R-HOLD' belongs to ae-baseline"),
    "a role's id": (f'@id("role.approver") permit{ANY};', r"own\.cedar:1: .* belongs to roles:"),
    "an unknown verb": (
        '@id("a") permit(principal, action == Action::"model.explode", resource);',
        r"own\.cedar:1: a cannot be used",
    ),
    "an unknown attribute": (f'@id("a") permit{ANY} when {{ resource.colour == "x" }};', r"own\.cedar:1: .*colour"),
    "no guard": (
        f'@id("b") permit{ANY};\n@id("a")\nforbid{ANY} when {{ resource.zone == "difc" }};',
        r"own\.cedar:2: a cannot be used: .*optional attribute `zone`",
    ),
    "a template": ('@id("a") permit(principal == ?principal, action, resource);', r"own\.cedar:1: this is a template"),
    "an open text": ('@id("a', r"own\.cedar:1: this text does not end"),
    "too deep": (f'@id("a") permit{ANY} when {{ {"(" * 200}true{")" * 200} }};', r"own\.cedar:1: more"),
}


@pytest.mark.parametrize("what", OWN)
def test_a_broken_policy_of_the_project_is_refused_with_its_place(what: str) -> None:
    text, message = OWN[what]
    with pytest.raises(InvalidInput, match=message):
        policy("ae-baseline", own=text)


def test_a_project_permits_and_forbids_more() -> None:
    own = """
    // Auditors may also look at the scores; nobody trains on Fridays' data.
    @id("auditors-score")
    permit(principal in Role::"auditor", action == Action::"model.score", resource);
    @id("not-fridays") @reason("nobody reads Friday")
    forbid(principal, action, resource == Ref::"dataset/friday") unless { false };
    @id("delay-is-ours")
    permit(principal == Actor::"person:amal", action == Action::"model.register", resource in Ref::"model/delay");
    """
    asked = policy("ae-baseline", own=own)
    auditor = Actor("x", roles=("auditor",))
    assert asked.decide(auditor, "model.score", SUBJECT, NOTHING).policies == ("auditors-score",)
    friday = asked.decide(auditor, "dataset.read", Ref("dataset", "friday"), NOTHING)
    assert (friday.policies, friday.reason) == (("not-fridays",), "nobody reads Friday (not-fridays)")
    assert asked.decide(AMAL, "model.register", SUBJECT, NOTHING).policies == ("delay-is-ours",)
    assert not asked.decide(AMAL, "model.register", Ref("model", "fare", "1"), NOTHING).allowed
