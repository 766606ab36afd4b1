"""What the worker does for the keepers of the house, beside the life of models: each duty, and how often it falls due."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from falaj.core.actor import Actor
from falaj.core.errors import Denied
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


DUTIES: tuple[Duty, ...] = (Duty("checkpoint", DAY, _checkpoint, "audit.checkpoint"),)

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
