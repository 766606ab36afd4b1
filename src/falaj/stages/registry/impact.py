"""What a model that matters has to show before it answers anybody: tests that are not stale, and an impact assessment.

Only a model with a tier is asked. Each span carries its instrument and how sure that is; a compliance pack may say another.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from falaj.core.decision import Check
from falaj.core.errors import Conflict
from falaj.core.moments import moment
from falaj.core.ref import Ref

Body = Mapping[str, Any]
Get = Callable[[str, str], Body | None]
"""A record by kind and key, of a ledger or of a change in the making."""
YEAR = timedelta(days=365)
PERSONAL = frozenset({"personal", "sensitive-personal", "health", "bank-confidential", "minor"})
"""Classes that speak of people."""
ASSESSED = frozenset({"tier1"})
"""Tiers whose models on personal data need a data protection impact assessment of the very version."""


@dataclass(frozen=True, slots=True)
class Window:
    """How long a test counts. `status`: enacted, guidance, assumed, pending or unverified."""

    span: timedelta
    status: str
    instrument: str
    blocks: bool
    """Whether a promotion waits for it; else it is told as overdue."""


WINDOWS: Mapping[str, Mapping[str, Window]] = {
    "tier1": {
        "bias": Window(YEAR, "guidance", "CBUAE AI/ML Guidance Note 3(c)", True),
        "validation": Window(YEAR, "assumed", "CBUAE MMS 4.9-4.10", False),
    },
    "tier2": {
        "bias": Window(YEAR, "guidance", "CBUAE AI/ML Guidance Note 3(c)", True),
        "validation": Window(2 * YEAR, "assumed", "CBUAE MMS 4.9-4.10", False),
    },
}
"""tier → kind of test. The frequencies of the Model Management Standards could not be read: theirs are assumed."""


def test_checks(model: Ref, tier: str, tests: Mapping[str, Body | None], now: datetime) -> Iterator[tuple[Window, Check]]:
    """Whether each test that the tier asks for was passed by this very version, and is not stale."""
    for kind, window in WINDOWS[tier].items():
        wanted = f"passed by {model} within {window.span.days} days ({window.instrument}, {window.status})"
        yield window, Check(kind, wanted, *_seen(tests.get(kind), window, now))


def _seen(test: Body | None, window: Window, now: datetime) -> tuple[str, bool]:
    if test is None:
        return "never tested", False
    age = now - moment(test["at"])
    if test["verdict"] != "allow":
        return f"it did not pass {age.days} days ago", False
    return f"passed {age.days} days ago, report {test['report']}", age <= window.span


def assessment(tier: str, weights: str, classes: Iterable[str], dpia: Body | None) -> Check | None:
    """Whether an assessment was signed for these weights; None where none is needed."""
    speaks_of = sorted(PERSONAL.intersection(classes))
    if tier not in ASSESSED or not speaks_of:
        return None
    wanted = f"signed for these weights, which were made of: {', '.join(speaks_of)}"
    if dpia is None:
        return Check("dpia", wanted, "none", False)
    seen = f"{dpia['digest']}, signed by {dpia['by']} for {'these' if dpia['weights'] == weights else 'other'} weights"
    return Check("dpia", wanted, seen, dpia["weights"] == weights)


def impact(get: Get, model: Ref, record: Body, now: datetime) -> tuple[Check, ...]:
    """Every check that stands between this version and people; none where the model has no tier. An unknown tier is a no."""
    tier = str((get("tier", str(model.bare)) or {}).get("tier") or "")
    if not tier:
        return ()
    if tier not in WINDOWS:
        return (Check("tier", f"one of {', '.join(WINDOWS)}", tier, False),)
    key = f"{model.name}@{model.version}"
    tests = {kind: get("test", f"{key}|{kind}") for kind in WINDOWS[tier]}
    found = [check for window, check in test_checks(model, tier, tests, now) if window.blocks]
    assessed = assessment(tier, str(record["asset"]["digest"]), classes_of(get, record), get("dpia", key))
    return (*found, *([assessed] if assessed is not None else ()))


def refuse_unready(get: Get, model: Ref, now: datetime) -> None:
    """Raises Conflict where a model with a tier lacks what it has to show. For whoever gives it callers, not for taking back:
    a way out must not wait for a report."""
    record = get("model", f"{model.name}@{model.version}")
    wrong = [check for check in impact(get, model, record, now) if not check.passed] if record is not None else []
    if wrong:
        seen = "; ".join(f"{check.name}: wanted {check.wanted}, seen {check.seen}" for check in wrong)
        raise Conflict(f"{model} may not answer anybody yet: {seen}.", "falaj model inventory --overdue")


def classes_of(get: Get, record: Body) -> frozenset[str]:
    """What is known of the data behind a version: of the fields that it reads, and of the snapshots that it was made of."""
    found: set[str] = set()
    for fields in _manifest(record).get("classification", {}).values():
        found.update(fields.values())
    left, seen = [str(ref) for ref in record["asset"].get("inputs") or ()], set[str]()
    while left:
        ref = left.pop()
        if ref in seen:
            continue
        seen.add(ref)
        asset = get("asset", ref) or {}
        labels = asset.get("labels") or {}
        own = {*_texts(labels.get("classification")), *_texts(labels.get("column_classes")), *_texts(labels.get("classes"))} - {
            ""
        }
        found |= own
        if not own:  # derived, by a contract that does not say what it holds: what it was derived of does
            left += [str(one) for one in asset.get("inputs") or ()]
    return frozenset(name.strip().lower() for name in found if name)


def _manifest(record: Body) -> Body:
    envelope = record.get("manifest") or {}
    try:
        payload = json.loads(b64decode(envelope.get("payload", "")))
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(item) for item in value or ()]
