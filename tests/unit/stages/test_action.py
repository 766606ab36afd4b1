from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from falaj.adapters.local.policy import RolePolicy
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.codec import encode
from falaj.core.decision import Decision
from falaj.core.errors import Conflict, Denied, InvalidInput
from falaj.core.ref import Ref
from falaj.stages.action import Act, Kernel, action

NOW = datetime(2013, 5, 1, 9, 30, tzinfo=UTC)
APPROVER = Actor("amal", roles=("approver",))
DELAY = Ref("model", "delay", "7")


@dataclass(frozen=True)
class Shop:
    kernel: Kernel
    slow: list[str] = field(default_factory=list)

    @action("model.promote")
    def promote(self, act: Act, subject: Ref, *, to: str = "champion", fail: bool = False) -> str:
        """Points the alias at the model."""
        self.slow.append("worked")
        with act.change() as draft:
            seen = draft.get("alias", "delay@champion")
            draft.put("alias", f"delay@{to}", {"model": subject, "since": act.now})
            draft.decide(Decision(subject, "gate", "allow", actor=act.actor, at=act.now))
            draft.note(before=seen, model=subject)
            if fail:
                raise Conflict("no")
        return "promoted"

    @action("model.register")
    def register(self, act: Act, subject: Ref) -> None:
        with act.change(subject.at(8)) as draft:
            draft.remove("alias", "delay@champion")


@pytest.fixture
def shop() -> Shop:
    return Shop(Kernel(MemoryLedger(), RolePolicy(), lambda: NOW))


def test_an_action_leaves_its_change_and_one_event_that_says_who_what_and_when(shop: Shop) -> None:
    assert shop.promote(APPROVER, DELAY) == "promoted"
    (event,) = shop.kernel.ledger.events()
    assert (event.verb, event.subject, event.actor, event.at, event.seq) == ("model.promote", DELAY, APPROVER, NOW, 0)
    assert event.facts == {"before": None, "model": "model/delay@7"}
    assert shop.kernel.ledger.get("alias", "delay@champion") == {"model": "model/delay@7", "since": "2013-05-01T09:30:00.000Z"}


def test_a_decision_is_kept_under_its_subject_and_rule(shop: Shop) -> None:
    shop.promote(APPROVER, DELAY)
    kept = shop.kernel.ledger.get("decision", "model/delay@7|gate")
    assert kept == encode(Decision(DELAY, "gate", "allow", actor=APPROVER, at=NOW))


def test_who_may_not_gets_an_error_that_says_why_and_the_refusal_is_recorded(shop: Shop) -> None:
    with pytest.raises(Denied, match=r"data_scientist may model\.promote") as caught:
        shop.promote(Actor("omar", roles=("data_scientist",)), DELAY)
    assert caught.value.facts == {"verb": "model.promote"}
    (event,) = shop.kernel.ledger.events()
    assert (event.verb, event.subject, event.actor.name, event.facts["verb"]) == ("policy.deny", DELAY, "omar", "model.promote")
    assert shop.slow == [], "the work begins after the permission"


def test_an_action_that_fails_leaves_nothing(shop: Shop) -> None:
    with pytest.raises(Conflict):
        shop.promote(APPROVER, DELAY, fail=True)
    assert list(shop.kernel.ledger.events()) == []
    assert shop.kernel.ledger.get("alias", "delay@champion") is None


def test_no_audit_no_action(shop: Shop) -> None:
    shop.kernel.ledger.close()
    with pytest.raises(Exception, match="closed"):
        shop.promote(APPROVER, DELAY)


def test_a_change_that_the_ledger_cannot_hold_does_not_happen(shop: Shop) -> None:
    with pytest.raises(InvalidInput):
        shop.promote(APPROVER, DELAY, to="x" * 70_000)
    assert list(shop.kernel.ledger.events()) == []


def test_the_subject_of_the_event_may_be_known_only_later(shop: Shop) -> None:
    shop.promote(APPROVER, DELAY)
    shop.register(Actor("lina", roles=("ml_engineer",)), Ref("model", "delay"))
    event = list(shop.kernel.ledger.events())[-1]
    assert event.subject == Ref("model", "delay", "8")
    assert shop.kernel.ledger.get("alias", "delay@champion") is None


def test_a_policy_that_raises_lets_nothing_pass() -> None:
    class Broken:
        def decide(self, *_: Any) -> Decision:
            raise RuntimeError("policy store is gone")

    shop = Shop(Kernel(MemoryLedger(), Broken(), lambda: NOW))
    with pytest.raises(RuntimeError):
        shop.promote(APPROVER, DELAY)
    assert list(shop.kernel.ledger.events()) == []
    assert shop.slow == []


@pytest.mark.parametrize("verdict", ["deny", "hold", "perhaps"])
def test_only_allow_lets_pass(verdict: Any) -> None:
    class Strict:
        def decide(self, actor: Actor, verb: str, subject: Ref, labels: Any) -> Decision:
            return Decision(subject, "policy", verdict)

    with pytest.raises(Denied):
        Shop(Kernel(MemoryLedger(), Strict(), lambda: NOW)).promote(APPROVER, DELAY)


def test_an_action_carries_its_verb_and_its_documentation() -> None:
    assert Shop.promote.verb == "model.promote"  # type: ignore[attr-defined]
    assert Shop.promote.__name__ == "promote"
    assert Shop.promote.__doc__ == "Points the alias at the model."


# --- what an event keeps of its ruling ---


class Cedarlike:
    """A policy that has a set, and whose answers can be told."""

    def __init__(self, *, denies: str = "") -> None:
        self.denies = denies
        self.asked: list[tuple[str, Ref, dict[str, Any]]] = []

    def decide(self, actor: Actor, verb: str, subject: Ref, labels: Any) -> Decision:
        self.asked.append((verb, subject, dict(labels)))
        verdict: Any = "deny" if str(subject) == self.denies else "allow"
        return Decision(subject, "policy", verdict, (), actor, None, "because", ("P-1",), "sha256:" + "ab" * 32)


def asking(policy: Cedarlike, labels: Any = None) -> Shop:
    return Shop(Kernel(MemoryLedger(), policy, lambda: NOW, labels))


def test_an_event_keeps_the_set_what_decided_and_what_was_told() -> None:
    shop = asking(Cedarlike(), lambda _ref: {"classes": ["personal"], "held": False, "tier": "none", "zone": "difc"})
    shop.promote(APPROVER, DELAY)
    (event,) = shop.kernel.ledger.events()
    assert event.facts["policy"] == {
        "set": "sha256:abababababababab",
        "by": ["P-1"],
        "asked": [{"labels": {"classes": ["personal"], "zone": "difc"}}],
    }


def test_a_refusal_keeps_its_policies_and_tells_them() -> None:
    shop = asking(Cedarlike(denies="model/delay@7"))
    with pytest.raises(Denied) as caught:
        shop.promote(APPROVER, DELAY)
    assert caught.value.facts == {"verb": "model.promote", "policies": ["P-1"]}
    (event,) = shop.kernel.ledger.events()
    assert (event.verb, event.facts["policy"]["by"]) == ("policy.deny", ["P-1"])


def test_every_ref_that_a_call_names_is_asked_about() -> None:
    @dataclass(frozen=True)
    class Street:
        kernel: Kernel

        @action("endpoint.deploy")
        def deploy(self, act: Act, subject: Ref, *, model: Ref, reason: str = "") -> Decision | None:
            with act.change():
                pass
            return act.decision

        @action("endpoint.split")
        def split(self, act: Act, subject: Ref, *, variants: Mapping[str, Ref]) -> None:
            pass

    policy = Cedarlike()
    endpoint = Ref("endpoint", "delay")
    kernel = Kernel(MemoryLedger(), policy, lambda: NOW)
    decision = Street(kernel).deploy(APPROVER, endpoint, model=DELAY)
    assert decision is not None
    assert decision.subject == endpoint
    assert [(verb, subject) for verb, subject, _ in policy.asked] == [("endpoint.deploy", endpoint), ("endpoint.deploy", DELAY)]
    (event,) = kernel.ledger.events()
    assert [asked.get("of") for asked in event.facts["policy"]["asked"]] == [None, "model/delay@7"]
    policy.denies = str(DELAY)
    with pytest.raises(Denied, match=r"may not endpoint\.deploy model/delay@7"):
        Street(kernel).deploy(APPROVER, endpoint, model=DELAY)
    with pytest.raises(Denied, match=r"may not endpoint\.split model/delay@7"):
        Street(kernel).split(APPROVER, endpoint, variants={"a": Ref("model", "fare", "1"), "b": DELAY})


def test_labels_that_cannot_be_told_are_a_deny_and_the_policy_is_not_asked() -> None:
    def broken(_ref: Ref) -> Any:
        raise OSError("gone")

    policy = Cedarlike()
    shop = asking(policy, broken)
    with pytest.raises(Denied, match=r"the labels of model/delay@7 cannot be told: OSError"):
        shop.promote(APPROVER, DELAY)
    assert policy.asked == []
    assert [event.verb for event in shop.kernel.ledger.events()] == ["policy.deny"]


def test_what_is_asked_with_labels_of_its_own_has_them_beside_the_resolved_ones() -> None:
    policy = Cedarlike()
    decision = asking(policy).kernel.ask(APPROVER, "model.read", DELAY, {"purpose": "audit"})
    assert decision.policies == ("P-1",)
    assert policy.asked[0][2]["purpose"] == "audit"
    assert policy.asked[0][2]["zone"] == "local"
