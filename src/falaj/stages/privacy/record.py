"""The record of processing activities (PDPL Arts 7-8), made from what the ledger holds; nothing of it is typed by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from falaj.core.ref import Ref
from falaj.ports.ledger import Ledger
from falaj.stages.privacy.lives import Lives
from falaj.stages.privacy.shelves import data_classes, standing
from falaj.stages.privacy.terms import Term


def record_of(ledger: Ledger, terms: Iterable[Term]) -> list[dict[str, Any]]:
    """One entry a dataset: who answers for it, its classes and purposes, how long it is kept, what learned from it, who is
    answered with that. What the ledger does not say is empty, and so shows."""
    lives, listed = Lives(ledger), list(terms)
    newest: dict[str, Mapping[str, Any]] = {}
    counts: dict[str, list[int]] = {}
    models: dict[str, set[str]] = {}
    for body in standing(ledger, "asset", "dataset/"):
        ref = Ref.parse(body["ref"])
        if ref.name not in newest or int(ref.version or 0) > int(Ref.parse(newest[ref.name]["ref"]).version or 0):
            newest[ref.name] = body
        counts.setdefault(ref.name, []).append(int(body["labels"].get("rows", 0)))
        models.setdefault(ref.name, set()).update(map(str, lives.learned_from(ref)))
    served = _served(ledger)
    return [
        {
            "dataset": name, "owner": body["labels"].get("owner", ""), "contract": body["labels"].get("contract_version", ""),
            "zone": body.get("zone", ""), "classes": _list(body["labels"], "classes", "column_classes", "classification"),
            "purposes": _list(body["labels"], "purposes", "purpose"), "lawful_basis": _list(body["labels"], "lawful_basis"),
            "snapshots": len(counts[name]), "rows": sum(counts[name]),
            "kept": _kept(listed, {"training_snapshot", *data_classes(body["labels"])}),
            "models": sorted(models[name]), "endpoints": sorted({e for m in models[name] for e in served.get(m, ())}),
        }
        for name, body in sorted(newest.items())
    ]  # fmt: skip


def _served(ledger: Ledger) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, body in ledger.find("endpoint"):
        for arm in body["wanted"]["arms"]:
            found.setdefault(str(arm["model"]), []).append(f"endpoint/{name}")
    return found


def _kept(terms: Iterable[Term], classes: set[str]) -> list[str]:
    found = []
    for term in terms:
        if term.name in classes:
            ends = [f"{word} {end}" for word, end in (("at least", term.floor), ("at most", term.ceiling)) if end is not None]
            found.append(f"{term.name}: {', '.join(ends)} [{term.status}{f', {term.instrument}' if term.instrument else ''}]")
    return found


def _list(labels: Mapping[str, Any], *names: str) -> list[str]:
    found: set[str] = set()
    for name in names:
        value = labels.get(name, ())
        found |= {value} if isinstance(value, str) else {str(each) for each in value}
    return sorted(found - {""})
