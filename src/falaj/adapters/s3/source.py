"""Objects of an S3-compatible store as a source: one object, a prefix or a pattern of CSV, JSON lines or Parquet."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import obstore
import polars as pl
from obstore.store import S3Store

from falaj.adapters.s3.store import border, open_store, read_on
from falaj.adapters.tabular.address import STORE_OPTIONS, bucket
from falaj.adapters.tabular.layout import MOST_FILES, File, layout
from falaj.adapters.tabular.reading import read_files
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.moments import millis
from falaj.ports.source import Origin


class S3Source:
    """`path` is `s3://bucket/prefix`: an object, all objects directly below a prefix, or a pattern in which `*` stands for
    part of a name and `**` for any folders. Reads as FilesSource does; `arrived` is when the store took an object in.
    """

    def __init__(
        self, *, path: str, folder: Path | None = None, secret: Callable[[str], bytes | None] | None = None,
        timeout_s: float = 60.0, **options: Any,
    ) -> None:  # fmt: skip
        given = {name: options.pop(name) for name in STORE_OPTIONS if name in options}
        self._layout = layout(options)
        self._bucket = bucket(path, secret, given)
        self._store = open_store(self._bucket, timeout_s)
        self.capabilities = self._layout.capabilities
        if not self._bucket.prefix:
            raise InvalidInput("A source in a store needs more than its bucket.", "write s3://bucket/prefix.")

    @property
    def origin(self) -> Origin:
        return Origin(f"s3://{self._bucket.name}", self._bucket.prefix)

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        found = sorted(self._found(), key=lambda meta: str(meta["path"]))
        if not found:
            raise NotFound(f"There is nothing at {self._bucket.shown}.", "check the bucket and the prefix.")
        yield from read_files([self._file(meta) for meta in found], self._layout, since, until)

    def _found(self) -> list[Any]:
        key = self._bucket.prefix
        literal = re.split(r"[*?]", key, maxsplit=1)[0]
        if literal == key:
            is_chosen = re.compile(re.escape(key) + r"(?:/[^/]+)?").fullmatch
        else:
            is_chosen = re.compile(_pattern(key)).fullmatch
        found: list[Any] = []
        with border(self._bucket.shown):
            # The store lists whole folders: what is behind the last slash is chosen here.
            below = literal if literal == key else literal.rpartition("/")[0]
            for page in obstore.list(self._store, below or None):
                found += [meta for meta in page if is_chosen(meta["path"]) and self._layout.is_read(meta["path"])]
                if len(found) > MOST_FILES:
                    raise InvalidInput(f"{self._bucket.shown} holds more than {MOST_FILES:,} objects.", "name fewer.")
            if literal == key and not found:
                try:
                    found = [obstore.head(self._store, key)]
                except FileNotFoundError as exc:
                    if "NoSuchBucket" in str(exc):
                        raise
        return found

    def _file(self, meta: Any) -> File:
        key = str(meta["path"])
        name = f"s3://{self._bucket.name}/{key}"
        return File(
            name, millis(meta["last_modified"]), partial(self._open, meta), partial(self._seekable, meta), partial(border, name)
        )

    @contextmanager
    def _open(self, meta: Any) -> Iterator[Iterator[bytes]]:
        key = str(meta["path"])
        yield read_on(self._store, f"s3://{self._bucket.name}/{key}", key, (meta["e_tag"], int(meta["size"])))

    @contextmanager
    def _seekable(self, meta: Any) -> Iterator[Any]:
        key = str(meta["path"])
        with _ObjectFile(self._store, f"s3://{self._bucket.name}/{key}", key, (meta["e_tag"], int(meta["size"]))) as file:
            yield file


class _ObjectFile(io.RawIOBase):
    """One object as a file: only what is asked for is fetched."""

    def __init__(self, store: S3Store, where: str, key: str, meta: tuple[str | None, int]) -> None:
        self._store, self._where, self._key, self._meta = store, where, key, meta
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._meta[1]}[whence]
        if self._at < 0:
            raise ValueError("a place before the start of a file")
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._meta[1])
        held = 0
        for data in read_on(self._store, self._where, self._key, self._meta, between=(self._at, end)):
            buffer[held : held + len(data)] = data
            held += len(data)
        self._at += held
        return held


def _pattern(key: str) -> str:
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.sub(r"\*\*/|\*\*|\*|\?|[^*?]+", lambda found: signs.get(found[0]) or re.escape(found[0]), key)
