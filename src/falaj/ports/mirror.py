"""Mirror: copies runs and models to where people already look. It is never asked for the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Tracked:
    """What a training run shows: `curves` maps a metric to its values by step, `artifacts` a file name to its bytes."""

    run_id: str
    experiment: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class Mirror(Protocol):
    """Each method may raise Unavailable; falaj goes on without it and tries again."""

    def record_run(self, tracked: Tracked) -> str:
        """Copies a run and returns its id over there. The same run_id again updates it."""
        ...

    def record_model(self, name: str, version: str, *, run: str, source: str, tags: Mapping[str, str]) -> None:
        """Copies a registered version. Idempotent."""
        ...

    def record_alias(self, name: str, alias: str, version: str) -> None: ...
