"""Judging a frame by a contract: one pass over the rows finds all that breaks it, and says why for each row."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from falaj.core.decision import Check
from falaj.stages.contracts.contract import Column, Contract, Quality
from falaj.stages.contracts.expression import Node

REASONS = "_reasons"
MOST_BYTES = 24_000
"""A Decision lives in the ledger's event, whose leaf is limited: what does not fit is told as a number."""

_TYPES: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "i8": pl.Int8, "i16": pl.Int16, "i32": pl.Int32, "i64": pl.Int64,
    "u8": pl.UInt8, "u16": pl.UInt16, "u32": pl.UInt32, "u64": pl.UInt64, "f32": pl.Float32, "f64": pl.Float64,
}  # fmt: skip
UTC_MS = pl.Datetime("ms", "UTC")
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "%": operator.mod,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """`broken` is true for a row that breaks the rule; null and false are not."""

    name: str
    wanted: str
    broken: pl.Expr
    quality: Quality | None = None

    @property
    def keeps_out(self) -> bool:
        return self.quality is None or (self.quality.of_rows and self.quality.severity == "error")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a load is worth. `stopped` says why none of it may come in; then both frames are empty."""

    good: pl.DataFrame
    bad: pl.DataFrame
    """The rows that broke a rule, as they came, with `_reasons`: the names of the rules."""
    checks: tuple[Check, ...]
    rows: int
    quarantined: int
    stopped: str = ""


def check(frame: pl.DataFrame, contract: Contract, *, also: tuple[Rule, ...] = (), whole: bool = True) -> Checked:
    """Judges every row, and with `whole` the load as well. Columns that the contract does not name are dropped and told.

    Types: an integer column takes any integers, and floats whose values are whole; a number column any numbers; a string
    column strings and categories; a timestamp column times with a zone, of any unit, read to the millisecond in UTC. Text
    is never parsed into another type. A missing or wrongly typed column, or a rule that cannot be computed, stops the load.
    """
    types = _check_types(frame, contract)
    wrong = [item for item in types if item.passed is False]
    if wrong:
        return _stop(frame, _shorten(types), f"{wrong[0].name}: {wrong[0].seen}")
    try:
        rules = (*rules_of(contract, frame.schema), *also)
        casts = [_cast(column, frame.schema[column.name]).alias(column.name) for column in contract.columns]
        masks = [rule.broken.fill_null(False).alias(f"_{place}") for place, rule in enumerate(rules)]
        seen = frame.lazy().select(*_unfit(contract, frame.schema), *casts).with_columns(masks).collect()
    except pl.exceptions.PolarsError as exc:
        unseen = Check("the contract can be computed", "every rule", str(exc).splitlines()[0][:200], False)
        return _stop(frame, (*types, unseen), f"a rule cannot be computed: {unseen.seen}")
    counts = [int(seen[f"_{place}"].sum()) for place in range(len(rules))]
    checks = [
        *types,
        *(_told(rule, count, seen.height) for rule, count in zip(rules, counts, strict=True) if whole or rule.keeps_out),
    ]
    checks += [_count_rows(quality, seen.height) for quality in contract.checks if quality.metric == "rowCount" and whole]
    stops = [item for item in checks if item.passed is False and item.name.startswith("load: ")]
    if stops:
        return _stop(frame, _shorten(checks), f"{stops[0].name}: wanted {stops[0].wanted}, got {stops[0].seen}")
    return _split(frame, seen, contract, rules, _shorten(checks))


def rules_of(contract: Contract, schema: Mapping[str, pl.DataType]) -> tuple[Rule, ...]:
    """Every rule of the contract that looks at rows, over the columns as they are after the casts."""
    rules: list[Rule] = []
    for column in contract.columns:
        rules += _column_rules(column, schema[column.name])
    if contract.key:
        rules.append(Rule(f"{', '.join(contract.key)} is the key", "no two rows with the same key", _repeats(contract.key)))
    for quality in contract.checks:
        if quality.metric != "rowCount":
            kind = contract.kinds.get(quality.columns[0], "") if quality.columns else ""
            wanted = "no row" if quality.of_rows else _bound_text(quality)
            rules.append(Rule(quality.name, wanted, _quality_broken(quality, kind), quality))
    return tuple(rules)


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


def _check_types(frame: pl.DataFrame, contract: Contract) -> list[Check]:
    found = []
    for column in contract.columns:
        if column.name not in frame.columns:
            found.append(Check(f"{column.name} is there", column.kind, "no such column", False))
        elif not _fits(column, frame.schema[column.name]):
            found.append(Check(f"{column.name} is a {column.kind}", column.kind, str(frame.schema[column.name]), False))
    wanted = {column.name for column in contract.columns}
    extra = sorted(set(frame.columns) - wanted)
    if not found:
        seen = f"{len(wanted)}" + (f"; dropped {', '.join(extra)[:200]}, which the contract does not name" if extra else "")
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


def _cast(column: Column, dtype: pl.DataType) -> pl.Expr:
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


def _unfit(contract: Contract, schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """For each number column, where a value was there that is not finite, or that the cast cannot carry."""
    found = []
    for column in contract.columns:
        it, dtype = pl.col(column.name), schema[column.name]
        if column.kind not in ("integer", "number") or dtype == pl.Null:
            continue
        lost = it.is_not_null() & _cast(column, dtype).is_null()
        if dtype.is_float():
            lost = lost | ~it.is_finite()
        if column.kind == "integer" and dtype.is_float():
            lost = lost | (it != it.floor())
        found.append(lost.alias(f"_unfit_{column.name}"))
    return found


def _column_rules(column: Column, dtype: pl.DataType) -> list[Rule]:
    it, name = pl.col(column.name), column.name
    rules = []
    if column.kind in ("integer", "number") and dtype != pl.Null:
        rules.append(Rule(f"{name} is a finite {column.kind}", column.width or column.kind, pl.col(f"_unfit_{name}")))
    if column.required:
        rules.append(Rule(f"{name} is there", "not null", it.is_null()))
    if column.unique:
        rules.append(Rule(f"{name} is unique", "no value twice", _repeats((name,))))
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
    return rules


def _repeats(columns: tuple[str, ...]) -> pl.Expr:
    """The second and later rows with the same values: the first one stays. Null equals nothing."""
    whole = pl.col(columns[0]) if len(columns) == 1 else pl.struct(*columns)
    there = functools.reduce(operator.and_, [pl.col(name).is_not_null() for name in columns])
    return there & ~whole.is_first_distinct()


def _quality_broken(quality: Quality, kind: str) -> pl.Expr:
    if quality.metric == "expression" and quality.expression is not None:
        return ~expr(quality.expression)
    if quality.metric == "duplicateValues":
        return _repeats(quality.columns)
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


def _told(rule: Rule, count: int, rows: int) -> Check:
    quality = rule.quality
    seen = f"{count:,} of {rows:,} rows"
    if quality is None or (quality.of_rows and quality.severity == "error"):
        return Check(rule.name, rule.wanted, seen, count == 0)
    measured = 100 * count / rows if quality.percent and rows else float(count)
    passed = _within(quality, measured)
    return Check(f"{_scope(quality)}{quality.name}", rule.wanted, f"{measured:.4g} %" if quality.percent else seen, passed)


def _count_rows(quality: Quality, rows: int) -> Check:
    return Check(f"{_scope(quality)}{quality.name}", _bound_text(quality), f"{rows:,} rows", _within(quality, float(rows)))


def _scope(quality: Quality) -> str:
    return "load: " if quality.severity == "error" else f"{quality.severity}: "


def _within(quality: Quality, seen: float) -> bool:
    if isinstance(quality.bound, tuple):
        low, high = quality.bound
        return (low <= seen <= high) == (quality.op == "between")
    return bool(_COMPARE[quality.op](seen, quality.bound))


def _bound_text(quality: Quality) -> str:
    bound = " and ".join(map(str, quality.bound)) if isinstance(quality.bound, tuple) else str(quality.bound)
    return f"{quality.op} {bound} {'%' if quality.percent else 'rows'}"


def _shorten(checks: list[Check]) -> tuple[Check, ...]:
    """All checks, in order; where they are too many, the failed ones go before the passed ones."""
    sizes = {
        place: 60 + sum(len(text.encode()) for text in (item.name, item.wanted, item.seen)) for place, item in enumerate(checks)
    }
    kept: set[int] = set()
    room = MOST_BYTES
    for place in sorted(sizes, key=lambda place: checks[place].passed is True):
        room -= sizes[place]
        if room >= 0:
            kept.add(place)
    rest = [item for place, item in enumerate(checks) if place not in kept]
    failed = sum(item.passed is False for item in rest)
    told = (Check("further checks", "passed", f"{len(rest) - failed} passed, {failed} failed", failed == 0),) if rest else ()
    return (*(item for place, item in enumerate(checks) if place in kept), *told)


def _split(
    frame: pl.DataFrame, seen: pl.DataFrame, contract: Contract, rules: tuple[Rule, ...], checks: tuple[Check, ...]
) -> Checked:
    out = {rule.name: f"_{place}" for place, rule in enumerate(rules) if rule.keeps_out}
    broken = seen.select(pl.any_horizontal(pl.lit(False), *out.values()).alias("any"))["any"]
    names = list(contract.kinds)
    if not broken.any():
        return Checked(seen.select(names), empty(frame), checks, seen.height, 0)
    reasons = seen.filter(broken).select(
        pl.concat_list([pl.when(pl.col(mask)).then(pl.lit(name)) for name, mask in out.items()]).list.drop_nulls().alias(REASONS)
    )
    bad = frame.filter(broken).with_columns(reasons[REASONS])
    return Checked(seen.filter(~broken).select(names), bad, checks, seen.height, bad.height)


def empty(frame: pl.DataFrame) -> pl.DataFrame:
    """No rows, in the shape of the quarantine."""
    return frame.clear().with_columns(pl.Series(REASONS, [], dtype=pl.List(pl.String)))


def _stop(frame: pl.DataFrame, checks: tuple[Check, ...], reason: str) -> Checked:
    return Checked(frame.clear(), empty(frame), checks, frame.height, 0, reason)
