"""What can be done with labels: what really happened, once it is known."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from falaj.core.moments import iso
from falaj.operations.operation import Argument, Asked, Operation, Subject

ENDPOINT = Subject("endpoint", "an endpoint that the project declares, as in delay")


def _import(asked: Asked) -> Any:
    from falaj.labelling import labels_of, pieces_of

    pieces = pieces_of(asked.app, asked["file"], asked["columns"] or {})
    return labels_of(asked.app).take(asked.actor, asked.about, pieces=pieces)


def _show(asked: Asked) -> Any:
    from falaj.labelling import spans_of
    from falaj.stages.monitoring.coverage import coverage

    app, name = asked.app, asked.about.name
    cohort, maturity = spans_of(app, name)
    until = asked["until"] or app.kernel.now()
    since = asked["since"] or until - timedelta(days=30)
    records = (record for _, record in app.predictions_of(name).follow())
    found = coverage(records, since=since, until=until, cohort=cohort, maturity=maturity)
    return {"endpoint": str(asked.about), "since": iso(since), "until": iso(until), **found}


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "label",
        "import",
        "Takes labels from a file into an endpoint's prediction log, each once, however often it is given.",
        _import,
        ENDPOINT,
        (
            Argument(
                "file", "CSV, JSON lines or Parquet in the project's folder, a folder or a pattern", required=True, placed=True
            ),
            Argument("columns", 'what its columns are called, as in {"unit": "flight_id", "at": "known_at"}', "object"),
        ),
        actions=("label.take",),
    ),
    Operation(
        "label",
        "show",
        "How many predictions have a label by now, in time or too late, and which labels found none.",
        _show,
        ENDPOINT,
        (
            Argument("since", "predictions after that time (default: 30 days back)", "time"),
            Argument("until", "predictions up to that time (default: now)", "time"),
        ),
        changes=False,
        asks="endpoint.read",
    ),
)
