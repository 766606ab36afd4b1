"""Quality rules of an ODCS contract: ODCS's own metrics, and falaj's expressions and measures; any other engine is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from falaj.core.errors import InvalidInput
from falaj.core.wording import a
from falaj.stages.contracts import expression, measure
from falaj.stages.contracts.contract import Column, Quality
from falaj.stages.contracts.document import Spot

TOLD = frozenset({"id", "description", "businessName", "tags", "authoritativeDefinitions", "customProperties", "synonyms"})
"""What is for people, wherever it stands."""

REFUSED = "remove it, or state the rule in a form that falaj enforces: docs/guides/data.md lists them."
MOST_RULES = 1000

_RULE_TOLD = TOLD | {"name", "type", "severity", "dimension", "businessImpact", "method", "unit"}
OPS: Mapping[str, str] = {
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
SEVERITIES: Mapping[str, str] = {
    # as it may be written: what falaj calls it
    "error": "error",
    "quarantine": "error",
    "stop": "stop",
    "critical": "stop",
    "warning": "warning",
    "warn": "warning",
    "info": "info",
}
_TYPES: Mapping[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


def read_rules(spots: Iterator[Spot], column: Column | None, kinds: Mapping[str, str]) -> Iterator[Quality]:
    """The rules at a property, or with `column` None those at the table. Raises InvalidInput for what falaj would not enforce."""
    for spot in spots:
        form = spot.get("type").one_of(("library", "custom", "text", "sql"), "library")
        if form == "text":
            spot.only(_RULE_TOLD, REFUSED)
        elif form == "library":
            yield _library(spot, column, kinds)
        elif form == "custom" and spot.get("engine").value == "falaj":
            yield _own(spot, column, kinds)
        elif form == "sql":
            raise spot.get("type").fail(
                "library, or custom with engine falaj",
                "rules in SQL are not run: docs/guides/data.md lists the forms that are.",
            )
        else:
            raise spot.fail(
                "of type library, or custom with engine falaj", "falaj runs no SQL and no foreign engine; it will not pretend to."
            )


def listed(spot: Spot, column: Column) -> Iterator[Quality]:
    """The rule behind a property's `enum`: every value is one of those listed."""
    if spot.value is None:
        return
    values = tuple(_value(entry.get("value"), column.kind) for entry in spot.items())
    if not values:
        raise spot.fail("a list of at least one value")
    yield Quality(f"{column.name} is one of its enum", "invalidValues", (column.name,), values=values)


def named(checks: list[Quality]) -> tuple[Quality, ...]:
    """The rules, where each has a name of its own and there are not too many of them."""
    if len(checks) > MOST_RULES:
        raise InvalidInput(f"The contract has {len(checks):,} quality rules; {MOST_RULES:,} are allowed.", "split the dataset.")
    twice = [name for name, count in Counter(check.name for check in checks).items() if count > 1]
    if twice:
        raise InvalidInput(
            f"Two quality rules are named {min(twice)!r}.", "give each rule its own `name`: it is the reason shown in quarantine."
        )
    return tuple(checks)


def pattern_of(spot: Spot) -> str:
    """A regular expression that the engine which will apply it can compile: Rust's syntax, linear time, no look-around."""
    text = spot.text("")
    if not text:
        return ""
    import polars as pl

    try:
        pl.select(pl.lit("").str.contains(text))
    except pl.exceptions.PolarsError as exc:
        why = next((line for line in str(exc).splitlines() if line.startswith("error: ")), str(exc).splitlines()[0])
        raise spot.fail(
            f"a regular expression that can be applied ({why.removeprefix('error: ')[:120]})",
            "write it without look-around and back references; anchor it with ^ and $.",
        ) from exc
    return text


def _own(spot: Spot, column: Column | None, kinds: Mapping[str, str]) -> Quality:
    spot.only((_RULE_TOLD - {"unit"}) | {"engine", "implementation"}, REFUSED)
    text = spot.get("implementation").text(longest=300)
    if column is not None:
        raise spot.fail("at the table's own `quality`, where it sees every column")
    name = spot.get("name").text(text, longest=120)
    try:
        if measure.is_measure(text):
            metric, columns, op, bound = measure.read(text, kinds)
            return Quality(name, metric, columns, op, bound, severity=_severity(spot))
        return Quality(name, "expression", severity=_severity(spot), expression=expression.read(text, kinds), text=text)
    except InvalidInput as exc:
        if exc.facts:
            raise
        raise InvalidInput(f"{spot.file}: {spot.path}.implementation: {exc.message}", exc.hint, path=spot.path) from exc


def _library(spot: Spot, column: Column | None, kinds: Mapping[str, str]) -> Quality:
    spot.only(_RULE_TOLD | set(OPS) | {"metric", "arguments"}, REFUSED)
    metric = spot.get("metric").one_of(tuple(_METRICS))
    arguments = spot.get("arguments")
    if arguments.value is None:
        arguments = Spot({}, arguments.path, arguments.file)
    arguments.only(_METRICS[metric], REFUSED)
    wide = metric == "rowCount" or (metric == "duplicateValues" and column is None)
    if wide == (column is not None):
        raise spot.fail("at the table's own `quality`" if wide else "at the property that it judges")
    op, bound = _bound(spot)
    columns = (column.name,) if column else tuple(name.one_of(tuple(kinds)) for name in arguments.get("properties").items())
    if metric == "duplicateValues" and not columns:
        raise arguments.get("properties").fail("a list of columns")
    values = _values(arguments, metric, column.kind if column else "")
    pattern = pattern_of(arguments.get("pattern")) if metric == "invalidValues" else ""
    if metric == "invalidValues" and (bool(pattern) == (values is not None) or (pattern and column and column.kind != "string")):
        raise arguments.fail("either `validValues`, or a `pattern` for texts")
    units = ("rows",) if metric == "rowCount" else ("rows", "percent")
    return Quality(
        name=spot.get("name").text(f"{metric} {', '.join(columns)}".strip(), longest=120),
        metric=metric,
        columns=columns,
        op=op,
        bound=bound,
        percent=spot.get("unit").one_of(units, "rows") == "percent",
        severity=_severity(spot),
        values=values,
        pattern=pattern,
    )


def _values(arguments: Spot, metric: str, kind: str) -> tuple[Any, ...] | None:
    key = {"invalidValues": "validValues", "missingValues": "missingValues"}.get(metric)
    if key is None or arguments.get(key).value is None:
        return None
    return tuple(
        None if spot.value is None and metric == "missingValues" else _value(spot, kind) for spot in arguments.get(key).items()
    )


def _value(spot: Spot, kind: str) -> Any:
    """One value of a list, of the column's own kind."""
    right = isinstance(spot.value, _TYPES.get(kind, ())) and (kind == "boolean" or not isinstance(spot.value, bool))
    if not right:
        raise spot.fail(a(kind) if kind in _TYPES else f"left out: falaj lists no values of {a(kind)}")
    return spot.number() if kind in ("integer", "number") else spot.value


def _bound(spot: Spot) -> tuple[str, float | tuple[float, float]]:
    stated = [word for word in OPS if spot.get(word).value is not None]
    if len(stated) != 1:
        raise InvalidInput(f"{spot.file}: {spot.path} must hold one of {', '.join(OPS)}, got {len(stated)}.", path=spot.path)
    bound = spot.get(stated[0])
    if "between" not in OPS[stated[0]]:
        return OPS[stated[0]], bound.number()
    ends = [end.number() for end in bound.items()]
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise bound.fail("two numbers, the smaller first")
    return OPS[stated[0]], (ends[0], ends[1])


def _severity(spot: Spot) -> str:
    return SEVERITIES[spot.get("severity").one_of(tuple(SEVERITIES), "error")]
