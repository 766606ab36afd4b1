"""Head: where a dataset stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

RULE = "contract"
"""By what a load is let in or refused."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a dataset stands: its newest snapshot, and until when everything known has been taken in."""

    version: int = 0
    watermark: datetime | None = None
    known_rows: int = 0
    load_version: int = 0
    """The newest snapshot that a load made; the others hold mended rows."""
    load_rows: int | None = None
    """How many rows that load handed out, good or bad."""
    newest_time: datetime | None = None
    newest_known: datetime | None = None
    mended: datetime | None = None
    """When rows were last mended: they became known then, which may lie beyond the watermark."""
