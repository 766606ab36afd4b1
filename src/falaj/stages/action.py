"""@action: the one door to every change. Policy first, then one transaction that holds the change and its event."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from falaj.core.actor import Actor
from falaj.core.codec import encode
from falaj.core.decision import Decision
from falaj.core.errors import Denied
from falaj.core.event import Change, Event
from falaj.core.moments import millis
from falaj.core.ref import Ref
from falaj.ports.ledger import Ledger, Transaction
from falaj.ports.policy import Policy

NOTICED_MS = 1000

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Kernel:
    """What every stage needs to change anything."""

    ledger: Ledger
    policy: Policy
    now: Callable[[], datetime]

    def ask(self, actor: Actor, verb: str, subject: Ref, labels: Mapping[str, Any] | None = None) -> None:
        """Raises Denied, after the refusal was recorded, unless policy allows it."""
        ruling = self.policy.decide(actor, verb, subject, labels or {})
        if ruling.allowed:
            return
        facts = {"verb": verb, "reason": ruling.reason}
        with self.ledger.transaction() as tx:
            tx.append(Event("policy.deny", subject, actor, self.now(), facts))
        raise Denied(f"{actor} may not {verb} {subject}: {ruling.reason}", "ask somebody whose role allows it.", verb=verb)


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

    @contextmanager
    def change(self, subject: Ref | None = None) -> Iterator[Draft]:
        """Commits what the block drafted, with its event, or nothing at all. `subject`: where the version is known only now."""
        with self.kernel.ledger.transaction() as tx:
            draft = Draft(tx)
            yield draft
            facts = {**draft.facts, **self._took()}
            tx.append(Event(self.verb, subject or self.subject, self.actor, self.now, facts, tuple(draft.changes)))

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

    Raises Denied where policy refuses. An action never calls an action: that would be two events for one change.
    """

    def door(method: Callable[Concatenate[S, Act, Ref, P], R]) -> Callable[Concatenate[S, Actor, Ref, P], R]:
        @functools.wraps(method)
        def call(self: S, actor: Actor, subject: Ref, /, *args: P.args, **kwargs: P.kwargs) -> R:
            self.kernel.ask(actor, verb, subject)
            return method(self, Act(self.kernel, actor, verb, subject, self.kernel.now()), subject, *args, **kwargs)

        call.verb = verb  # type: ignore[attr-defined]  # read by the parity test and by the faces
        return call

    return door
