"""Runner: executes a step somewhere and says how it went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

RunState = Literal["running", "succeeded", "failed"]


class Runner(Protocol):
    def submit(self, run_id: str, step: str, params: Mapping[str, Any]) -> None:
        """Starts the step and returns at once. The same run_id again while it runs changes nothing."""
        ...

    def look(self, run_id: str) -> tuple[RunState, str]:
        """The state and, where it failed, why (the last lines it printed). Raises NotFound for a run never submitted here."""
        ...

    def cancel(self, run_id: str) -> None: ...
