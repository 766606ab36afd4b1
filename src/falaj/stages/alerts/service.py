"""Keeps alerts and delivers their messages: each is in the ledger before it is sent, so that none is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from falaj.core.actor import Actor
from falaj.core.codec import decode
from falaj.core.decision import Decision
from falaj.core.errors import FalajError, NotFound
from falaj.core.ref import Ref
from falaj.ports.ledger import Ledger, Transaction
from falaj.ports.notify import Notify
from falaj.stages.action import Act, Kernel, action
from falaj.stages.alerts import rules
from falaj.stages.alerts.rules import Alert
from falaj.stages.alerts.spec import Alerting


@dataclass(frozen=True, slots=True)
class Alerts:
    """There is at most one open alert for each key."""

    kernel: Kernel
    notify: Notify
    alerting: Alerting = field(default_factory=Alerting)

    @action("alert.open")
    def open(self, act: Act, subject: Ref, *, key: str, title: str, severity: str = "warning", facts: Mapping[str, Any]) -> Ref:
        """Opens an alert for the key, or counts it once more where one is open. `subject`: `alert/<name_of(key)>`."""
        found = _versions(act.kernel.ledger, subject.name)
        ref = found[-1].ref if found and found[-1].is_open else subject.at(len(found) + 1)
        with act.change(ref) as draft:
            before = draft.get("alert", _key(ref))
            if before is None:
                alert = rules.opened(ref, key, title, severity=severity, facts=facts, now=act.now)
            else:
                alert = rules.seen_again(decode(Alert, before), title=title, facts=facts, now=act.now)
            draft.put("alert", _key(ref), alert)
            draft.note(key=key, state=alert.state, count=alert.count)
        return ref

    @action("alert.acknowledge")
    def acknowledge(self, act: Act, subject: Ref) -> None:
        """Somebody looks after it. Raises Conflict where it is over."""
        with act.change() as draft:
            alert = _read(draft.tx, subject)
            draft.put("alert", _key(subject), rules.acknowledged(alert, by=str(act.actor), now=act.now))

    @action("alert.resolve")
    def resolve(self, act: Act, subject: Ref, *, reason: str) -> None:
        """It is over. Raises Conflict where it was over before."""
        with act.change() as draft:
            alert = rules.resolved(_read(draft.tx, subject), by=str(act.actor), reason=reason, now=act.now)
            draft.put("alert", _key(subject), alert)
            draft.note(key=alert.key, reason=reason)

    @action("alert.clear")
    def clear(self, act: Act, subject: Ref) -> int:
        """A look found nothing wrong: how many in a row that makes. In the ledger, as each look may be another process."""
        with act.change() as draft:
            alert = rules.seen_clear(_read(draft.tx, subject))
            draft.put("alert", _key(subject), alert)
            draft.note(key=alert.key, clear=alert.clear)
        return alert.clear

    @action("alert.deliver")
    def deliver(self, act: Act, subject: Ref) -> int:
        """Sends what the alert owes; returns how many arrived. What failed is due again after a wait.

        A crash between the sending and the record sends the message again, with the same id: at least once, never less.
        """
        delivered = 0
        for message in rules.due(_read(act.kernel.ledger, subject), act.now):
            alert = _read(act.kernel.ledger, subject)
            error = self._send(rules.body_of(alert, message))
            with act.change() as draft:
                alert = _read(draft.tx, subject)
                if error:
                    alert = rules.failed(alert, message.id, error=error, now=act.now, alerting=self.alerting)
                else:
                    alert = rules.sent(alert, message.id)
                draft.put("alert", _key(subject), alert)
                draft.note(message=message.id, delivered=not error)
            if error:
                break
            delivered += 1
        return delivered

    def deliver_due(self, actor: Actor, now: datetime) -> int:
        """Delivers whatever is due, for the worker; returns how many messages arrived."""
        return sum(self.deliver(actor, alert.ref) for alert in self.all() if rules.due(alert, now))

    def raise_from(self, actor: Actor, decision: Decision, *, severity: str = "warning") -> Ref | None:
        """Opens an alert from a denied decision; an allowed one is a clear look; a hold, which could not see, is neither."""
        key = f"{decision.rule}|{decision.subject}"
        if decision.verdict == "allow":
            self._look_clear(actor, key)
            return None
        if decision.verdict == "hold":
            return None
        title = f"{decision.rule} of {decision.subject}: {decision.reason or 'refused'}"
        subject = Ref("alert", rules.name_of(key))
        return self.open(actor, subject, key=key, title=title, severity=severity, facts=rules.facts_of(decision))

    def _look_clear(self, actor: Actor, key: str) -> None:
        """After enough looks in a row that found nothing wrong with the key its alert is resolved."""
        alert = self.open_for(key)
        if alert is None:
            return
        if alert.clear + 1 < self.alerting.clear_looks:
            self.clear(actor, alert.ref)
        else:
            self.resolve(actor, alert.ref, reason=f"{alert.clear + 1} clear looks in a row")

    def open_for(self, key: str) -> Alert | None:
        found = [alert for alert in _versions(self.kernel.ledger, rules.name_of(key)) if alert.is_open and alert.key == key]
        return found[-1] if found else None

    def all(self) -> list[Alert]:
        """Every alert, by name and version."""
        return [decode(Alert, body) for _key, body in self.kernel.ledger.find("alert")]

    def _send(self, body: Mapping[str, Any]) -> str:
        """Empty where it arrived, else why not."""
        try:
            self.notify.send(body)
        except FalajError as exc:
            return exc.message or type(exc).__name__
        return ""


def _versions(reader: Ledger | Transaction, name: str) -> list[Alert]:
    found = [decode(Alert, body) for _key, body in reader.find("alert", prefix=f"{name}@")]
    return sorted(found, key=lambda alert: int(alert.ref.version or 0))


def _read(reader: Ledger | Transaction, subject: Ref) -> Alert:
    body = reader.get("alert", _key(subject))
    if body is None:
        known: Iterable[str] = [f"alert/{key}" for key, _ in reader.find("alert")]
        raise NotFound.named("alert", str(subject), known)
    return decode(Alert, body)


def _key(ref: Ref) -> str:
    return f"{ref.name}@{ref.version}"
