"""Online features in an LMDB file: read in microseconds, by this process and by others, while one writes.

One value for each (view, entity), packed as `core.stored` says. A record of its own keeps each view's newest time and row
count, another one its mark.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable
from falaj.core.stored import packed, unpack, view_key
from falaj.ports.online import LONGEST_MARK, Row, Stored

_ABOUT = struct.Struct("<qq")
_AT = struct.Struct("<q").unpack_from
"""The time of a packed row."""
_LONGEST_KEY = 511
"""LMDB's limit. Longer entities are kept under their hash."""
_REBUILD = "stop falaj, remove the folder and start `falaj up`, which fills it again: everything in it comes from the snapshots."


class LmdbOnline:
    """capabilities: `shared`. Safe for many reading processes and one writer at a time; open a folder once a process.

    Nothing here is the only copy: a lost or torn file is rebuilt from the snapshots. That alone is why writes do not wait
    for the disk; after a power failure the last ones may be gone, after a killed process none are.
    """

    capabilities: frozenset[str] = frozenset({"shared"})

    def __init__(self, folder: Path, readonly: bool = False, map_size: int = 1 << 34) -> None:
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

    def put(self, view: str, rows: Mapping[str, Row], mark: str | None = None) -> int:
        self._may_write()
        prefix = _prefixes[view]
        if mark is not None and len(mark) > LONGEST_MARK:
            raise InvalidInput(f"A mark of {len(mark):,} characters is too long.", f"{LONGEST_MARK:,} are the most.")
        # In the order of the keys, which is the order of the pages: so each page is visited once.
        wanted = sorted([(_key(prefix, entity), packed(row)) for entity, row in rows.items()])
        with _translated(self.folder), self._env.begin(write=True) as txn, txn.cursor() as cursor:
            newest, count = _about(txn, view)
            held = dict(cursor.getmulti([key for key, _ in wanted])) if count else {}
            kept = [(key, row) for key, row in wanted if key not in held or _AT(held[key])[0] <= _AT(row)[0]] if held else wanted
            if kept:
                cursor.putmulti(kept)
                latest = max([_AT(row)[0] for _, row in kept])
                newest = latest if newest is None else max(newest, latest)
                count += len(kept) - sum(key in held for key, _ in kept) if held else len(kept)
                txn.put(_about_key(view), _ABOUT.pack(newest, count))
            if mark is not None:
                txn.put(_mark_key(view), mark.encode())
        return len(kept)

    def get(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        prefixes = _prefixes
        try:
            wanted = [prefixes[view] + entity.encode() for view, entity in keys]
        except UnicodeEncodeError:
            wanted = [_key(prefixes[view], entity) for view, entity in keys]
        if wanted and len(max(wanted, key=len)) > _LONGEST_KEY:
            wanted = [_key(prefixes[view], entity) for view, entity in keys]
        with _translated(self.folder):
            with self._reading() as txn:
                get = txn.get
                found = [get(key) for key in wanted]
            return [None if data is None else unpack(data) for data in found]

    def freshness(self, view: str) -> int | None:
        with _translated(self.folder), self._reading() as txn:
            return _about(txn, view)[0]

    def mark(self, view: str) -> str | None:
        with _translated(self.folder), self._reading() as txn:
            data = txn.get(_mark_key(view))
            return None if data is None else bytes(data).decode()

    def count(self, view: str) -> int:
        with _translated(self.folder), self._reading() as txn:
            return _about(txn, view)[1]

    def clear(self, view: str) -> None:
        self._may_write()
        prefix = _prefixes[view]
        with _translated(self.folder), self._env.begin(write=True) as txn, txn.cursor() as cursor:
            there = cursor.set_range(prefix)
            while there and cursor.key().startswith(prefix):
                there = cursor.delete()
            txn.delete(_about_key(view))
            txn.delete(_mark_key(view))

    def close(self) -> None:
        self._env.close()

    def _may_write(self) -> None:
        if self.readonly:
            raise Denied(f"The online store in {self.folder} was opened for reading only.", "the control plane writes it.")

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


class _Prefixes(dict[str, bytes]):
    """What the keys of each view begin with."""

    def __missing__(self, view: str) -> bytes:
        found = view_key(view) + b"\0"
        if len(self) < 1024:  # names may come from outside
            self[view] = found
        return found


_prefixes = _Prefixes()


def _key(prefix: bytes, entity: str) -> bytes:
    key = prefix + entity.encode("utf-8", "surrogatepass")
    return key if len(key) <= _LONGEST_KEY else prefix + b"\xff" + hashlib.sha256(key).digest()


def _about_key(view: str) -> bytes:
    return b"\xff" + _prefixes[view]


def _mark_key(view: str) -> bytes:
    return b"\xfe" + _prefixes[view]


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
    except (lmdb.Error, OSError, struct.error, UnicodeDecodeError) as exc:
        raise _other(folder, exc) from exc


def _other(folder: Path, exc: Exception) -> Conflict | Denied | Unavailable:
    text = str(exc)
    if "already open" in text:
        return Conflict(f"The online store in {folder} is already open in this process.", "share the one that is open.")
    if "Permission denied" in text or "Read-only file system" in text:
        return Denied(f"The online store in {folder} may not be written: {text}.", f"check the rights on {folder}.")
    if isinstance(exc, (struct.error, UnicodeDecodeError)) or "Not a directory" in text:
        return Conflict(f"The files in {folder} are no online store that can be read: {text}.", _REBUILD)
    return Unavailable(f"The online store in {folder} does not answer: {text}.", "check the disk.")
