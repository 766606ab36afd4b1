"""What a run can do: each step is a function of an open app and the run, executed wherever the runner puts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from falaj.core.actor import Actor
from falaj.core.errors import MissingDependency, NotFound
from falaj.core.moments import moment
from falaj.core.ref import Ref
from falaj.core.run import Run
from falaj.stages.doors import Door, refuse_unbound

if TYPE_CHECKING:
    from falaj.app import App

RUNNER = Actor("runner", "service", ("service",))


def release(app: App, run: Run) -> tuple[Ref, ...]:
    """Trains, gates and, where the gates allow it, registers. What is served changes later, by a rollout or by a person.

    params: training (its name), at (moment of the training, RFC 3339), reason.
    """
    training = app.project.one("trainings", str(run.params["training"]))
    at = moment(str(run.params["at"]))
    candidate = app.trainer.train(RUNNER, Ref("model", training.model), training=training.name, at=at, run_id=run.id)
    decision = app.gates.evaluate(RUNNER, candidate, gate=app.project.one("gates", training.model))
    if not decision.allowed:
        return (candidate,)
    # As the ledger has it, which keeps milliseconds: what is given must be what was recorded.
    decision = app.gates.decision(candidate)
    return (candidate, app.registry.register(RUNNER, Ref("model", training.model), candidate=candidate, decision=decision))


def score(app: App, run: Run) -> tuple[Ref, ...]:
    """Scores a file or a period of a dataset; what was cut short goes on where it stopped.

    params: model, output, and input or dataset, since, until; features, carry, endpoint. As `falaj model score` takes them.
    """
    from falaj.scoring import model_of
    from falaj.scoring import score as scored

    model = model_of(app, str(run.params.get("model", "")), str(run.params.get("endpoint") or ""))
    asked = {name: value for name, value in run.params.items() if name != "model"}
    return (scored(app, RUNNER, model, asked, run.id),)


@dataclass(frozen=True, slots=True)
class Step:
    do: Callable[[App, Run], tuple[Ref, ...]]
    right: str
    """What whoever starts such a run has to be allowed beside `run.start`: a run acts with the platform's own rights."""


STEPS: Mapping[str, Step] = {"release": Step(release, "model.register"), "score": Step(score, "model.score")}


def step_named(app: App, name: str) -> Step:
    """Raises NotFound with the nearest names, and Bug where any step is bound to no right."""
    refuse_unbound(
        (Door("step", known, (step.right,)) for known, step in STEPS.items()), getattr(app.kernel.policy, "verbs", None)
    )
    if name not in STEPS:
        raise NotFound.named("step", name, STEPS)
    return STEPS[name]


def execute(app: App, step: str, run_id: str) -> None:
    """Executes a run that was started, and records how it ended. Of what went wrong the kind is recorded; all of it is raised."""
    wanted = step_named(app, step)
    run = app.pipelines.get(run_id)
    subject = Ref("run", run_id)
    try:
        outputs = wanted.do(app, run)
    except Exception as exc:
        app.pipelines.finish(RUNNER, subject, state="failed", failure=_kind_of(exc))
        raise
    app.pipelines.finish(RUNNER, subject, state="succeeded", outputs=outputs)


def _kind_of(exc: Exception) -> str:
    """Of the error only its kind, unless it speaks of names alone: a user's code may quote a row, and no leaf is taken back."""
    kind = type(exc).__name__
    return f"{kind}: {exc.message}" if isinstance(exc, NotFound | MissingDependency) else f"{kind}: the run's own log says why"
