"""A mirror that nobody looks into: it keeps what it was told while the process lives."""

from __future__ import annotations

from collections.abc import Mapping

from falaj.ports.mirror import Mirror, Tracked


class MemoryMirror:
    def __init__(self) -> None:
        self.runs: dict[str, Tracked] = {}
        self.models: dict[tuple[str, str], Mapping[str, str]] = {}
        self.aliases: dict[tuple[str, str], str] = {}

    def record_run(self, tracked: Tracked) -> str:
        self.runs[tracked.run_id] = tracked
        return tracked.run_id

    def record_model(self, name: str, version: str, *, run: str, source: str, tags: Mapping[str, str]) -> None:
        self.models[name, version] = {**tags, "run": run, "source": source}

    def record_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[name, alias] = version


_keeps_the_port: type[Mirror] = MemoryMirror
