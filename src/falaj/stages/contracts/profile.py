"""Profile: what a table's columns look like, counted in bins that stay fixed, so that periods can be compared and added up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl

from falaj.core.errors import InvalidInput
from falaj.core.moments import iso

BINS = 10
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_VALUES = 50
"""Further values count as unseen; a column of mostly different values is an identifier and is not listed at all."""

Profile = Mapping[str, Any]
"""{"rows", "columns": {name: {"kind": "number" | "category" | "time" | "text", "missing", …}}}; plain JSON values."""


def profile(frame: pl.DataFrame, like: Profile | None = None, *, hidden: Sequence[str] = ()) -> dict[str, Any]:
    """Counts every column. Bins and values come from `like` where it has the column, else from this frame.

    `hidden`: columns that tell of people, which are counted as texts are: a bin's edge and a listed value are somebody's.

    number    `edges` e0 < e1 …; `counts[i]` values in (e(i-1), e(i)], the last one above all edges; min, max, sum, squares
    category  `values` and their `counts`, and `unseen` for all others
    time      first and last, in milliseconds since 1970-01-01T00:00Z
    text      an identifier: only how many are missing
    """
    known = (like or {}).get("columns", {})
    return {
        "rows": frame.height,
        "columns": {
            s.name: {"kind": "text", "missing": s.null_count()} if s.name in hidden else _column(s, known.get(s.name))
            for s in frame
            if not s.name.startswith("_")
        },
    }


def told(found: Profile) -> list[dict[str, Any]]:
    """Each column on its own, for a reader: times as texts, `mean` and `deviation` for sums, `values` with their counts."""
    rows = []
    for name, column in found["columns"].items():
        row = {"column": name, "kind": column["kind"], "missing": column["missing"]}
        if column["kind"] == "number":
            count = sum(column["counts"])
            mean = column["sum"] / count if count else None
            spread = math.sqrt(max(column["squares"] / count - mean * mean, 0.0)) if mean is not None else None
            row |= {"min": column["min"], "max": column["max"], "mean": mean, "deviation": spread}
            row |= {"edges": list(column["edges"]), "counts": list(column["counts"])}
        elif column["kind"] == "category":
            row |= {"values": dict(zip(column["values"], column["counts"], strict=True)), "unseen": column["unseen"]}
        elif column["kind"] == "time":
            row |= {
                end: None if column[end] is None else iso(EPOCH + timedelta(milliseconds=column[end]))
                for end in ("first", "last")
            }
        rows.append(row)
    return rows


def merge(one: Profile, other: Profile) -> dict[str, Any]:
    """The profile of both tables together. Raises InvalidInput where a column was counted in different bins."""
    names = dict.fromkeys([*one["columns"], *other["columns"]])
    return {
        "rows": one["rows"] + other["rows"],
        "columns": {name: _merged(name, one["columns"].get(name), other["columns"].get(name)) for name in names},
    }


def divergence(one: Sequence[int], other: Sequence[int]) -> float | None:
    """Jensen-Shannon divergence of two counts in the same bins, base 2: 0 where the shares are equal, 1 where none is shared.

    None where one of them counted nothing. J. Lin, IEEE Trans. Inf. Theory 37 (1991) 145-151.
    """
    n, m = sum(one), sum(other)
    if not n or not m:
        return None
    found = 0.0
    for a, b in zip(one, other, strict=True):
        p, q = a / n, b / m
        for share in (p, q):
            found += 0.5 * share * math.log2(2 * share / (p + q)) if share else 0.0
    return min(max(found, 0.0), 1.0)


def _column(series: pl.Series, like: Mapping[str, Any] | None) -> dict[str, Any]:
    dtype = series.dtype
    missing = series.null_count()
    if dtype.is_numeric():
        return _number(series, like) if like is None or like["kind"] == "number" else {"kind": "text", "missing": missing}
    if dtype.is_temporal():
        times = (
            series.cast(pl.Datetime("ms")).to_physical() if isinstance(dtype, (pl.Datetime, pl.Date)) else series.to_physical()
        )
        return {"kind": "time", "missing": missing, "first": _whole(times.min()), "last": _whole(times.max())}
    if dtype.is_nested() or dtype == pl.Binary:
        return {"kind": "text", "missing": missing}
    texts = series.cast(pl.String)
    if like is not None and like["kind"] == "category":
        return _category(texts, list(like["values"]))
    there = texts.len() - missing
    distinct = texts.drop_nulls().n_unique()
    if like is not None or distinct > max(MOST_VALUES, there // 20) or distinct == there > BINS:
        return {"kind": "text", "missing": missing}
    counts = texts.drop_nulls().value_counts(name="n").sort("n", texts.name, descending=[True, False])
    return _category(texts, sorted(counts[texts.name].head(MOST_VALUES).to_list()))


def _number(series: pl.Series, like: Mapping[str, Any] | None) -> dict[str, Any]:
    values = series.drop_nulls().cast(pl.Float64).sort()
    values = values.filter(values.is_finite())
    edges = list(like["edges"]) if like is not None and like["edges"] else _edges(values)
    # The values are in order: how many are at or below each edge gives the counts between the edges.
    below = [0, *(int(values.search_sorted(edge, side="right")) for edge in edges), values.len()]
    return {
        "kind": "number",
        "missing": series.len() - values.len(),
        "edges": edges,
        "counts": [high - low for low, high in pairwise(below)],
        "min": values[0] if values.len() else None,
        "max": values[-1] if values.len() else None,
        "sum": float(values.sum()),
        "squares": float((values * values).sum()),
    }


def _edges(ordered: pl.Series) -> list[float]:
    """The inner deciles, each an observed value and each once. Without values there are no bins yet."""
    if not ordered.len():
        return []
    return sorted({float(ordered[ordered.len() * place // BINS]) for place in range(1, BINS)})


def _category(texts: pl.Series, values: list[str]) -> dict[str, Any]:
    found = texts.drop_nulls().value_counts(name="n")
    counts = dict(zip(found[texts.name].to_list(), found["n"].to_list(), strict=True))
    listed = [int(counts.get(value, 0)) for value in values]
    missing = texts.null_count()
    return {
        "kind": "category",
        "missing": missing,
        "values": values,
        "counts": listed,
        "unseen": texts.len() - missing - sum(listed),
    }


def _merged(name: str, one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> dict[str, Any]:
    if one is None or other is None:
        return dict(one or other or {})
    for empty, full in ((one, other), (other, one)):
        # A part without a single number has no bins of its own: it adds what is missing, and nothing else.
        if empty.get("edges") == [] and not sum(empty["counts"]) and full.get("kind") == "number":
            return {**full, "missing": one["missing"] + other["missing"]}
    for part in ("kind", "edges", "values"):
        if one.get(part) != other.get(part):
            raise InvalidInput(
                f"The column {name!r} was counted in different bins ({part}).", "profile both `like` the same first profile."
            )
    both = dict(one)
    for part in ("missing", "unseen", "sum", "squares"):
        if part in one:
            both[part] = one[part] + other[part]
    if "counts" in one:
        both["counts"] = [a + b for a, b in zip(one["counts"], other["counts"], strict=True)]
    for part, pick in (("min", min), ("max", max), ("first", min), ("last", max)):
        if part in one:
            seen = [value for value in (one[part], other[part]) if value is not None]
            both[part] = pick(seen) if seen else None
    return both


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
