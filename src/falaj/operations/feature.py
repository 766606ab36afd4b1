"""What can be done with features."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from falaj.core.codec import decode
from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.core.masking import hides_request, masked_of
from falaj.core.moments import from_millis, iso, length, moment
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.core.segment import PredictionId
from falaj.operations.dataset import UNTIL
from falaj.operations.operation import Argument, Asked, Operation, Subject
from falaj.stages.features.entity import key_columns
from falaj.stages.features.mark import mark_of

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.stages.features.catalogue import Entry
    from falaj.stages.features.explain import Cell, Explanation
    from falaj.stages.features.spec import AnyView

VIEW = Subject("view", "a view that the project declares, as in carrier_delays")


def _list_views(asked: Asked) -> Any:
    app = asked.app
    return [
        {
            "view": name,
            "version": view.version,
            "dataset": view.dataset,
            "entity": str(view.entity),
            "features": list(view.places),
            "owner": view.owner,
            "description": view.description,
            **_standing(app, view),
        }
        for name, view in app.project.views.items()
    ]


def _catalogue(app: App) -> list[Entry]:
    """What is declared, with the types that contracts give and the models that read it, as the ledger has them."""
    from falaj.stages.features.catalogue import Known, entries

    views = app.project.views
    types = {name: dict(app.contracts.contract(name).kinds) for name in {view.dataset for view in views.values()}}
    models = []
    for key, body in app.ledger.find("model"):
        asset = body["asset"]
        recipe = app.ledger.get("recipe", str(asset["labels"].get("recipe")))
        if recipe is not None:
            models.append((f"model/{key}", decode(Recipe, recipe)))
    return entries(views.values(), Known(types, {name: app.online.freshness(name) for name in views}, models))


def _search(asked: Asked) -> Any:
    from falaj.stages.features.catalogue import search

    found = search(_catalogue(asked.app), asked["for"], asked["limit"])
    return [
        {"score": score, "what": entry.kind, "name": entry.name, "description": entry.description, "owner": entry.owner}
        for score, entry in found
    ]


def _show(asked: Asked) -> Any:
    """The view, its entity, and each of its features."""
    view = asked.app.features.view(asked.about.name)
    found = _catalogue(asked.app)
    own = next(entry for entry in found if entry.kind == "view" and entry.name == view.name)
    said = next(e for e in found if e.kind == "entity" and e.columns == tuple(key_columns(view.entity)))
    features = [entry for entry in found if entry.kind == "feature" and entry.name.startswith(f"{view.name}.")]
    return {
        **{name: value for name, value in asdict(own).items() if name not in ("kind", "columns")},
        "entity": {"name": said.name, "keys": said.columns, "kind": said.type, "description": said.description},
        "recorded": asked.app.ledger.get("view", f"{view.name}@{view.version}") is not None,
        "features": [
            {
                "name": entry.name.partition(".")[2],
                "description": entry.description,
                "type": entry.type,
                "columns": entry.columns,
                "models": entry.models,
            }
            for entry in features
        ],
    }


def _compare(asked: Asked) -> Any:
    """Reads some stored rows now, others each time, and judges at once those that snapshots cover."""
    import random

    app, name = asked.app, asked.about.name
    now = app.kernel.now()
    app.features.sample(name, now, random.Random(f"{name} {iso(now)}").sample, at_once=True)  # noqa: S311  # no secret
    return app.features.compare(asked.actor, asked.about)


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
    """The row that is stored, recomputed from snapshots and held against it; for a time, what a request then would read."""
    from falaj.stages.features.explain import cell
    from falaj.stages.features.standing import said

    features, name, entity, feature = asked.app.features, asked.about.name, asked["entity"], asked["feature"]
    held = features.standing(name, entity, asked["at"])
    is_asked, values = asked["at"] is not None, held.values
    if feature:
        found = cell(features.contracts, held.view, feature, entity=entity, at=held.asked_at)
        told, at, seen = _told(found), found.at, {feature: found.value}
        held_there: Any = None if values is None else values[feature]
    else:
        row = features.explain(name, entity, held.asked_at)
        told, at, seen = _row(row), row.at, dict(row.values)
        held_there = values
    return {
        **told,
        "stored_at": None if held.stored is None else from_millis(held.stored.at_ms),
        "stored": held_there,
        "agrees": None if held.stored is None else not held.differs(at, seen),
        "covered": held.covered,
        "later_events": held.later,
        "note": said(held, at, seen, is_asked=is_asked),
    }


def _told(cell: Cell) -> dict[str, Any]:
    return {
        "why": cell.why,
        "view": cell.view,
        "feature": cell.feature,
        "entity": cell.entity,
        "asked_at": cell.asked_at,
        "value": cell.value,
        "at": cell.at,
        "created": cell.created,
        "arithmetic": cell.arithmetic,
        "rows": cell.rows.to_dicts(),
    }


def _column(asked: Asked) -> Any:
    """The line of the prediction log says what was asked and what was read; the snapshots say why."""
    app, text = asked.app, asked.about.name
    place = PredictionId.read(text)
    names = [asked["endpoint"]] if asked["endpoint"] else [name for name, _ in app.ledger.find("endpoint")]
    record = next((found for name in names if (found := _logged(app, name, place, text)) is not None), None)
    if record is None:
        raise NotFound(f"No prediction log holds {text}.", "name its endpoint with --endpoint.")
    recipe = decode(Recipe, app.registry.manifest(Ref.parse(record["model"]))["recipe"])
    if hides_request(record, recipe):
        raise InvalidInput(
            f"The request of {text} is masked: the log does not hold {', '.join(sorted(masked_of(record)[0]))}.",
            "ask about the same entity and time with falaj feature explain.",
        )
    told = app.features.explain_column(recipe, asked["column"], record.get("request") or {}, moment(record["at"]))
    return {
        "why": told.why,
        "prediction": text,
        "column": told.column,
        "op": told.op,
        "value": told.value,
        "logged": "masked" if told.column in masked_of(record)[1] else record["features"][recipe.names.index(told.column)],
        "request": told.request,
        "cells": [_told(cell) for cell in told.cells],
    }


def _logged(app: App, endpoint: str, place: PredictionId, text: str) -> dict[str, Any] | None:
    try:
        log = app.predictions_of(endpoint.removeprefix("endpoint/"))
        held = log.records(log.line(place.segment, place.row))
    except (NotFound, Conflict):
        return None
    return next((dict(one) for one in held if one.get("id") == text), None)


def _row(found: Explanation) -> dict[str, Any]:
    return {
        "view": found.view,
        "entity": found.entity,
        "at": found.at,
        "created": found.created,
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
    records = (record for _, record in app.predictions_of(endpoint.name).follow())
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
    Operation(
        "feature",
        "search",
        "Finds entities, views and features by words: names, descriptions, tags; slips of the pen are forgiven.",
        _search,
        arguments=(
            Argument("for", "what is looked for, as in 'delay last hours'", required=True),
            Argument("limit", "how many are shown, the best first", "integer", 20),
        ),
        changes=False,
        asks="dataset.read",
    ),
    Operation(
        "feature",
        "show",
        "A view with all that is known of it and of each of its features.",
        _show,
        VIEW,
        changes=False,
        asks="dataset.read",
    ),
    Operation("feature", "compare", "Compares stored rows of a view with the truth recomputed from snapshots.", _compare, VIEW),
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
        "Why a stored row, or one of its features, is what it is: rows, snapshots, arithmetic.",
        _explain,
        VIEW,
        (
            Argument("feature", "the one feature that is meant"),
            Argument("entity", "the entity's key, as in UA", required=True),
            Argument("at", "what a request at that time would read (default: the row that is stored now)", "time"),
        ),
        changes=False,
        asks="dataset.read",
    ),
    Operation(
        "prediction",
        "explain",
        "Why one column of a prediction's input is what it is, down to the rows of the snapshots.",
        _column,
        Subject("prediction", "the id that came with the prediction"),
        (
            Argument("column", "the column of the model's input, as in weather_now.temp", required=True),
            Argument("endpoint", "which endpoint made it, where that is not plain"),
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
