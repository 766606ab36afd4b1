"""Blobs in memory, for tests and for trying things out."""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from pathlib import Path

from falaj.core.codec import digest as digest_of_bytes
from falaj.core.digests import hex_of
from falaj.core.errors import Conflict, NotFound


class MemoryBlobs:
    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}
        self._files: Path | None = None
        self._lock = threading.Lock()

    def put(self, data: bytes) -> str:
        digest = digest_of_bytes(data)
        self._held[digest] = bytes(data)
        return digest

    def get(self, digest: str) -> bytes:
        hex_of(digest)
        if digest not in self._held:
            raise NotFound(f"There is no blob {digest}.")
        data = self._held[digest]
        if digest_of_bytes(data) != digest:
            raise Conflict(f"The blob {digest} does not hold its bytes any more.")
        return data

    def path(self, digest: str) -> Path:
        data = self.get(digest)
        with self._lock:
            if self._files is None:
                self._files = Path(tempfile.mkdtemp(prefix="falaj-"))
                weakref.finalize(self, shutil.rmtree, self._files, ignore_errors=True)
            path = self._files / hex_of(digest)
            path.write_bytes(data)
        return path

    def has(self, digest: str) -> bool:
        hex_of(digest)
        return digest in self._held

    def delete(self, digest: str) -> bool:
        name = hex_of(digest)
        with self._lock:
            if self._files is not None:
                (self._files / name).unlink(missing_ok=True)
        return self._held.pop(digest, None) is not None
