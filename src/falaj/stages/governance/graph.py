"""Lineage as a graph: from outside sources over datasets and views to models and endpoints, column by column if asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from falaj.core.codec import decode
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.event import Event
from falaj.core.recipe import Column, Recipe
from falaj.core.ref import Ref
from falaj.stages.contracts.columns import column_lineage
from falaj.stages.contracts.spec import Dataset, Derived
from falaj.stages.features.spec import View, WindowView
from falaj.stages.governance.asof import until
from falaj.stages.rollouts.spec import Endpoint
from falaj.stages.training.spec import Training

Level = Literal["dataset", "column"]
Direction = Literal["up", "down", "both"]
Records = Callable[[str], Iterable[tuple[str, Mapping[str, Any]]]]
"""Kind of record → its keys and bodies, as the ledger has them now, or had them then."""

LEVELS, DIRECTIONS = ("dataset", "column"), ("up", "down", "both")
NODES, EDGES = 20_000, 200_000
"""A graph beyond these is refused: nobody could read it."""
_FINE = frozenset({"column", "feature"})


@dataclass(frozen=True, slots=True)
class Node:
    key: str
    """`dataset/flights`, `column/flights.carrier`, `feature/weather_now.temp`, `model/delay@7`, `source/<where>`; `rows/<name>`
    is which rows a derived dataset or a view has, `any/<name>` a reader that may read any column of a dataset."""
    kind: str
    title: str
    group: str = ""
    """The dataset of a column, the view of a feature."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """What is `below` came of what is `above`. `kind`: identity, transformation, aggregation, opaque, indirect (it only decides
    which rows), label, rows, read, loaded, registered, served."""

    above: str
    below: str
    kind: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What was asked about, and all that stands above or below it."""

    about: str
    direction: str
    level: str
    starts: tuple[str, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """What a project declares, and what its contracts say of columns and sources."""

    datasets: Mapping[str, Dataset]
    views: Mapping[str, View | WindowView]
    trainings: Mapping[str, Training]
    endpoints: Mapping[str, Endpoint]
    columns: Callable[[str], Sequence[str]]
    """Dataset → its columns."""
    origin: Callable[[str], str]
    """Dataset → where its rows come from, in words without secrets."""


def as_of(events: Iterable[Event], at: datetime) -> Records:
    """The records as they were at that time, from the events alone."""
    state: dict[str, dict[str, Mapping[str, Any]]] = {}
    for event in until(events, at):
        for change in event.changes:
            if change.body is None:
                state.get(change.kind, {}).pop(change.key, None)
            else:
                state.setdefault(change.kind, {})[change.key] = change.body
    return lambda kind: sorted(state.get(kind, {}).items())


@dataclass(slots=True)
class Graph:
    """Nodes and edges in the making; an edge that is told twice counts once."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[Edge, None] = field(default_factory=dict)

    def node(self, key: str, *, group: str = "", note: str = "", title: str = "") -> str:
        self.nodes.setdefault(key, Node(key, key.partition("/")[0], title or key.partition("/")[2], group, note))
        if len(self.nodes) > NODES:
            raise InvalidInput(f"The lineage has more than {NODES:,} nodes.", "ask about one dataset, column or model.")
        return key

    def edge(self, above: str, below: str, kind: str, note: str = "") -> None:
        self.edges.setdefault(Edge(above, below, kind, note))
        if len(self.edges) > EDGES:
            raise InvalidInput(f"The lineage has more than {EDGES:,} edges.", "ask at the level of datasets.")

    def around(self, starts: Sequence[str], direction: str) -> tuple[dict[str, Node], list[Edge]]:
        """All that is reached from `starts` upwards, downwards or both, each way by itself."""
        found, kept = {key: self.nodes[key] for key in starts}, dict[Edge, None]()
        for way in ("up", "down") if direction == "both" else (direction,):
            near: dict[str, list[Edge]] = {}
            for edge in self.edges:
                near.setdefault(edge.below if way == "up" else edge.above, []).append(edge)
            waiting, seen = list(starts), set(starts)
            while waiting:
                for edge in near.get(waiting.pop(), ()):
                    kept.setdefault(edge)
                    other = edge.above if way == "up" else edge.below
                    found.setdefault(other, self.nodes[other])
                    if other not in seen:
                        seen.add(other)
                        waiting.append(other)
        return {key: node for key, node in self.nodes.items() if key in found}, [edge for edge in self.edges if edge in kept]


def lineage(
    declared: Declared, records: Records, about: Ref | None, *, direction: Direction = "both", level: Level | None = None
) -> Lineage:
    """What stands above and below one thing; without `about`, of the whole project.

    Raises NotFound where nothing has that name, with the nearest ones.
    """
    fine = level or ("column" if about is not None and about.kind in _FINE else "dataset")
    graph = Graph()
    _datasets(graph, declared, fine)
    _views(graph, declared, fine)
    _models(graph, declared, records, fine)
    _sources(graph, declared)
    if about is None:
        starts: tuple[str, ...] = tuple(graph.nodes)
        nodes, edges = dict(graph.nodes), list(graph.edges)
    else:
        starts = _starts(graph, declared, records, (about, fine))
        nodes, edges = graph.around(starts, direction)
    told = "all" if about is None else str(about)
    return Lineage(told, direction, fine, starts, tuple(nodes.values()), tuple(edges))


def _starts(graph: Graph, declared: Declared, records: Records, asked: tuple[Ref, str]) -> tuple[str, ...]:
    about, level = asked
    if about.kind == "dataset" and about.version is not None:
        return (_snapshot(graph, declared, records, about),)
    if about.kind == "candidate" and about.version is not None:
        _candidate(graph, declared, records, asked)
    text = str(about).lower()
    if about.kind in _FINE and level == "dataset":
        of = "dataset" if about.kind == "column" else "view"
        text = f"{of}/{about.name.partition('.')[0]}"
    exact = [key for key in graph.nodes if key.lower() == text]
    inside = [key for key, node in graph.nodes.items() if node.group.lower() == text or key.lower().startswith(text + "@")]
    if not exact and not inside:
        known = [key for key, node in graph.nodes.items() if node.kind not in ("source", "rows", "any")]
        raise NotFound.named(
            "thing with a lineage", str(about), {*known, *(node.group for node in graph.nodes.values() if node.group)}
        )
    return tuple(exact or inside)


def _datasets(graph: Graph, declared: Declared, level: str) -> None:
    known = {name: tuple(declared.columns(name)) for name in declared.datasets} if level == "column" else {}
    for name, dataset in declared.datasets.items():
        plan = dataset.source if isinstance(dataset.source, Derived) else None
        source = graph.node(f"source/{declared.origin(name)}") if plan is None else ""
        if level == "dataset":
            key = graph.node(f"dataset/{name}")
            above = [source] if plan is None else [graph.node(f"dataset/{put}") for put in plan.inputs]
            kind = "loaded" if plan is None else "opaque" if plan.function is not None else "transformation"
            for each in above:
                graph.edge(each, key, kind)
            continue
        for column in known[name]:
            graph.node(f"column/{name}.{column}", group=f"dataset/{name}", title=column)
        if plan:
            _derived(graph, name, plan, known)


def _sources(graph: Graph, declared: Declared) -> None:
    """Every column that somebody speaks of, whether a contract names it or not, came out of the dataset's source."""
    for node in [node for node in graph.nodes.values() if node.kind == "column"]:
        name = node.group.partition("/")[2]
        if name in declared.datasets and not isinstance(declared.datasets[name].source, Derived):
            graph.edge(graph.node(f"source/{declared.origin(name)}"), node.key, "loaded")


def _derived(graph: Graph, name: str, plan: Derived, known: Mapping[str, Sequence[str]]) -> None:
    found = column_lineage(plan, {put: known.get(put, ()) for put in plan.inputs}, known[name])
    for column, behind in found.direct.items():
        below = graph.node(f"column/{name}.{column}", group=f"dataset/{name}", title=column)
        for (dataset, above), kind in behind.items():
            graph.edge(graph.node(f"column/{dataset}.{above}", group=f"dataset/{dataset}", title=above), below, kind)
    places = [f"column/{dataset}.{column}" for dataset, column in sorted(found.indirect)]
    _rows(graph, name, f"dataset/{name}", (places, [f"column/{name}.{column}" for column in found.direct]))


def _rows(graph: Graph, name: str, group: str, ends: tuple[Sequence[str], Sequence[str]]) -> None:
    """What only decides which rows there are stands behind every column of them."""
    deciding, columns = ends
    if not deciding:
        return
    rows = graph.node(f"rows/{name}", group=group, title="(which rows)")
    for above in deciding:
        dataset, _, column = above.removeprefix("column/").partition(".")
        graph.edge(graph.node(above, group=f"dataset/{dataset}", title=column), rows, "indirect")
    for column in columns:
        graph.edge(rows, column, "indirect")


def _views(graph: Graph, declared: Declared, level: str) -> None:
    for name, view in declared.views.items():
        group = f"view/{name}"
        if level == "dataset":
            graph.edge(graph.node(f"dataset/{view.dataset}"), graph.node(group), "read")
            continue
        behind: dict[str, tuple[str | None, str]] = {}
        if isinstance(view, WindowView):
            for window in view.windows:
                behind |= {f"{each.name}_{window}": (each.column, "aggregation") for each in view.aggregates}
        else:
            behind = {feature: (feature, "identity") for feature in view.features}
        for feature, (column, kind) in behind.items():
            below = graph.node(f"feature/{name}.{feature}", group=group, title=feature)
            if column is not None:
                above = graph.node(f"column/{view.dataset}.{column}", group=f"dataset/{view.dataset}", title=column)
                graph.edge(above, below, kind)
        keys = getattr(view.entity, "keys", None) or (view.entity,)
        deciding = [*keys, view.time, getattr(view, "created", None)]
        places = [f"column/{view.dataset}.{column}" for column in dict.fromkeys(filter(None, deciding))]
        _rows(graph, name, group, (places, [f"feature/{name}.{feature}" for feature in behind]))


def _models(graph: Graph, declared: Declared, records: Records, level: str) -> None:
    recipes = dict(records("recipe"))
    made = set()
    for _, body in records("model"):
        labels = body["asset"].get("labels", {})
        made.add(str(body["training"]))
        key = graph.node(str(body["ref"]), note=f"trained by {body['training']}, run {body.get('run')}")
        recipe = recipes.get(str(labels.get("recipe")))
        training = declared.trainings.get(str(body["training"]))
        if recipe is not None:
            _inputs(graph, declared, (decode(Recipe, recipe), training, key), level)
        _snapshots(graph, key, body["asset"].get("inputs", ()), level)
    for name, training in declared.trainings.items():
        if name not in made:
            key = graph.node(f"training/{name}", note=f"makes model/{training.model}")
            _inputs(graph, declared, (training.recipe, training, key), level)
    for name, body in records("endpoint"):
        for arm in body["wanted"]["arms"]:
            if str(arm["model"]) in graph.nodes:
                graph.edge(str(arm["model"]), graph.node(f"endpoint/{name}"), "served", str(arm["role"]))


def _inputs(graph: Graph, declared: Declared, reads: tuple[Recipe, Training | None, str], level: str) -> None:
    """What a recipe reads: features of views, and request fields, which a training takes from its spine."""
    recipe, training, below = reads
    if level == "dataset":
        for view in recipe.views:
            graph.edge(graph.node(f"view/{view}"), below, "read")
        if training is not None:
            graph.edge(graph.node(f"dataset/{training.spine}"), below, "rows")
        return
    spine = training.spine if training is not None else ""
    columns = set(declared.columns(spine)) if spine in declared.datasets else set()
    made = {recipe.time_field} - columns
    made |= _reads(graph, recipe, below, (spine, columns))
    for name in _names(recipe.views.values()):
        if name in columns:
            graph.edge(f"column/{spine}.{name}", below, "indirect", "entity")
    if training is None:
        return
    for name, kind in ((training.label, "label"), (training.label_time, "indirect")):
        if name in columns:
            graph.edge(f"column/{spine}.{name}", below, kind)
    if training.prepare is not None and made:
        some = graph.node(f"any/{spine}", group=f"dataset/{spine}", title="(any column)")
        for name in sorted(columns):
            graph.edge(f"column/{spine}.{name}", some, "opaque")
        graph.edge(some, below, "opaque", f"prepare makes {', '.join(sorted(made))}")


def _reads(graph: Graph, recipe: Recipe, below: str, spine: tuple[str, set[str]]) -> set[str]:
    """Each column of a recipe with what it reads; returns the request fields that the spine does not have."""
    dataset, columns = spine
    missing: set[str] = set()
    for column in recipe.columns:
        kind = "identity" if column.op in ("view", "number") else "transformation"
        for is_stored, source in _operands(column):
            called = "" if column.name == source else column.name
            if is_stored:
                view, _, feature = source.partition(".")
                graph.edge(graph.node(f"feature/{source}", group=f"view/{view}", title=feature), below, kind, called)
            elif source in columns:
                graph.edge(f"column/{dataset}.{source}", below, kind, called)
            else:
                missing.add(source)
    return missing


def _names(fields: Iterable[Any]) -> list[str]:
    """Request fields that hold an entity's key: one text, or several."""
    return [name for each in fields for name in ((each,) if isinstance(each, str) else each)]


def _operands(column: Column) -> list[tuple[bool, str]]:
    """What a column of a recipe reads: whether it is a stored feature, and its name."""
    told = getattr(column, "operands", None)
    if told is not None:
        return [(operand.kind == "view", str(operand.name)) for operand in told]
    return [(column.op in ("view", "years_since"), column.source)]


def _snapshots(graph: Graph, below: str, inputs: Iterable[Any], level: str) -> None:
    """Which versions of each dataset a model was trained on."""
    if level != "dataset":
        return
    versions: dict[str, list[int]] = {}
    for ref in map(Ref.parse, inputs):
        versions.setdefault(ref.name, []).append(int(ref.version or 0))
    for name, seen in versions.items():
        told = f"versions {min(seen)} to {max(seen)}" if len(seen) > 1 else f"version {seen[0]}"
        graph.edge(graph.node(f"dataset/{name}"), below, "rows", told)


def _snapshot(graph: Graph, declared: Declared, records: Records, about: Ref) -> str:
    """One snapshot: what it was made of, and which models were trained on it."""
    body = dict(records("asset")).get(str(about))
    if body is None:
        raise NotFound(f"There is no snapshot {about}.", f"falaj dataset show {about.name}")
    labels = body.get("labels", {})
    key = graph.node(str(about), note=f"{labels.get('rows')} rows, {str(body['digest'])[:19]}")
    above = [graph.node(str(ref)) for ref in body.get("inputs", ())]
    if not above and about.name in declared.datasets and not isinstance(declared.datasets[about.name].source, Derived):
        above = [graph.node(f"source/{declared.origin(about.name)}")]
    for each in above:
        graph.edge(each, key, "loaded")
    for _, model in records("model"):
        if str(about) in model["asset"].get("inputs", ()) and str(model["ref"]) in graph.nodes:
            graph.edge(key, str(model["ref"]), "rows")
    return key


def _candidate(graph: Graph, declared: Declared, records: Records, asked: tuple[Ref, str]) -> None:
    """A candidate is shown where it is asked for; of those that were registered, the model stands for it."""
    about, level = asked
    body = dict(records("asset")).get(str(about))
    if body is None:
        return
    key = graph.node(str(about), note=f"run {body.get('run')}")
    labels = body.get("labels", {})
    recipe = dict(records("recipe")).get(str(labels.get("recipe")))
    if recipe is not None:
        _inputs(graph, declared, (decode(Recipe, recipe), declared.trainings.get(str(labels.get("training"))), key), level)
    _snapshots(graph, key, body.get("inputs", ()), level)
    for _, model in records("model"):
        if str(model["candidate"]) == key and str(model["ref"]) in graph.nodes:
            graph.edge(key, str(model["ref"]), "registered")


__all__ = ["DIRECTIONS", "LEVELS", "Declared", "Edge", "Lineage", "Node", "as_of", "lineage"]
