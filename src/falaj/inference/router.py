"""Which arm answers: a sticky, nested split, so that a unit keeps its arm while the challenger's share grows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

BUCKETS = 10_000


class Sharing(Protocol):
    @property
    def role(self) -> str: ...

    @property
    def share(self) -> float: ...


A = TypeVar("A", bound=Sharing)


def bucket(salt: str, unit: str) -> int:
    """0 to 9,999, the same for the same salt and unit everywhere: the first 8 bytes of SHA-256(salt ‖ unit), modulo 10,000."""
    return int.from_bytes(hashlib.sha256(f"{salt}{unit}".encode()).digest()[:8], "big") % BUCKETS


def choose(arms: Sequence[A], salt: str, unit: str) -> A:
    """The arm of a unit. Nested: whoever is in the challenger at 5 % is in it at 25 % too."""
    if len(arms) == 1:
        return arms[0]
    challenger = next((arm for arm in arms if arm.role == "challenger"), arms[-1])
    champion = next((arm for arm in arms if arm.role == "champion"), arms[0])
    return challenger if bucket(salt, unit) < round(challenger.share * BUCKETS) else champion
