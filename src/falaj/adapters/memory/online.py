"""Online features in this process's memory: for tests, and for trying things out."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from falaj.ports.online import Stored


class MemoryOnline:
    """Gone with the process."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._views: dict[str, dict[str, Stored]] = {}
        self._lock = threading.Lock()

    def put(self, view: str, rows: Mapping[str, Stored]) -> int:
        whole = {
            entity: Stored(row.at_ms, tuple(None if value is None else float(value) for value in row.values))
            for entity, row in rows.items()
        }
        with self._lock:
            held = self._views.setdefault(view, {})
            kept = {entity: row for entity, row in whole.items() if entity not in held or held[entity].at_ms <= row.at_ms}
            held.update(kept)
            return len(kept)

    def get(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        with self._lock:
            return [self._views.get(view, {}).get(entity) for view, entity in keys]

    def freshness(self, view: str) -> int | None:
        with self._lock:
            return max((row.at_ms for row in self._views.get(view, {}).values()), default=None)

    def count(self, view: str) -> int:
        with self._lock:
            return len(self._views.get(view, {}))

    def clear(self, view: str) -> None:
        with self._lock:
            self._views.pop(view, None)

    def close(self) -> None:
        """Nothing to hand back."""
