"""What the worker does for the keepers of the house, beside the life of models: each duty, and how often it falls due."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from falaj.core.actor import Actor
from falaj.core.decision import Decision
from falaj.core.errors import Denied, FalajError
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.stages.doors import Door, refuse_unbound

if TYPE_CHECKING:
    from falaj.app import App

log = logging.getLogger("falaj.worker")
ASKED_EVERY_S = 60.0
MINUTE = timedelta(minutes=1)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
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
    right: str = ""
    """What policy is asked before it, of the worker; a worker with a duty that names none does not start."""


def _beat(app: App, _now: datetime) -> Sequence[str]:
    """Under the replay clock a minute passes in no time: there the daily checkpoint brings the beat, and it promises nothing,
    since the next time is for the caller to tell."""
    if app.clock.kind == "wall":
        app.audit.beat(WORKER, LEDGER)
    return ()


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
    """Where a model with a tier answers, the kill switch is drilled as often as the packs ask, or somebody hears of it."""
    from falaj.stages.rollouts.kills import owes_drill

    news, every = [], app.governance.policing.demands.drill
    for name, record in app.ledger.find("endpoint"):
        models = {Ref.parse(arm["model"]).bare for arm in record["wanted"]["arms"]}
        if any(app.ledger.get("tier", str(model)) is not None for model in models):
            owed = owes_drill(Ref("endpoint", name), app.ledger.get("drill", name), now, every=every)
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


def _probe(app: App, now: datetime) -> Sequence[str]:
    """Whether everything is where it is declared to be; what is not is shut out, and somebody is told. What a look found is
    attested when it is news, and once a day."""
    if app.clock.kind == "replay" and now.hour:
        return ()  # reality goes by the machine's clock, and is looked at once for each day that is lived through
    from falaj.probing import probed
    from falaj.stages.governance.residency.service import ALL, attested

    zones, findings = app.governance.residency.zones, probed(app)
    decision = zones.attest(WORKER, ALL, findings=findings) if zones.is_news(findings, now) else attested(findings)
    is_new = app.alerts.open_for(f"{decision.rule}|{decision.subject}") is None
    raised = app.alerts.raise_from(WORKER, decision, severity="critical")
    return (f"residency: {decision.reason}",) if raised and is_new else ()


def _retention(app: App, _now: datetime) -> Sequence[str]:
    """Removes what is due where the setting says so; otherwise tells how much there is."""
    retention = app.governance.privacy.retention
    if app.settings.retention == "apply":
        done = retention.carry_out(WORKER)
        refused = [f"{what} is past its time and stays: {why}" for what, why in sorted(done.refused.items())]
        return [*([f"{len(done.removed)} things past their time were removed"] if done.removed else []), *refused[:10]]
    due = [ruling for ruling in retention.plan() if ruling.decision.allowed]
    return [f"{len(due)} things are past their time: falaj retention plan"] if due else ()


def _people(app: App, now: datetime) -> Sequence[str]:
    """Goes on with erasures that were cut short or whose date has come; tells which answers and holds fall due."""
    privacy = app.governance.privacy
    news: list[str] = []
    for hold in privacy.holds.over(now):
        privacy.holds.end(WORKER, hold)
        news.append(f"{hold} is over: what it held may be deleted or erased")
    # Without an erasure no vault is opened: most projects are about nobody.
    for request in privacy.subjects.unfinished() if app.ledger.find("erasure") else ():
        decision = privacy.subjects.carry_out(WORKER, request)
        news.append(f"request/{request}: {decision.reason}")
    return [*news, *privacy.requests.pressing(now), *privacy.holds.ending(now), *privacy.affected.late(now)]


def _retrain(app: App, now: datetime) -> Sequence[str]:
    """Asks for a new model where the champion learned from people who were erased, some time after the first of them."""
    news: list[str] = []
    champions = {str(alias["model"]): key for key, alias in app.ledger.find("alias") if key.endswith("@champion")}
    for model, since in app.governance.privacy.affected.wanted(now):
        run = Ref("run", f"erased-{Ref.parse(model).name}-{since:%Y%m%d%H%M%S}")
        if model in champions and app.ledger.get("run", run.name) is None:
            training = app.registry.get(Ref.parse(model))["training"]
            params = {"training": training, "at": iso(now), "reason": f"{model} learned from people who were erased"}
            app.pipelines.start(WORKER, run, step="release", params=params)
            news.append(f"{model} learned from people who were erased and asks for a new model: {run}")
    return news


DUTIES: tuple[Duty, ...] = (
    Duty("beat", MINUTE, _beat, "audit.beat"),
    Duty("checkpoint", DAY, _checkpoint, "audit.checkpoint"),
    Duty("witness", MINUTE, _witness, "audit.witness"),
    Duty("provider's keys", timedelta(minutes=10), _fetch_keys, "worker.tick"),
    Duty("reviews of access", timedelta(minutes=1), _chase_reviews, "alert.open"),
    Duty("residency", HOUR, _probe, "zone.attest"),
    Duty("people", DAY, _people, "subject.advance"),
    Duty("retrain", DAY, _retrain, "run.start"),
    Duty("retention", DAY, _retention, "retention.apply"),
    Duty("drills of kill switches", DAY, _chase_drills, "alert.open"),
)

ROUND: Mapping[str, str] = {
    # duty, in order: what policy is asked before it
    "recall": "endpoint.kill",
    "reconcile": "worker.tick",
    "ingest": "dataset.ingest",
    "watch_data": "dataset.watch",
    "refresh": "feature.materialise",
    "materialise": "feature.materialise",
    "compare": "feature.compare",
    "watch_runs": "run.finish",
    "follow": "monitor.look",
    "roll_out": "rollout.look",
    "monitor": "monitor.look",
    "retrain": "run.start",
    "keep_books": "predictions.seal",
    "keep_house": "worker.tick",
    "deliver": "alert.deliver",
    "tell_lineage": "lineage.export",
}


def refuse_unbound_duties(app: App) -> None:
    """Raises Bug where a duty of the round or of the house is bound to no right that policy knows."""
    duties = {**ROUND, **{duty.name: duty.right for duty in DUTIES}}
    refuse_unbound((Door("duty", name, (right,)) for name, right in duties.items()), getattr(app.kernel.policy, "verbs", None))


def permit(app: App, right: str) -> None:
    """Raises Denied where policy keeps the worker from a duty. It is told in every round, and not recorded each time.

    What was allowed once stays so for a minute of the machine's time, as the policies of a process do not change: a replay goes
    through thousands of rounds, and each action of a duty is asked about again in any case.
    """
    allowed = app.governance.policing.allowed
    if time.monotonic() < allowed.get(right, 0.0):
        return
    ruling = app.kernel.rule(WORKER, right, Ref("worker", "all")).decision
    if ruling.allowed:
        allowed[right] = time.monotonic() + ASKED_EVERY_S
    else:
        raise Denied(
            f"{WORKER} may not {right}: {ruling.reason}", "falaj policy explain worker/all shows what stands against it."
        )
