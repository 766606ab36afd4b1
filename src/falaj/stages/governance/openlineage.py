"""Events of the ledger as OpenLineage has them (spec 2-0-2): pure, deterministic, and without any row's values.

Names follow OpenLineage's naming: an outside dataset by its own namespace and name, everything of falaj under
`falaj://<project>`. Facets are those of the specification, each under the version of its schema that is written here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from falaj import __version__
from falaj.core.event import Event
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.ports.source import Origin
from falaj.stages.contracts.columns import column_lineage
from falaj.stages.contracts.spec import Dataset, Derived
from falaj.stages.features.spec import View, WindowView

PRODUCER = f"urn:falaj:{__version__}"
SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
RUNS = UUID("a1d2b7c6-3a8e-5d0b-9c41-6f0f4f1a2e77")
"""The namespace (RFC 9562) that every run id is made in, from the project and the event: the same event, the same id."""
MOST_CHECKS = 200

_FACETS: Mapping[str, str] = {
    "columnLineage": "1-2-0/ColumnLineageDatasetFacet",
    "dataQualityAssertions": "1-1-0/DataQualityAssertionsDatasetFacet",
    "dataSource": "1-0-1/DatasourceDatasetFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "nominalTime": "1-0-1/NominalTimeRunFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "ownership": "1-0-1/OwnershipDatasetFacet",
    "parent": "1-2-0/ParentRunFacet",
    "schema": "1-2-0/SchemaDatasetFacet",
    "sql": "1-1-0/SQLJobFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet",
}
_KINDS: Mapping[str, tuple[str, str]] = {
    # as column lineage is read here: OpenLineage's type and subtype
    "identity": ("DIRECT", "IDENTITY"),
    "transformation": ("DIRECT", "TRANSFORMATION"),
    "aggregation": ("DIRECT", "AGGREGATION"),
    "opaque": ("DIRECT", "TRANSFORMATION"),
}
_ENDS: Mapping[str, str] = {"succeeded": "COMPLETE", "failed": "FAIL", "cancelled": "ABORT"}
_ERROR = re.compile(r"[A-Za-z_][A-Za-z_0-9]{0,60}")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """What the project knows beside the ledger."""

    project: str
    datasets: Mapping[str, Dataset]
    views: Mapping[str, View | WindowView]
    columns: Callable[[str], Sequence[str]]
    origin: Callable[[str], Origin]

    @property
    def namespace(self) -> str:
        return f"falaj://{self.project}"

    def run(self, what: str) -> str:
        return str(uuid5(RUNS, f"{self.project}/{what}"))


@dataclass(slots=True)
class _Story:
    """One run in the making."""

    job: str
    kind: str
    inputs: list[Json]
    outputs: list[Json]
    run: Json
    """Facets of the run."""
    end: str = "COMPLETE"
    sql: str = ""


def told(event: Event, known: Known) -> list[Json]:
    """The START and the end of what an event tells, or nothing where it tells of no data. The same event gives the same."""
    if event.verb in ("run.start", "run.finish"):
        return _of_run(event, known)
    tell = _TOLD.get(event.verb)
    story = tell(event, known) if tell is not None else None
    if story is None:
        return []
    run = known.run(f"event/{event.seq}")
    made = [_event(event, known, (kind, run), story) for kind in ("START", story.end)]
    if event.verb == "dataset.ingest" and (checked := _checked(event, known, (run, story.job))) is not None:
        again = known.run(f"event/{event.seq}/check")
        made += [_event(event, known, (kind, again), checked) for kind in ("START", "COMPLETE")]
    return made


def _event(event: Event, known: Known, what: tuple[str, str], story: _Story) -> Json:
    kind, run = what
    facets = {"jobType": _facet("jobType", processingType="BATCH", integration="FALAJ", jobType=story.kind)}
    if story.sql:
        facets["sql"] = _facet("sql", query=story.sql, dialect="duckdb")
    is_end = kind != "START"
    return {
        "eventType": kind,
        "eventTime": iso(event.at),
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
        "run": {"runId": run, "facets": {k: v for k, v in story.run.items() if is_end or k != "errorMessage"}},
        "job": {"namespace": known.namespace, "name": story.job, "facets": facets},
        "inputs": story.inputs,
        "outputs": story.outputs if is_end else [_bare(output) for output in story.outputs],
    }


def _of_run(event: Event, known: Known) -> list[Json]:
    """A run of the platform: its own steps name it as their parent."""
    body = _changed(event, "run", event.subject.name)
    if body is None:
        return []
    kind = "START" if event.verb == "run.start" else _ENDS.get(str(body.get("state")))
    if kind is None:
        return []
    facets: Json = {}
    if kind == "FAIL":
        facets["errorMessage"] = _error(f"the run failed: {_class_of(body.get('failure'))}; falaj run show {event.subject.name}")
    story = _Story(f"run.{body.get('step')}", "TASK", [], [], facets)
    return [_event(event, known, (kind, known.run(f"run/{event.subject.name}")), story)]


def _ingest(event: Event, known: Known) -> _Story | None:
    name = event.subject.name
    asset = _changed(event, "asset", str(event.subject)) or {}
    labels = asset.get("labels", {})
    plan = known.datasets[name].source if name in known.datasets else None
    story = _Story(f"ingest.{name}", "QUERY" if isinstance(plan, Derived) else "JOB", [], [], {})
    if isinstance(plan, Derived):
        versions = {ref.name: str(ref.version) for ref in map(Ref.parse, asset.get("inputs", ()))}
        story.inputs = [_ours(known, put, version=versions.get(put, "")) for put in plan.inputs]
        story.sql = plan.sql
    elif name in known.datasets:
        seen = labels.get("origin")
        is_told = isinstance(seen, Mapping) and seen.get("namespace") != "python"  # a function says less than its contract
        origin = Origin(str(seen["namespace"]), str(seen["name"])) if is_told else known.origin(name)
        story.inputs = [_dataset(origin.namespace, origin.name, dataSource=_source(origin))]
    output = _ours(known, name, version=str(event.subject.version or ""))
    if labels.get("columns"):
        fields = [{"name": column, "type": str(kind)} for column, kind in labels["columns"].items()]
        output["facets"]["schema"] = _facet("schema", fields=fields)
    if labels.get("owner"):
        output["facets"]["ownership"] = _facet("ownership", owners=[{"name": f"team:{labels['owner']}", "type": "OWNER"}])
    if isinstance(plan, Derived):
        output["facets"]["columnLineage"] = _columns(known, name, plan)
    if "rows" in event.facts:
        output["outputFacets"] = {"outputStatistics": _facet("outputStatistics", rowCount=int(event.facts["rows"] or 0))}
    story.outputs = [output]
    until = event.facts.get("until") or labels.get("until")
    if until:
        story.run["nominalTime"] = _facet(
            "nominalTime", nominalStartTime=str(labels.get("since") or until), nominalEndTime=str(until)
        )
    decision = _decision(event)
    if event.facts.get("verdict") == "deny":
        failed = [str(check["name"]) for check in (decision or {}).get("checks", ()) if check["passed"] is False]
        story.end = "FAIL"
        story.run["errorMessage"] = _error(f"refused by its contract: {', '.join(failed)[:300] or 'the load as a whole'}")
        story.outputs = [_bare(output)]
    return story


def _checked(event: Event, known: Known, parent: tuple[str, str]) -> _Story | None:
    """The contract's checks as a run of their own: assertions belong to a run's input, and what was checked is the dataset."""
    decision = _decision(event)
    if decision is None or not decision.get("checks"):
        return None
    run, job = parent
    judged = _ours(known, event.subject.name, version=str(event.subject.version or ""))
    judged["inputFacets"] = {"dataQualityAssertions": _assertions(decision)}
    by = _facet("parent", run={"runId": run}, job={"namespace": known.namespace, "name": job})
    return _Story(f"check.{event.subject.name}", "TASK", [judged], [], {"parent": by})


def _materialise(event: Event, known: Known) -> _Story | None:
    view = known.views.get(event.subject.name)
    if view is None:
        return None
    output = _dataset(known.namespace, f"view.{view.name}")
    output["facets"]["schema"] = _facet("schema", fields=[{"name": name, "type": "DOUBLE"} for name in view.places])
    if "rows" in event.facts:
        output["outputFacets"] = {"outputStatistics": _facet("outputStatistics", rowCount=int(event.facts["rows"] or 0))}
    return _Story(f"materialise.{view.name}", "JOB", [_ours(known, view.dataset)], [output], {})


def _train(event: Event, known: Known) -> _Story | None:
    asset = _changed(event, "asset", str(event.subject))
    if asset is None:
        return None
    newest: dict[str, str] = {}
    for ref in map(Ref.parse, asset.get("inputs", ())):
        newest[ref.name] = str(ref.version)
    inputs = [_ours(known, name, version=version) for name, version in sorted(newest.items())]
    output = _dataset(known.namespace, f"model.{event.subject.name}")
    output["facets"]["version"] = _facet("version", datasetVersion=str(asset.get("digest")))
    story = _Story(f"train.{event.subject.name}", "MODEL", inputs, [output], _parent(event, known, asset))
    return story


def _evaluate(event: Event, known: Known) -> _Story | None:
    decision = _decision(event)
    if decision is None:
        return None
    judged = _dataset(known.namespace, f"model.{event.subject.name}")
    if event.facts.get("model"):
        judged["facets"]["version"] = _facet("version", datasetVersion=str(event.facts["model"]))
    judged["inputFacets"] = {"dataQualityAssertions": _assertions(decision)}
    return _Story(f"evaluate.{event.subject.name}", "TASK", [judged], [], {})


_TOLD: Mapping[str, Callable[[Event, Known], _Story | None]] = {
    "dataset.ingest": _ingest,
    "feature.materialise": _materialise,
    "model.train": _train,
    "model.evaluate": _evaluate,
}


def _parent(event: Event, known: Known, asset: Mapping[str, Any]) -> Json:
    """The run of the platform that did it, where there was one: its id is the candidate's version."""
    run = asset.get("run")
    if not run or event.actor.kind != "service":
        return {}
    parent = {"run": {"runId": known.run(f"run/{run}")}, "job": {"namespace": known.namespace, "name": "run.release"}}
    return {"parent": _facet("parent", **parent)}


def _columns(known: Known, name: str, plan: Derived) -> Json:
    found = column_lineage(plan, {put: known.columns(put) for put in plan.inputs}, known.columns(name))
    fields = {
        column: {"inputFields": [_place(known, place, _KINDS[kind]) for place, kind in sorted(behind.items())]}
        for column, behind in sorted(found.direct.items())
    }
    aside = [_place(known, place, ("INDIRECT", "FILTER")) for place in sorted(found.indirect)]
    return _facet("columnLineage", fields=fields, **({"dataset": aside} if aside else {}))


def _place(known: Known, place: tuple[str, str], how: tuple[str, str]) -> Json:
    kind, subtype = how
    transformation = {"type": kind, "subtype": subtype, "masking": False}
    return {"namespace": known.namespace, "name": place[0], "field": place[1], "transformations": [transformation]}


def _assertions(decision: Mapping[str, Any]) -> Json:
    """Each check by its name and outcome. What was seen stays here: a minimum or a sample may be somebody's own value."""
    checks: Iterable[Mapping[str, Any]] = decision.get("checks", ())
    listed = [
        {"assertion": "custom", "name": str(check["name"])[:200], "success": check["passed"] is True,
         "severity": "warn" if str(check["name"]).startswith(("warning:", "info:")) else "error"}
        for check in checks if check["passed"] is not None
    ]  # fmt: skip
    return _facet("dataQualityAssertions", assertions=listed[:MOST_CHECKS])


def _ours(known: Known, name: str, *, version: str = "") -> Json:
    made = _dataset(known.namespace, name, dataSource=_facet("dataSource", name=known.project, uri=known.namespace))
    if version:
        made["facets"]["version"] = _facet("version", datasetVersion=version)
    return made


def _source(origin: Origin) -> Json:
    uri = origin.namespace if "://" in origin.namespace else f"urn:{origin.namespace}"
    return _facet("dataSource", name=origin.namespace, uri=uri)


def _dataset(namespace: str, name: str, **facets: Json) -> Json:
    return {"namespace": namespace, "name": name, "facets": dict(facets)}


def _bare(dataset: Json) -> Json:
    """At the START nothing is known yet of what comes out but its name."""
    return {"namespace": dataset["namespace"], "name": dataset["name"]}


def _facet(facet: str, /, **fields: Any) -> Json:
    place = _FACETS[facet]
    url = f"https://openlineage.io/spec/facets/{place}.json#/$defs/{place.partition('/')[2]}"
    return {"_producer": PRODUCER, "_schemaURL": url, **fields}


def _error(message: str) -> Json:
    return _facet("errorMessage", message=message, programmingLanguage="PYTHON")


def _class_of(failure: Any) -> str:
    """The kind of the error alone: its text may hold what stood in a row."""
    found = _ERROR.match(str(failure or ""))
    return found[0] if found and str(failure)[len(found[0]) :].startswith(":") else "it died"


def _changed(event: Event, kind: str, key: str) -> Mapping[str, Any] | None:
    return next((change.body for change in event.changes if change.kind == kind and change.key == key), None)


def _decision(event: Event) -> Mapping[str, Any] | None:
    return next((change.body for change in event.changes if change.kind == "decision" and change.body is not None), None)
