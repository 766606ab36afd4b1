"""Difference: what differs from one snapshot of a dataset to another: columns, rows, and how values are spread."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from falaj.core.ref import Ref
from falaj.stages.contracts.alike import becoming, is_exact
from falaj.stages.contracts.profile import divergence, profile
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

    Rows by `key`; without one, by all columns that both have, so that none can have changed. A null equals a null. A column of
    two types is compared in the one that loses no value of either, and only told where there is none. `drift`: of each column
    that both counted in the same bins, the Jensen-Shannon divergence from one to the other: of the two states with `state`, in
    the bins of the first; else of the two snapshots.
    """
    here, there = dict(one.rows.collect_schema()), dict(other.rows.collect_schema())
    both = [name for name in here if name in there]
    names = tuple(name for name in key if name in both) if key else ()
    sides = [latest(side.rows, names, known) if state and names else side.rows for side in (one, other)]
    sides, told_only = _comparable(sides, [name for name in both if here[name] != there[name]], names)
    by = [name for name in names or both if name not in told_only]
    rest = [name for name in both if name not in (*by, *told_only, known)] if names else []
    return {
        "from": str(one.ref),
        "to": str(other.ref),
        "by": by,
        "columns": {
            "added": {name: str(there[name]) for name in there if name not in here},
            "removed": {name: str(here[name]) for name in here if name not in there},
            "changed": {name: [str(here[name]), str(there[name])] for name in both if here[name] != there[name]},
        },
        "rows": _rows(sides[0], sides[1], by, rest),
        "drift": _drift_of_states(sides) if state else drift(one.profile, other.profile),
    }


def _comparable(sides: list[pl.LazyFrame], changed: list[str], key: tuple[str, ...]) -> tuple[list[pl.LazyFrame], frozenset[str]]:
    """Both sides with the columns of two types in one, and those for which there is none. A key is compared as text then."""
    told_only = set()
    for name in changed:
        types = [side.collect_schema()[name] for side in sides]
        offered = [types[1], types[0], *([pl.Float64()] if all(dtype.is_numeric() for dtype in types) else [])]
        wanted: pl.DataType | None = next(
            (dtype for dtype in offered if all(is_exact(side, name, dtype) for side in sides)), None
        )
        if wanted is None and name in key and not any(dtype.is_nested() for dtype in types):
            wanted = pl.String()
        if wanted is None:
            told_only.add(name)
            continue
        sides = [side.with_columns(becoming(name, dtype, wanted)) for side, dtype in zip(sides, types, strict=True)]
    return sides, frozenset(told_only)


def _drift_of_states(sides: list[pl.LazyFrame]) -> dict[str, float]:
    first = profile(sides[0].collect(engine="streaming"))
    return drift(first, profile(sides[1].collect(engine="streaming"), first))


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
    if not by:  # no column in common: no row is the same
        return {
            "before": _size(one),
            "after": _size(other),
            "added": _size(other),
            "removed": _size(one),
            "changed": 0,
            "same": 0,
        }
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
    return {
        "before": _size(one),
        "after": _size(other),
        **{name: int(value) for name, value in counts.row(0, named=True).items()},
    }


def _size(rows: pl.LazyFrame) -> int:
    return int(rows.select(pl.len()).collect(engine="streaming").item())
