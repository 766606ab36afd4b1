"""Builds OpenLineage events again through the classes of openlineage-python, which are generated from the published schema.

Strict where the schema is: every required field, no field that the class does not know, date-times, UUIDs and URIs in their
form; and what the classes write is what was given.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import attr
from openlineage.client import generated
from openlineage.client.generated import base
from openlineage.client.serde import Serde

_URI = re.compile(r"[a-z][a-z0-9+.\-]*:[^\s]+")
_PLACES = {
    # where a facet may stand: the class that it must be a kind of
    "run": base.RunFacet, "job": base.JobFacet, "dataset": base.DatasetFacet, "input": base.InputDatasetFacet,
    "output": base.OutputDatasetFacet,
}  # fmt: skip


def _classes() -> dict[str, type]:
    found: dict[str, type] = {}
    for module in pkgutil.iter_modules(generated.__path__):
        for value in vars(importlib.import_module(f"{generated.__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, base.BaseFacet):
                found[value._get_schema()] = value
    return found


FACETS = _classes()


def valid(event: Mapping[str, Any]) -> base.RunEvent:
    """The event as openlineage-python has it. Raises AssertionError or what the classes raise for whatever breaks the schema."""
    assert set(event) <= {"eventType", "eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs"}
    assert event["schemaURL"] == base.RunEvent._get_schema()
    assert _URI.fullmatch(event["producer"])
    _time(event["eventTime"])
    assert str(UUID(event["run"]["runId"])) == event["run"]["runId"]
    made = base.RunEvent(
        eventType=base.EventType(event["eventType"]), eventTime=event["eventTime"], producer=event["producer"],
        run=base.Run(event["run"]["runId"], _facets(event["run"].get("facets", {}), "run")),
        job=base.Job(event["job"]["namespace"], event["job"]["name"], _facets(event["job"].get("facets", {}), "job")),
        inputs=[_dataset(each, base.InputDataset, "inputFacets", "input") for each in event.get("inputs", ())],
        outputs=[_dataset(each, base.OutputDataset, "outputFacets", "output") for each in event.get("outputs", ())],
    )  # fmt: skip
    assert _strip(Serde.to_dict(made)) == _strip(event)
    return made


def _dataset(given: Mapping[str, Any], kind: Any, own: str, place: str) -> Any:
    assert set(given) <= {"namespace", "name", "facets", own}
    assert given["namespace"]
    assert given["name"]
    facets = _facets(given.get("facets", {}), "dataset")
    return kind(given["namespace"], given["name"], **{own: _facets(given.get(own, {}), place)}, facets=facets)


def _facets(given: Mapping[str, Any], place: str) -> dict[str, Any]:
    return {name: _facet(name, facet, place) for name, facet in given.items()}


def _facet(name: str, given: Mapping[str, Any], place: str) -> Any:
    kind = FACETS.get(given["_schemaURL"])
    assert kind is not None, f"no published facet has the schema {given['_schemaURL']}"
    assert issubclass(kind, _PLACES[place]), f"{kind.__name__} does not belong to a {place}"
    called = {"version": "datasetVersion"}.get(name, name)  # the one whose property is not named after its class
    assert kind.__name__.lower().startswith(called.lower()), f"{kind.__name__} is not called {name}"
    assert _URI.fullmatch(given["_producer"])
    made = _build(kind, {key: value for key, value in given.items() if key != "_schemaURL"})
    assert made._schemaURL == given["_schemaURL"]
    return made


def _build(kind: Any, given: Any) -> Any:
    """A value of the annotated kind; a field that the class does not know, or does not get, raises."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if given is None else _build(next(each for each in inner if each is not type(None)), given)
    if origin is list:
        assert isinstance(given, list)
        return [_build(inner[0], each) for each in given]
    if origin is dict:
        return {key: _build(inner[1], each) for key, each in given.items()}
    if attr.has(kind):
        hints = typing.get_type_hints(kind)
        names = {field.name.lstrip("_") if field.init else "": field.name for field in attr.fields(kind)}
        return kind(**{key.lstrip("_"): _build(hints[names[key.lstrip("_")]], value) for key, value in given.items()})
    if kind is not Any:
        assert isinstance(given, kind), f"{given!r} is no {kind}"
    if isinstance(given, str) and re.match(r"\d{4}-\d\d-\d\d[Tt]", given):
        _time(given)
    return given


def _time(text: str) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", text), text
    datetime.fromisoformat(text)


def _strip(value: Any) -> Any:
    """Without what is empty: the classes write `[]` and `{}` for what was not given."""
    if isinstance(value, Mapping):
        return {key: kept for key, each in value.items() if (kept := _strip(each)) not in (None, {}, [])}
    return [_strip(each) for each in value] if isinstance(value, list) else value
