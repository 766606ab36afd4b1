"""Turns a Feast repository into a falaj module and first contracts, and tells what could not be carried over, and why."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from falaj.adapters.feast.reading import Made, Picked, Repository, Unknown, read_repository
from falaj.core.errors import InvalidInput
from falaj.core.moments import short

_NUMBERS: Mapping[str, str] = {
    # Feast's type, in lower case: the logical type of the contract
    "float32": "number", "float64": "number", "float": "number", "double": "number", "int32": "integer", "int64": "integer",
    "unixtimestamp": "timestamp", "unix_timestamp": "timestamp", "string": "string", "bool": "boolean",
}  # fmt: skip
_OWN_TYPES = frozenset({"number", "integer"})
"""What a view's feature may be."""
_RICH_TYPES = frozenset({"number", "integer", "string", "boolean", "timestamp"})
_TABLES = frozenset({"BigQuerySource", "SnowflakeSource", "RedshiftSource", "PostgreSQLSource", "TrinoSource", "AthenaSource",
                     "MsSqlServerSource", "OracleSource", "ClickhouseSource"})  # fmt: skip
_SCHEMES: Mapping[str, str] = {
    "PostgreSQLSource": "postgres", "BigQuerySource": "warehouse", "SnowflakeSource": "warehouse", "TrinoSource": "warehouse",
}  # fmt: skip
_SETTINGS_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """What the falaj that the module is for can take: the parameters of its View, and whether it has Entity."""

    view: frozenset[str] = frozenset()
    has_entity: bool = False

    @property
    def types(self) -> frozenset[str]:
        return _RICH_TYPES if "descriptions" in self.view else _OWN_TYPES


@dataclass(slots=True)
class Imported:
    """`module`: Python text. `contracts`: file name → ODCS text. `lost`: what was not carried over, each with its reason."""

    module: str = ""
    contracts: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    features: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """View → its features, as far as they were carried over."""
    entities: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Set:
    """A dataset in the making: its source and the columns that its views speak of."""

    name: str
    source: Made
    time: str
    created: str
    columns: dict[str, str] = field(default_factory=dict)
    keys: dict[str, None] = field(default_factory=dict)
    note: str = ""


def import_feast(folder: Path, target: Target | None = None) -> Imported:
    """Reads the repository and writes its datasets, views and entities the way falaj has them. Nothing of it is executed.

    Raises NotFound where there is no repository; whatever else is odd in it is told in `lost`.
    """
    found = read_repository(folder)
    found.settings = _settings(folder, found)
    return write(found, target or Target())


def write(found: Repository, target: Target) -> Imported:
    made = Imported(lost=list(found.unread))
    sets: dict[str, _Set] = {}
    entities = {entity.text("name"): entity for entity in found.of("Entity")}
    views = [
        _view(view, sets, (entities, target, made))
        for view in _unique(found.of("FeatureView", "BatchFeatureView", "StreamFeatureView"), made)
    ]
    lines = [line for line in views if line]
    sketches = [_recipe(service, made) for service in found.of("FeatureService")]
    for kind, why in (
        ("OnDemandFeatureView", "its code computes on request; write it as a derived dataset, or as columns of a recipe"),
        ("LabelView", "labels are a column of a dataset here; name it in Training(label=…)"),
        ("RequestSource", "request fields are named in inputs(…), as number() or category()"),
    ):
        made.lost += [f"{kind} {each.text('name')!r} ({each.where}): {why}." for each in _unique(found.of(kind), None)]
    _told_settings(found, made)
    made.datasets, made.entities = list(sets), sorted(filter(None, entities))
    made.module = _module(sets, lines, (sketches, entities, target, made))
    made.contracts = {f"contracts/{each.name}.odcs.yaml": _contract(each) for each in sets.values()}
    return made


def _unique(found: Sequence[Made], made: Imported | None) -> list[Made]:
    kept: dict[str, Made] = {}
    for each in found:
        if each.text("name") in kept and made is not None:
            made.lost.append(f"{each.kind} {each.text('name')!r} ({each.where}): the name stands twice; the first is taken.")
        kept.setdefault(each.text("name"), each)
    return list(kept.values())


def _view(view: Made, sets: dict[str, _Set], context: tuple[Mapping[str, Made], Target, Imported]) -> str:
    """The view as a line of Python, or nothing where it could not be carried over."""
    entities, target, made = context
    name = _python(view.text("name"))
    keys, why = _keys(view, entities)
    dataset, reason = _dataset(view, sets)
    why = why or reason or ("it has no name" if not view.text("name") else "")
    why = why or (f"another view is named {name!r} already" if name in made.views else "")
    if len(keys) > 1 and not target.has_entity:
        why = why or f"it has {len(keys)} join keys ({', '.join(keys)}), a view here has one; join them in a derived dataset"
    if why or dataset is None:
        made.lost.append(f"{view.kind} {view.text('name')!r} ({view.where}): {why}.")
        return ""
    features: list[str] = []
    skipped: list[str] = []
    for feature in view.items("schema", "features"):
        if not isinstance(feature, Made) or feature.kind not in ("Field", "Feature") or not feature.text("name"):
            skipped.append("one that is not written out")
            continue
        kind = _kind(feature.given.get("dtype", feature.given.get("1")))
        column = feature.text("name")
        if column in (dataset.time, dataset.created):
            continue
        if kind:
            dataset.columns.setdefault(column, kind)
        if column in keys:
            continue
        (features if kind in target.types else skipped).append(column)
    if isinstance(view.given.get("udf"), Unknown):
        made.lost.append(f"{view.kind} {name!r} ({view.where}): its transformation is code; write it as a derived dataset.")
    if skipped:
        made.lost.append(f"features of {name!r} ({view.where}): {', '.join(skipped)}: of a type that a view does not keep.")
    if not features:
        made.lost.append(f"{view.kind} {name!r} ({view.where}): no feature of it could be carried over.")
        return ""
    dataset.keys |= dict.fromkeys(keys)
    made.views.append(name)
    made.features[name] = tuple(features)
    return _line(view, name, (dataset, keys, features), (target, made))


def _line(view: Made, name: str, parts: tuple[_Set, Sequence[str], Sequence[str]], context: tuple[Target, Imported]) -> str:
    dataset, keys, features = parts
    target, made = context
    entity = _of_entity(keys) if target.has_entity else repr(keys[0])
    words = [
        repr(name),
        f"dataset={dataset.name!r}",
        f"entity={entity}",
        f"features={tuple(features)!r}",
        f"time={dataset.time!r}",
    ]
    ttl = view.given.get("ttl")
    if isinstance(ttl, timedelta) and ttl > timedelta(0):
        words.append(f"ttl={short(ttl)!r}")
    elif isinstance(ttl, Unknown):
        made.lost.append(f"the ttl of {name!r} ({view.where}): {ttl.text} is not written out.")
    if dataset.created and dataset.created != dataset.time:
        words.append(f"created={dataset.created!r}")
    for word, value in (("description", view.text("description")), ("owner", view.text("owner"))):
        if word in target.view and value:
            words.append(f"{word}={value!r}")
    tags = view.given.get("tags")
    if isinstance(tags, dict) and tags:
        told = tuple(f"{key}={value}" for key, value in tags.items() if isinstance(key, str) and isinstance(value, str))
        if "tags" in target.view:
            words.append(f"tags={told!r}")
        else:
            made.lost.append(f"tags of {name!r} ({view.where}): {', '.join(told)}.")
    return f"{_variable(name)} = View(\n    " + ",\n    ".join(words) + ",\n)"


def _keys(view: Made, entities: Mapping[str, Made]) -> tuple[list[str], str]:
    """The join keys, or why they are not known."""
    keys: list[str] = []
    for entity in view.items("entities"):
        found = entity if isinstance(entity, Made) else entities.get(entity) if isinstance(entity, str) else None
        if found is None:
            return [], f"its entity {getattr(entity, 'text', entity)!r} is not written out"
        joined = [key for key in found.items("join_keys") if isinstance(key, str)] or [found.text("join_key", "name")]
        keys += joined
    return (keys, "") if keys and all(keys) else ([], "it has no entity; a view here has one")


def _dataset(view: Made, sets: dict[str, _Set]) -> tuple[_Set | None, str]:
    """The dataset behind a view, made once for each source."""
    source = view.given.get("source", view.given.get("batch_source"))
    if isinstance(source, list):
        source = next((each for each in source if isinstance(each, Made) and each.kind != "RequestSource"), None)
    note = ""
    while isinstance(source, Made) and isinstance(source.given.get("batch_source"), Made):
        note = f"Feast pushed to it, or streamed, through {source.kind} {source.text('name')!r}."
        source = source.given["batch_source"]
    if not isinstance(source, Made):
        return None, f"its source {getattr(source, 'text', source)!r} is not written out"
    time = source.text("timestamp_field", "event_timestamp_column")
    if not time:
        return None, f"its source ({source.where}) names no timestamp_field"
    name = _name(source.text("name") or source.variable or source.text("table", "path") or view.text("name"))
    known = sets.setdefault(name, _Set(name, source, time, source.text("created_timestamp_column"), note=note))
    if (known.source.where, known.time) != (source.where, time):
        return None, f"its source is named {name!r} like another one"
    return known, ""


def _kind(dtype: Any) -> str:
    text = dtype.text if isinstance(dtype, Unknown) else dtype if isinstance(dtype, str) else ""
    return _NUMBERS.get(text.rpartition(".")[2].lower(), "")


def _recipe(service: Made, made: Imported) -> str:
    """A feature service as the start of a recipe."""
    parts, missing = [], []
    for item in service.items("features"):
        view = item.view if isinstance(item, Picked) else item
        name = _python(view.text("name")) if isinstance(view, Made) else ""
        if name not in made.views:
            missing.append(name or getattr(view, "text", "?"))
        elif isinstance(item, Picked):
            parts += [f"{_variable(name)}[{each!r}]" for each in item.names if each in made.features[name]]
            missing += [f"{name}.{each}" for each in item.names if each not in made.features[name]]
        else:
            parts.append(f"{_variable(name)}.all()")
    if missing:
        made.lost.append(f"FeatureService {service.text('name')!r} ({service.where}): without {', '.join(map(str, missing))}.")
    variable = _variable(_python(service.text("name") or "service"))
    return f"{variable}_recipe = inputs({', '.join(parts)})" if parts else ""


def _source(each: _Set, made: Imported) -> str:
    """`From(…)` of the nearest source that falaj has, as the start of a declaration."""
    source = each.source
    when = {"known": each.created} if each.created else {}
    path, table, asked = source.text("path"), source.text("table", "table_ref"), source.text("query")
    if source.kind in ("FileSource", "SparkSource", "RaySource") and path:
        if path.startswith(("s3://", "s3a://")):
            return f"From('s3', { ({'path': path.replace('s3a://', 's3://')} | when)!r})"
        if "://" in path or path.startswith(("/", "%", "~")):
            made.lost.append(f"the source {each.name!r} ({source.where}): {path} has to be brought into the project's folder.")
        return f"From('files', { ({'path': path} | when)!r})"
    scheme = _SCHEMES.get(source.kind, "database" if source.kind in _TABLES else "")
    if scheme and (table or asked):
        options = {"url": "env:DATABASE_URL", **({"query": asked} if asked and not table else {"table": table})}
        options |= when
        options |= {"schema": source.text("schema")} if table and source.text("schema") else {}
        made.lost.append(f"the source {each.name!r} ({source.where}): its address; DATABASE_URL is to hold it.")
        return f"From({scheme!r}, {options!r})"
    made.lost.append(f"the source {each.name!r} ({source.where}): a {source.kind} that falaj cannot name; write its From(…).")
    return "From('files', {'path': 'inbox/" + each.name + ".parquet'})"


def _module(
    sets: Mapping[str, _Set], views: Sequence[str], rest: tuple[Sequence[str], Mapping[str, Made], Target, Imported]
) -> str:
    sketches, entities, target, made = rest
    names = sorted({"Dataset", "From", *(["View"] if views else []), *(["inputs"] if any(sketches) else [])} if sets else set())
    parts = ['"""Carried over from a Feast repository. Look through it: the sources and contracts are a start."""']
    used = [entity for entity in entities.values() if entity.text("name")] if target.has_entity else []
    if names:
        parts.append(f"from falaj import {', '.join(sorted([*names, *(['Entity'] if used else [])]))}")
    for entity in used:
        keys = [key for key in entity.items("join_keys") if isinstance(key, str)] or [entity.text("name")]
        words = [repr(_python(entity.text("name"))), f"{keys[0]!r}" if len(keys) == 1 else f"keys={tuple(keys)!r}"]
        words += [f"{word}={entity.text(word)!r}" for word in ("description", "owner") if entity.text(word)]
        held = [each for each in sets.values() if set(keys) <= set(each.keys)]
        kinds = {each.columns.get(key, "") for each in held for key in keys}
        if kinds == {"integer"} or _kind(entity.given.get("value_type")) == "integer":
            words.append("kind='integer'")
        parts.append(f"{_of_entity(keys)} = Entity({', '.join(words)})")
    for each in sets.values():
        brings = "" if each.created else ", brings='all'"
        note = f"# {each.note}\n" if each.note else ""
        parts.append(
            f"{note}{_variable(each.name)}_data = Dataset(\n    {each.name!r},\n"
            f"    contract={f'contracts/{each.name}.odcs.yaml'!r},\n    source={_source(each, made)},\n"
            f"    time={each.time!r},\n    known={_known(each)!r}{brings},\n)"
        )
    parts += [*views, *filter(None, sketches)]
    return "\n\n".join(parts) + "\n"


def _known(each: _Set) -> str:
    """Without a created time falaj stamps when it first saw a row, in a column of its own."""
    return each.created or "known_at"


def _contract(each: _Set) -> str:
    """A first contract, of what the views say; its key is guessed and its checks are for somebody who knows the data."""
    columns = dict.fromkeys(each.keys, "string") | each.columns | {each.time: "timestamp", _known(each): "timestamp"}
    key = [*each.keys, each.time]
    properties = [
        {
            "name": name,
            "logicalType": kind,
            **({"primaryKey": True, "primaryKeyPosition": key.index(name) + 1} if name in key else {}),
            **({"required": True} if name in (each.time, _known(each)) else {}),
        }
        for name, kind in columns.items()
    ]
    body: dict[str, Any] = {
        "apiVersion": "v3.1.0", "kind": "DataContract", "id": each.name, "version": "0.1.0", "status": "draft",
        "schema": [{"name": each.name, "properties": properties}],
    }  # fmt: skip
    if owner := each.source.text("owner"):
        body["team"] = {"name": owner}
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True)


def _settings(folder: Path, found: Repository) -> dict[str, Any]:
    path = folder / "feature_store.yaml"
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            data = file.read(_SETTINGS_BYTES + 1)
        if len(data) > _SETTINGS_BYTES or any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, yaml.SafeLoader)):
            raise InvalidInput("it is too long, or has aliases.")
        body = yaml.safe_load(data)
    except (yaml.YAMLError, OSError, ValueError, RecursionError, InvalidInput) as exc:
        found.unread.append(f"feature_store.yaml: it cannot be read ({type(exc).__name__}).")
        return {}
    return {str(key): value for key, value in body.items()} if isinstance(body, dict) else {}


def _told_settings(found: Repository, made: Imported) -> None:
    """Stores and registries are settings of falaj; none of Feast's is taken over, since most hold addresses or passwords."""
    for name, wanted in (("online_store", "online"), ("offline_store", "blobs"), ("registry", "ledger")):
        body = found.settings.get(name)
        if body:
            kind = body.get("type", "") if isinstance(body, dict) else "file"
            made.lost.append(f"feature_store.yaml: {name} {str(kind)[:40] or 'as it is'}; set `{wanted}` in falaj.toml.")


def _of_entity(keys: Sequence[str]) -> str:
    return _variable("_".join(keys)) + "_entity"


def _name(text: str) -> str:
    """A dataset's name: lower-case letters, digits, `_`."""
    return re.sub(r"[^a-z0-9_]+", "_", text.rpartition("/")[2].lower()).strip("_")[:80] or "data"


def _python(text: str) -> str:
    name = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_")[:80]
    return name if name[:1].isalpha() else f"v_{name}"


def _variable(name: str) -> str:
    made = _python(name)
    return made + "_" if keyword.iskeyword(made) or made in ("inputs",) else made
