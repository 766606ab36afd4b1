"""What can be done with runs: steps that are executed somewhere."""

from __future__ import annotations

from typing import Any

from falaj.operations.operation import Argument, Asked, Operation, Subject

RUN = Subject("run", "the id of a run, as in release-delay-20130501")


def _start(asked: Asked) -> Any:
    from falaj.steps import step_named

    asked.app.kernel.ask(asked.actor, step_named(asked.app, asked["step"]).right, asked.about)
    return asked.app.pipelines.start(asked.actor, asked.about, step=asked["step"], params=asked["params"])


def _list_runs(asked: Asked) -> Any:
    return [
        {"run": run.id, "step": run.step, "state": run.state, "started_at": run.started_at}
        for run in asked.app.pipelines.listing()
    ]


OPERATIONS: tuple[Operation, ...] = (
    Operation("run", "list", "Every run and its state.", _list_runs, changes=False),
    Operation(
        "run",
        "show",
        "One run: parameters, outputs, failure.",
        lambda asked: asked.app.pipelines.get(asked.about.name),
        RUN,
        changes=False,
    ),
    Operation(
        "run",
        "start",
        "Starts a step where the runner executes it, and returns at once.",
        _start,
        RUN,
        (
            Argument("step", "what to do, as in release", required=True),
            Argument("params", 'the step\'s parameters as JSON, as in {"training": "delay"}', "object", {}),
        ),
    ),
)
