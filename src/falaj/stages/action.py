"""@action: the one door to every change. Policy first, then one transaction that holds the change and its event."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from falaj.core.actor import Actor
from falaj.core.codec import encode
from falaj.core.decision import Check, Decision
from falaj.core.errors import Denied
from falaj.core.event import Change, Event
from falaj.core.moments import millis
from falaj.core.ref import Ref
from falaj.ports.ledger import Ledger, Transaction
from falaj.ports.policy import Policy
from falaj.stages.labels import NOTHING, Labels

NOTICED_MS = 1000

P = ParamSpec("P")
R = TypeVar("R")
Resolve = Callable[[Ref], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Ruling:
    """One question that policy was asked on the way to an action, and the answer."""

    decision: Decision
    labels: Mapping[str, Any]
    """What policy was told about the subject beside its name."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What every stage needs to change anything."""

    ledger: Ledger
    policy: Policy
    now: Callable[[], datetime]
    labels: Resolve | None = None
    """What policy is told about a ref; by default what the ledger's records say, see `falaj.stages.labels`."""

    def rule(self, actor: Actor, verb: str, subject: Ref, labels: Mapping[str, Any] | None = None) -> Ruling:
        """What policy says, without any consequence. Labels that cannot be found out are a deny."""
        try:
            known = {**(self.labels or Labels(self.ledger))(subject), **(labels or {})}
        except Exception as exc:
            reason = f"the labels of {subject} cannot be told: {getattr(exc, 'message', type(exc).__name__)}"
            check = Check("labels", "readable", reason[:300], False)
            return Ruling(Decision(subject, "policy", "deny", (check,), actor, None, reason[:300]), {})
        return Ruling(self.policy.decide(actor, verb, subject, known), known)

    def ask(self, actor: Actor, verb: str, subject: Ref, labels: Mapping[str, Any] | None = None) -> Decision:
        """The decision that allows it. Raises Denied, after the refusal was recorded, unless policy allows it."""
        return self.demand(actor, verb, subject, labels).decision

    def demand(self, actor: Actor, verb: str, subject: Ref, labels: Mapping[str, Any] | None = None) -> Ruling:
        """As `ask`, with what policy was told."""
        ruling = self.rule(actor, verb, subject, labels)
        decision = ruling.decision
        if decision.allowed:
            return ruling
        facts = encode({"verb": verb, "reason": decision.reason, **asked((ruling,), subject)})
        with self.ledger.transaction() as tx:
            tx.append(Event("policy.deny", subject, actor, self.now(), facts))
        raise Denied(
            f"{actor} may not {verb} {subject}: {decision.reason}",
            "falaj policy explain shows who may, and what stands against it.",
            verb=verb,
            **({"policies": list(decision.policies)} if decision.policies else {}),
        )


def asked(rulings: Iterable[Ruling], subject: Ref) -> dict[str, Any]:
    """What an event keeps of the rulings behind it, enough to ask again: the set, what decided, and the labels.

    Empty where the policy has no set that could be named. Labels that say nothing are left out.
    """
    found = [ruling for ruling in rulings if ruling.decision.policy_set]
    if not found:
        return {}
    told = []
    for ruling in found:
        labels = {name: value for name, value in ruling.labels.items() if value != NOTHING.get(name)}
        about = ruling.decision.subject
        told.append({"labels": labels} | ({} if about == subject else {"of": str(about)}))
    by = sorted({name for ruling in found for name in ruling.decision.policies})
    return {"policy": {"set": found[0].decision.policy_set[:SHORT], "by": by, "asked": told}}


SHORT = len("sha256:") + 16
"""So much of a set's digest stands in each event; no two sets of one project will share it."""


@dataclass(slots=True)
class Draft:
    """The change in the making: reads see its own writes once they are committed, facts go into the event."""

    tx: Transaction
    changes: list[Change] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        return self.tx.get(kind, key)

    def put(self, kind: str, key: str, body: Any) -> None:
        """The record now reads `body`: a word, or plain JSON values."""
        self.changes.append(Change(kind, key, encode(body)))

    def remove(self, kind: str, key: str) -> None:
        self.changes.append(Change(kind, key, None))

    def decide(self, decision: Decision) -> None:
        """Keeps a decision as the latest of its rule for its subject; all of them stay in the events."""
        self.put("decision", f"{decision.subject}|{decision.rule}", decision)

    def note(self, **facts: Any) -> None:
        self.facts.update(encode(facts))


@dataclass(frozen=True, slots=True)
class Act:
    """One permitted action. Do the slow work first, then take `change()` once for as short as possible."""

    kernel: Kernel
    actor: Actor
    verb: str
    subject: Ref
    now: datetime
    rulings: tuple[Ruling, ...] = ()
    """What policy said: about the subject first, then about each thing that the call names."""

    @property
    def decision(self) -> Decision | None:
        """What policy said about the subject."""
        return self.rulings[0].decision if self.rulings else None

    @contextmanager
    def change(self, subject: Ref | None = None) -> Iterator[Draft]:
        """Commits what the block drafted, with its event, or nothing at all. `subject`: where the version is known only now."""
        with self.kernel.ledger.transaction() as tx:
            draft = Draft(tx)
            yield draft
            about = subject or self.subject
            facts = {**draft.facts, **self._took(), **encode(asked(self.rulings, about))}
            tx.append(Event(self.verb, about, self.actor, self.now, facts, tuple(draft.changes)))

    def _took(self) -> Mapping[str, int]:
        """How long after its time the event comes into the ledger, where it is worth a fact; the audit compares times and order.

        Negative where the clock went back meanwhile.
        """
        took = millis(self.kernel.now()) - millis(self.now)
        return {"took_ms": took} if abs(took) >= NOTICED_MS else {}


class Stage(Protocol):
    @property
    def kernel(self) -> Kernel: ...


S = TypeVar("S", bound=Stage)


def action(verb: str) -> Callable[[Callable[Concatenate[S, Act, Ref, P], R]], Callable[Concatenate[S, Actor, Ref, P], R]]:
    """Turns `method(self, act, subject, …)` into `method(self, actor, subject, …)`, behind policy.

    Policy is asked about the subject, and about every other ref that the call names: whoever may deploy to an endpoint may not
    therefore deploy any model. Raises Denied where policy refuses. An action never calls an action: that would be two events
    for one change.
    """

    def door(method: Callable[Concatenate[S, Act, Ref, P], R]) -> Callable[Concatenate[S, Actor, Ref, P], R]:
        @functools.wraps(method)
        def call(self: S, actor: Actor, subject: Ref, /, *args: P.args, **kwargs: P.kwargs) -> R:
            rulings = tuple(self.kernel.demand(actor, verb, ref) for ref in dict.fromkeys((subject, *_named(args, kwargs))))
            return method(self, Act(self.kernel, actor, verb, subject, self.kernel.now(), rulings), subject, *args, **kwargs)

        call.verb = verb  # type: ignore[attr-defined]  # read by the parity test and by the faces
        return call

    return door


def _named(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Ref]:
    """The refs that a call names, also as the values of a mapping, and those that an argument says that it `uses`."""
    for value in (*args, *kwargs.values()):
        named = value.values() if isinstance(value, Mapping) else (value, *getattr(value, "uses", ()))
        yield from (ref for ref in named if isinstance(ref, Ref))
