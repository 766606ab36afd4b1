"""Effects: which messages were answered already, so that one that comes twice has one prediction and one answer.

The prediction log is the memory: a message's key is the request id of what was predicted for it, and the log is written before
anything is sent. Beside it a small file says up to which line of the log everything was sent, and what was being answered:

    {"sent": [segment, row], "owed": [[segment, first row, row behind the last], …],
     "trying": {key: how often before}, "tries": {key: how often}}

Lines behind `sent` may have been sent or not: they are sent again, under the same id. So are those before it that are `owed`:
their process died, and younger messages were answered before theirs came again. Whatever was being answered when the process
died, and is not in the log, may be what it died of; `tries` counts that for messages that did not come again yet.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from falaj.core.errors import InvalidInput, Unavailable
from falaj.core.segment import PredictionId
from falaj.ports.predictions import Cursor, Predictions

REMEMBERED = 100_000
"""Keys that were answered."""
SEGMENTS = 4
"""Segments that are read back before the one that was written last."""
MOST_OWED = 1_000
"""Runs of lines that are noted as owed, and messages whose tries are. A batch is logged in few runs, so these are many deaths."""
Line = tuple[int, int]
"""Segment and row."""


class Effects:
    """Belongs to the one process that answers an endpoint's messages."""

    def __init__(self, path: Path, predictions: Predictions, newest: Callable[[], int]) -> None:
        """`newest`: the segment that is written now. Raises Conflict for a log that was damaged, Unavailable, InvalidInput."""
        self._path, self._newest = path, newest
        self._settled: dict[str, None] = {}
        self._logged: dict[str, Mapping[str, Any]] = {}
        """By request id: predictions that were written and perhaps not sent. All are of processes before this one."""
        held, now = _read(path), newest()
        self._sent = Cursor(*map(int, held["sent"])) if "sent" in held else Cursor()
        owed = {(segment, row) for segment, first, end in held.get("owed") or () for row in range(first, end)}
        start = min(self._sent.segment, now) if "sent" in held else now
        for record in _read_back(predictions, max(start - SEGMENTS, 0), owed):
            if record.get("via") == "stream" and record.get("kind") == "prediction":
                self._take(record, owed)
        self._owed = _runs(map(_line, self._logged.values()))
        died = {str(key): int(count) + 1 for key, count in (held.get("trying") or {}).items()}
        tried = {str(key): int(count) for key, count in (held.get("tries") or {}).items()} | died
        self.tries = {key: count for key, count in tried.items() if not self._is_known(key)}
        """How often a message was tried without an outcome."""
        self._save({})

    def is_settled(self, key: str, rows: int) -> bool:
        """Its answer is sent for certain."""
        return _names(key, rows)[0] in self._settled

    def logged(self, key: str, rows: int) -> list[Mapping[str, Any]] | None:
        """What the log holds of it, one record a row; None unless it holds all rows."""
        names = _names(key, rows)
        return [self._logged[name] for name in names] if all(name in self._logged for name in names) else None

    def trying(self, keys: Iterable[str]) -> None:
        """Written down before they are answered. Raises Unavailable."""
        self._save({key: self.tries.get(key, 0) for key in keys})

    def failed(self, key: str) -> int:
        """Counts a try that came to nothing; returns how many there were."""
        self.tries[key] = self.tries.get(key, 0) + 1
        return self.tries[key]

    def settle(self, keys: Mapping[str, int], ids: Sequence[str]) -> None:
        """These are sent, or dead letters: key → rows, and the ids of all predictions among them. Raises Unavailable."""
        owed = len(self._logged)
        for key, rows in keys.items():
            self.tries.pop(key, None)
            names = _names(key, rows)
            self._settled[names[0]] = None
            for name in names:
                self._logged.pop(name, None)
        if len(self._logged) < owed:
            self._owed = _runs(map(_line, self._logged.values()))
        while len(self._settled) > REMEMBERED:
            del self._settled[next(iter(self._settled))]
        for text in ids:
            place = PredictionId.read(text)
            self._sent = max(self._sent, Cursor(place.segment, place.row + 1))
        self._save({})

    def rest(self, left: int) -> None:
        """Nothing is under way: what others log from now on need not be read back. Raises Unavailable.

        `left`: messages that are not acknowledged. Where there are none, no message can come again to which an answer is owed.
        """
        if not left:
            self._settled |= dict.fromkeys(self._logged)
            self._logged.clear()
            self.tries.clear()
            self._owed = []
        self._sent = max(self._sent, Cursor(self._newest()))
        self._save({})

    def _take(self, record: Mapping[str, Any], owed: Container[Line]) -> None:
        name, line = str(record.get("request_id")), _line(record)
        if Cursor(*line) >= self._sent or line in owed:
            self._logged.setdefault(name, record)
        else:
            self._settled[name] = None

    def _is_known(self, key: str) -> bool:
        return any(name in held for held in (self._settled, self._logged) for name in (key, f"{key}-0"))

    def _save(self, trying: Mapping[str, int]) -> None:
        """Not brought to the disk: after a power cut an older one only sends more again."""
        tries = {key: count for key, count in self.tries.items() if key not in trying}
        body = {
            "sent": [self._sent.segment, self._sent.row], "owed": self._owed[-MOST_OWED:], "trying": dict(trying),
            "tries": dict(list(tries.items())[-MOST_OWED:]),
        }  # fmt: skip
        draft = self._path.with_name(self._path.name + ".draft")
        try:
            fd = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(json.dumps(body).encode())
            draft.replace(self._path)
        except OSError as exc:
            raise Unavailable(f"{self._path} cannot be written: {exc.strerror}.", "make room on the disk.") from exc


def _names(key: str, rows: int) -> list[str]:
    """The request ids that the log has for the rows of one call. A key ends in a bracket, so no key is another one's name."""
    return [key] if rows == 1 else [f"{key}-{place}" for place in range(rows)]


def _line(record: Mapping[str, Any]) -> Line:
    place = PredictionId.read(record["id"])
    return place.segment, place.row


def _runs(lines: Iterable[Line]) -> list[tuple[int, int, int]]:
    """(segment, first row, row behind the last) of lines that follow one another."""
    runs: list[tuple[int, int, int]] = []
    for segment, row in sorted(set(lines)):
        if runs and runs[-1][0] == segment and runs[-1][2] == row:
            runs[-1] = (segment, runs[-1][1], row + 1)
        else:
            runs.append((segment, row, row + 1))
    return runs


def _read_back(predictions: Predictions, start: int, owed: Iterable[Line]) -> Iterator[Mapping[str, Any]]:
    """From a segment on, and before it only the segments in which something is owed."""
    for segment in sorted({segment for segment, _ in owed if segment < start}):
        for behind, record in predictions.follow(Cursor(segment)):
            if behind.segment > segment:
                break
            yield record
    for _, record in predictions.follow(Cursor(start)):
        yield record


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes() or b"{}")
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise Unavailable(f"{path} cannot be read: {exc.strerror}.", "check who owns it.") from exc
    except ValueError as exc:
        raise InvalidInput(f"{path} holds no JSON.", "remove it: then more is sent again.") from exc
    return found if isinstance(found, dict) else {}


def newest_segment(folder: Path) -> int:
    """The number of the segment that is written now, 0 where there is none."""
    return max((int(path.stem) for path in folder.glob("*.jsonl") if path.stem.isdigit()), default=0)
