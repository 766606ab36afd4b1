"""The output of a scoring: a folder of Parquet files, each written whole, that a scoring which was cut short goes on with."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from falaj.core.codec import canonical
from falaj.core.errors import Conflict, Unavailable

PROGRESS, RECEIPT = "_progress.json", "_scores.json"
"""What is done of a scoring that is under way, and what a finished one came to. Readers of folders pass over both."""


class Parts:
    """`plan`: the digest of all that the output depends on; a folder belongs to one."""

    def __init__(self, folder: Path, plan: str) -> None:
        """Raises Conflict where the folder holds anything but this scoring or somebody is writing it, Unavailable where it
        cannot be used. Close it."""
        self.folder, self.plan = folder, plan
        self._lock = -1
        self.done: list[Mapping[str, Any]] = []
        """Of each part: `name`, `rows`, `problems`, `sha256`."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder)
            held = self._read(RECEIPT) or self._read(PROGRESS)
            others = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
            if (held is None and others) or (held is not None and held.get("plan") != plan):
                raise Conflict(f"{folder} holds something else: {', '.join(sorted(others)[:3])}.", "name an empty folder.")
            for part in held["parts"] if held is not None else ():
                path = folder / str(part["name"])
                if not path.is_file() or _digest(path) != part["sha256"]:
                    break  # whatever was lost or changed is written again, and all behind it
                self.done.append(part)
        except OSError as exc:
            self.close()
            raise self._refusal(exc) from exc
        except Conflict:
            self.close()
            raise

    def close(self) -> None:
        """Lets others write into the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def is_whole(self) -> bool:
        """Whether the scoring was finished and every part is what was written."""
        held = self._read(RECEIPT)
        return held is not None and len(held["parts"]) == len(self.done)

    def add(self, frame: pl.DataFrame, problems: int) -> None:
        """The next part, on the disk when it returns."""
        name = f"part-{len(self.done):05d}.parquet"
        temporary = self.folder / f".{name}"
        try:
            with temporary.open("wb") as file:
                frame.write_parquet(file, compression="zstd", statistics=False)
                file.flush()
                os.fsync(file.fileno())
            digest = _digest(temporary)
            temporary.rename(self.folder / name)
            self.done.append({"name": name, "rows": frame.height, "problems": problems, "sha256": digest})
            self._write(PROGRESS, {"plan": self.plan, "parts": self.done})
        except OSError as exc:
            raise self._refusal(exc) from exc

    def finish(self, about: Mapping[str, Any]) -> bytes:
        """Writes the receipt, and returns it as canonical JSON."""
        rows, problems = (sum(int(part[name]) for part in self.done) for name in ("rows", "problems"))
        receipt = {**about, "plan": self.plan, "rows": rows, "problems": problems, "parts": self.done}
        try:
            self._write(RECEIPT, receipt)
            (self.folder / PROGRESS).unlink(missing_ok=True)
        except OSError as exc:
            raise self._refusal(exc) from exc
        return canonical(receipt)

    def _read(self, name: str) -> Mapping[str, Any] | None:
        try:
            body = json.loads((self.folder / name).read_bytes())
            return body if isinstance(body, dict) and isinstance(body.get("parts"), list) else None
        except (FileNotFoundError, ValueError):
            return None

    def _write(self, name: str, body: Mapping[str, Any]) -> None:
        temporary = self.folder / f".{name}"
        with temporary.open("wb") as file:
            file.write(canonical(body))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.folder / name)

    def _refusal(self, error: OSError) -> Unavailable:
        return Unavailable(f"{self.folder} cannot be written: {error.strerror}.", "make room, and score again: it goes on.")


def _locked(folder: Path) -> int:
    """The folder itself is what is locked, so that no file is left behind."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        raise Conflict(f"Another scoring writes into {folder}.", "let it end, or name another folder.") from exc
    return fd


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
