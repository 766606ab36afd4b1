"""What the worker does for the keepers of the house, beside the life of models: each duty, and how often it falls due."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from falaj.core.actor import Actor
from falaj.core.ref import Ref

if TYPE_CHECKING:
    from falaj.app import App

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
WORKER = Actor("worker", "service", ("service",))
"""Who acts when the platform itself does what a person declared."""


@dataclass(frozen=True, slots=True)
class Duty:
    name: str
    every: timedelta
    """It falls due at each whole multiple of this since 1970, and once after a start."""
    do: Callable[[App, datetime], Sequence[str]]
    """Does it; returns what is worth a line to a person."""


def _checkpoint(app: App, _now: datetime) -> Sequence[str]:
    app.audit.checkpoint(WORKER, Ref("ledger", "local"))
    return ()


def _probe(app: App, now: datetime) -> Sequence[str]:
    """Whether everything is where it is declared to be; what is not is shut out, and somebody is told. What a look found is
    attested when it is news, and once a day."""
    from falaj.probing import probed
    from falaj.stages.governance.residency.service import ALL, attested

    zones, findings = app.governance.residency.zones, probed(app)
    decision = zones.attest(WORKER, ALL, findings=findings) if zones.is_news(findings, now) else attested(findings)
    is_new = app.alerts.open_for(f"{decision.rule}|{decision.subject}") is None
    raised = app.alerts.raise_from(WORKER, decision, severity="critical")
    return (f"residency: {decision.reason}",) if raised and is_new else ()


DUTIES: tuple[Duty, ...] = (Duty("checkpoint", DAY, _checkpoint), Duty("residency", HOUR, _probe))
