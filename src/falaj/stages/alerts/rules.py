"""The life of an alert: opened, seen again, acknowledged, resolved; and the messages that each of these owes to somebody."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from falaj.core.decision import Decision
from falaj.core.errors import Conflict, InvalidInput
from falaj.core.moments import iso, length
from falaj.core.ref import Ref
from falaj.stages.alerts.spec import SEVERITIES, Alerting

OPEN = frozenset({"open", "acknowledged"})


@dataclass(frozen=True, slots=True)
class Message:
    """One message that is owed. `id` stays the same however often it is sent: a receiver can drop what it has."""

    id: str
    kind: str
    """opened, acknowledged or resolved."""
    at: datetime
    delivered: bool = False
    attempts: int = 0
    due_at: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """`state`: open, acknowledged or resolved."""

    ref: Ref
    key: str
    """What is wrong, the same for each time that it is: `drift|monitor/delay`."""
    title: str
    severity: str
    state: str
    opened_at: datetime
    last_seen: datetime
    count: int = 1
    clear: int = 0
    """Looks in a row that found nothing, since it was last seen."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    acknowledged_by: str = ""
    resolved_at: datetime | None = None
    resolved_by: str = ""
    reason: str = ""
    outbox: tuple[Message, ...] = ()

    @property
    def is_open(self) -> bool:
        return self.state in OPEN


def name_of(key: str) -> str:
    """The key as the name of a reference."""
    return re.sub(r"[^a-z0-9_.\-]+", "-", key.lower()).replace("..", ".").strip("-.")[:80]


def opened(ref: Ref, key: str, title: str, *, severity: str, facts: Mapping[str, Any], now: datetime) -> Alert:
    """A new alert. Raises InvalidInput for a severity that there is not."""
    if severity not in SEVERITIES:
        raise InvalidInput(f"There is no severity {severity!r}.", f"there is: {', '.join(SEVERITIES)}.")
    alert = Alert(ref, key, title[:300], severity, "open", now, now, facts=facts)
    return _owing(alert, "opened", now)


def seen_again(alert: Alert, *, title: str, facts: Mapping[str, Any], now: datetime) -> Alert:
    """The same alert once more: it is counted, and nobody is told twice. Raises Conflict where it was resolved meanwhile."""
    _refuse_if_over(alert)
    return replace(alert, title=title[:300], facts=facts, last_seen=now, count=alert.count + 1, clear=0)


def seen_clear(alert: Alert) -> Alert:
    """A look found nothing wrong. Raises Conflict where it was resolved meanwhile."""
    _refuse_if_over(alert)
    return replace(alert, clear=alert.clear + 1)


def acknowledged(alert: Alert, *, by: str, now: datetime) -> Alert:
    """Somebody looks after it. Raises Conflict where it is not open; twice is once."""
    _refuse_if_over(alert)
    if alert.state == "acknowledged":
        return alert
    return _owing(replace(alert, state="acknowledged", acknowledged_by=by), "acknowledged", now)


def resolved(alert: Alert, *, by: str, reason: str, now: datetime) -> Alert:
    """It is over. Raises Conflict where it was over before."""
    _refuse_if_over(alert)
    return _owing(replace(alert, state="resolved", resolved_at=now, resolved_by=by, reason=reason), "resolved", now)


def due(alert: Alert, now: datetime) -> list[Message]:
    """Messages to send now, oldest first: one that waits holds those behind it back, so that they come in order."""
    found = []
    for message in alert.outbox:
        if message.delivered:
            continue
        if message.due_at is not None and message.due_at > now:
            break
        found.append(message)
    return found


def sent(alert: Alert, message_id: str) -> Alert:
    """The message has arrived; those that arrived are kept as ids, not for ever: the last eight."""
    done = [replace(m, delivered=True, due_at=None, error="") if m.id == message_id else m for m in alert.outbox]
    old = [m for m in done if m.delivered]
    dropped = {m.id for m in old[: max(0, len(old) - 8)]}
    return replace(alert, outbox=tuple(m for m in done if m.id not in dropped))


def failed(alert: Alert, message_id: str, *, error: str, now: datetime, alerting: Alerting) -> Alert:
    """The message has not arrived; it is due again after a wait that doubles."""
    outbox = []
    for message in alert.outbox:
        if message.id == message_id:
            wait = min(length(alerting.retry) * 2 ** min(message.attempts, 20), length(alerting.retry_max))
            message = replace(message, attempts=message.attempts + 1, due_at=now + wait, error=error[:200])  # noqa: PLW2901
        outbox.append(message)
    return replace(alert, outbox=tuple(outbox))


def body_of(alert: Alert, message: Message) -> dict[str, Any]:
    """What is sent: it says what is wrong and what to do, and holds no personal data."""
    return {
        "id": message.id, "kind": message.kind, "at": iso(message.at), "alert": str(alert.ref), "key": alert.key,
        "title": alert.title, "severity": alert.severity, "state": alert.state, "count": alert.count,
        "opened_at": iso(alert.opened_at), "last_seen": iso(alert.last_seen), "reason": alert.reason,
        "facts": dict(alert.facts), "next": _NEXT[message.kind].format(ref=alert.ref),
    }  # fmt: skip


def facts_of(decision: Decision) -> dict[str, Any]:
    """A decision as an alert shows it: the checks that failed, at most ten."""
    failed_checks: Sequence[Any] = decision.failed[:10]
    checks = [{"name": c.name, "wanted": c.wanted, "seen": c.seen} for c in failed_checks]
    return {"subject": str(decision.subject), "rule": decision.rule, "reason": decision.reason, "checks": checks}


def _owing(alert: Alert, kind: str, now: datetime) -> Alert:
    return replace(alert, outbox=(*alert.outbox, Message(f"{alert.ref}.{kind}", kind, now)))


def _refuse_if_over(alert: Alert) -> None:
    if not alert.is_open:
        raise Conflict(f"{alert.ref} is {alert.state} already.", "falaj alert list")


_NEXT = {
    "opened": "falaj alert acknowledge {ref}",
    "acknowledged": "falaj alert resolve {ref} --reason …",
    "resolved": "nothing",
}
