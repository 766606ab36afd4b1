"""The embedded streams keep the contract; the files also across processes, kill -9, torn writes and damage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.local.stream import FileStream
from falaj.adapters.memory.stream import Channel, MemoryStream
from falaj.ports.stream import Stream
from falaj.testing.stream import Opened, StreamSuite


class TestMemoryStream(StreamSuite):
    visible_s = 0.2

    @pytest.fixture
    def opened(self) -> Opened:
        self.channel = Channel()
        return lambda **options: MemoryStream(self.channel, **options)

    @contextmanager
    def away(self) -> Iterator[None]:
        self.channel.is_away = True
        yield
        self.channel.is_away = False


@pytest.mark.slow
class TestFileStream(StreamSuite):
    visible_s = 0.3

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Iterator[Opened]:
        self.folder = tmp_path
        streams: list[Stream] = []

        def open_one(**options: Any) -> Stream:
            streams.append(FileStream(tmp_path, "requests", segment_bytes=4_000, **options))
            return streams[-1]

        yield open_one
        for stream in streams:
            stream.close()

    @contextmanager
    def away(self) -> Iterator[None]:
        """A disk that is not there."""
        (self.folder / "requests").rename(self.folder / "gone")
        (self.folder / "requests").write_text("")
        yield
        (self.folder / "requests").unlink()
        (self.folder / "gone").rename(self.folder / "requests")
