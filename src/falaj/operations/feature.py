"""What can be done with features."""

from __future__ import annotations

from typing import Any

from falaj.core.errors import NotFound
from falaj.core.moments import moment
from falaj.operations.dataset import UNTIL
from falaj.operations.operation import Argument, Asked, Operation, Subject

VIEW = Subject("view", "a view that the project declares, as in carrier_delays")


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


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "feature",
        "list",
        "Every view, and how many entities the online store has.",
        _list_views,
        changes=False,
        asks="dataset.read",
    ),
    Operation("feature", "materialise", "Brings a view's newest rows into the online store.", _materialise, VIEW, (UNTIL,)),
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
)
