"""What a model that matters has to show before it answers anybody: tests that are not stale, and an impact assessment.

Only a model with a tier is asked. Each span carries its instrument and how sure that is, as the packs in force say (`demands`).
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from falaj.core.decision import Check
from falaj.core.errors import Conflict
from falaj.core.moments import moment
from falaj.core.ref import Ref
from falaj.stages.registry.demands import BUILT_IN, Demands, Window

Body = Mapping[str, Any]
Get = Callable[[str, str], Body | None]
"""A record by kind and key, of a ledger or of a change in the making."""
PERSONAL = frozenset({"personal", "sensitive-personal", "health", "bank-confidential", "minor"})
"""Classes that speak of people."""
ASSESSED = frozenset({"tier1"})
"""Tiers whose models on personal data need a data protection impact assessment of the very version."""


def test_checks(
    model: Ref, windows: Mapping[str, Window], tests: Mapping[str, Body | None], now: datetime
) -> Iterator[tuple[Window, Check]]:
    """Whether each test that these windows ask for was passed by this very version, and is not stale."""
    for kind, window in windows.items():
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


def impact(get: Get, model: Ref, record: Body, now: datetime, *, demands: Demands = BUILT_IN) -> tuple[Check, ...]:
    """Every check that stands between this version and people; none where the model has no tier. An unknown tier is a no."""
    tier = str((get("tier", str(model.bare)) or {}).get("tier") or "")
    if not tier:
        return ()
    windows = demands.windows.get(tier)
    if windows is None:
        return (Check("tier", f"one of {', '.join(demands.windows)}", tier, False),)
    key = f"{model.name}@{model.version}"
    tests = {kind: get("test", f"{key}|{kind}") for kind in windows}
    found = [check for window, check in test_checks(model, windows, tests, now) if window.blocks]
    assessed = assessment(tier, str(record["asset"]["digest"]), classes_of(get, record), get("dpia", key))
    return (*found, *([assessed] if assessed is not None else ()))


def refuse_unready(get: Get, model: Ref, now: datetime, *, demands: Demands = BUILT_IN) -> None:
    """Raises Conflict where a model with a tier lacks what it has to show. For whoever gives it callers, not for taking back:
    a way out must not wait for a report."""
    record = get("model", f"{model.name}@{model.version}")
    checks = impact(get, model, record, now, demands=demands) if record is not None else ()
    wrong = [check for check in checks if not check.passed]
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
        own = stated(asset.get("labels") or {})
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


def stated(labels: Body) -> set[str]:
    """The classes that an asset's own labels name, as they are written there."""
    return {text for name in ("classification", "column_classes", "classes") for text in _texts(labels.get(name)) if text}


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(item) for item in value or ()]
