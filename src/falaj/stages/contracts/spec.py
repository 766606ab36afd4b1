"""Dataset: what a user declares about data that comes in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from falaj.core.moments import length
from falaj.core.ref import Ref

if TYPE_CHECKING:
    import polars

Source = Callable[[datetime | None, datetime], "polars.DataFrame"]
"""(since, until) → the rows that became known in (since, until]; `since` None asks for everything until then."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """One table that keeps coming. Raises InvalidInput where the name or `every` cannot be read."""

    name: str
    contract: str
    """Path of the ODCS file, relative to the project's folder."""
    source: Source
    time: str
    """The column that says when it happened."""
    known: str
    """The column that says when the row became known: nothing is used before that."""
    every: str = "1d"
    """How often a snapshot is taken."""

    def __post_init__(self) -> None:
        length(self.every)
        _ = self.ref

    @property
    def ref(self) -> Ref:
        return Ref("dataset", self.name)
