"""Online features in an LMDB file: read in microseconds, by this process and by others, while one writes.

One value for each (view, entity), little-endian: int64 time in milliseconds, uint16 number of features, one bit a feature
that says whether it is missing, the features as doubles. A record of its own keeps each view's newest time and row count.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import lmdb

from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable
from falaj.ports.online import Stored

_HEAD = struct.Struct("<qH")
_ABOUT = struct.Struct("<qq")
_LONGEST_KEY = 511
"""LMDB's limit. Longer entities are kept under their hash."""
_REBUILD = "stop falaj, remove the folder and start `falaj up`, which fills it again: everything in it comes from the snapshots."


class LmdbOnline:
    """capabilities: `shared`. Safe for many reading processes and one writer at a time; open a folder once a process.

    Nothing here is the only copy: a lost or torn file is rebuilt from the snapshots. That alone is why writes do not wait
    for the disk; after a power failure the last ones may be gone, after a killed process none are.
    """

    capabilities: frozenset[str] = frozenset({"shared"})

    def __init__(self, folder: Path, readonly: bool = False, map_size: int = 1 << 30) -> None:
        """`map_size`: the most bytes that the store may ever hold; the file grows as it fills.

        Raises NotFound where there is no store to read, Denied where the folder may not be written, Conflict where its
        files are no such store or this process has it open already.
        """
        self.folder = folder
        self.readonly = readonly
        with _translated(folder):
            if readonly and not (folder / "data.mdb").is_file():
                raise NotFound(f"There is no online store in {folder}.", "start `falaj up`, which fills it.")
            if not readonly:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._env = lmdb.open(
                str(folder), map_size=map_size, readonly=readonly, create=not readonly, sync=False, metasync=False, mode=0o600
            )
            if not readonly:
                self._env.reader_check()  # places of readers that were killed

    def put(self, view: str, rows: Mapping[str, Stored]) -> int:
        if self.readonly:
            raise Denied(f"The online store in {self.folder} was opened for reading only.", "the control plane writes it.")
        prefix = _prefix(view)
        kept = 0
        with _translated(self.folder), self._env.begin(write=True) as txn:
            newest, count = _about(txn, view)
            for entity, row in rows.items():
                key = _key(prefix, entity)
                held = txn.get(key)
                if held is not None and _HEAD.unpack_from(held)[0] > row.at_ms:
                    continue
                txn.put(key, pack(row))
                kept += 1
                count += held is None
                newest = row.at_ms if newest is None else max(newest, row.at_ms)
            if kept and newest is not None:
                txn.put(_about_key(view), _ABOUT.pack(newest, count))
        return kept

    def get(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        with _translated(self.folder):
            wanted = [_key(_prefix(view), entity) for view, entity in keys]
            with self._reading() as txn:
                found = [txn.get(key) for key in wanted]
            return [None if data is None else unpack(data) for data in found]

    def freshness(self, view: str) -> int | None:
        with _translated(self.folder), self._reading() as txn:
            return _about(txn, view)[0]

    def count(self, view: str) -> int:
        with _translated(self.folder), self._reading() as txn:
            return _about(txn, view)[1]

    def clear(self, view: str) -> None:
        if self.readonly:
            raise Denied(f"The online store in {self.folder} was opened for reading only.", "the control plane writes it.")
        prefix = _prefix(view)
        with _translated(self.folder), self._env.begin(write=True) as txn, txn.cursor() as cursor:
            there = cursor.set_range(prefix)
            while there and cursor.key().startswith(prefix):
                there = cursor.delete()
            txn.delete(_about_key(view))

    def close(self) -> None:
        self._env.close()

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        try:
            txn = self._env.begin()
        except lmdb.MapResizedError:
            # The writer was opened with a larger map meanwhile; 0 takes over its size.
            self._env.set_mapsize(0)
            txn = self._env.begin()
        with txn:
            yield txn


def pack(row: Stored) -> bytes:
    values = row.values
    missing = 0
    if None in values:
        missing = sum(1 << place for place, value in enumerate(values) if value is None)
        values = tuple(0.0 if value is None else value for value in values)
    bits = missing.to_bytes(_bytes_of(len(values)), "little")
    try:
        return _layout(len(values)).pack(row.at_ms, len(values), bits, *values)
    except struct.error as exc:
        raise InvalidInput(f"A row of features cannot be kept: {exc}.", "features are numbers, at most 65,535 of them.") from exc


def unpack(data: bytes) -> Stored:
    size = data[8] | data[9] << 8
    found = _layout(size).unpack(data)
    values = found[3:]
    if any(found[2]):
        missing = int.from_bytes(found[2], "little")
        values = tuple(None if missing >> place & 1 else value for place, value in enumerate(values))
    return Stored(found[0], values)


@lru_cache(maxsize=256)
def _layout(size: int) -> struct.Struct:
    return struct.Struct(f"<qH{_bytes_of(size)}s{size}d")


def _bytes_of(size: int) -> int:
    return (size + 7) // 8


@lru_cache(maxsize=256)
def _prefix(view: str) -> bytes:
    if not view or "\0" in view or len(view.encode()) > 100:
        raise InvalidInput(f"The view name {view!r} cannot be kept online.", "use at most 100 letters, digits and '_'.")
    return view.encode() + b"\0"


def _key(prefix: bytes, entity: str) -> bytes:
    key = prefix + entity.encode("utf-8", "surrogatepass")
    if len(key) <= _LONGEST_KEY:
        return key
    return prefix + b"\xff" + hashlib.sha256(key).digest()  # no text in UTF-8 begins with 0xff


def _about_key(view: str) -> bytes:
    return b"\xff" + _prefix(view)


def _about(txn: Any, view: str) -> tuple[int | None, int]:
    data = txn.get(_about_key(view))
    return _ABOUT.unpack(data) if data is not None else (None, 0)


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    """LMDB's errors and the file system's, as falaj's own."""
    try:
        yield
    except lmdb.MapFullError as exc:
        raise Unavailable(f"The online store in {folder} is full.", "open it with a larger map_size, or clear a view.") from exc
    except (lmdb.ReadonlyError, PermissionError) as exc:
        raise Denied(f"The online store in {folder} may not be written: {exc}.", f"check the rights on {folder}.") from exc
    except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError, lmdb.PanicError, lmdb.PageNotFoundError) as exc:
        raise Conflict(f"The files in {folder} are no online store that can be read: {exc}.", _REBUILD) from exc
    except lmdb.ReadersFullError as exc:
        raise Unavailable(f"Too many processes read the online store in {folder}.", "stop some of them.") from exc
    except (lmdb.Error, OSError, struct.error, IndexError) as exc:
        raise _other(folder, exc) from exc


def _other(folder: Path, exc: Exception) -> Conflict | Denied | Unavailable:
    text = str(exc)
    if "already open" in text:
        return Conflict(f"The online store in {folder} is already open in this process.", "share the one that is open.")
    if "Permission denied" in text or "Read-only file system" in text:
        return Denied(f"The online store in {folder} may not be written: {text}.", f"check the rights on {folder}.")
    if isinstance(exc, (struct.error, IndexError)) or "Not a directory" in text:
        return Conflict(f"The files in {folder} are no online store that can be read: {text}.", _REBUILD)
    return Unavailable(f"The online store in {folder} does not answer: {text}.", "check the disk.")
