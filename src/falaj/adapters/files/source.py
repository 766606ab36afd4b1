"""Files in the project's folder as a source: one file, a pattern or a folder of CSV, JSON lines or Parquet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from falaj.adapters.tabular.address import inside, refused
from falaj.adapters.tabular.layout import File, layout
from falaj.adapters.tabular.reading import read_files
from falaj.adapters.tabular.text import BLOCK
from falaj.core.errors import InvalidInput, NotFound, Unavailable
from falaj.ports.source import Origin


class FilesSource:
    """`path` is relative to `folder`: a file, a folder (all of its files, not those of folders within) or a pattern such as
    `2026/*.csv.gz`. Nothing outside of `folder` is read, also not through a link, unless `outside` says so.

    With `known` it hands out the rows whose time in that column is in the period; with `arrived` all rows of the files that
    arrived in the period, with that time in a column of this name; with neither everything. A file arrives when its content
    or its place is changed, whichever is later: one that was written aside arrives when it is renamed. A change of its
    rights, another link to it and `touch` let it arrive once more.
    """

    def __init__(
        self,
        *,
        folder: Path,
        path: str,
        secret: Callable[[str], bytes | None] | None = None,
        outside: bool = False,
        **options: Any,
    ) -> None:
        self._folder = Path(folder).resolve()
        self._outside = outside
        self._layout = layout(options)
        self._path = path
        self.capabilities = self._layout.capabilities
        inside(self._folder, path, outside=outside)

    @property
    def origin(self) -> Origin:
        return Origin("file", str(self._folder / self._path))

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        files = [self._file(path) for path in self._found()]
        yield from read_files(files, self._layout, since, until)

    def _found(self) -> list[Path]:
        """The files, in the order of their names."""
        named = self._folder / self._path
        with _border(self._path):
            if named.is_dir():
                found = [path for path in named.iterdir() if self._layout.is_read(path.name) and path.is_file()]
            elif any(sign in self._path for sign in "*?["):
                top = Path(named.anchor) if Path(self._path).is_absolute() else self._folder
                pattern = str(named.relative_to(top))
                found = [path for path in top.glob(pattern) if not path.name.startswith((".", "_")) and path.is_file()]
            else:
                found = [named] if named.is_file() else []
            if not found:
                if named.exists() and not named.is_dir():
                    raise InvalidInput(f"{self._path} is no file.", "name a file, a folder or a pattern.")
                raise NotFound(
                    f"There is no file {self._path} in {self._folder}.", "check the path: it starts at the project's folder."
                )
            for path in found:
                if not self._outside and not path.resolve().is_relative_to(self._folder):
                    raise refused(path.name)
        return sorted(found, key=lambda path: path.as_posix())

    def _file(self, path: Path) -> File:
        name = path.relative_to(self._folder).as_posix() if path.is_relative_to(self._folder) else path.as_posix()
        with _border(name):
            stat = path.stat()
        # Renaming keeps the time of modification, and changes that of the inode.
        arrived = max(stat.st_mtime_ns, stat.st_ctime_ns) // 1_000_000
        return File(name, arrived, partial(_chunks, path, name), partial(_whole, path, name), partial(_border, name))


@contextmanager
def _chunks(path: Path, name: str) -> Iterator[Iterator[bytes]]:
    with _whole(path, name) as file:
        yield iter(partial(file.read, BLOCK), b"")


@contextmanager
def _whole(path: Path, name: str) -> Iterator[BinaryIO]:
    """A file that nobody changes while it is read. Raises Unavailable where somebody does."""
    with path.open("rb") as file:
        before = _print(file.fileno())
        try:
            yield file
        except (InvalidInput, ValueError) as exc:
            if _print(file.fileno()) != before:
                raise _changed(name) from exc
            raise
        if _print(file.fileno()) != before:
            raise _changed(name)


def _print(file: int) -> tuple[int, int]:
    stat = os.fstat(file)
    return stat.st_size, stat.st_mtime_ns


def _changed(name: str) -> Unavailable:
    return Unavailable(
        f"{name} was changed while it was read.", "load again when it is whole; write files aside and rename them."
    )


@contextmanager
def _border(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as exc:
        raise NotFound(f"There is no file {name} any more.", "it was removed while it was read; load again.") from exc
    except (PermissionError, IsADirectoryError, NotADirectoryError) as exc:
        raise InvalidInput(f"{name} cannot be read: {exc.strerror}.", "check who owns the file.") from exc
    except (ValueError, NotImplementedError) as exc:
        raise InvalidInput(f"{name} is no path that can be read.", "name a file, a folder or a pattern.") from exc
    except OSError as exc:
        raise Unavailable(f"{name} cannot be read: {exc.strerror}.", "check the disk.") from exc
