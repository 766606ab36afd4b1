"""Contracts in the Open Data Contract Standard (ODCS v3): the part that falaj enforces, and a refusal of what it would not.

Read for people only: descriptions, business names, tags, examples, links, physical types, transformation notes, servers,
roles, price, support, and quality rules of type `text`. Everything else is enforced, or the file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from falaj.core.codec import canonical, digest
from falaj.core.errors import InvalidInput
from falaj.core.moments import moment
from falaj.core.ref import Ref
from falaj.stages.contracts import spans
from falaj.stages.contracts.contract import Column, Contract, Limit, Quality
from falaj.stages.contracts.document import Spot, parse
from falaj.stages.contracts.quality import REFUSED as _REFUSED
from falaj.stages.contracts.quality import TOLD as _TOLD
from falaj.stages.contracts.quality import listed, named, pattern_of, read_rules
from falaj.stages.contracts.written import completed, compose

VERSIONS = ("v3.2.0", "v3.1.0", "v3.0.2", "v3.0.1", "v3.0.0")
KINDS = ("string", "integer", "number", "boolean", "timestamp", "date")
MOST_COLUMNS = 200
"""The columns are listed in the ledger's event, whose leaf is limited."""

MOST_LABEL_BYTES = 4096

_TOP = _TOLD | {
    "apiVersion", "kind", "name", "version", "status", "tenant", "domain", "dataProduct", "servers", "schema", "support", "price",
    "team", "roles", "slaProperties", "slaDefaultElement", "contractCreatedTs", "context",
}  # fmt: skip
_OBJECT = _TOLD | {
    "name", "physicalName", "physicalType", "logicalType", "dataGranularityDescription", "properties", "quality", "relationships",
    "context",
}  # fmt: skip
_PROPERTY = _TOLD | {
    "name", "physicalName", "physicalType", "logicalType", "logicalTypeOptions", "required", "unique", "primaryKey",
    "primaryKeyPosition", "quality", "classification", "examples", "criticalDataElement", "encryptedName",
    "transformSourceObjects", "transformLogic", "transformDescription", "partitioned", "partitionKeyPosition", "relationships",
    "enum", "semanticType",
}  # fmt: skip
_RANGE: Mapping[str, str] = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_NUMBERS = frozenset({*_RANGE, "multipleOf", "format"})
_TIMES = frozenset({*_RANGE, "timezone", "defaultTimezone"})
OPTIONS: Mapping[str, frozenset[str]] = {
    "string": frozenset({"pattern", "minLength", "maxLength"}),
    "integer": _NUMBERS,
    "number": _NUMBERS,
    "timestamp": _TIMES,
    "date": frozenset(_RANGE),
    "boolean": frozenset(),
}
_WIDTHS: Mapping[str, tuple[str, ...]] = {
    "integer": ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"),
    "number": ("f32", "f64"),
}
_RELATION = frozenset({"id", "type", "from", "to", "customProperties"})
_SLA = frozenset(
    {"id", "property", "value", "unit", "element", "driver", "description", "customProperties", "authoritativeDefinitions"}
)
_TARGET = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*\.[A-Za-z_][A-Za-z0-9_\-]*")


def read(data: bytes, file: str = "contract") -> Contract:
    """The contract in these bytes. Raises InvalidInput that names the place in the file, what stands there and what is wanted."""
    top = parse(data, file)
    top.only(_TOP, _REFUSED)
    top.get("kind").one_of(("DataContract",))
    top.get("apiVersion").one_of(VERSIONS)
    table = _only_table(top)
    table.only(_OBJECT, _REFUSED)
    name = table.get("name").text(longest=80)
    columns, key, checks = _columns(table)
    columns = _related(table, name, columns)
    _one_subject(table, columns)
    kinds = {column.name: column.kind for column in columns}
    checks.extend(read_rules(table.get("quality").items(), None, kinds))
    labels = _small({**_labels(top), **_labels(table)}, file)
    return Contract(
        name=name,
        version=top.get("version").text(longest=40),
        owner=_owner(top),
        columns=columns,
        checks=named(checks),
        key=key,
        sla=_promises(top, name, kinds, labels),
        labels=labels,
        digest=digest(data),
        id=top.get("id").text(),
        status=top.get("status").text(),
        description=_prose(top.get("description").get("purpose")) if isinstance(top.get("description").value, dict) else "",
    )


def write(contract: Contract, notes: Mapping[str, tuple[str, ...]] | None = None) -> bytes:
    """The contract as an ODCS file in YAML, which `read` reads back the same. What it has for people only is not kept.

    `notes`: comments to stand above a column, by its name, or above the file, by the empty name. Raises InvalidInput where
    the contract says something that no file can say: a rule without its text, a name that is refused, a digest apart.
    """
    contract = completed(contract)
    data = compose(contract, notes or {}).encode("utf-8", "surrogatepass")
    again = read(data, f"the contract {contract.name!r} as written")
    if replace(again, digest=contract.digest) != contract:
        different = [part for part in contract.__slots__ if part != "digest" and getattr(again, part) != getattr(contract, part)]
        raise InvalidInput(
            f"The contract {contract.name!r} cannot be written as ODCS: its {', '.join(different)} would be read otherwise.",
            "build it as odcs.read would: limits in order, keys required, each rule with its text.",
        )
    return data


def _only_table(top: Spot) -> Spot:
    tables = list(top.get("schema").items())
    if len(tables) != 1:
        raise InvalidInput(
            f"{top.file}: schema must hold one table, got {len(tables)}.", "write one contract for each dataset.", path="schema"
        )
    return tables[0]


def _columns(table: Spot) -> tuple[tuple[Column, ...], tuple[str, ...], list[Quality]]:
    columns: dict[str, Column] = {}
    places: list[tuple[int, str]] = []
    checks: list[Quality] = []
    spots = list(table.get("properties").items())
    if not 1 <= len(spots) <= MOST_COLUMNS:
        raise InvalidInput(
            f"{table.file}: {table.path}.properties must hold 1 to {MOST_COLUMNS} columns, got {len(spots):,}.",
            "leave out what nobody uses, or make two datasets of it.",
            path=table.path,
        )
    for spot in spots:
        column = _column(spot)
        if column.name in columns:
            raise spot.get("name").fail("a name that no other property has")
        columns[column.name] = column
        if spot.get("primaryKey").flag():
            position = spot.get("primaryKeyPosition")
            places.append((int(position.number()) if position.value is not None else 1, column.name))
        checks.extend(listed(spot.get("enum"), column))
        checks.extend(read_rules(spot.get("quality").items(), column, {}))
    return tuple(columns.values()), tuple(name for _place, name in sorted(places)), checks


def _related(table: Spot, own: str, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns with what they refer to, as the properties and the table itself say."""
    found: dict[str, tuple[str, str]] = {}
    sides = [(column.name, spot) for column, spot in _relations_of(table, columns)]
    for spot in table.get("relationships").items():
        spot.only(_RELATION, _REFUSED)
        source, column = _side(spot.get("from"))
        if source != own or column not in {column.name for column in columns}:
            raise spot.get("from").fail(f"a column of {own}, as in {own}.{columns[0].name}")
        sides.append((column, spot))
    for name, spot in sides:
        spot.get("type").one_of(("foreignKey",), "foreignKey")
        target = _side(spot.get("to"))
        try:
            Ref("dataset", target[0])
        except InvalidInput as exc:
            raise spot.get("to").fail("a column of a dataset, as in planes.tailnum", exc.hint) from exc
        if target[0] == own:
            raise spot.get("to").fail("a column of another dataset")
        if found.setdefault(name, target) != target:
            raise spot.fail(f"the only relationship of {name!r}")
    return tuple(replace(column, references=found.get(column.name)) for column in columns)


def _relations_of(table: Spot, columns: tuple[Column, ...]) -> list[tuple[Column, Spot]]:
    found = []
    for column, place in zip(columns, table.get("properties").items(), strict=True):
        for spot in place.get("relationships").items():
            spot.only(_RELATION - {"from"}, _REFUSED)
            found.append((column, spot))
    return found


def _side(spot: Spot) -> tuple[str, str]:
    """`planes.tailnum` as (dataset, column). A key of several columns is refused: falaj looks values up one by one."""
    wanted = "one column, as in planes.tailnum"
    ends = list(spot.items()) if isinstance(spot.value, list) else [spot]
    if len(ends) != 1 or not isinstance(ends[0].value, str) or not _TARGET.fullmatch(ends[0].value):
        raise spot.fail(wanted, "values are looked up in single columns, by name: not in keys of several columns, not by ids.")
    name, _, column = ends[0].value.partition(".")
    return name, column


def _column(spot: Spot) -> Column:
    spot.only(_PROPERTY, _REFUSED)
    kind = spot.get("logicalType").one_of(KINDS)
    options = spot.get("logicalTypeOptions")
    if options.value is None:
        options = Spot({}, options.path, options.file)
    options.only(OPTIONS[kind], _REFUSED)
    name = spot.get("name").text(longest=64)
    if name.startswith("_"):
        raise spot.get("name").fail("a name that does not start with '_'", "falaj keeps those names for its own columns.")
    width, step = options.get("format"), options.get("multipleOf")
    return Column(
        name=name,
        kind=kind,
        required=spot.get("required").flag() or spot.get("primaryKey").flag(),
        unique=spot.get("unique").flag(),
        width=width.one_of(_WIDTHS[kind]) if width.value is not None and kind in _WIDTHS else "",
        limits=tuple((op, _limit(options.get(word), kind)) for word, op in _RANGE.items() if options.get(word).value is not None),
        pattern=pattern_of(options.get("pattern")) if kind == "string" else "",
        lengths=(_length(options.get("minLength")), _length(options.get("maxLength"))),
        multiple_of=_step(step) if step.value is not None else None,
        naive_is_utc=_naive_is_utc(options),
        classification=spot.get("classification").text("", longest=80),
        subject=_is_subject(spot, kind),
        description=_prose(spot.get("description")),
    )


def _is_subject(spot: Spot, kind: str) -> bool:
    """Of a column's customProperties falaj reads this one alone; the others are for people."""
    entries = spot.get("customProperties")
    for entry in entries.items() if isinstance(entries.value, list) else ():
        if isinstance(entry.value, dict) and entry.value.get("property") == "subject" and entry.get("value").flag():
            if kind not in ("string", "integer"):
                raise entry.fail("on a column of type string or integer", "a person is named by a text or a whole number.")
            return True
    return False


def _one_subject(table: Spot, columns: tuple[Column, ...]) -> None:
    named = [column.name for column in columns if column.subject]
    if len(named) > 1:
        raise InvalidInput(
            f"{table.file}: {table.path}.properties has two subjects, {named[0]!r} and {named[1]!r}.",
            "a row is about one person: mark the column that names them.",
            path=f"{table.path}.properties",
        )


def _naive_is_utc(options: Spot) -> bool:
    """Only a contract that says so may call a time without a zone UTC."""
    options.get("timezone").flag(True)
    return options.get("defaultTimezone").one_of(("UTC", "Etc/UTC"), "") != "" and options.get("timezone").value is False


def _length(spot: Spot) -> int | None:
    if spot.value is None:
        return None
    if isinstance(spot.value, bool) or not isinstance(spot.value, int) or not 0 <= spot.value <= 2**31:
        raise spot.fail("a whole number of at least 0")
    return spot.value


def _step(spot: Spot) -> int | float:
    if spot.number() <= 0:
        raise spot.fail("a number above 0")
    return spot.number()


def _limit(spot: Spot, kind: str) -> Limit:
    if kind not in ("timestamp", "date"):
        return spot.number()
    value = spot.value
    try:
        if kind == "date":
            return value if isinstance(value, date) and not isinstance(value, datetime) else date.fromisoformat(value)
        # PyYAML turns an unquoted time into a naive UTC moment when it carries Z, so naive means UTC here.
        return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else moment(value)
    except (ValueError, TypeError, OverflowError, InvalidInput) as exc:
        raise spot.fail("a date such as 2013-05-01" if kind == "date" else "a time such as 2013-05-01T09:30:00Z") from exc


def _owner(top: Spot) -> str:
    """The team's name; v3.0 lists members instead, of whom the one with the role `owner` counts."""
    team = top.get("team")
    if isinstance(team.value, dict):
        return team.get("name").text("")
    members = list(team.items())
    return next((m.get("username").text() for m in members if m.get("role").value == "owner"), "")


def _prose(spot: Spot) -> str:
    """What is for people is never a reason to refuse."""
    return spot.value if isinstance(spot.value, str) else ""


def _promises(top: Spot, table: str, kinds: Mapping[str, str], labels: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """SLA property → value, unit, element. What falaj keeps an eye on must be a length of time."""
    found: dict[str, Mapping[str, Any]] = {}
    usual = top.get("slaDefaultElement").text("")
    for spot in top.get("slaProperties").items():
        name = spot.get("property").text(longest=80)
        if name in found:
            raise spot.get("property").fail("a property that stands once")
        found[name] = _promise(spot, name, usual)
        element = str(found[name]["element"])
        if name in ("latency", "freshness") and element and element != table:
            column = element.removeprefix(f"{table}.")
            if kinds.get(column) != "timestamp":
                raise spot.get("element").fail(f"a timestamp of {table}, as in {table}.known_at")
    stated, label = found.get("retention"), labels.get("retention")
    if stated is not None and label is not None and spans.span(stated["value"], stated["unit"]) != spans.labelled(label):
        raise InvalidInput(
            f"{top.file}: retention is {stated['value']} {stated['unit']} in slaProperties and {label!r} in customProperties.",
            "say it once.",
            path="slaProperties",
        )
    return found


def _promise(spot: Spot, name: str, usual: str) -> Mapping[str, Any]:
    value, unit = spot.get("value"), spot.get("unit").text("")
    if name in spans.KEPT:
        spot.only(_SLA, _REFUSED)
        if spans.span(value.number(), unit) is None:
            raise spot.fail("a length of time, as in value: 6, unit: h", f"units: {', '.join(spans.UNITS)}.")
    elif isinstance(value.value, (int, float)) and not isinstance(value.value, bool):
        value.number()
    elif not isinstance(value.value, (str, bool)):
        raise value.fail("a text, a number or true or false")
    return {"value": value.value, "unit": unit, "element": spot.get("element").text(usual)}


def _labels(spot: Spot) -> dict[str, Any]:
    """customProperties as labels: texts, numbers, flags and lists of texts."""
    found: dict[str, Any] = {}
    for entry in spot.get("customProperties").items():
        value, name = entry.get("value"), entry.get("property").text(longest=80)
        if isinstance(value.value, list):
            found[name] = [item.text(longest=80) for item in value.items()]
        elif isinstance(value.value, bool):
            found[name] = value.value
        else:
            found[name] = value.number() if isinstance(value.value, (int, float)) else value.text(longest=200)
    return found


def _small(labels: dict[str, Any], file: str) -> dict[str, Any]:
    """Labels go into every event of the dataset."""
    if len(canonical(labels)) > MOST_LABEL_BYTES:
        raise InvalidInput(
            f"{file}: customProperties take more than {MOST_LABEL_BYTES} bytes.", "keep long texts in description."
        )
    return labels
