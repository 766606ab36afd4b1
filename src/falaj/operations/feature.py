"""What can be done with features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.moments import from_millis, length, moment
from falaj.operations.dataset import UNTIL
from falaj.operations.operation import Argument, Asked, Operation, Subject
from falaj.stages.features.mark import mark_of

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.stages.features.spec import AnyView

VIEW = Subject("view", "a view that the project declares, as in carrier_delays")


def _list_views(asked: Asked) -> Any:
    app = asked.app
    return [
        {
            "view": name,
            "dataset": view.dataset,
            "entity": view.entity,
            "features": list(view.places),
            **_standing(app, view),
        }
        for name, view in app.project.views.items()
    ]


def _standing(app: App, view: AnyView) -> dict[str, Any]:
    """How far the online store is with a view. `age_s`: of its newest row; `lag_s`: how far it is behind the snapshots."""
    now, newest, mark = app.kernel.now(), app.online.freshness(view.name), mark_of(app.online.mark(view.name))
    until = None if mark is None else mark.until
    head = app.ledger.get("head", f"dataset/{view.dataset}")
    watermark = moment(head["watermark"]) if head is not None and head["watermark"] else None
    age = None if newest is None else (now - from_millis(newest)).total_seconds()
    return {
        "entities": app.online.count(view.name),
        "newest": None if newest is None else from_millis(newest),
        "age_s": None if age is None else round(age),
        "ttl_s": None if view.ttl is None else length(view.ttl).total_seconds(),
        "fresh": None if age is None else view.ttl is None or age <= length(view.ttl).total_seconds(),
        "until": until,
        "lag_s": None if until is None or watermark is None else max(0, round((watermark - until).total_seconds())),
    }


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


_MOST_READ = 1_000
"""Entities in one answer."""


def _get(asked: Asked) -> Any:
    """What an inference server reads now, row by row, fresh or not."""
    view, now, entities = asked.app.features.view(asked.about.name), asked.app.kernel.now(), asked["entity"]
    if not 0 < len(entities) <= _MOST_READ:
        raise InvalidInput(f"{len(entities)} entities were asked for.", f"name 1 to {_MOST_READ:,}, as in --entity UA,AA.")
    ttl = None if view.ttl is None else length(view.ttl).total_seconds()
    found = []
    for entity, row in zip(entities, asked.app.online.get([(view.name, entity) for entity in entities]), strict=True):
        if row is None:
            found.append({"entity": entity, "at": None, "age_s": None, "fresh": None, "values": None})
            continue
        if len(row.values) != len(view.places):
            raise NotFound(
                f"{entity!r} has a row of another definition of {view.name!r}.", f"falaj feature materialise {view.name}"
            )
        age = (now - from_millis(row.at_ms)).total_seconds()
        values = {name: _plain(value) for name, value in zip(view.places, row.values, strict=True)}
        found.append(
            {
                "entity": entity,
                "at": from_millis(row.at_ms),
                "age_s": round(age),
                "fresh": ttl is None or age <= ttl,
                "values": values,
            }
        )
    return found


def _plain(value: Any) -> Any:
    """JSON has no infinity and no NaN, so they are told as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "feature",
        "list",
        "Every view: how many entities the online store has, how old its newest row is, how far it lags.",
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
    Operation(
        "feature",
        "get",
        "The rows of a view that the online store holds now.",
        _get,
        VIEW,
        (Argument("entity", "the entities' keys, separated by commas, as in UA,AA", "list", required=True),),
        changes=False,
        asks="dataset.read",
    ),
)
