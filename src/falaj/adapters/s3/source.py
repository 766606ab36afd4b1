"""Objects of an S3-compatible store as a source: one object, a prefix or a pattern of CSV, JSON lines or Parquet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import obstore
import polars as pl

from falaj.adapters.s3.store import RETRIES, border, open_store, read_on
from falaj.adapters.tabular.address import STORE_OPTIONS, bucket
from falaj.adapters.tabular.layout import MOST_FILES, File, layout
from falaj.adapters.tabular.reading import read_files
from falaj.core.errors import FalajError, InvalidInput, NotFound, Unavailable
from falaj.core.moments import millis
from falaj.ports.source import Origin

_NETWORK = ("error sending request", "HTTP error", "retries", "Connection", "timed out", "status code", "error decoding response")


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
        self._polars = self._bucket.as_aws(timeout_s) | {"max_retries": RETRIES, "retry_timeout_ms": int(timeout_s * 1000)}
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
        scan = partial(pl.scan_parquet, name, storage_options=self._polars, credential_provider=None, glob=False)
        return File(name, millis(meta["last_modified"]), partial(self._open, meta), scan, partial(_border, name))

    @contextmanager
    def _open(self, meta: Any) -> Iterator[Iterator[bytes]]:
        key = str(meta["path"])
        yield read_on(self._store, f"s3://{self._bucket.name}/{key}", key, (meta["e_tag"], int(meta["size"])))


@contextmanager
def _border(name: str) -> Iterator[None]:
    """Polars reads Parquet from the store itself, and fails in its own words where the store does."""
    try:
        with border(name):
            yield
    except FalajError:
        raise
    except pl.exceptions.PolarsError as exc:
        if any(word in str(exc) for word in _NETWORK):
            raise Unavailable(f"The store does not answer for {name}.", "check its endpoint and region, and try again.") from exc
        raise


def _pattern(key: str) -> str:
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.sub(r"\*\*/|\*\*|\*|\?|[^*?]+", lambda found: signs.get(found[0]) or re.escape(found[0]), key)
