"""The prediction log of an endpoint, read from its segment files while the server writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from falaj.adapters.local.signing import sync_folder
from falaj.core.codec import decode
from falaj.core.errors import Conflict, NotFound, Unavailable
from falaj.core.segment import Seal, records_of
from falaj.ports.predictions import Cursor

_BLOCK = 1 << 20
_REMEMBERED = 64


class SegmentPredictions:
    """Follows the folder that holds `000000.jsonl`, `000001.jsonl` … and their `.seal` files. Needs no server to run."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._offsets: dict[Cursor, int] = {}
        """Where a cursor that was handed out last stands in its file, so that following on does not read from the start."""
        self._seals: dict[int, Seal] = {}

    def follow(self, after: Cursor = Cursor()) -> Iterator[tuple[Cursor, Mapping[str, Any]]]:  # noqa: B008  # frozen
        for number in self._numbers():
            if number < after.segment:
                continue
            cursor = after if number == after.segment else Cursor(number, 0)
            yield from self._read_on(cursor)

    def line(self, segment: int, row: int) -> bytes:
        lines = self.lines(segment)
        if not 0 <= row < len(lines):
            raise NotFound(f"Segment {segment} has {len(lines)} lines, there is no line {row}.")
        return lines[row]

    def records(self, line: bytes) -> list[Mapping[str, Any]]:
        return list(records_of(_record(line, Cursor())))

    def lines(self, segment: int) -> list[bytes]:
        path = self._path(segment)
        try:
            data = path.read_bytes()
        except FileNotFoundError as exc:
            raise NotFound(
                f"There is no segment {segment} in {self.folder}.", "it was never written, or retention removed it."
            ) from exc
        except OSError as exc:
            raise Unavailable(f"{path} cannot be read: {exc.strerror}.") from exc
        return data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]

    def drop(self, segment: int) -> bool:
        path = self._path(segment)
        if not path.with_suffix(".seal").is_file():
            raise Conflict(f"Segment {segment} in {self.folder} is not sealed yet.", "it can be removed once it is closed.")
        was_there = path.is_file()
        try:
            path.unlink(missing_ok=True)
            sync_folder(self.folder)
        except OSError as exc:
            raise Unavailable(f"{path} could not be removed: {exc.strerror}.", "check who owns the folder.") from exc
        return was_there

    def seals(self) -> list[Seal]:
        """A seal never changes once it is there, so each is read once."""
        for path in self.folder.glob("*.seal"):
            if path.stem.isdigit() and int(path.stem) not in self._seals:
                try:
                    self._seals[int(path.stem)] = decode(Seal, json.loads(path.read_bytes()))
                except (ValueError, OSError) as exc:
                    raise Conflict(
                        f"The seal {path} cannot be read: {exc}.", "bring it back from a backup: falaj audit verify"
                    ) from exc
        return [self._seals[number] for number in sorted(self._seals)]

    def _read_on(self, cursor: Cursor) -> Iterator[tuple[Cursor, Mapping[str, Any]]]:
        offset, row = self._offsets.get(Cursor(cursor.segment, cursor.row), -1), cursor.row
        if offset < 0:
            offset, row = 0, 0
        try:
            with self._path(cursor.segment).open("rb") as file:
                file.seek(offset)
                while lines := file.readlines(_BLOCK):
                    for line in lines:
                        if not line.endswith(b"\n"):
                            return
                        offset, row = offset + len(line), row + 1
                        if row <= cursor.row:
                            continue
                        behind = Cursor(cursor.segment, row)
                        parts = list(records_of(_record(line, behind)))
                        self._remember(behind, offset)
                        read = cursor.part if row == cursor.row + 1 else 0
                        for part, record in enumerate(parts[read:], read + 1):
                            yield (behind if part == len(parts) else Cursor(cursor.segment, row - 1, part)), record
        except FileNotFoundError:
            return
        except OSError as exc:
            raise Unavailable(f"{self._path(cursor.segment)} cannot be read: {exc.strerror}.") from exc

    def _remember(self, cursor: Cursor, offset: int) -> None:
        if len(self._offsets) >= _REMEMBERED:
            del self._offsets[next(iter(self._offsets))]
        self._offsets[cursor] = offset

    def _numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("*.jsonl") if path.stem.isdigit())

    def _path(self, segment: int) -> Path:
        return self.folder / f"{segment:06d}.jsonl"


def _record(line: bytes, cursor: Cursor) -> Mapping[str, Any]:
    try:
        record: Mapping[str, Any] = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError(type(record).__name__)
    except ValueError as exc:
        where = f"line {cursor.row - 1} of segment {cursor.segment}"
        raise Conflict(f"The prediction log was damaged: {where} is no JSON.", "falaj audit verify") from exc
    return record
