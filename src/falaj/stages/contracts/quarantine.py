"""Quarantine: the rows that a contract kept out, which of them still wait, and what mended ones are worth."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import polars as pl

from falaj.core.asset import Asset
from falaj.core.decision import Check
from falaj.ports.blobs import Blobs
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.load import stamp
from falaj.stages.contracts.mending import PLACE, VERSION
from falaj.stages.contracts.report import plain
from falaj.stages.contracts.rules import MOST_SHOWN, REASONS, ROW, Around, Finding, Judge, shorten
from falaj.stages.contracts.snapshots import Snapshots, union

MENDS = "mends"
"""The label of a snapshot of mended rows: the digest of a list of those that it mends."""


def rows_of(snapshots: Snapshots, asset: Asset) -> pl.DataFrame:
    """The rows of one quarantine asset, each with its name."""
    frame = snapshots.frame(asset)
    if ROW not in frame.columns:  # kept out before places were written: its place in the file names it as well
        frame = frame.with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.Int64))
    return frame.with_columns(pl.lit(int(asset.ref.version or 0), dtype=pl.Int64).alias(VERSION))


def mended(blobs: Blobs, assets: Sequence[Asset]) -> pl.DataFrame:
    """The names of the rows that snapshots have mended already."""
    digests = [str(asset.labels[MENDS]) for asset in assets if MENDS in asset.labels]
    none = pl.DataFrame(schema={VERSION: pl.Int64, ROW: pl.Int64})
    return pl.concat([none, *(pl.read_parquet(io.BytesIO(blobs.get(digest))) for digest in digests)])


def waiting(frame: pl.DataFrame, done: pl.DataFrame) -> pl.DataFrame:
    """The rows that nobody has mended yet."""
    return frame.join(done, on=list(PLACE), how="anti", maintain_order="left")


@dataclass(frozen=True, slots=True)
class Mended:
    """What came of replaying rows: `good` ones as the contract has them, with their names in `places`, row for row."""

    good: pl.DataFrame
    places: pl.DataFrame
    tried: int
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]


def replay(
    loads: Iterator[tuple[pl.DataFrame, pl.DataFrame | None]], contract: Contract, known: str, now: datetime, around: Around
) -> Mended:
    """Judges rows that were kept out once more, load by load.

    loads: the rows of each, and what of the same load came in: a key that is there already keeps its later rows out, as it
    did then. Mended rows are known from `now` on: before, nobody could have known them as they are.
    """
    good: list[pl.DataFrame] = []
    places: list[pl.DataFrame] = []
    checks: list[Check] = []
    findings: list[Finding] = []
    tried = 0
    for frame, taken in loads:
        tried += frame.height
        names, rows = frame.select(PLACE), frame.drop(*PLACE, REASONS, strict=False)
        rows = rows.with_columns(stamp(now).alias(known))
        judge = Judge(contract, rows.schema, whole=False, around=around)
        seen = judge.look(rows)
        own = [_placed(item, names) for item in judge.findings()]
        findings += own
        checks += [_named(item, own, names) for item in judge.checks() if item.passed is not True]
        if seen is None:
            continue
        broken = judge.broken(seen)
        kept = judge.cast(rows)
        fine = pl.repeat(True, rows.height, eager=True) if broken is None else ~broken
        for key in _unique(contract):
            if taken is not None and taken.height:
                there = taken.select(pl.struct(key).alias("_key"))["_key"]
                again = kept.select(pl.all_horizontal(pl.col(*key).is_not_null()) & pl.struct(key).is_in(there.implode()))
                fine &= ~again.to_series()
                if again.to_series().any():
                    checks.append(_repeats(key, again.to_series(), names))
        good.append(kept.filter(fine))
        places.append(names.filter(fine))
    return Mended(union(good), pl.concat(places) if places else pl.DataFrame(), tried, shorten(checks), tuple(findings))


def explained(rows: pl.DataFrame, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows as JSON can carry them, with what the contract wants for each reason."""
    return [
        {**{name: plain(value) for name, value in row.items()}, "_wanted": {n: wanted.get(n, "") for n in row[REASONS] or ()}}
        for row in rows.to_dicts()
    ]


def _placed(found: Finding, names: pl.DataFrame) -> Finding:
    """With its rows as the quarantine numbers them."""
    return replace(found, rows=tuple(names[ROW][number] for number in found.rows))


def _named(item: Check, findings: Sequence[Finding], names: pl.DataFrame) -> Check:
    """A failed check, and which rows failed it."""
    rule = next((found for found in findings if item.name.endswith(found.rule)), None)
    return item if rule is None else replace(item, seen=f"{item.seen}: {_which(rule.rows, rule.count, names)}")


def _repeats(key: list[str], again: pl.Series, names: pl.DataFrame) -> Check:
    rows = names.filter(again)[ROW].to_list()
    seen = f"{len(rows):,} of {names.height:,} rows: {_which(rows[:MOST_SHOWN], len(rows), names)}"
    return Check(f"{', '.join(key)} came in with the same load", "no two rows with the same", seen, False)


def _which(rows: Sequence[int], count: int, names: pl.DataFrame) -> str:
    more = ", …" if count > len(rows) else ""
    return f"row{'s' * (count > 1)} {', '.join(map(str, rows))}{more} of version {names[VERSION][0]}"


def _unique(contract: Contract) -> list[list[str]]:
    found = [[column.name] for column in contract.columns if column.unique]
    return [*found, list(contract.key)] if contract.key else found
