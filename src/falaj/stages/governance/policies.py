"""Asks the policies without any consequence: who may do what, whether expectations hold, what other policies would have said."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from falaj.core.actor import Actor
from falaj.core.decision import Check, Decision, judge
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.event import Event
from falaj.core.ref import Ref
from falaj.ports.policy import Policy
from falaj.stages.action import Kernel, Ruling
from falaj.stages.governance.past import Past, before_each
from falaj.stages.labels import NOTHING, Labels

DENIED = "policy.deny"
SHOWN = 200
"""Differences that a simulation lists; it counts all of them."""
Reads = Callable[[str], Collection[str]]


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether somebody may do one thing, and why."""

    verb: str
    who: str
    roles: tuple[str, ...]
    allowed: bool
    reason: str
    policies: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """What would have to be there: labels that the forbids behind it read and nobody told, or a role that may."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One recorded action that the changed policies decide otherwise."""

    seq: int
    at: datetime
    actor: str
    verb: str
    subject: Ref
    was: str
    would: str
    reason: str
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Simulation:
    since: datetime
    asked: int
    """Recorded decisions that could be asked again."""
    not_asked: int
    """Events of verbs that the policy does not know."""
    denied_now: int
    """Of those that were allowed."""
    allowed_now: int
    """Of those that were denied."""
    policy_set: str
    differences: tuple[Difference, ...]
    """The first of them, in the order of the ledger."""


@dataclass(frozen=True, slots=True)
class Policies:
    """`roles`: the role table. `reads` names the attributes that a policy reads, such as `resource.zone`."""

    kernel: Kernel
    roles: Mapping[str, Collection[str]]
    reads: Reads = lambda _id: ()

    def explain(self, subject: Ref, verbs: Sequence[str], actors: Iterable[Actor]) -> list[Permission]:
        """For each verb and each of the actors, what policy says. Nothing is recorded."""
        return [self._permission(actor, verb, subject) for verb in verbs for actor in actors]

    def verbs_of(self, subject: Ref) -> list[str]:
        """The verbs that the subject's kind is asked about; all of them for the project itself."""
        known = sorted(set().union(*self.roles.values()))
        return [verb for verb in known if verb.partition(".")[0] == subject.kind] or known

    def _permission(self, actor: Actor, verb: str, subject: Ref) -> Permission:
        ruling = self.kernel.rule(actor, verb, subject)
        decision = ruling.decision
        missing: tuple[str, ...] = ()
        if not decision.allowed:
            missing = self._missing(ruling) if decision.policies else self._granting(verb, actor)
        return Permission(verb, str(actor), actor.roles, decision.allowed, decision.reason, decision.policies, missing)

    def _missing(self, ruling: Ruling) -> tuple[str, ...]:
        read = {place for name in ruling.decision.policies for place in self.reads(name)}
        wanted = {name for part, _, name in (place.partition(".") for place in read) if part in ("resource", "context")}
        told = {*ruling.labels, "kind", "name", "version"}
        return tuple(f"label {name}" for name in sorted(wanted - told))

    def _granting(self, verb: str, actor: Actor) -> tuple[str, ...]:
        may = [role for role, verbs in self.roles.items() if verb in verbs and role not in actor.roles]
        return tuple(f"role {role}" for role in may)

    # --- expectations ---

    def test(self, cases: Sequence[Mapping[str, Any]]) -> Decision:
        """Whether policy says what is expected. Raises InvalidInput for an expectation that is none.

        A case: name, actor {name, kind, roles, zone}, verb, subject, want (allow or deny), and if wanted labels, which then
        stand for what the ledger knows, and `by`, the ids of policies that have to be among those that decide.
        """
        checks = tuple(self._expect(case, f"expectation {count}") for count, case in enumerate(cases, 1))
        verdict = judge(checks)
        wrong = sum(check.passed is False for check in checks)
        reason = f"{len(checks) - wrong} of {len(checks)} expectations hold" if checks else "there is no expectation"
        return Decision(Ref("policy", "all"), "expectations", verdict, checks, None, self.kernel.now(), reason)

    def _expect(self, case: Any, place: str) -> Check:
        name, actor, labels = _read(case, place)
        subject = Ref.parse(case["subject"])
        if labels is None:
            decision = self.kernel.rule(actor, case["verb"], subject).decision
        else:
            decision = self.kernel.policy.decide(actor, case["verb"], subject, {**NOTHING, **labels})
        by = tuple(case.get("by", ()))
        wanted = f"{case['want']} by {', '.join(by)}" if by else case["want"]
        seen = f"{decision.verdict}: {decision.reason}"
        return Check(name, wanted, seen, decision.verdict == case["want"] and set(by) <= set(decision.policies))

    # --- what would have been ---

    def simulate(self, changed: Policy, since: datetime, home: Labels) -> Simulation:
        """Asks the changed policy every recorded decision since then again, with the labels that were told at the time.

        An event that holds none, from before they were kept, is asked with the labels as its records were then; `home` is where
        those come from. What only read something left no event, and is not asked.
        """
        differences: list[Difference] = []
        asked = not_asked = denied = allowed = 0
        known = set().union(*self.roles.values())
        for event, past in before_each(self.kernel.ledger.events()):
            if event.at < since:
                continue
            verb = str(event.facts.get("verb", "")) if event.verb == DENIED else event.verb
            if verb not in known:
                not_asked += 1
                continue
            asked += 1
            was = "deny" if event.verb == DENIED else "allow"
            decision = _again(changed, event, verb, past, home)
            if decision.verdict == was:
                continue
            denied, allowed = denied + (was == "allow"), allowed + (was == "deny")
            if len(differences) < SHOWN:
                differences.append(
                    Difference(
                        event.seq, event.at, str(event.actor), verb, decision.subject, was, decision.verdict,
                        decision.reason, decision.policies,
                    )
                )  # fmt: skip
        policy_set = changed.decide(Actor("nobody"), "policy.read", Ref("policy", "all"), NOTHING).policy_set
        return Simulation(since, asked, not_asked, denied, allowed, policy_set, tuple(differences))


def _again(policy: Policy, event: Event, verb: str, past: Past, home: Labels) -> Decision:
    """The first thing that would not be allowed, or else the decision about the subject."""
    told = event.facts.get("policy")
    kept = told.get("asked") if isinstance(told, Mapping) else None
    if kept:
        asked = [(Ref.parse(one["of"]) if "of" in one else event.subject, {**NOTHING, **one["labels"]}) for one in kept]
    else:
        asked = [(event.subject, Labels(past, home.home, home.stands_on)(event.subject))]
    rulings = [policy.decide(event.actor, verb, ref, labels) for ref, labels in asked]
    return next((ruling for ruling in rulings if not ruling.allowed), rulings[0])


_FIELDS = frozenset({"name", "actor", "verb", "subject", "want", "labels", "by"})
_USUAL = {"name": "somebody", "kind": "person", "zone": "local"}
"""What an actor is that an expectation does not describe."""


def _read(case: Any, place: str) -> tuple[str, Actor, Mapping[str, Any] | None]:
    if not isinstance(case, Mapping):
        raise InvalidInput(f"{place} is no table.", "docs/guides/policy.md shows one.")
    place = f"{place} ({str(case.get('name', ''))[:80]})"
    if unknown := sorted(set(case) - _FIELDS):
        raise NotFound.named(f"field of {place}", str(unknown[0])[:60], _FIELDS)
    for name in ("verb", "subject", "want"):
        if not isinstance(case.get(name), str):
            raise InvalidInput(f"{place}: `{name}` is missing or no text.", "docs/guides/policy.md shows an expectation.")
    if case["want"] not in ("allow", "deny"):
        raise InvalidInput(f"{place}: `want` is {case['want'][:40]!r}.", "write allow or deny.")
    given, labels, by = case.get("actor"), case.get("labels"), case.get("by", [])
    if not isinstance(given, Mapping) or set(given) - {*_USUAL, "roles"} or not isinstance(given.get("roles"), (list, tuple)):
        raise InvalidInput(f"{place}: `actor` needs roles, and may have name, kind and zone.", 'actor = { roles = ["approver"] }')
    if not (labels is None or isinstance(labels, Mapping)) or not isinstance(by, (list, tuple)):
        raise InvalidInput(f"{place}: `labels` is a table and `by` a list of ids.")
    if not all(isinstance(one, str) for one in (*given["roles"], *by)):
        raise InvalidInput(f"{place}: roles and `by` are texts.")
    name, kind, zone = (str(given.get(field, usual)) for field, usual in _USUAL.items())
    actor = Actor(name, kind, tuple(given["roles"]), zone)
    return str(case.get("name") or f"{case['verb']} {case['subject']}"), actor, labels
