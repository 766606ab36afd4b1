"""What the worker does for the keepers of the house, beside the life of models: each duty, and how often it falls due."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from falaj.core.actor import Actor
from falaj.core.ref import Ref

if TYPE_CHECKING:
    from falaj.app import App

DAY = timedelta(days=1)
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


def _fetch_keys(app: App, _now: datetime) -> Sequence[str]:
    """The provider's keys, for endpoints too: one that it took away opens nothing any more."""
    if app.access.oidc is not None:
        app.access.oidc.provider.refresh()
    return ()


def _chase_reviews(app: App, _now: datetime) -> Sequence[str]:
    """Break-glass access that nobody has reviewed has an alert, and another word when it is overdue."""
    news = []
    for owed in app.access.elevations.owed():
        state = replace(owed, rule="break-glass-overdue") if owed.checks[0].seen == "overdue" else owed
        if app.alerts.open_for(f"{state.rule}|{state.subject}") is None:
            app.alerts.raise_from(WORKER, state, severity="critical" if state.rule != "break-glass" else "warning")
            news.append(f"{state.subject}: {state.reason}")
    return news


DUTIES: tuple[Duty, ...] = (
    Duty("checkpoint", DAY, _checkpoint),
    Duty("provider's keys", timedelta(minutes=10), _fetch_keys),
    Duty("reviews of access", timedelta(minutes=1), _chase_reviews),
)
