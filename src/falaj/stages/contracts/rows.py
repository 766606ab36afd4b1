"""Rules of rows: each thing that a contract says about a row, as one polars expression that is true where it is broken."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from falaj.core.decision import Check
from falaj.core.wording import a
from falaj.stages.contracts.contract import ROW_METRICS, Column, Contract, Quality
from falaj.stages.contracts.expression import Node

_TYPES: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "i8": pl.Int8, "i16": pl.Int16, "i32": pl.Int32, "i64": pl.Int64,
    "u8": pl.UInt8, "u16": pl.UInt16, "u32": pl.UInt32, "u64": pl.UInt64, "f32": pl.Float32, "f64": pl.Float64,
}  # fmt: skip
UTC_MS = pl.Datetime("ms", "UTC")
KINDS: Mapping[str, Any] = {
    "string": pl.String, "integer": pl.Int64, "number": pl.Float64, "boolean": pl.Boolean, "date": pl.Date, "timestamp": UTC_MS,
}  # fmt: skip
"""What a column of each kind is, where nobody says how it is stored."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_LISTED, _LONGEST_LIST = 10, 150
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "%": operator.mod,
}  # fmt: skip


Again = Mapping[tuple[str, ...], pl.Expr]
"""For columns whose values must not repeat: where a row repeats an earlier one, if that was found out before the query."""
References = Mapping[tuple[str, str], pl.Series]
"""(dataset, column) → every value that is known there."""


def instant(at: datetime) -> pl.Expr:
    """A moment to compare a column with, to the microsecond. `pl.lit` of a datetime is the same, and takes 25 times as long."""
    return pl.lit((at - _EPOCH) // timedelta(microseconds=1), dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))


@dataclass(frozen=True, slots=True)
class Rule:
    """`broken` is true for a row that breaks the rule; null and false are not. `columns`: those that it looks at."""

    name: str
    wanted: str
    broken: pl.Expr
    quality: Quality | None = None
    columns: tuple[str, ...] = ()

    @property
    def keeps_out(self) -> bool:
        return self.quality is None or (self.quality.of_rows and self.quality.severity == "error")

    @property
    def stops(self) -> bool:
        return self.quality is not None and self.quality.of_rows and self.quality.severity == "stop"


def rules_of(
    contract: Contract, schema: Mapping[str, pl.DataType], *, again: Again | None = None, references: References | None = None
) -> tuple[Rule, ...]:
    """Every rule of the contract that looks at rows, over the columns as they are after the casts.

    A reference to a dataset that is not in `references` has no rule here: nobody could see whether it is kept.
    """
    found, known = again or {}, references or {}
    rules: list[Rule] = []
    for column in contract.columns:
        rules += _column_rules(column, schema[column.name], found)
        if column.references is not None and column.references in known:
            rules.append(_reference_rule(column, known[column.references]))
    if contract.key:
        broken = found.get(contract.key, repeats(contract.key))
        rules.append(Rule(f"{', '.join(contract.key)} is the key", "no two rows with the same key", broken, None, contract.key))
    for quality in contract.checks:
        if quality.metric in ROW_METRICS:
            kind = contract.kinds.get(quality.columns[0], "") if quality.columns else ""
            wanted = _row_text(quality) if quality.of_rows else bound_text(quality)
            broken = _quality_broken(quality, kind, found)
            rules.append(Rule(quality.name, wanted, broken, quality, quality.columns or named(quality.expression)))
    return tuple(rules)


def keyed(contract: Contract) -> tuple[tuple[str, ...], ...]:
    """The columns that can only be judged beside every other row: keys, unique columns, duplicates, distinct values."""
    found = [contract.key] if contract.key else []
    found += [(column.name,) for column in contract.columns if column.unique]
    found += [quality.columns for quality in contract.checks if quality.metric in ("duplicateValues", "distinct")]
    return tuple(dict.fromkeys(found))


def named(node: Node | None) -> tuple[str, ...]:
    """The columns that an expression names, each once."""
    if node is None:
        return ()
    own = (str(node.value),) if node.op == "column" else ()
    return tuple(dict.fromkeys([*own, *(name for part in node.parts for name in named(part))]))


def expr(node: Node) -> pl.Expr:
    """A row expression as a polars expression. Any null in a comparison gives null: a rule about nothing is not broken."""
    if node.op == "column":
        return pl.col(str(node.value))
    if node.op == "value":
        return pl.lit(node.value)
    parts = [expr(part) for part in node.parts]
    if node.op in ("+", "-", "*", "/", "%"):  # in floats: unsigned and narrow integers would wrap around silently
        return _COMPARE[node.op](*(part.cast(pl.Float64) for part in parts))  # type: ignore[no-any-return]
    if node.op in ("and", "or"):
        return functools.reduce(operator.and_ if node.op == "and" else operator.or_, parts)
    if node.op in ("is null", "is not null"):
        return parts[0].is_null() if node.op == "is null" else parts[0].is_not_null()
    if node.op in ("month", "hour", "abs"):
        return {"month": parts[0].dt.month, "hour": parts[0].dt.hour, "abs": parts[0].abs}[node.op]()
    return _COMPARE[node.op](*parts)  # type: ignore[no-any-return]


def check_types(schema: Mapping[str, pl.DataType], contract: Contract, taken: tuple[str, ...] = ()) -> list[Check]:
    """Whether every column is there with the stated type. `taken`: columns without a contract that come in all the same."""
    found = []
    for column in contract.columns:
        if column.name not in schema:
            found.append(Check(f"{column.name} is there", column.kind, "no such column", False))
        elif not _fits(column, schema[column.name]):
            found.append(Check(f"{column.name} is {a(column.kind)}", column.kind, str(schema[column.name]), False))
    wanted = {column.name for column in contract.columns}
    extra = sorted(set(schema) - wanted - set(taken))
    if not found:
        seen = f"{len(wanted)}" + (f"; dropped {', '.join(extra)[:200]}, which the contract does not name" if extra else "")
        seen += f"; taken in {', '.join(taken)[:200]}, which the contract does not name" if taken else ""
        found.append(Check("columns", f"{len(wanted)} of the stated types", seen, True))
    return found


def _fits(column: Column, dtype: pl.DataType) -> bool:
    if dtype == pl.Null:
        return True
    if column.kind in ("integer", "number"):
        return dtype.is_integer() or dtype.is_float() or (column.kind == "number" and dtype.is_decimal())
    if column.kind == "timestamp":
        return isinstance(dtype, pl.Datetime) and (dtype.time_zone is not None or column.naive_is_utc)
    if column.kind == "string":
        return isinstance(dtype, (pl.String, pl.Categorical, pl.Enum))
    return isinstance(dtype, pl.Boolean if column.kind == "boolean" else pl.Date)


def cast(column: Column, dtype: pl.DataType) -> pl.Expr:
    """The column as the contract has it; a value that does not fit becomes null here and is told by its rule."""
    it = pl.col(column.name)
    if column.kind in ("integer", "number"):
        fallback = pl.Int64() if column.kind == "integer" else pl.Float64()
        native = dtype.is_integer() if column.kind == "integer" else dtype.is_float()
        return it.cast(_TYPES[column.width] if column.width else (dtype if native else fallback), strict=False)
    if column.kind == "timestamp":
        naive = isinstance(dtype, pl.Datetime) and dtype.time_zone is None
        return (it.dt.replace_time_zone("UTC") if naive else it).cast(UTC_MS)
    return it.cast({"string": pl.String, "boolean": pl.Boolean, "date": pl.Date}[column.kind])


def unfit(contract: Contract, schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """For each number column, where a value was there that is not finite, or that the cast cannot carry."""
    found = []
    for column in contract.columns:
        it, dtype = pl.col(column.name), schema[column.name]
        if column.kind not in ("integer", "number") or dtype == pl.Null:
            continue
        lost = it.is_not_null() & cast(column, dtype).is_null()
        if dtype.is_float():
            lost = lost | ~it.is_finite()
        if column.kind == "integer" and dtype.is_float():
            lost = lost | (it != it.floor())
        found.append(lost.alias(f"_unfit_{column.name}"))
    return found


def _column_rules(column: Column, dtype: pl.DataType, again: Again) -> list[Rule]:
    it, name = pl.col(column.name), column.name
    rules = []
    if column.kind in ("integer", "number") and dtype != pl.Null:
        rules.append(Rule(f"{name} is a finite {column.kind}", column.width or column.kind, pl.col(f"_unfit_{name}")))
    if column.required:
        rules.append(Rule(f"{name} is there", "not null", it.is_null()))
    if column.unique:
        rules.append(Rule(f"{name} is unique", "no value twice", again.get((name,), repeats((name,)))))
    for op, limit in column.limits:
        # NaN compares as the greatest number; `is a finite number` names it, so that a limit does not have to.
        bound = pl.lit(limit).cast(UTC_MS) if column.kind == "timestamp" else pl.lit(limit)
        rules.append(Rule(f"{name} {op} {limit}", f"{op} {limit}", ~_COMPARE[op](it, bound)))
    if column.pattern:
        rules.append(Rule(f"{name} matches", column.pattern, ~it.str.contains(column.pattern)))
    shortest, longest = column.lengths
    if shortest is not None:
        rules.append(Rule(f"{name} is long enough", f">= {shortest} characters", it.str.len_chars() < shortest))
    if longest is not None:
        rules.append(Rule(f"{name} is short enough", f"<= {longest} characters", it.str.len_chars() > longest))
    if column.multiple_of is not None:
        rules.append(
            Rule(f"{name} in steps of {column.multiple_of}", f"a multiple of {column.multiple_of}", it % column.multiple_of != 0)
        )
    return [replace(rule, columns=(name,)) for rule in rules]


def _reference_rule(column: Column, known: pl.Series) -> Rule:
    """Every value must be among the known ones. Null refers to nothing."""
    dataset, other = column.references or ("", "")
    it = pl.col(column.name)
    broken = it.is_not_null() & ~it.is_in(known.implode())
    return Rule(f"{column.name} is in {dataset}", f"a {other} of {dataset}", broken, None, (column.name,))


def repeats(columns: tuple[str, ...]) -> pl.Expr:
    """The second and later rows with the same values: the first one stays. Null equals nothing."""
    if len(columns) == 1:
        return pl.col(columns[0]).map_batches(repeats_of, return_dtype=pl.Boolean)
    whole = pl.struct(*columns)
    there = functools.reduce(operator.and_, [pl.col(name).is_not_null() for name in columns])
    return there & ~whole.is_first_distinct()


def repeats_of(values: pl.Series) -> pl.Series:
    """Where a value is one that came before. In a column that is in order, as keys mostly are, equal values are neighbours."""
    if not values.null_count() and not values.dtype.is_nested() and values.is_sorted():
        return (values == values.shift(1)).fill_null(False)
    return values.is_not_null() & ~values.is_first_distinct()


def _quality_broken(quality: Quality, kind: str, again: Again) -> pl.Expr:
    if quality.metric == "expression" and quality.expression is not None:
        return ~expr(quality.expression)
    if quality.metric == "duplicateValues":
        return again.get(quality.columns, repeats(quality.columns))
    it = pl.col(quality.columns[0])
    if quality.metric == "nullValues" or (quality.metric == "missingValues" and not quality.values):
        return it.is_null()
    if quality.metric == "invalidValues" and quality.values is None:
        return ~it.str.contains(quality.pattern)
    dtype = {"string": pl.String, "integer": pl.Int64, "number": pl.Float64, "boolean": pl.Boolean}[kind]
    listed = it.cast(dtype).is_in(
        pl.Series([value for value in quality.values or () if value is not None], dtype=dtype).implode()
    )
    return ~listed if quality.metric == "invalidValues" else it.is_null() | listed


def _row_text(quality: Quality) -> str:
    """What a row has to be, in words or as the contract states it."""
    if quality.metric == "expression":
        return quality.text or quality.name
    if quality.metric == "duplicateValues":
        return f"no two rows with the same {', '.join(quality.columns)}"
    if quality.metric == "invalidValues":
        return f"one of {_listed(quality.values)}" if quality.values is not None else quality.pattern
    others = [value for value in quality.values or () if value is not None]
    return f"not null, and none of {_listed(others)}" if others else "not null"


def _listed(values: Sequence[Any]) -> str:
    """At most so many that a reader sees what is meant."""
    text = ", ".join(str(value) for value in values[:_MOST_LISTED])
    text = f"{text[:_LONGEST_LIST]}…" if len(text) > _LONGEST_LIST else text
    rest = len(values) - _MOST_LISTED
    return f"{text} and {rest:,} more" if rest > 0 else text


def bound_text(quality: Quality, unit: str = "rows") -> str:
    bound = " and ".join(map(str, quality.bound)) if isinstance(quality.bound, tuple) else str(quality.bound)
    return f"{quality.op} {bound} {'%' if quality.percent else unit}".rstrip()


def within_bound(quality: Quality, seen: float) -> bool:
    if isinstance(quality.bound, tuple):
        low, high = quality.bound
        return (low <= seen <= high) == (quality.op == "between")
    return bool(_COMPARE[quality.op](seen, quality.bound))
