"""A host inside this process: keeps what is wanted and answers nothing; for tests and for trying things out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from falaj.core.errors import NotFound
from falaj.ports.host import Seen, Wanted


class MemoryHost:
    capabilities: frozenset[str] = frozenset({"split"})

    def __init__(self) -> None:
        self.wanted: dict[str, Wanted] = {}
        self.keys: dict[str, Mapping[str, Mapping[str, Any]]] = {}
        self.excluded: dict[str, frozenset[str]] = {}
        self._stopped: set[str] = set()

    def serve(self, wanted: Wanted, keys: Mapping[str, Mapping[str, Any]]) -> None:
        held = self.wanted.get(wanted.endpoint)
        if held is None or wanted.revision >= held.revision:
            self.wanted[wanted.endpoint] = wanted
        self.keys[wanted.endpoint] = dict(keys)
        self._stopped.discard(wanted.endpoint)

    def allow(self, keys: Mapping[str, Mapping[str, Any]]) -> None:
        for endpoint in self.wanted:
            self.keys[endpoint] = dict(keys)

    def exclude(self, endpoint: str, tokens: Collection[str]) -> None:
        self.excluded[endpoint] = frozenset(tokens)

    def look(self, endpoint: str) -> Seen:
        held = self.wanted.get(endpoint)
        if held is None:
            raise NotFound.named("endpoint", endpoint, self.wanted)
        is_up = endpoint not in self._stopped
        return Seen(endpoint, f"memory://{endpoint}", is_up, held.revision, 1 if is_up else 0)

    def stop(self, endpoint: str) -> None:
        self.look(endpoint)
        self._stopped.add(endpoint)

    def supervise(self) -> list[str]:
        """Nothing here can die."""
        return []

    def close(self) -> None:
        pass
