"""What the worker does for the keepers of the house, beside the life of models: each duty, and how often it falls due."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from falaj.core.actor import Actor
from falaj.core.errors import Denied
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.stages.doors import Door, refuse_unbound

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
    right: str = ""
    """What policy is asked before it, of the worker; a worker with a duty that names none does not start."""


def _checkpoint(app: App, _now: datetime) -> Sequence[str]:
    app.audit.checkpoint(WORKER, Ref("ledger", "local"))
    return ()


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
    Duty("checkpoint", DAY, _checkpoint, "audit.checkpoint"),
    Duty("people", DAY, _people, "subject.advance"),
    Duty("retrain", DAY, _retrain, "run.start"),
    Duty("retention", DAY, _retention, "retention.apply"),
)

ROUND: Mapping[str, str] = {
    # duty, in order: what policy is asked before it
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
    """Raises Denied where policy keeps the worker from a duty. It is told in every round, and not recorded each time."""
    ruling = app.kernel.rule(WORKER, right, Ref("worker", "all")).decision
    if not ruling.allowed:
        raise Denied(
            f"{WORKER} may not {right}: {ruling.reason}", "falaj policy explain worker/all shows what stands against it."
        )
