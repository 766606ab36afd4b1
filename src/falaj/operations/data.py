"""What can be done with data: datasets, features, and the runs that work on them."""

from __future__ import annotations

from typing import Any

from falaj.core.errors import NotFound
from falaj.core.moments import moment
from falaj.operations.operation import Argument, Asked, Operation, Subject

DATASET = Subject("dataset", "a dataset that the project declares, as in flights")
VIEW = Subject("view", "a view that the project declares, as in carrier_delays")
RUN = Subject("run", "the id of a run, as in release-delay-20130501")


def _list_datasets(asked: Asked) -> Any:
    return [_brief(asked.app.contracts.look(name)) for name in asked.app.project.datasets]


def _brief(seen: dict[str, Any]) -> dict[str, Any]:
    return {name: seen[name] for name in ("dataset", "version", "watermark", "rows", "quarantined")}


def _quarantine(asked: Asked) -> Any:
    rows = asked.app.contracts.quarantine(asked.about.name)
    return {"rows": rows.height, "shown": rows.head(asked["limit"]).to_dicts()}


def _ingest(asked: Asked) -> Any:
    return asked.app.contracts.ingest(asked.actor, asked.about, until=asked["until"] or asked.app.kernel.now())


def _list_views(asked: Asked) -> Any:
    app = asked.app
    return [
        {
            "view": name,
            "dataset": view.dataset,
            "entity": view.entity,
            "features": list(view.places),
            "entities": app.online.count(name),
        }
        for name, view in app.project.views.items()
    ]


def _materialise(asked: Asked) -> Any:
    return asked.app.features.materialise(asked.actor, asked.about, until=asked["until"] or asked.app.kernel.now())


def _explain(asked: Asked) -> Any:
    found = asked.app.features.explain(asked.about.name, asked["entity"], asked["at"] or asked.app.kernel.now())
    return {
        "view": found.view,
        "entity": found.entity,
        "at": found.at,
        "values": found.values,
        "rows": found.rows.to_dicts(),
        "snapshots": [asset.ref for asset in found.assets],
    }


def _verify(asked: Asked) -> Any:
    """The recipe of the model that is served now: it is what the logged features were made with."""
    app = asked.app
    endpoint = app.project.one("endpoints", asked.about.name)
    training = next((t for t in app.project.trainings.values() if t.model == endpoint.model), None)
    if training is None:
        raise NotFound(f"No training makes the model {endpoint.model!r} of {asked.about}.", "declare one in the project.")
    records = (record for _, record in app.stream_of(endpoint.name).follow())
    since = asked["since"]
    recent = (r for r in records if since is None or r.get("kind") != "prediction" or moment(r["at"]) >= since)
    return app.features.verify(asked.actor, asked.about, records=recent, recipe=training.recipe)


def _start(asked: Asked) -> Any:
    return asked.app.pipelines.start(asked.actor, asked.about, step=asked["step"], params=asked["params"])


def _list_runs(asked: Asked) -> Any:
    return [
        {"run": run.id, "step": run.step, "state": run.state, "started_at": run.started_at}
        for run in asked.app.pipelines.listing()
    ]


_UNTIL = Argument("until", "take in what was known at that time (default: now)", "time")

OPERATIONS: tuple[Operation, ...] = (
    Operation("dataset", "list", "Every declared dataset, and how far it was taken in.", _list_datasets, changes=False),
    Operation(
        "dataset",
        "show",
        "Snapshots, watermark, labels and latest decision of a dataset.",
        lambda asked: asked.app.contracts.look(asked.about.name),
        DATASET,
        changes=False,
    ),
    Operation("dataset", "ingest", "Takes in what is new, after its contract has been checked.", _ingest, DATASET, (_UNTIL,)),
    Operation(
        "dataset",
        "quarantine",
        "Rows that a contract kept out, with the reasons.",
        _quarantine,
        DATASET,
        (Argument("limit", "how many rows to show", "integer", 20),),
        changes=False,
    ),
    Operation(
        "feature",
        "list",
        "Every view, and how many entities the online store has.",
        _list_views,
        changes=False,
        asks="dataset.read",
    ),
    Operation("feature", "materialise", "Brings a view's newest rows into the online store.", _materialise, VIEW, (_UNTIL,)),
    Operation(
        "feature",
        "verify",
        "Compares logged features with the truth recomputed from snapshots.",
        _verify,
        Subject("endpoint", "the endpoint whose prediction log is compared"),
        (Argument("since", "only predictions from that time on", "time"),),
    ),
    Operation(
        "feature",
        "explain",
        "Which rows a stored feature row was made from.",
        _explain,
        VIEW,
        (
            Argument("entity", "the entity's key, as in UA", required=True),
            Argument("at", "as of that time (default: now)", "time"),
        ),
        changes=False,
        asks="dataset.read",
    ),
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
