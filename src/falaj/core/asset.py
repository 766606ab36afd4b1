"""Asset: something immutable that a run made or took in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from falaj.core.ref import Ref


@dataclass(frozen=True, slots=True)
class Asset:
    """A dataset snapshot, a feature set, a model, a report. Its digest is its content; lineage is `inputs`."""

    ref: Ref
    digest: str
    """`sha256:` and 64 hexadecimal digits of the bytes at `location`."""
    location: str
    zone: str = "local"
    labels: Mapping[str, Any] = field(default_factory=dict)
    """Classification, purposes, row count, schema and the like: facts about the content, never content."""
    inputs: tuple[Ref, ...] = ()
    run: str | None = None
    created_at: datetime | None = None
