"""Requests by entity: each finds its stored features, and is written down with what it read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from falaj.core.errors import Bug, FalajError, Unavailable
from falaj.core.moments import iso, millis
from falaj.core.recipe import Value
from falaj.inference.calls import EntityCall
from falaj.inference.errors import at_place
from falaj.inference.lines import line
from falaj.inference.models import Live
from falaj.ports.online import Online, Stored


@dataclass(slots=True)
class Row:
    """One request."""

    live: Live
    at: datetime
    unit: str
    forced: bool
    request_id: str
    request: Mapping[str, Any]
    features: Sequence[float] = ()
    stored_at: dict[str, int | None] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    score: float = 0.0
    id: str = ""


def keys_of(rows: Sequence[Row]) -> list[dict[str, str]]:
    """View → entity key, of each row. Raises InvalidInput naming the request."""
    found = []
    for index, row in enumerate(rows):
        try:
            found.append(row.live.model.reader.keys_of(row.request))
        except FalajError as exc:
            raise at_place(exc, "requests", index) if len(rows) > 1 else exc from exc
    return found


def read(online: Online, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
    """One read for everything. Raises Unavailable."""
    if not keys:
        return []
    try:
        return online.get(keys)
    except Unavailable:
        raise
    except FalajError as exc:
        raise Unavailable(f"The features cannot be read: {exc.message}", exc.hint) from exc


def fill(rows: Sequence[Row], stored: Sequence[Mapping[str, Stored | None]]) -> None:
    """The features of each row. Raises InvalidInput naming the request, or Bug where a stored row does not fit."""
    for index, (row, held) in enumerate(zip(rows, stored, strict=True)):
        try:
            row.features = row.live.model.reader.vector(row.request, row.at, _fresh(row, held))
        except FalajError as exc:
            raise at_place(exc, "requests", index) if len(rows) > 1 else exc from exc
        except (IndexError, TypeError) as exc:
            raise Bug(f"A stored row does not fit the model's views: {exc}.", "materialise the features again.") from exc


def _fresh(row: Row, stored: Mapping[str, Stored | None]) -> dict[str, Sequence[Value | None] | None]:
    """The stored values that a request may use: neither older than their view allows nor from after the request."""
    recipe, at_ms = row.live.model.recipe, millis(row.at)
    values: dict[str, Sequence[Value | None] | None] = {}
    for view in recipe.views:
        found, ttl = stored.get(view), recipe.ttl_ms.get(view)
        if found is None or found.at_ms > at_ms or (ttl is not None and found.at_ms < at_ms - ttl):
            values[view] = row.stored_at[view] = None
            row.missing.append(view)
        else:
            values[view], row.stored_at[view] = found.values, found.at_ms
    return values


def row_line(call: EntityCall, row: Row, *, wrote: str, ms: float) -> bytes:
    """How a request by entity is logged."""
    arm, caller, mask = row.live.arm, call.caller, row.live.mask
    unit, request_id, request, features = row.unit, row.request_id, row.request, row.features
    sealed: Mapping[str, str] = {}
    if mask.is_on:
        sealed = mask.sealed((unit, request_id), request, mask.inner_features(features, len(features)))
        unit, request_id = mask.names(unit, request_id)
        request, features = mask.request(request), mask.features(features)  # type: ignore[assignment]
    record = {
        "kind": "prediction",
        "id": row.id,
        "at": iso(row.at),
        "wrote": wrote,
        "endpoint": call.name,
        "release": arm.release,
        "model": arm.model,
        "digest": arm.digest,
        "arm": arm.role,
        "share": arm.share,
        "unit": unit,
        "request_id": request_id,
        "via": call.via,
        "by": caller.actor.name,
        "request": request,
        "features": features,
        "stored_at": row.stored_at,
        "score": row.score,
        "ms": round(ms, 3),
        "forced": row.forced,
    }
    if mask.is_on:
        record |= {"masked": mask.marker, **sealed}
    if caller.trace:
        record["trace"] = caller.trace
    return line(record)


def answer_of(row: Row, threshold: float) -> dict[str, Any]:
    """What the caller is told."""
    return {
        "id": row.id,
        "score": row.score,
        "decision": row.score >= threshold,
        "arm": row.live.role,
        "model": row.live.arm.model,
        "release": row.live.arm.release,
        "at": iso(row.at),
        "missing_views": row.missing,
    }
