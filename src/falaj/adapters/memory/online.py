"""Online features in this process's memory: for tests, and for trying things out."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from falaj.core.stored import packed, time_of, unpack
from falaj.ports.online import Row, Stored


class MemoryOnline:
    """Gone with the process."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._views: dict[str, dict[str, bytes]] = {}
        self._marks: dict[str, str] = {}
        self._lock = threading.Lock()

    def put(self, view: str, rows: Mapping[str, Row], mark: str | None = None) -> int:
        whole = {entity: packed(row) for entity, row in rows.items()}
        with self._lock:
            held = self._views.setdefault(view, {})
            kept = {entity: row for entity, row in whole.items() if entity not in held or time_of(held[entity]) <= time_of(row)}
            held.update(kept)
            if mark is not None:
                self._marks[view] = mark
            return len(kept)

    def get(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        with self._lock:
            found = [self._views.get(view, {}).get(entity) for view, entity in keys]
        return [None if row is None else unpack(row) for row in found]

    def freshness(self, view: str) -> int | None:
        with self._lock:
            return max(map(time_of, self._views.get(view, {}).values()), default=None)

    def mark(self, view: str) -> str | None:
        with self._lock:
            return self._marks.get(view)

    def count(self, view: str) -> int:
        with self._lock:
            return len(self._views.get(view, {}))

    def clear(self, view: str) -> None:
        with self._lock:
            self._views.pop(view, None)
            self._marks.pop(view, None)

    def close(self) -> None:
        """Nothing to hand back."""
