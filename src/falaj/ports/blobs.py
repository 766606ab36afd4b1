"""Blobs: bytes that are found by their digest and never change."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Blobs(Protocol):
    def put(self, data: bytes) -> str:
        """Keeps the bytes and returns their digest, `sha256:…`. The same bytes again change nothing. Durable on return."""
        ...

    def get(self, digest: str) -> bytes:
        """The bytes, checked against the digest. Raises NotFound, or Conflict where they were tampered with."""
        ...

    def path(self, digest: str) -> Path:
        """A local file with the bytes, checked against the digest; for readers that need a file. Raises as `get`."""
        ...

    def has(self, digest: str) -> bool: ...

    def delete(self, digest: str) -> bool:
        """Removes the bytes for good, and every copy that this object keeps; durable on return. Whether there were any.

        Idempotent. Retention alone calls it, once no record names the digest any more.
        """
        ...
