"""Blobs in an S3-compatible store, each named by the digest of its bytes, with a folder of checked copies beside it."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError

from falaj.adapters.s3.store import border, open_store, read_on
from falaj.adapters.tabular.address import bucket
from falaj.core.codec import digest as digest_of_bytes
from falaj.core.digests import hex_of
from falaj.core.errors import Conflict, InvalidInput, NotFound, Unavailable

_Print = tuple[str | None, int, str]


class S3Blobs:
    """Objects `ab/cdef…` below `uri`, `s3://bucket/prefix`. `cache` is a folder of this process's user alone; it may be
    emptied whenever no falaj runs. A blob is written only where there is none, so that two who write do not meet.
    """

    def __init__(
        self,
        *,
        uri: str,
        cache: Path,
        secret: Callable[[str], bytes | None] | None = None,
        timeout_s: float = 120.0,
        **options: Any,
    ) -> None:
        self._bucket = bucket(uri, secret, options)
        self._store = open_store(self._bucket, timeout_s)
        self._cache = Path(cache)
        self._seen: dict[str, _Print] = {}
        """What the store said of an object when its bytes were last checked; anything else and they are read again."""
        try:
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise InvalidInput(f"{self._cache} cannot be used: {exc.strerror}.", "check who owns the folder.") from exc

    def put(self, data: bytes) -> str:
        digest = digest_of_bytes(data)
        with border(self._shown(digest)):
            try:
                obstore.put(self._store, self._key(digest), data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                if not self._is_good(digest):
                    obstore.put(self._store, self._key(digest), data, use_multipart=False)
                    self._seen.pop(digest, None)
        return digest

    def get(self, digest: str) -> bytes:
        key = self._key(digest)
        with border(self._shown(digest)):
            meta = obstore.head(self._store, key)
        data = b"".join(read_on(self._store, self._shown(digest), key, (meta["e_tag"], int(meta["size"]))))
        if digest_of_bytes(data) != digest:
            raise self._tampered(digest)
        self._seen[digest] = _print(meta)
        return data

    def path(self, digest: str) -> Path:
        path = self._cache / hex_of(digest)[:2] / hex_of(digest)[2:]
        with border(self._shown(digest)):
            now = _print(obstore.head(self._store, self._key(digest)))
        if self._seen.get(digest, now) == now and _holds(path, digest):
            # A copy from another process counts too: whatever it is, its bytes are those of the digest.
            self._seen[digest] = now
            return path
        data = self.get(digest)
        draft = path.parent / f"{path.name}.{secrets.token_hex(8)}"
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            draft.replace(path)
        except OSError as exc:
            with suppress(OSError):
                draft.unlink()
            raise Unavailable(f"{path} could not be written: {exc.strerror}.", "check the disk's space and state.") from exc
        return path

    def has(self, digest: str) -> bool:
        key = self._key(digest)
        try:
            with border(self._shown(digest)):
                obstore.head(self._store, key)
        except NotFound:
            return False
        return True

    def delete(self, digest: str) -> bool:
        """In a bucket that keeps versions, older ones stay until its own lifecycle rule removes them."""
        name, was_there = hex_of(digest), self.has(digest)
        with border(self._shown(digest)):
            if was_there:
                obstore.delete(self._store, self._key(digest))
        self._seen.pop(digest, None)
        copy = self._cache / name[:2] / name[2:]
        try:
            copy.unlink(missing_ok=True)
        except OSError as exc:
            raise Unavailable(f"{copy} could not be removed: {exc.strerror}.", "check who owns the folder.") from exc
        return was_there

    def _is_good(self, digest: str) -> bool:
        """Whether the object that is there holds the bytes of its digest; read again only where it was replaced since."""
        if self._seen.get(digest) == _print(obstore.head(self._store, self._key(digest))):
            return True
        try:
            self.get(digest)
        except Conflict:
            return False
        return True

    def _key(self, digest: str) -> str:
        name = hex_of(digest)
        return "/".join(part for part in (self._bucket.prefix, name[:2], name[2:]) if part)

    def _shown(self, digest: str) -> str:
        return f"blob {digest}"

    def _tampered(self, digest: str) -> Conflict:
        where = f"s3://{self._bucket.name}/{self._key(digest)}"
        return Conflict(f"The blob {digest} does not hold its bytes any more.", f"restore {where} from a backup.")


def _print(meta: Any) -> _Print:
    return (meta["e_tag"], int(meta["size"]), str(meta["last_modified"]))


def _holds(path: Path, digest: str) -> bool:
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == digest
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise Unavailable(f"{path} cannot be read: {exc.strerror}.", "check the disk.") from exc
