"""Late rows: those that come when the watermark has passed the time at which their source says they became known."""

from __future__ import annotations

import functools
import io
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from falaj.core.asset import Asset
from falaj.core.moments import moment
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.load import stamp
from falaj.stages.contracts.quarantine import rows_of
from falaj.stages.contracts.rows import cast, check_types, unfit
from falaj.stages.contracts.sealed import sealing, unseal
from falaj.stages.contracts.snapshots import Snapshots, within

LATE = "late"
"""The label of a snapshot whose load brought late rows: the digest of these rows as they came, with their own known times."""
_AT, _NTH = "_at", "_nth"
Hold = Callable[[Iterator[pl.DataFrame]], Iterable[pl.DataFrame]]
"""Reads all frames and hands them out again."""


@dataclass(slots=True)
class Pool:
    """Rows that came before. `is_cast`: as the contract has them, not as they came."""

    rows: pl.DataFrame
    is_cast: bool = False


@dataclass(slots=True)
class Late:
    """Of rows that a source hands out again, known in (start, since], lets through those that did not come before.

    They are known from `until` on: nobody could have used them before, whatever their source says. Two rows are equal in all
    columns but `known`; a null equals a null, a NaN a NaN, and a row that came twice lets two pass by.
    """

    contract: Contract
    known: str
    start: datetime
    since: datetime
    until: datetime
    pools: list[Pool]
    rows: list[pl.DataFrame] = field(default_factory=list, init=False)
    """The late rows, as they came."""

    @property
    def count(self) -> int:
        return sum(part.height for part in self.rows)

    def sift(self, frames: Iterable[pl.DataFrame], hold: Hold) -> Iterator[pl.DataFrame]:
        """The rows of the period as they are, and the late ones, stamped; in the order in which they came.

        First by the known time as well, so that of equal rows it is the same ones that came before. By the other columns alone
        only when every frame was seen (`hold` keeps them): a row could be taken for one that a later frame brings again.
        """
        for frame in hold(self._unlike(frames)):
            if self._is_strange(frame):
                yield frame
                continue
            is_old = self._is_old(frame)
            old = frame.filter(is_old)
            came = self._came(old, with_known=False)
            self.rows += [old.filter(~came)] if not came.all() else []
            late = pl.when(is_old).then(_as_it_came(self.until, frame.schema[self.known])).otherwise(pl.col(self.known))
            yield _without(frame.with_columns(late.alias(self.known)), is_old, came)

    def label(self, snapshots: Snapshots, name: str) -> dict[str, str]:
        """What the next load has to know of these rows; kept as quarantine is, for they are as they came."""
        if not self.rows:
            return {}
        by = sealing(self.contract, "late", name)
        return {LATE: snapshots.write([pl.concat(self.rows)], is_profiled=False, by=by).digest}

    def _unlike(self, frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Without the rows that came before under the same known time."""
        for frame in frames:
            if self._is_strange(frame):
                yield frame
                continue
            is_old = self._is_old(frame)
            yield _without(frame, is_old, self._came(frame.filter(is_old), with_known=True))

    def _is_strange(self, frame: pl.DataFrame) -> bool:
        """Of other columns than the contract has: the load is refused for that."""
        return any(item.passed is False for item in check_types(frame.schema, self.contract))

    def _is_old(self, frame: pl.DataFrame) -> pl.Series:
        at = moments(frame, self.known)
        return ((at <= self.since) & (at > self.start)).fill_null(value=False)

    def _came(self, old: pl.DataFrame, *, with_known: bool) -> pl.Series:
        """Which rows came before; each row that came lets one pass by."""
        came = pl.repeat(False, old.height, eager=True)
        for pool in self.pools:
            asked = ~came
            if pool.is_cast and (wrong := unfit(self.contract, old.schema)):
                # A value that the cast loses would look like another one.
                asked &= ~old.select(functools.reduce(operator.or_, wrong).fill_null(value=False)).to_series()
            rows = as_held(old.filter(asked), self.contract) if pool.is_cast else old.filter(asked)
            found, pool.rows = matched(rows, pool.rows, self.known, with_known=with_known)
            came = came.scatter(asked.arg_true().filter(found), True)
        return came


def pools(snapshots: Snapshots, assets: Sequence[Asset], by: tuple[Contract, str], start: datetime) -> list[Pool]:
    """What came of rows that their source calls known after `start`, good or bad.

    assets: snapshots and quarantine, by version. A late row counts with the time that its source gave it, not with its stamp.
    """
    contract, known = by
    found: list[Pool] = []
    loads: dict[str, list[Asset]] = {}
    for asset in assets:
        if asset.labels.get("until") and moment(asset.labels["until"]) > start:
            loads.setdefault(asset.ref.version or "", []).append(asset)
    for load in loads.values():
        digest = next((str(asset.labels[LATE]) for asset in load if LATE in asset.labels), "")
        late = pl.read_parquet(io.BytesIO(snapshots.blobs.get(digest))) if digest else pl.DataFrame()
        late = unseal(snapshots.vaults, late, f"late|{load[0].ref.name}", keep=False)
        left = late
        for asset in sorted(load, key=lambda asset: asset.ref.kind == "dataset"):  # what was kept out before what came in
            is_cast = asset.ref.kind == "dataset"
            for part in snapshots.frames(asset, "known", start) if is_cast else [rows_of(snapshots, asset)]:
                rows = within(part, known, start, None) if is_cast else part.filter(moments(part, known) > start)
                if left.height and rows.height:
                    own = left.with_columns(_as_it_came(moment(asset.labels["until"]), left.schema[known]).alias(known))
                    gone, rows = matched(as_held(own, contract) if is_cast else own, rows, known, with_known=True)
                    left = left.filter(~gone)
                found.append(Pool(rows, is_cast))
        if late.height:
            found.append(Pool(late.filter(moments(late, known) > start)))
    return [pool for pool in found if pool.rows.height]


def matched(rows: pl.DataFrame, pool: pl.DataFrame, known: str, *, with_known: bool) -> tuple[pl.Series, pl.DataFrame]:
    """Which rows are in the pool too, each of its rows once; and what is left of the pool."""
    both = [name for name, dtype in rows.schema.items() if name in pool.columns and name != known and not dtype.is_nested()]
    if not rows.height or not pool.height:
        return pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True), pool
    one, other = (
        _numbered(side, both, rows.schema, moments(side, known) if with_known else pl.repeat(0, side.height, eager=True))
        for side in (rows, pool)
    )
    marks = []
    for here, there in ((one, other), (other, one)):
        at = here.with_row_index("_place").join(there, on=here.columns, how="semi", nulls_equal=True)["_place"]
        marks.append(pl.repeat(False, here.height, eager=True).scatter(at, True))
    return marks[0], pool.filter(~marks[1])


def as_held(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """The rows as a snapshot would hold them."""
    there = [column for column in contract.columns if column.name in rows.columns]
    return rows.with_columns(cast(column, rows.schema[column.name]).alias(column.name) for column in there)


def moments(frame: pl.DataFrame, known: str) -> pl.Series:
    """The known times in UTC, to the millisecond; null where there is none."""
    it = frame[known] if known in frame.columns else pl.Series([None] * frame.height)
    if not isinstance(it.dtype, pl.Datetime):
        return pl.Series([None] * frame.height, dtype=pl.Datetime("ms", "UTC"))
    return (it if it.dtype.time_zone else it.dt.replace_time_zone("UTC")).cast(pl.Datetime("ms", "UTC"))


def _without(frame: pl.DataFrame, is_old: pl.Series, came: pl.Series) -> pl.DataFrame:
    """Without those of its old rows that came before."""
    return frame.filter(pl.repeat(True, frame.height, eager=True).scatter(is_old.arg_true().filter(came), False))


def _numbered(rows: pl.DataFrame, names: list[str], like: pl.Schema, at: pl.Series) -> pl.DataFrame:
    """The columns to compare, and of equal rows which one each is."""
    asked = []
    for name in names:
        wanted = pl.String() if isinstance(like[name], (pl.Categorical, pl.Enum)) else like[name]
        it = pl.col(name).cast(wanted, strict=False)
        asked.append(it + 0.0 if wanted.is_float() else it)  # a zero below zero is zero
    one = rows.with_columns(at.alias(_AT)).select(*asked, _AT)
    return one.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over([*names, _AT]).alias(_NTH))


def _as_it_came(at: datetime, dtype: pl.DataType) -> pl.Expr:
    zone = dtype.time_zone if isinstance(dtype, pl.Datetime) else None
    it = stamp(at)
    return (it.dt.convert_time_zone(zone) if zone else it.dt.replace_time_zone(None)).cast(dtype)
