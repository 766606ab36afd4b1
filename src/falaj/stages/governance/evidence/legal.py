"""What law left in the ledger about a version: holds, erasures, removals, transfers, and what became of the model after them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from falaj.core.ref import Ref
from falaj.stages.governance.asof import State

Body = Mapping[str, Any]
LEGAL = ("hold", "erasure", "expired", "transfer", "affected", "standing")
"""Kinds of records that this reads. An archive holds every event that wrote or removed one of them."""


def is_about(kind: str, key: str, body: Body, about: tuple[Ref, Iterable[str]]) -> bool:
    """Whether such a record is about the version or the data behind it. `about`: the version, and its snapshots."""
    model, snapshots = about
    own = f"{model.name}@{model.version}"
    names = {snapshot.partition("@")[0] for snapshot in snapshots}
    if kind == "hold":
        return body["scope"] == "all" or str(body["scope"]).partition("@")[0] in {*names, str(model.bare)}
    if kind == "erasure":
        return str(model) in body["models"] or not names.isdisjoint(body["refs"])
    if kind == "expired":
        return key in {*snapshots, str(model)}
    if kind == "transfer":
        return any(str(Ref.parse(name if "/" in name else f"dataset/{name}").bare) in names for name in body["datasets"])
    return kind in LEGAL and key == own


def legal_of(state: State, about: tuple[Ref, Iterable[str]]) -> dict[str, list[str]]:
    """Kind → the keys of those records, as the last event left them."""
    model, snapshots = about
    place = model, tuple(snapshots)
    return {kind: [key for key, body in state.find(kind) if is_about(kind, key, body, place)] for kind in LEGAL}
