"""Figures of a whole load: averages, extremes, distinct values, growth, and drift from the last good snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import polars as pl

from falaj.core import wording
from falaj.core.decision import Check
from falaj.stages.contracts.contract import Contract, Quality
from falaj.stages.contracts.profile import divergence
from falaj.stages.contracts.rows import Again, References, bound_text, repeats, within_bound

AGGREGATES = ("mean", "minimum", "maximum", "sum", "distinct")
BETWEEN = ("drift", "growth")
"""What compares a load with one before it."""

_LEAST, _MOST = "least", "most"
_PARTS: Mapping[str, tuple[str, ...]] = {
    "mean": ("sum", "n"), "sum": ("sum",), "minimum": (_LEAST,), "maximum": (_MOST,),
}  # fmt: skip
_ADDED: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "sum": pl.Expr.sum, "n": pl.Expr.count, _LEAST: pl.Expr.min, _MOST: pl.Expr.max,
}  # fmt: skip
"""Of which parts a figure is made, and how each is found."""


@dataclass(frozen=True, slots=True)
class Around:
    """What a load is judged by, beside its own rows."""

    references: References = field(default_factory=dict)
    """Of each (dataset, column) that the contract refers to, every value that is known."""
    rows: int | None = None
    """How many rows the load before handed out."""
    profile: Mapping[str, Any] | None = None
    """What the last good load looked like: the bins that drift is counted in."""


def measures(contract: Contract, around: Around, again: Again | None = None) -> list[pl.Expr]:
    """One value each, over the cast columns of a part, so that `add` gives the value over all parts.

    Values that are not finite count for nothing: their own rule tells of them.
    """
    found: list[pl.Expr] = []
    for place, quality in _about_a_column(contract):
        name = quality.columns[0]
        it = pl.col(name)
        if quality.metric == "distinct":
            repeated = (again or {}).get((name,), repeats((name,)))
            found.append((it.is_not_null() & ~repeated).sum().alias(f"_{place}_sum"))
        elif quality.metric == "drift":
            found += _counts(place, it, ((around.profile or {}).get("columns", {})).get(name))
        else:
            number = it.cast(pl.Float64)
            finite = pl.when(number.is_finite()).then(number)  # a filter would copy the column
            for part in _PARTS[quality.metric]:
                found.append(_ADDED[part](finite).alias(f"_{place}_{part}"))
    return found


def add(totals: dict[str, float | None], part: Mapping[str, Any]) -> None:
    """Takes in the measures of one more part."""
    for name, value in part.items():
        before = totals.get(name)
        if value is None or before is None:
            totals[name] = value if before is None else before
        elif name.endswith((_LEAST, _MOST)):
            totals[name] = min(before, value) if name.endswith(_LEAST) else max(before, value)
        else:
            totals[name] = before + value


def told(contract: Contract, around: Around, totals: Mapping[str, float | None], rows: int) -> list[tuple[Quality, Check]]:
    """Every rule about the whole load. What could not be seen (no value, no load before) is neither passed nor failed."""
    found = []
    for place, quality in _of_loads(contract):
        value, text = _seen(place, quality, around, totals, rows)
        if value is not None and quality.metric in _PARTS and quality.columns[0] in contract.personal:
            text = "not told: it may be somebody's own"  # the ledger keeps it for ever, and a load may have one row
        found.append((quality, _told(quality, (value, text))))
    return found


def scope(quality: Quality) -> str:
    return "load: " if quality.severity in ("error", "stop") else f"{quality.severity}: "


def _of_loads(contract: Contract) -> list[tuple[int, Quality]]:
    wanted = (*AGGREGATES, *BETWEEN, "rowCount")
    return [(place, quality) for place, quality in enumerate(contract.checks) if quality.metric in wanted]


def _about_a_column(contract: Contract) -> list[tuple[int, Quality]]:
    return [(place, quality) for place, quality in _of_loads(contract) if quality.metric not in ("growth", "rowCount")]


def _counts(place: int, it: pl.Expr, like: Mapping[str, Any] | None) -> list[pl.Expr]:
    """How many values are at or below each edge, or are each of the listed ones; how many are missing; how many there are."""
    if like is None or not like.get("edges", like.get("values")):
        return []
    if like["kind"] == "number":
        number = it.cast(pl.Float64)
        finite = number.is_finite()
        bins = [(finite & (number <= edge)).sum() for edge in like["edges"]]
        missing = (~finite).fill_null(True).sum()
    else:
        text = it.cast(pl.String)
        bins = [(text == value).sum() for value in like["values"]]
        missing = text.is_null().sum()
    named = [count.alias(f"_{place}_bin{number}") for number, count in enumerate(bins)]
    return [*named, missing.alias(f"_{place}_missing"), it.len().alias(f"_{place}_n")]


def _seen(
    place: int, quality: Quality, around: Around, totals: Mapping[str, float | None], rows: int
) -> tuple[float | None, str]:
    if quality.metric == "rowCount":
        return float(rows), wording.count(rows)
    if quality.metric == "growth":
        if not around.rows or not rows:
            return None, "no load before this one" if rows else "no rows"
        return rows / around.rows, f"{rows / around.rows:.4g}: {wording.count(rows)} after {around.rows:,}"
    if quality.metric == "drift":
        return _drift(place, quality.columns[0], around, totals)
    value = {"minimum": totals.get(f"_{place}_{_LEAST}"), "maximum": totals.get(f"_{place}_{_MOST}")}.get(quality.metric)
    if quality.metric in ("sum", "distinct"):
        value = totals.get(f"_{place}_sum") or 0.0
    elif quality.metric == "mean":
        count = totals.get(f"_{place}_n") or 0
        value = (totals.get(f"_{place}_sum") or 0.0) / count if count else None
    return (None, "no value") if value is None else (value, f"{value:.6g}")


def _drift(place: int, name: str, around: Around, totals: Mapping[str, float | None]) -> tuple[float | None, str]:
    like = (around.profile or {}).get("columns", {}).get(name)
    count = int(totals.get(f"_{place}_n") or 0)
    if like is None or not count:
        return None, "no good snapshot before this one" if like is None else "no bins to count in, or no rows"
    bins = [int(totals[f"_{place}_bin{number}"] or 0) for number in range(len(like.get("edges", like.get("values"))))]
    missing = int(totals.get(f"_{place}_missing") or 0)
    if like["kind"] == "number":
        below = [0, *bins, count - missing]
        here = [high - low for low, high in pairwise(below)]
        there: Sequence[int] = [*like["counts"], like["missing"]]
    else:
        here = [*bins, count - missing - sum(bins)]
        there = [*like["counts"], like["unseen"], like["missing"]]
    value = divergence([*here, missing], there)
    return (None, "no rows to compare with") if value is None else (value, f"{value:.4f}")


def _told(quality: Quality, seen: tuple[float | None, str]) -> Check:
    value, text = seen
    wanted = bound_text(quality, "rows" if quality.metric == "rowCount" else "")
    return Check(f"{scope(quality)}{quality.name}", wanted, text, None if value is None else within_bound(quality, value))
