"""What a contract leaves open: nobody to ask, no key, no promise of freshness, rules that never fail or say a thing twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from falaj.core.wording import a
from falaj.stages.contracts import personal
from falaj.stages.contracts.bounds import RANGES, holds_always, holds_never
from falaj.stages.contracts.contract import Column, Contract, Quality
from falaj.stages.contracts.expression import Node
from falaj.stages.contracts.finding import Finding

_PUBLIC = frozenset({"", "public", "open"})
_LEAST: Mapping[str, float] = {"drift": 0, "growth": 0, "distinct": 0, "rowCount": 0}
_MOST: Mapping[str, float] = {"drift": 1}


def advise(contract: Contract, document: Mapping[str, Any]) -> list[Finding]:
    """Findings about a contract that can be read. `document`: the same file, for the places of its rules."""
    where = _places(document)
    found = list(_whole(contract))
    for place, column in enumerate(contract.columns):
        found += _column(column, f"schema[0].properties[{place}]", contract)
    silent = [column.name for column in contract.columns if not column.description]
    if silent:
        count = "no column" if len(silent) == len(contract.columns) else f"not every column (not {', '.join(silent[:5])})"
        found.append(
            Finding("schema[0].properties", "advice", f"{count} has a description", "say what it means, and in which unit.")
        )
    for check in contract.checks:
        found += _rule(check, contract, where.get(check.name, "schema[0]"))
    return found + list(_twice(contract.checks, where))


def fit(contract: Contract, times: Iterable[str], others: Mapping[str, Contract] | None) -> Iterator[Finding]:
    """Whether the contract has the columns that the dataset names, and refers to what there is."""
    for name in times:
        if contract.kinds.get(name) != "timestamp":
            seen = f"it is {a(contract.kinds[name])}" if name in contract.kinds else "there is none"
            yield Finding("schema[0].properties", "error", f"the dataset names the timestamp {name!r}; {seen}", "add it.")
        elif contract.subject and name in contract.personal:
            hint = "let another column hold what is personal: periods are read by this one, so it is never sealed."
            yield Finding("schema[0].properties", "warning", f"{name} is personal and stays in clear", hint)
    if others is None:
        return
    for place, column in enumerate(contract.columns):
        if column.references is None:
            continue
        dataset, target = column.references
        at = f"schema[0].properties[{place}].relationships"
        if dataset not in others:
            yield Finding(
                at, "error", f"{column.name} refers to the dataset {dataset!r}, which the project does not have", "add it."
            )
        elif others[dataset].kinds.get(target) != column.kind:
            seen = others[dataset].kinds.get(target, "no such column")
            yield Finding(
                at, "error", f"{column.name} is of kind {column.kind}; {dataset}.{target}: {seen}", "refer to one of its kind."
            )


def _whole(contract: Contract) -> Iterator[Finding]:
    labels = contract.labels
    if not contract.owner:
        yield Finding("team", "warning", "nobody owns it", "add `team: {name: …}`: whom an alert can go to.")
    if not contract.description:
        yield Finding("description.purpose", "warning", "it does not say what it is for", "add `description: {purpose: …}`.")
    if contract.personal and not contract.subject:
        named = ", ".join(contract.personal[:5])
        hint = "add `customProperties: [{property: subject, value: true}]` to the column that says whose row it is."
        told = f"{named}: personal, and nobody can be erased from it, for no column says whose row it is"
        yield Finding("schema[0].properties", "warning", told, hint)
    if not labels.get("classification"):
        yield Finding(
            "customProperties", "warning", "it has no classification", "add `{property: classification, value: internal}`."
        )
    if not contract.key:
        hint = "set `primaryKey: true`: without it no row can be told from its repetition."
        yield Finding("schema[0].properties", "warning", "it has no key", hint)
    if not {"latency", "freshness"} & set(contract.sla):
        yield Finding("slaProperties", "warning", "it promises no freshness", "add `{property: latency, value: 6, unit: h}`.")
    if not labels.get("purposes"):
        yield Finding("customProperties", "advice", "it names no purposes", "add `{property: purposes, value: [planning]}`.")
    if not labels.get("retention") and "retention" not in contract.sla:
        yield Finding(
            "slaProperties", "advice", "it does not say how long rows are kept", "add `{property: retention, value: 5, unit: y}`."
        )


def _column(column: Column, place: str, contract: Contract) -> Iterator[Finding]:
    spoken = personal.spoken_of(column.name)
    whole = str(contract.labels.get("classification") or "")
    if spoken and column.classification.lower() in _PUBLIC and whole.lower() in _PUBLIC:
        hint = "add `classification: personal`, or say in `description` why it is none."
        yield Finding(f"{place}.classification", "warning", f"{column.name} may be personal data: {spoken}", hint)
    options = f"{place}.logicalTypeOptions"
    if holds_never(column):
        yield Finding(options, "error", f"no value of {column.name} can keep its limits", "mend them.")
    low, high = RANGES.get(column.width, (None, None))
    for op, limit in column.limits:
        if isinstance(limit, (int, float)) and (
            (op[0] == ">" and low is not None and limit <= low and op != ">")
            or (op == "<=" and high is not None and limit >= high)
        ):
            yield Finding(
                options, "warning", f"{column.name} {op} {limit} can never fail: it is stored as {column.width}", "tighten it."
            )
    ops = {op for op, _limit in column.limits}
    if {">", ">="} <= ops or {"<", "<="} <= ops:
        yield Finding(
            options, "warning", f"{column.name} has two limits on one side; one of them says nothing", "keep the tighter."
        )
    if column.pattern in (".*", "^.*$", ".", "^", "$", "^.*", ".*$"):
        yield Finding(f"{options}.pattern", "warning", f"{column.pattern} matches nearly everything", "say what it looks like.")
    if column.lengths[0] == 0:
        yield Finding(f"{options}.minLength", "warning", "no text is shorter than 0 characters", "remove it.")
    if column.unique and contract.key == (column.name,):
        yield Finding(f"{place}.unique", "advice", f"{column.name} is the key, which is unique already", "remove `unique`.")


def _rule(check: Quality, contract: Contract, place: str) -> Iterator[Finding]:
    column = contract.column(check.columns[0]) if check.columns else None
    said = f"the rule {check.name!r}"
    if _never_fails(check, column):
        yield Finding(place, "warning", f"{said} can never fail", "tighten it, or remove it.")
    elif _never_passes(check):
        yield Finding(place, "error", f"{said} can never pass", "mend its bound.")
    elif column is not None and _said_already(check, column, contract):
        yield Finding(place, "advice", f"{said} says what the column says already", "keep one of them.")


def _never_fails(check: Quality, column: Column | None) -> bool:
    if check.metric == "expression":
        return check.expression is not None and _is_true(check.expression, column)
    return holds_always(check, *_ends(check))


def _never_passes(check: Quality) -> bool:
    if check.metric == "invalidValues" and check.values == () and check.of_rows:
        return True
    opposite = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "between": "not between", "not between": "between"}
    low, high = _ends(check)
    if check.op not in opposite or low is None:
        return False
    return holds_always(replace(check, op=opposite[check.op]), low, high)


def _ends(check: Quality) -> tuple[float | None, float | None]:
    """The least and the most that the metric can be."""
    if check.metric in _LEAST:
        return _LEAST[check.metric], _MOST.get(check.metric)
    counts = check.metric in ("nullValues", "missingValues", "invalidValues", "duplicateValues")
    return (0, 100 if check.percent else None) if counts else (None, None)


def _is_true(node: Node, column: Column | None) -> bool:
    """Only what can be seen without thinking: `a <= a`, `a is null or a is not null`."""
    if node.op in ("==", "<=", ">="):
        return node.parts[0] == node.parts[1]
    if node.op == "or":
        sides = {part.op: part.parts for part in node.parts}
        return any(_is_true(part, column) for part in node.parts) or (
            "is null" in sides and sides["is null"] == sides.get("is not null")
        )
    return node.op == "and" and all(_is_true(part, column) for part in node.parts)


def _said_already(check: Quality, column: Column, contract: Contract) -> bool:
    if not check.of_rows:
        return False
    if check.metric == "nullValues" or (check.metric == "missingValues" and not check.values):
        return column.required
    if check.metric == "duplicateValues" and len(check.columns) == 1:
        return column.unique or contract.key == check.columns
    if check.metric == "duplicateValues":
        return set(contract.key) == set(check.columns)
    return check.metric == "invalidValues" and bool(check.pattern) and check.pattern == column.pattern


def _twice(checks: tuple[Quality, ...], where: Mapping[str, str]) -> Iterator[Finding]:
    seen: dict[Any, str] = {}
    for check in checks:
        body = replace(check, name="", severity="", text="")
        first = seen.setdefault(body, check.name)
        if first != check.name:
            at = where.get(check.name, "schema[0]")
            yield Finding(at, "warning", f"the rule {check.name!r} asks the same as {first!r}", "keep one of them.")


def _places(document: Mapping[str, Any]) -> dict[str, str]:
    """Name of a rule → where it stands."""
    table = document["schema"][0]
    found = {}
    for at, holder in [("schema[0]", table), *((f"schema[0].properties[{n}]", p) for n, p in enumerate(table["properties"]))]:
        for place, rule in enumerate(holder.get("quality") or ()):
            name = rule.get("name") or rule.get("implementation")
            if isinstance(name, str):
                found[name] = f"{at}.quality[{place}]"
    return found
