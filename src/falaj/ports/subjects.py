"""Subjects: whatever keeps data about people, asked about one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Finding:
    """That a store holds something about the subject."""

    store: str
    """Which store: `snapshots`, `quarantine`, `online`, `predictions`, `training`, …"""
    place: str
    """What it is there: `dataset/trips@7`, `view/carrier_delays`, `endpoint/delay segment 17`, `model/delay@3 holdout`."""
    count: int
    """Rows, records or values."""
    readable: bool
    """Whether what it holds about the subject can be read; False after erasure, where only sealed bytes are left."""


class SubjectStore(Protocol):
    """One kind of place where data about people lies.

    `subject` is the person's own identifier as it stands in the data, as text. Every method may raise any FalajError.
    """

    name: str

    def find(self, subject: str) -> list[Finding]:
        """Where there is anything about the subject, readable or not. Reads; changes nothing."""
        ...

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        """Everything readable about the subject, a record at a time, each with `store` and `place` and its own fields."""
        ...

    def erase(self, subject: str) -> list[Finding]:
        """Removes what the destroyed key does not reach: plain copies, caches, online rows. Idempotent. What it removed."""
        ...

    def probe(self, subject: str) -> list[Finding]:
        """Tries to read the subject's data as a reader would, not as the index says; a readable finding is a failed erasure."""
        ...
