"""The streams that the settings' broker holds, opened when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from falaj.adapters.local.reference import stream_options
from falaj.config import Settings
from falaj.ports.stream import Stream


class Brokers:
    def __init__(self, settings: Settings, opened: Callable[..., Any]) -> None:
        """`opened`: opens an adapter by its port, scheme and options, where residency lets it."""
        self._settings, self._opened = settings, opened
        self._open: dict[str, Stream] = {}

    def stream(self, name: str) -> Stream:
        """One object each. Raises InvalidInput for an address that is none, MissingDependency, Denied."""
        if name not in self._open:
            scheme, folder = str(self._settings.stream), self._settings.state_folder / "streams"
            options = stream_options(scheme, folder=folder, url=str(self._settings.stream_url), name=name)
            self._open[name] = self._opened("stream", scheme, **options)
        return self._open[name]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()
