"""Runs steps inside this process, at once: for tests, and for the smallest installation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from falaj.core.errors import NotFound
from falaj.ports.runner import Runner, RunState


class MemoryRunner:
    """`call(step, run_id)` does the work; whatever it raises is the run's failure."""

    def __init__(self, call: Callable[[str, str], None]) -> None:
        self.call = call
        self._ended: dict[str, tuple[RunState, str]] = {}

    def submit(self, run_id: str, step: str, params: Mapping[str, Any]) -> None:
        known = self._ended.get(run_id)
        if known is not None and known[0] == "running":
            return
        self._ended[run_id] = ("running", "")
        try:
            self.call(step, run_id)
        except Exception as exc:
            self._ended[run_id] = ("failed", f"{type(exc).__name__}: {exc}")
        else:
            self._ended[run_id] = ("succeeded", "")

    def look(self, run_id: str) -> tuple[RunState, str]:
        if run_id not in self._ended:
            raise NotFound(f"The run {run_id!r} was never submitted here.")
        return self._ended[run_id]

    def cancel(self, run_id: str) -> None:
        """Nothing to stop: a run here has ended before anybody could ask."""


_keeps_the_port: type[Runner] = MemoryRunner
