"""What features need of the stage that holds the data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

import polars as pl

from falaj.core.asset import Asset


class Contracts(Protocol):
    """Periods are (since, until]; `since` None is from the beginning."""

    def frame(
        self, name: str, *, since: datetime | None = None, until: datetime | None = None, by: Literal["time", "known"] = "time"
    ) -> pl.DataFrame:
        """Rows of the dataset's snapshots by event time (`time`) or by when they became known (`known`)."""
        ...

    def recent(self, name: str, since: datetime | None, until: datetime) -> pl.DataFrame:
        """Rows that became known in the period, snapshot or not."""
        ...

    def assets(
        self, name: str, since: datetime | None = None, until: datetime | None = None, *, by: Literal["time", "known"] = "time"
    ) -> Sequence[Asset]:
        """The snapshots that hold rows of the period."""
        ...

    def placed(self, name: str, since: datetime | None, until: datetime, where: pl.Expr) -> pl.DataFrame:
        """Rows known in the period that `where` picks, with `_snapshot` (reference), `_digest` and `_row` (from 0)."""
        ...


@runtime_checkable
class Scans(Protocol):
    """What data can do that need not be read as a whole."""

    def scan(
        self, name: str, *, since: datetime | None = None, until: datetime | None = None, by: Literal["time", "known"] = "time"
    ) -> pl.LazyFrame:
        """What `frame` gives, read when the query runs; in the same order each time."""
        ...
