"""The streams that the settings' broker holds, opened when they are first asked for."""

from __future__ import annotations

from falaj.adapters import open_adapter
from falaj.adapters.local.reference import stream_options
from falaj.config import Settings
from falaj.ports.stream import Stream


class Brokers:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: dict[str, Stream] = {}

    def stream(self, name: str) -> Stream:
        """One object each. Raises InvalidInput for an address that is none, MissingDependency."""
        if name not in self._open:
            scheme, folder = str(self._settings.stream), self._settings.state_folder / "streams"
            options = stream_options(scheme, folder=folder, url=str(self._settings.stream_url), name=name)
            self._open[name] = open_adapter("stream", scheme, **options)
        return self._open[name]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()
