"""Contracts in the Open Data Contract Standard (ODCS v3): the part that falaj enforces, and a refusal of what it would not.

Read for people only: descriptions, business names, tags, examples, links, physical types, transformation notes, servers,
roles, price, support, and quality rules of type `text`. Everything else is enforced, or the file is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

from falaj.core.codec import canonical, digest
from falaj.core.errors import InvalidInput
from falaj.core.moments import moment
from falaj.stages.contracts import expression
from falaj.stages.contracts.contract import Column, Contract, Limit, Quality
from falaj.stages.contracts.document import Spot, parse

VERSIONS = ("v3.1.0", "v3.0.2", "v3.0.1", "v3.0.0")
KINDS = ("string", "integer", "number", "boolean", "timestamp", "date")
MOST_COLUMNS = 200
"""The columns are listed in the ledger's event, whose leaf is limited."""

MOST_LABEL_BYTES = 4096

_TOLD = frozenset({"id", "description", "businessName", "tags", "authoritativeDefinitions", "customProperties"})
_TOP = _TOLD | {
    "apiVersion", "kind", "name", "version", "status", "tenant", "domain", "dataProduct", "servers", "schema", "support", "price",
    "team", "roles", "slaProperties", "contractCreatedTs",
}  # fmt: skip
_OBJECT = _TOLD | {"name", "physicalName", "physicalType", "logicalType", "dataGranularityDescription", "properties", "quality"}
_PROPERTY = _TOLD | {
    "name", "physicalName", "physicalType", "logicalType", "logicalTypeOptions", "required", "unique", "primaryKey",
    "primaryKeyPosition", "quality", "classification", "examples", "criticalDataElement", "encryptedName",
    "transformSourceObjects", "transformLogic", "transformDescription", "partitioned", "partitionKeyPosition",
}  # fmt: skip
_RANGE: Mapping[str, str] = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_NUMBERS = frozenset({*_RANGE, "multipleOf", "format"})
_TIMES = frozenset({*_RANGE, "timezone", "defaultTimezone"})
_OPTIONS: Mapping[str, frozenset[str]] = {
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
_RULE_TOLD = _TOLD | {"name", "type", "severity", "dimension", "businessImpact", "method", "unit"}
_OPS: Mapping[str, str] = {
    "mustBe": "==", "mustNotBe": "!=", "mustBeGreaterThan": ">", "mustBeGreaterOrEqualTo": ">=", "mustBeLessThan": "<",
    "mustBeLessOrEqualTo": "<=", "mustBeBetween": "between", "mustNotBeBetween": "not between",
}  # fmt: skip
_METRICS: Mapping[str, frozenset[str]] = {
    "nullValues": frozenset(),
    "missingValues": frozenset({"missingValues"}),
    "invalidValues": frozenset({"validValues", "pattern"}),
    "duplicateValues": frozenset({"properties"}),
    "rowCount": frozenset(),
}
_REFUSED = "remove it, or state the rule in a form that falaj enforces: docs/guides/data.md lists them."


def read(data: bytes, file: str = "contract") -> Contract:
    """The contract in these bytes. Raises InvalidInput that names the place in the file, what stands there and what is wanted."""
    top = parse(data, file)
    top.only(_TOP, _REFUSED)
    top.get("kind").one_of(("DataContract",))
    top.get("apiVersion").one_of(VERSIONS)
    for name in ("id", "status"):
        top.get(name).text()
    table = _only_table(top)
    table.only(_OBJECT, _REFUSED)
    columns, key, checks = _columns(table)
    kinds = {column.name: column.kind for column in columns}
    for spot in table.get("quality").items():
        checks.extend(_quality(spot, None, kinds))
    return Contract(
        name=table.get("name").text(longest=80),
        version=top.get("version").text(longest=40),
        owner=_owner(top),
        columns=columns,
        checks=_named(checks),
        key=key,
        sla=dict(map(_sla, top.get("slaProperties").items())),
        labels=_small({**_labels(top), **_labels(table)}, file),
        digest=digest(data),
    )


def _only_table(top: Spot) -> Spot:
    tables = list(top.get("schema").items())
    if len(tables) != 1:
        raise InvalidInput(
            f"{top.file}: schema must hold one table, got {len(tables)}.", "write one contract for each dataset.", path="schema"
        )
    return tables[0]


def _columns(table: Spot) -> tuple[tuple[Column, ...], tuple[str, ...], list[Quality]]:
    columns: list[Column] = []
    places: list[tuple[int, str]] = []
    checks: list[Quality] = []
    for spot in table.get("properties").items():
        column = _column(spot)
        if any(other.name == column.name for other in columns):
            raise spot.get("name").fail("a name that no other property has")
        columns.append(column)
        if spot.get("primaryKey").flag():
            position = spot.get("primaryKeyPosition")
            places.append((int(position.number()) if position.value is not None else 1, column.name))
        for rule in spot.get("quality").items():
            checks.extend(_quality(rule, column, {}))
    if not 1 <= len(columns) <= MOST_COLUMNS:
        raise InvalidInput(
            f"{table.file}: {table.path}.properties must hold 1 to {MOST_COLUMNS} columns, got {len(columns)}.", path=table.path
        )
    return tuple(columns), tuple(name for _place, name in sorted(places)), checks


def _column(spot: Spot) -> Column:
    spot.only(_PROPERTY, _REFUSED)
    kind = spot.get("logicalType").one_of(KINDS)
    options = spot.get("logicalTypeOptions")
    if options.value is None:
        options = Spot({}, options.path, options.file)
    options.only(_OPTIONS[kind], _REFUSED)
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
        pattern=options.get("pattern").text("") if kind == "string" else "",
        lengths=(_length(options.get("minLength")), _length(options.get("maxLength"))),
        multiple_of=_step(step) if step.value is not None else None,
        naive_is_utc=_naive_is_utc(options),
        classification=spot.get("classification").text("", longest=80),
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


def _quality(spot: Spot, column: Column | None, kinds: Mapping[str, str]) -> Iterator[Quality]:
    form = spot.get("type").one_of(("library", "custom", "text", "sql"), "library")
    if form == "text":
        spot.only(_RULE_TOLD, _REFUSED)
    elif form == "library":
        yield _library(spot, column, kinds)
    elif form == "custom" and spot.get("engine").value == "falaj":
        spot.only(_RULE_TOLD | {"engine", "implementation"}, _REFUSED)
        text = spot.get("implementation").text(longest=300)
        if column is not None:
            raise spot.fail("at the table's own `quality`, where it sees every column")
        try:
            node = expression.read(text, kinds)
        except InvalidInput as exc:
            raise InvalidInput(f"{spot.file}: {spot.path}.implementation: {exc.message}", exc.hint, path=spot.path) from exc
        yield Quality(spot.get("name").text(text, longest=120), "expression", severity=_severity(spot), expression=node)
    else:
        raise spot.fail(
            "of type library, or custom with engine falaj", "falaj runs no SQL and no foreign engine; it will not pretend to."
        )


def _library(spot: Spot, column: Column | None, kinds: Mapping[str, str]) -> Quality:
    spot.only(_RULE_TOLD | set(_OPS) | {"metric", "arguments"}, _REFUSED)
    metric = spot.get("metric").one_of(tuple(_METRICS))
    arguments = spot.get("arguments")
    if arguments.value is None:
        arguments = Spot({}, arguments.path, arguments.file)
    arguments.only(_METRICS[metric], _REFUSED)
    wide = metric == "rowCount" or (metric == "duplicateValues" and column is None)
    if wide == (column is not None):
        raise spot.fail("at the table's own `quality`" if wide else "at the property that it judges")
    op, bound = _bound(spot)
    columns = (column.name,) if column else tuple(name.one_of(tuple(kinds)) for name in arguments.get("properties").items())
    if metric == "duplicateValues" and not columns:
        raise arguments.get("properties").fail("a list of columns")
    values = _values(arguments, metric, column.kind if column else "")
    pattern = arguments.get("pattern").text("") if metric == "invalidValues" else ""
    if metric == "invalidValues" and (bool(pattern) == (values is not None) or (pattern and column and column.kind != "string")):
        raise arguments.fail("either `validValues`, or a `pattern` for texts")
    return Quality(
        name=spot.get("name").text(f"{metric} {', '.join(columns)}".strip(), longest=120),
        metric=metric,
        columns=columns,
        op=op,
        bound=bound,
        percent=spot.get("unit").one_of(("rows", "percent"), "rows") == "percent",
        severity=_severity(spot),
        values=values,
        pattern=pattern,
    )


def _values(arguments: Spot, metric: str, kind: str) -> tuple[Any, ...] | None:
    key = {"invalidValues": "validValues", "missingValues": "missingValues"}.get(metric)
    if key is None or arguments.get(key).value is None:
        return None
    wanted: Mapping[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}
    found = []
    for spot in arguments.get(key).items():
        right = isinstance(spot.value, wanted.get(kind, ())) and (kind == "boolean" or not isinstance(spot.value, bool))
        if not right and not (spot.value is None and metric == "missingValues"):
            raise spot.fail(f"a {kind}")
        if kind in ("integer", "number"):
            spot.number()
        found.append(spot.value)
    return tuple(found)


def _bound(spot: Spot) -> tuple[str, float | tuple[float, float]]:
    stated = [word for word in _OPS if spot.get(word).value is not None]
    if len(stated) != 1:
        raise InvalidInput(f"{spot.file}: {spot.path} must hold one of {', '.join(_OPS)}, got {len(stated)}.", path=spot.path)
    bound = spot.get(stated[0])
    if "between" not in _OPS[stated[0]]:
        return _OPS[stated[0]], bound.number()
    ends = [end.number() for end in bound.items()]
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise bound.fail("two numbers, the smaller first")
    return _OPS[stated[0]], (ends[0], ends[1])


def _severity(spot: Spot) -> str:
    return spot.get("severity").one_of(("error", "warning", "info"), "error")


def _named(checks: list[Quality]) -> tuple[Quality, ...]:
    twice = {check.name for check in checks if sum(other.name == check.name for other in checks) > 1}
    if twice:
        raise InvalidInput(
            f"Two quality rules are named {min(twice)!r}.", "give each rule its own `name`: it is the reason shown in quarantine."
        )
    return tuple(checks)


def _owner(top: Spot) -> str:
    """The team's name; v3.0 lists members instead, of whom the one with the role `owner` counts."""
    team = top.get("team")
    if isinstance(team.value, dict):
        return team.get("name").text("")
    members = list(team.items())
    return next((m.get("username").text() for m in members if m.get("role").value == "owner"), "")


def _sla(spot: Spot) -> tuple[str, Mapping[str, Any]]:
    name = spot.get("property").text(longest=80)
    value = spot.get("value").value
    if not isinstance(value, (str, int, float)):
        raise spot.get("value").fail("a text, a number or true or false")
    return name, {"value": value, "unit": spot.get("unit").text(""), "element": spot.get("element").text("")}


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
