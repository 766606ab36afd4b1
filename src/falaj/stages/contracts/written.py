"""A contract as the text of an ODCS file: one fixed order, short properties first, comments where somebody should look again."""

from __future__ import annotations

import textwrap
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import yaml

from falaj.stages.contracts import measure
from falaj.stages.contracts.contract import Column, Contract, Limit, Quality
from falaj.stages.contracts.quality import OPS

VERSION = "v3.1.0"
_WORDS: Mapping[str, str] = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}
_MUST: Mapping[str, str] = {op: word for word, op in OPS.items()}
_BREAKS = frozenset("\x85\u2028\u2029\ufeff")
"""Characters that one YAML reader takes for the end of a line and another for a letter: they are always escaped."""

_LIBRARY = ("nullValues", "missingValues", "invalidValues", "duplicateValues", "rowCount")


def completed(contract: Contract) -> Contract:
    """The contract with an id and a status, which every file has. The same name always gets the same id."""
    made = str(uuid.uuid5(uuid.NAMESPACE_OID, f"falaj:contract:{contract.name}"))
    return replace(contract, id=contract.id or made, status=contract.status or "draft")


def compose(contract: Contract, notes: Mapping[str, tuple[str, ...]]) -> str:
    """The file's text. `notes`: comments above a column, by its name, or above the file, by the empty name."""
    own: dict[str, list[Quality]] = {}
    for check in contract.checks:
        is_at_column = check.metric in _LIBRARY[:3] or (check.metric == "duplicateValues" and len(check.columns) == 1)
        own.setdefault(check.columns[0] if is_at_column else "", []).append(check)
    parts = [_comments(notes.get("", ()), ""), _lines(_head(contract)), _opening(contract.name)]
    for column in contract.columns:
        place = contract.key.index(column.name) + 1 if column.name in contract.key else 0
        body = _property(column, place, own.pop(column.name, []), has_others=len(contract.key) > 1)
        parts += [_comments(notes.get(column.name, ()), "  "), textwrap.indent(_yaml([body]), "  ")]
    rest = [_rule(check) for checks in own.values() for check in checks]
    if rest:
        parts.append(textwrap.indent(_yaml({"quality": rest}), "  "))
    return "".join(parts)


def _opening(name: str) -> str:
    named = textwrap.indent(_yaml({"name": name}, short=False), "  ")
    return f"schema:\n- {named[2:]}  properties:\n"


def _head(contract: Contract) -> dict[str, Any]:
    head: dict[str, Any] = {
        "apiVersion": VERSION,
        "kind": "DataContract",
        "id": contract.id,
        "version": contract.version,
        "status": contract.status,
    }
    if contract.description:
        head["description"] = {"purpose": contract.description}
    if contract.owner:
        head["team"] = {"name": contract.owner}
    if contract.labels:
        head["customProperties"] = [{"property": name, "value": _plain(value)} for name, value in contract.labels.items()]
    if contract.sla:
        head["slaProperties"] = [
            {"property": name, **{part: value for part, value in entry.items() if part == "value" or value}}
            for name, entry in contract.sla.items()
        ]
    return head


def _property(column: Column, place: int, checks: list[Quality], *, has_others: bool) -> dict[str, Any]:
    """`place`: the column's place in the key, from 1, or 0; `has_others`: whether the key has more columns."""
    body: dict[str, Any] = {"name": column.name}
    if column.description:
        body["description"] = column.description
    body["logicalType"] = column.kind
    if place:
        body |= {"primaryKey": True, **({"primaryKeyPosition": place} if has_others else {})}
    elif column.required:
        body["required"] = True
    if column.unique:
        body["unique"] = True
    if column.classification:
        body["classification"] = column.classification
    if column.subject:
        body["customProperties"] = [{"property": "subject", "value": True}]
    options = _options(column)
    if options:
        body["logicalTypeOptions"] = options
    if column.references:
        body["relationships"] = [{"type": "foreignKey", "to": ".".join(column.references)}]
    if checks:
        body["quality"] = [_rule(check) for check in checks]
    return body


def _options(column: Column) -> dict[str, Any]:
    options: dict[str, Any] = {_WORDS[op]: _limit(limit) for op, limit in column.limits}
    shortest, longest = column.lengths
    given = {
        "multipleOf": column.multiple_of,
        "pattern": column.pattern or None,
        "minLength": shortest,
        "maxLength": longest,
        "format": column.width or None,
        **({"timezone": False, "defaultTimezone": "UTC"} if column.naive_is_utc else {}),
    }
    return options | {word: value for word, value in given.items() if value is not None}


def _limit(limit: Limit) -> Any:
    if isinstance(limit, datetime):
        return limit.astimezone(UTC).isoformat().replace("+00:00", "Z") if limit.tzinfo else limit.isoformat()
    return limit.isoformat() if isinstance(limit, date) else limit


def _rule(check: Quality) -> dict[str, Any]:
    body: dict[str, Any] = {"name": check.name}
    if check.metric in _LIBRARY:
        body["metric"] = check.metric
        arguments: dict[str, Any] = {}
        if check.values is not None:
            arguments["validValues" if check.metric == "invalidValues" else "missingValues"] = list(check.values)
        if check.pattern:
            arguments["pattern"] = check.pattern
        if check.metric == "duplicateValues" and len(check.columns) != 1:
            arguments["properties"] = list(check.columns)
        if arguments:
            body["arguments"] = arguments
        body[_MUST[check.op]] = list(check.bound) if isinstance(check.bound, tuple) else check.bound
        if check.percent:
            body["unit"] = "percent"
    else:
        stated = check.text if check.metric == "expression" else measure.write(check.metric, check.columns, check.op, check.bound)
        body |= {"type": "custom", "engine": "falaj", "implementation": stated}
    if check.severity != "error":
        body["severity"] = check.severity
    return body


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _comments(notes: tuple[str, ...], indent: str) -> str:
    lines = [line for note in notes for line in textwrap.wrap(" ".join(note.split()), 110)]
    return "".join(f"{indent}# {line}\n" for line in lines)


def _lines(fields: Mapping[str, Any]) -> str:
    """One field a line; only what has a shape of its own is written in the short form."""
    return "".join(_yaml({name: value}, short=isinstance(value, (dict, list))) for name, value in fields.items())


def _yaml(value: Any, *, short: bool = True) -> str:
    style = None if short else False
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120, default_flow_style=style)
    if _BREAKS.isdisjoint(text):
        return text
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=False, width=120, default_flow_style=style)
