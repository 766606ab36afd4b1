"""What the worker does for the keepers of the house, beside the life of models: each duty, and how often it falls due."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from falaj.core.actor import Actor
from falaj.core.decision import Decision
from falaj.core.errors import FalajError
from falaj.core.ref import Ref

if TYPE_CHECKING:
    from falaj.app import App

log = logging.getLogger("falaj.worker")
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
WORKER = Actor("worker", "service", ("service",))
"""Who acts when the platform itself does what a person declared."""
LEDGER = Ref("ledger", "local")


@dataclass(frozen=True, slots=True)
class Duty:
    name: str
    every: timedelta
    """It falls due at each whole multiple of this since 1970, and once after a start."""
    do: Callable[[App, datetime], Sequence[str]]
    """Does it; returns what is worth a line to a person."""


def _beat(app: App, _now: datetime) -> Sequence[str]:
    """Under the replay clock a minute passes in no time: there the daily checkpoint brings the beat, and it promises nothing,
    since the next time is for the caller to tell."""
    if app.clock.kind == "wall":
        app.audit.beat(WORKER, LEDGER)
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


def _checkpoint(app: App, _now: datetime) -> Sequence[str]:
    if app.clock.kind == "replay":
        app.audit.beat(WORKER, LEDGER, within=timedelta())
    app.audit.checkpoint(WORKER, LEDGER)
    return ()


def _witness(app: App, now: datetime) -> Sequence[str]:
    """One that is away is asked again each time, and holds up nothing; a person hears of it when it has been away too long."""
    from falaj.stages.governance import witnessing

    witnesses = app.governance.witnesses
    if not witnesses.asked:
        return ()
    shown = app.audit.witness(WORKER, LEDGER)
    failed = [c for c in (*shown.checks, *witnessing.check(app.ledger, witnesses, now)) if c.passed is not True]
    is_late = shown.verdict == "deny" or any(check.name == "witnessed" for check in failed)
    reason = "; ".join(f"{check.name}: {check.seen}" for check in failed)
    is_told = app.alerts.open_for(f"witness|{LEDGER}") is not None
    if is_late == is_told:
        return ()
    heard = Decision(LEDGER, "witness", "deny" if is_late else "allow", tuple(failed), WORKER, now, reason)
    app.alerts.raise_from(WORKER, heard, severity="critical" if shown.verdict == "deny" else "warning")
    return [f"the ledger is not witnessed: {reason}"] if is_late else ()


def _chase_drills(app: App, now: datetime) -> Sequence[str]:
    """Where a model with a tier answers, the kill switch is drilled each month, or somebody hears of it."""
    from falaj.stages.rollouts.kills import owes_drill

    news = []
    for name, record in app.ledger.find("endpoint"):
        models = {Ref.parse(arm["model"]).bare for arm in record["wanted"]["arms"]}
        if any(app.ledger.get("tier", str(model)) is not None for model in models):
            owed = owes_drill(Ref("endpoint", name), app.ledger.get("drill", name), now)
            alert = app.alerts.open_for(f"{owed.rule}|{owed.subject}")
            if owed.allowed and alert is not None:
                app.alerts.resolve(WORKER, alert.ref, reason=owed.reason)
            elif not owed.allowed and alert is None:
                app.alerts.raise_from(WORKER, replace(owed, actor=WORKER))
                news.append(owed.reason)
    return news


@contextmanager
def alive(app: App) -> Iterator[None]:
    """Tells the ledger that the system starts, and at an orderly end that it stops; a death in between shows as silence."""
    _tell(app, "up")
    yield
    _tell(app, "down")


def _tell(app: App, state: str) -> None:
    """A ledger that cannot be written keeps nobody from starting or stopping what is served: that it is so shows as silence."""
    try:
        if app.clock.kind == "wall":
            app.audit.beat(WORKER, LEDGER, state=state)
    except FalajError as exc:
        log.warning("the ledger could not be told that the system is %s: %s", state, exc)


DUTIES: tuple[Duty, ...] = (
    Duty("beat", MINUTE, _beat),
    Duty("checkpoint", DAY, _checkpoint),
    Duty("witness", MINUTE, _witness),
    Duty("provider's keys", timedelta(minutes=10), _fetch_keys),
    Duty("reviews of access", timedelta(minutes=1), _chase_reviews),
    Duty("drills of kill switches", DAY, _chase_drills),
)
