"""Lint: what is wrong with a contract file by the published schema and by what falaj enforces, and what a reader will miss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from falaj.core.errors import InvalidInput, MissingDependency
from falaj.stages.contracts import advice, complaints, odcs, semantic
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.document import plain
from falaj.stages.contracts.finding import Finding
from falaj.stages.contracts.unversioned import unversioned

MOST_FINDINGS = 100
MOST_VALUES = 8000
"""The published schema costs about a millisecond for each value, and two hundred columns with their rules have fewer."""

_ORDER = {"error": 0, "warning": 1, "advice": 2}


@dataclass(frozen=True, slots=True)
class Linted:
    """`verdict`: deny where there is an error, allow with warnings and advice or with nothing at all."""

    file: str
    verdict: Literal["allow", "deny"]
    errors: int
    warnings: int
    findings: tuple[Finding, ...]


def lint(
    data: bytes,
    file: str = "contract",
    *,
    times: tuple[str, ...] = (),
    others: Mapping[str, Contract] | None = None,
    before: Contract | None = None,
) -> Linted:
    """Everything that can be said about these bytes. Whatever is wrong with them is a finding, never an exception.

    `times`: the columns that a dataset names as `time` and `known`. `others`: the contracts of the datasets that may be
    referred to; None where nobody knows them. `before`: the contract under which the newest snapshot
    came in. Raises MissingDependency where the published schema is not installed.
    """
    try:
        document = plain(data, file)
    except InvalidInput as exc:
        return _linted(file, [Finding("", "error", exc.message, exc.hint)])
    if not isinstance(document, dict) or document.get("kind") != "DataContract":
        return _linted(
            file, [Finding("kind", "error", "this is no data contract: kind is not DataContract", "is it the right file?")]
        )
    found = list(_by_schema(document) if _size(document) <= MOST_VALUES else _too_large(_size(document)))
    found += complaints.unread(document)
    if isinstance(document.get("version"), str) and semantic.parts(document["version"]) is None:
        hint = "write three numbers, as in 1.0.0: falaj contract diff compares by them."
        found.append(Finding("version", "error", f"{document['version'][:40]!r} is no semantic version", hint))
    try:
        contract = odcs.read(data, file)
    except InvalidInput as exc:
        place = str(exc.facts.get("path", ""))
        if not any(finding.severity == "error" and finding.place == place for finding in found):
            found.append(Finding(place, "error", exc.message.removeprefix(f"{file}: "), exc.hint))
        return _linted(file, found)
    found += advice.advise(contract, document)
    found += advice.fit(contract, times, others)
    if changed := unversioned(before, contract):
        hint = f"give it a version above {contract.version}: falaj contract diff says which."
        found.append(Finding("version", "warning", f"{changed.name.removeprefix('info: ')}: {changed.seen}", hint))
    return _linted(file, found)


def _linted(file: str, found: list[Finding]) -> Linted:
    ordered = sorted(dict.fromkeys(found), key=lambda finding: _ORDER[finding.severity])
    errors = sum(finding.severity == "error" for finding in ordered)
    warnings = sum(finding.severity == "warning" for finding in ordered)
    return Linted(file, "deny" if errors else "allow", errors, warnings, tuple(ordered[:MOST_FINDINGS]))


def _by_schema(document: Any) -> Iterator[Finding]:
    for error in islice(_validator().iter_errors(document), MOST_FINDINGS):
        deepest = _deepest(error)
        place = complaints.place_of(deepest.absolute_path)
        yield Finding(place, "error", complaints.said(deepest), complaints.hint_of(deepest, document))


def _size(value: Any) -> int:
    """How many values a document holds. It is not deeper than the reader of documents allows."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_size, parts))


def _too_large(size: int) -> Iterator[Finding]:
    message = f"it holds {size:,} values; up to {MOST_VALUES:,} are compared with the published schema"
    yield Finding("", "warning", message, "keep lists of values in a dataset of their own, and refer to it with `relationships`.")


def _validator() -> Any:
    try:
        import importlib.resources
        import json

        import open_data_contract_standard
        from jsonschema import Draft201909Validator
    except ImportError as exc:
        raise MissingDependency.of("The published schema of contracts", str(exc.name), "contracts") from exc
    text = importlib.resources.files(open_data_contract_standard).joinpath("schema.json").read_text("utf-8")
    return Draft201909Validator(json.loads(text))


def _deepest(error: Any) -> Any:
    """Of a choice that nothing fits, the branch that got furthest says most about what was meant."""
    while error.context:
        error = max(error.context, key=lambda inner: (len(inner.absolute_path), inner.validator != "type"))
    return error
