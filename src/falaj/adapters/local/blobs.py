"""Blobs as files, each named by the digest of its bytes."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from falaj.adapters.local.signing import sync_folder
from falaj.core.codec import digest as digest_of_bytes
from falaj.core.digests import hex_of
from falaj.core.errors import Conflict, InvalidInput, NotFound, Unavailable

_Print = tuple[int, int, int, int]


class FileBlobs:
    """A folder of blobs, `ab/cdef…`, that only its owner reads."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        self._drafts = self._folder / "drafts"
        self._seen: dict[str, _Print] = {}
        with _border(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._drafts.mkdir(mode=0o700, exist_ok=True)

    def put(self, data: bytes) -> str:
        digest = digest_of_bytes(data)
        path = self._place(digest)
        with _border(path):
            if not self._is_good(digest, path):
                self._write(path, data)
            # Also where the file was there already: the process that wrote it may not have come this far yet.
            sync_folder(path.parent)
        return digest

    def get(self, digest: str) -> bytes:
        path = self._place(digest)
        with _border(path):
            data = path.read_bytes()
        if digest_of_bytes(data) != digest:
            raise _tampered(digest, path)
        return data

    def path(self, digest: str) -> Path:
        path = self._place(digest)
        with _border(path):
            if not self._is_good(digest, path, missing_ok=False):
                raise _tampered(digest, path)
        return path

    def has(self, digest: str) -> bool:
        return self._place(digest).is_file()

    def delete(self, digest: str) -> bool:
        path = self._place(digest)
        self._seen.pop(digest, None)
        with _border(path):
            was_there = path.is_file()
            path.unlink(missing_ok=True)
            # Also where there was none: whoever removed it may not have come this far.
            if path.parent.is_dir():
                sync_folder(path.parent)
        return was_there

    def _place(self, digest: str) -> Path:
        name = hex_of(digest)
        return self._folder / name[:2] / name[2:]

    def _is_good(self, digest: str, path: Path, *, missing_ok: bool = True) -> bool:
        """Whether the file holds the bytes of its digest; read again only where the file was touched since."""
        try:
            stat = path.stat()
        except FileNotFoundError:
            if missing_ok:
                return False
            raise
        # The time of the last change of status too: unlike the modification time, nobody can set it back.
        seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if self._seen.get(digest) == seen:
            return True
        with path.open("rb") as file:
            if "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return False
        self._seen[digest] = seen
        return True

    def _write(self, path: Path, data: bytes) -> None:
        draft = self._drafts / secrets.token_hex(16)
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if not path.parent.is_dir():
                path.parent.mkdir(mode=0o700, exist_ok=True)
                sync_folder(self._folder)
            draft.replace(path)
        finally:
            with suppress(FileNotFoundError):
                draft.unlink()


def _tampered(digest: str, path: Path) -> Conflict:
    return Conflict(f"The blob {digest} does not hold its bytes any more.", f"restore {path} from a backup.")


@contextmanager
def _border(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as exc:
        digest = f"sha256:{path.parent.name}{path.name}"
        raise NotFound(f"There is no blob {digest}.", "it was never kept here, or retention removed it.") from exc
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as exc:
        raise InvalidInput(f"{path} cannot be used: {exc.strerror}.", "check who owns the folder of the blobs.") from exc
    except OSError as exc:
        raise Unavailable(f"{path} could not be read or written: {exc.strerror}.", "check the disk's space and state.") from exc
