"""OpenLineage events written to a file of JSON lines, or posted to a collector such as Marquez."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from falaj.adapters.local.egress import UNANSWERED, Reach, address, only_here, send
from falaj.core.errors import Unavailable


class FileLineage:
    """One event a line, appended and on disk before `emit` returns. Each line is whole: a line that was cut short by a crash
    is ended first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def emit(self, events: Sequence[Mapping[str, Any]]) -> None:
        lines = "".join(json.dumps(event, sort_keys=True, separators=(",", ":")) + "\n" for event in events)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            raise Unavailable(f"{self.path} cannot be written: {exc.strerror}.", "free space, or mend who owns it.") from exc


class HttpLineage:
    """Posts each event to the address as OpenLineage's HTTP transport does; `key` goes into `Authorization: Bearer`.

    No redirect is followed, nothing of the answer but its status is used, and http is for loopback addresses only.
    """

    def __init__(self, url: str, key: bytes | None = None, *, timeout: float = 5.0, reach: Reach = only_here) -> None:
        """`url`: the whole address, as in https://marquez.example/api/v1/lineage. `reach` is shown every address before it is
        connected to. Raises InvalidInput for an address not to be used."""
        self._url, self._where, self._opener = address(url, "OpenLineage collector", reach)
        self._key, self._timeout = key, timeout

    def emit(self, events: Sequence[Mapping[str, Any]]) -> None:
        for event in events:
            self._post(json.dumps(event, sort_keys=True, separators=(",", ":")).encode())

    def _post(self, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": "falaj"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key.decode('ascii', 'replace')}"
        try:
            status = send(self._opener, self._url, body, headers=headers, timeout=self._timeout)
        except UNANSWERED as exc:
            raise Unavailable(f"{self._where} took no lineage ({type(exc).__name__}).", "it is sent again.") from None
        if not 200 <= status < 300:
            raise Unavailable(f"{self._where} answered {status} to a lineage event.", "it is sent again; 4xx: mend the settings.")
