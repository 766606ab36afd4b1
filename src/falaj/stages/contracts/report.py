"""The report of a load: every check, and of each that failed which rows, with a sample. It holds values, so it is a blob."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from falaj.core.codec import canonical, encode
from falaj.core.decision import Check, Decision
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.ports.blobs import Blobs
from falaj.stages.contracts.rules import Finding

FORM = "falaj.report/1"
_LONGEST = 200
MOST = 50


def write(blobs: Blobs, about: Ref, until: datetime | None, checks: Sequence[Check], findings: Sequence[Finding]) -> str:
    """Keeps the report; returns its digest, or an empty text where every check passed and there is nothing to say."""
    if not findings and all(item.passed is not False for item in checks):
        return ""
    told = [
        {
            "rule": found.rule, "wanted": found.wanted, "count": found.count, "rows": list(found.rows),
            "sample": [{name: plain(value) for name, value in row.items()} for row in found.sample],
        }
        for found in findings
    ]  # fmt: skip
    body = {"form": FORM, "about": str(about), "until": until, "checks": list(checks), "findings": told}
    return blobs.put(canonical(encode(body)))


def without(findings: Sequence[Finding], hidden: Collection[str]) -> list[Finding]:
    """The findings without the values of columns that tell of people: those are only where they can be erased."""
    return [replace(found, sample=tuple(_without(row, hidden) for row in found.sample)) for found in findings]


def _without(row: Mapping[str, Any], hidden: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in hidden}


def of(decision: Decision) -> dict[str, Any]:
    """The report of a load in which no row broke a check: the checks that its decision had room for."""
    found = {"form": FORM, "about": str(decision.subject), "until": None, "checks": list(decision.checks), "findings": []}
    return dict(json.loads(canonical(encode(found))))


def read(blobs: Blobs, digest: str) -> dict[str, Any]:
    return dict(json.loads(blobs.get(digest)))


def plain(value: Any) -> Any:
    """A value as JSON can carry it; what it cannot becomes a text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= 2**53 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return iso(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value[:MOST]]
    return (value if isinstance(value, str) else str(value))[:_LONGEST].encode("utf-8", "replace").decode()
