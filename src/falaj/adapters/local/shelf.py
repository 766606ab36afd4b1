"""A shelf in a folder that only its owner reads."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from falaj.adapters.local.signing import border
from falaj.core.errors import Bug


class FolderShelf:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.place = str(folder)

    def get(self, path: str) -> bytes | None:
        file = self._file(path)
        with border(file):
            return file.read_bytes() if file.is_file() else None

    def put(self, path: str, data: bytes) -> None:
        file = self._file(path)
        with border(file):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = file.with_name(f".{file.name}.draft")
            draft.write_bytes(data)
            draft.chmod(0o600)
            draft.rename(file)

    def settle(self) -> None:
        # Thousands of tiles may have been written: one flush of everything costs less than one for each.
        os.sync()

    def _file(self, path: str) -> Path:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts:
            raise Bug(f"{path!r} leads out of the shelf.")
        return self._folder.joinpath(*parts)
