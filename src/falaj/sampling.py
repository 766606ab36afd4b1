"""A sample of fixed size from a stream of records, each with the same chance (reservoir sampling, Vitter's algorithm R)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any


class Sample:
    """So many of whatever is added, each with the same chance."""

    def __init__(self, size: int, chance: random.Random) -> None:
        self.size, self.chance, self.seen = size, chance, 0
        self.kept: list[Mapping[str, Any]] = []

    def add(self, record: Mapping[str, Any]) -> None:
        self.seen += 1
        if len(self.kept) < self.size:
            self.kept.append(record)
        elif (place := self.chance.randrange(self.seen)) < self.size:
            self.kept[place] = record
