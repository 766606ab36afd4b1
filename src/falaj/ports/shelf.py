"""The port of shelves: a place of files that a bundle is laid out on for others to read."""

from __future__ import annotations

from typing import Protocol


class Shelf(Protocol):
    """Paths are relative, with `/`. Every method may raise Unavailable where the place cannot be used."""

    place: str
    """Where it is, for people."""

    def get(self, path: str) -> bytes | None:
        """None where there is no such file."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """The whole file or nothing of it; on the disk only after `settle`."""
        ...

    def settle(self) -> None:
        """Returns when everything that was put is on the disk."""
        ...
