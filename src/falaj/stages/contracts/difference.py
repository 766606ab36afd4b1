"""Difference: what differs from one snapshot of a dataset to another: columns, rows, and how values are spread."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from falaj.core.ref import Ref
from falaj.stages.contracts.profile import divergence
from falaj.stages.contracts.versions import latest


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: its rows, unread, and its profile."""

    ref: Ref
    rows: pl.LazyFrame
    profile: Mapping[str, Any]


def diff(one: Side, other: Side, key: tuple[str, ...], *, known: str, state: bool) -> dict[str, Any]:
    """{"from", "to", "by", "columns": {added, removed, changed}, "rows": {before, after, added, removed, changed, same},
    "drift"}.

    Rows by `key`; without one, by all columns that both have, so that none can have changed. A null equals a null. `drift`: of
    each column that both snapshots counted in the same bins, the Jensen-Shannon divergence from one to the other.
    """
    here, there = dict(one.rows.collect_schema()), dict(other.rows.collect_schema())
    both = [name for name in here if name in there]
    names = tuple(name for name in key if name in both) if key else ()
    by = list(names or both)
    sides = [latest(side.rows, names, known) if state and names else side.rows for side in (one, other)]
    return {
        "from": str(one.ref),
        "to": str(other.ref),
        "by": by,
        "columns": {
            "added": {name: str(there[name]) for name in there if name not in here},
            "removed": {name: str(here[name]) for name in here if name not in there},
            "changed": {name: [str(here[name]), str(there[name])] for name in both if here[name] != there[name]},
        },
        "rows": _rows(sides[0], sides[1], by, [name for name in both if name not in (*by, known)] if names else []),
        "drift": drift(one.profile, other.profile),
    }


def drift(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    """Of each column that was counted in the same bins, by size: 0 alike, 1 nothing in common."""
    found: dict[str, float] = {}
    for name, here in one.get("columns", {}).items():
        there = other.get("columns", {}).get(name, {})
        if "counts" not in here or any(here.get(part) != there.get(part) for part in ("kind", "edges", "values")):
            continue
        counts = [[*side["counts"], side["missing"], side.get("unseen", 0)] for side in (here, there)]
        if (value := divergence(counts[0], counts[1])) is not None:
            found[name] = round(value, 6)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _rows(one: pl.LazyFrame, other: pl.LazyFrame, by: list[str], rest: list[str]) -> dict[str, int]:
    """Counted in one query over both."""
    old = one.select(*by, *(pl.col(name).alias(f"_was_{name}") for name in rest), pl.lit(True).alias("_old"))
    new = other.select(*by, *rest, pl.lit(True).alias("_new"))
    if not rest:  # whole rows: one that is there twice is one
        old, new = old.unique(), new.unique()
    both = old.join(new, on=by, how="full", coalesce=True, nulls_equal=True)
    is_both = pl.col("_old").is_not_null() & pl.col("_new").is_not_null()
    changed = functools.reduce(operator.or_, [pl.col(n).ne_missing(pl.col(f"_was_{n}")) for n in rest], pl.lit(False))
    counts = both.select(
        added=pl.col("_old").is_null().sum(),
        removed=pl.col("_new").is_null().sum(),
        changed=(is_both & changed).sum(),
        same=(is_both & ~changed).sum(),
    ).collect(engine="streaming")
    sizes = [int(side.select(pl.len()).collect(engine="streaming").item()) for side in (one, other)]
    return {"before": sizes[0], "after": sizes[1], **{name: int(value) for name, value in counts.row(0, named=True).items()}}
