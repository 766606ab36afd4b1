"""Labels that become known later than the rows they belong to: what a training at a moment may learn from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import polars as pl

from falaj.core.errors import InvalidInput
from falaj.stages.features.join import as_of

_ASKED = "__asked"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A table of what happened: to whom, when, and since when that is known (`known`, else its `time`).

    `horizon`: how long after a row's time its outcome may come.
    """

    rows: pl.DataFrame
    entity: str
    time: str
    horizon: timedelta
    known: str | None = None


def labelled(
    spine: pl.DataFrame, outcomes: Outcomes, *, time: str, at: datetime | None = None, missing: Literal["drop", "keep"] = "drop"
) -> pl.DataFrame:
    """The spine with the columns of each row's outcome, as far as somebody could know it at the moment `at`;
    None where the table holds only what is known, as that of a derived dataset's function does.

    That is the outcome of the same entity with t ≤ time ≤ t + horizon and known ≤ `at`; of several the earliest, and of
    those of one time the one that became known last, then the last in the table. A row without one is left out, or with
    `missing="keep"` stays with nulls. The rows stay in their order.

    Raises InvalidInput where a time has no time zone or both tables have a column of the same name.
    """
    if at is not None and at.tzinfo is None:
        raise InvalidInput(f"The moment {str(at)!r} has no time zone.", "a time without a zone is two times.")
    for frame, name in ((spine, time), (outcomes.rows, outcomes.time), (outcomes.rows, outcomes.known or outcomes.time)):
        kind = frame.schema.get(name)
        if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
            raise InvalidInput(f"The column {name!r} must hold times with a time zone, it holds {kind}.")
    known = outcomes.known or outcomes.time
    is_known = pl.col(known).is_not_null() if at is None else pl.col(known).dt.convert_time_zone("UTC") <= at
    rows = outcomes.rows.filter(is_known).sort(known, maintain_order=True)
    # The earliest after t is the newest before t once time runs backwards.
    backwards = rows.with_columns(_mirrored(rows, outcomes.time).alias(_ASKED))
    asked = spine.select(outcomes.entity, _mirrored(spine, time).alias(f"{_ASKED}_t"))
    found = as_of(asked, backwards, entity=outcomes.entity, spine_time=f"{_ASKED}_t", row_time=_ASKED, ttl=outcomes.horizon)
    double = set(rows.columns) & set(spine.columns) - {outcomes.entity}
    if double:
        raise InvalidInput(f"Both sides of the join have a column {sorted(double)[0]!r}.", "rename it on one side.")
    added = found.select(name for name in rows.columns if name != outcomes.entity)
    whole = pl.concat([spine, added], how="horizontal")
    return whole if missing == "keep" else whole.filter(found[_ASKED].is_not_null())


def _mirrored(frame: pl.DataFrame, name: str) -> pl.Expr:
    unit: Literal["us", "ns"] = "ns" if getattr(frame.schema[name], "time_unit", "") == "ns" else "us"
    ticks = pl.col(name).dt.convert_time_zone("UTC").dt.cast_time_unit(unit).to_physical()
    return (-ticks).cast(pl.Datetime(unit, "UTC"))
