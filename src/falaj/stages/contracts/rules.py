"""Judging a load by a contract: one pass over the rows finds all that breaks it, and says why for each row."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from falaj.core import wording
from falaj.core.decision import Check
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.figures import Around, add, measures, scope, told
from falaj.stages.contracts.rows import Again, References, Rule, cast, check_types, expr, rules_of, unfit, within_bound

REASONS = "_reasons"
ROW = "_row"
"""Where a row in quarantine stood in its load, counted from 0."""
MOST_BYTES = 24_000
"""A Decision lives in the ledger's event, whose leaf is limited: what does not fit is told as a number."""
MOST_SHOWN = 10
"""So many rows of each failed check are named and shown in the report."""

__all__ = [
    "MOST_BYTES", "REASONS", "ROW", "Around", "Checked", "Finding", "Judge", "Rule", "Seen", "check", "expr", "rules_of",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """Which rows broke a rule: the first of them by their number in the load, with the columns that the rule looks at."""

    rule: str
    wanted: str
    count: int
    rows: tuple[int, ...]
    sample: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a load is worth. `stopped` says why none of it may come in; then both frames are empty."""

    good: pl.DataFrame
    bad: pl.DataFrame
    """The rows that broke a rule, as they came, with `_reasons`, the names of the rules, and `_row`, their place in the load."""
    checks: tuple[Check, ...]
    rows: int
    quarantined: int
    stopped: str = ""
    findings: tuple[Finding, ...] = ()
    every: tuple[Check, ...] = ()
    """All checks; `checks` are those that a Decision has room for."""


def check(
    frame: pl.DataFrame, contract: Contract, *, also: tuple[Rule, ...] = (), whole: bool = True, around: Around | None = None
) -> Checked:
    """Judges every row, and with `whole` the load as well. Columns that the contract does not name are dropped and told.

    Types: an integer column takes any integers, and floats whose values are whole; a number column any numbers; a string
    column strings and categories; a timestamp column times with a zone, of any unit, read to the millisecond in UTC. Text
    is never parsed into another type. A missing or wrongly typed column, or a rule that cannot be computed, stops the load.
    """
    judge = Judge(contract, frame.schema, also=also, whole=whole, around=around or Around())
    seen = judge.look(frame)
    checks = judge.checks()
    if judge.stopped or seen is None:
        stopped = judge.stopped
        return Checked(
            frame.clear(), empty(frame), shorten(checks), frame.height, 0, stopped, tuple(judge.findings()), tuple(checks)
        )
    bad = judge.bad(seen)
    return Checked(judge.good(seen), bad, shorten(checks), frame.height, bad.height, "", tuple(judge.findings()), tuple(checks))


@dataclass(frozen=True, slots=True)
class Seen:
    """One part that was looked at. `at`: which of its rows break anything; `marks`: what these break, row for row."""

    rows: pl.DataFrame
    start: int
    at: pl.Series
    marks: pl.DataFrame
    frame: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be asked of rows of one schema by one contract; made once, it can be asked as often as there are parts."""

    rules: tuple[Rule, ...]
    casts: tuple[pl.Expr, ...]
    unfit: tuple[pl.Expr, ...]
    masks: tuple[pl.Expr, ...]


def plan_of(
    contract: Contract, schema: Mapping[str, pl.DataType], *, again: Again | None = None, references: References | None = None
) -> Plan:
    """Raises a PolarsError where a rule cannot be stated. Every column of the contract has to be in the schema."""
    rules = rules_of(contract, schema, again=again, references=references)
    casts = [cast(column, schema[column.name]).alias(column.name) for column in contract.columns]
    return Plan(rules, tuple(casts), tuple(unfit(contract, schema)), _masks(rules))


def _masks(rules: tuple[Rule, ...], start: int = 0) -> tuple[pl.Expr, ...]:
    return tuple(rule.broken.fill_null(False).alias(f"_{place}") for place, rule in enumerate(rules, start))


@dataclass(slots=True)
class _Tally:
    """What one rule has seen so far."""

    count: int = 0
    rows: list[int] = field(default_factory=list)
    sample: list[Mapping[str, Any]] = field(default_factory=list)


class Judge:
    """Looks at the parts of a load one by one and adds up what it sees, so that a part is all it ever holds.

    `taken`: columns without a contract that come in as they are. `again`: for a load of several parts, where a row repeats
    an earlier one, as columns of the parts. `whole` False: only rows are judged, each by itself. `plan`: where it was made
    before, for the same contract and schema.
    """

    def __init__(
        self, contract: Contract, schema: Mapping[str, pl.DataType], *, also: tuple[Rule, ...] = (), whole: bool = True,
        around: Around | None = None, taken: tuple[str, ...] = (), again: Again | None = None, plan: Plan | None = None,
    ) -> None:  # fmt: skip
        self.contract, self.whole, self.around = contract, whole, around or Around()
        self.names = [*contract.kinds, *taken]
        self.rows = 0
        self.stopped = ""
        self._again = again or {}
        self._types = check_types(schema, contract, taken)
        self._totals: dict[str, float | None] = {}
        self.rules: tuple[Rule, ...] = ()
        self._tallies: list[_Tally] = []
        wrong = [item for item in self._types if item.passed is False]
        if wrong:
            self.stopped = f"{wrong[0].name}: {wrong[0].seen}"
            return
        try:
            plan = plan or plan_of(contract, schema, again=self._again, references=self.around.references)
            self.plan = plan
            self.rules = (*plan.rules, *also)
            self._casts = [*plan.casts, *(pl.col(name) for name in taken)]
            self._unfit = plan.unfit
            self._masks = [*plan.masks, *_masks(also, len(plan.rules))]
            self._measures = measures(contract, self.around, self._again) if whole else []
        except pl.exceptions.PolarsError as exc:
            self._fail(exc)
            self.rules = ()
        self._tallies = [_Tally() for _ in self.rules]

    def look(self, frame: pl.DataFrame) -> Seen | None:
        """What each rule says of the part, with its columns cast; None where the load is stopped."""
        start, self.rows = self.rows, self.rows + frame.height
        if self.stopped:
            return None
        again = [_name(column) for column in self._again.values()]
        query = frame.lazy().select(*self._unfit, *self._casts, *again)
        try:
            if self._measures and frame.height:  # one value each, which polars keeps as one value beside the rows
                rows = query.with_columns(*self._masks, *self._measures).collect()
                first = rows[:1]
                add(self._totals, {name: first[name][0] for name in map(_name, self._measures)})
            else:
                rows = query.with_columns(self._masks).collect()
        except pl.exceptions.PolarsError as exc:
            self._fail(exc)
            return None
        counts = [int(rows[f"_{place}"].sum()) for place in range(len(self.rules))]
        found = [place for place, count in enumerate(counts) if count]
        at = _any([rows[f"_{place}"] for place in found]).arg_true() if found else pl.Series([], dtype=pl.UInt32)
        seen = Seen(rows, start, at, rows[[f"_{place}" for place in found]][at], frame)
        for place in found:
            self._count(place, counts[place], seen)
        return seen

    def good(self, seen: Seen) -> pl.DataFrame:
        """The rows that came through, as the contract has them."""
        broken = self.broken(seen)
        rows = seen.rows[self.names]
        return rows if broken is None else rows.filter(~broken)

    def cast(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows that came through, as the contract has them."""
        return frame.lazy().select(self._casts).collect()

    def broken(self, seen: Seen) -> pl.Series | None:
        """True for each row that is kept out; None where there is none."""
        out = self._out(seen)
        return _any([seen.rows[name] for name in out]) if out else None

    def bad(self, seen: Seen) -> pl.DataFrame:
        """The rows that are kept out, as they came, with `_reasons` and their place in the load."""
        out = self._out(seen)
        own = [name for name in seen.frame.columns if name not in (REASONS, ROW) and not name.startswith("_again_")]
        if not out:
            return empty(seen.frame.select(own))
        broken = _any([seen.marks[name] for name in out])
        at = seen.at.filter(broken)
        reasons = pl.concat_list([pl.when(pl.col(mask)).then(pl.lit(name)) for mask, name in out.items()])
        told = seen.marks.filter(broken).select(reasons.list.drop_nulls().alias(REASONS))[REASONS]
        return seen.frame[own][at].with_columns(told, (at.cast(pl.Int64) + seen.start).alias(ROW))

    def checks(self) -> list[Check]:
        """What was asked and seen, over all parts. Sets `stopped` where a rule about the whole load is broken."""
        if self.stopped:
            return self._types
        found = [*self._types]
        for rule, tally in zip(self.rules, self._tallies, strict=True):
            if self.whole or self._keeps_out(rule):
                found.append(_told(rule, tally.count, self.rows, self._keeps_out(rule)))
        found += [
            Check(f"{column.name} is in {dataset}", f"a {other} of {dataset}", f"{dataset} is not at hand", None)
            for column in self.contract.columns
            if column.references is not None and column.references not in self.around.references
            for dataset, other in [column.references]
        ]
        if self.whole:
            found += [item for _quality, item in told(self.contract, self.around, self._totals, self.rows)]
        stops = [item for item in found if item.passed is False and item.name.startswith("load: ")]
        if stops:
            self.stopped = f"{stops[0].name}: wanted {stops[0].wanted}, got {stops[0].seen}"
        return found

    def findings(self) -> list[Finding]:
        """Of each rule that was broken, the first rows that broke it."""
        return [
            Finding(rule.name, rule.wanted, tally.count, tuple(tally.rows), tuple(tally.sample))
            for rule, tally in zip(self.rules, self._tallies, strict=True)
            if tally.count
        ]

    def _keeps_out(self, rule: Rule) -> bool:
        return rule.keeps_out or (rule.stops and not self.whole)

    def _out(self, seen: Seen) -> dict[str, str]:
        """Of each rule that keeps rows of this part out: the column that says which, and its name."""
        broken = set(seen.marks.columns)
        return {f"_{n}": rule.name for n, rule in enumerate(self.rules) if f"_{n}" in broken and self._keeps_out(rule)}

    def _count(self, place: int, count: int, seen: Seen) -> None:
        tally = self._tallies[place]
        tally.count += count
        room = MOST_SHOWN - len(tally.rows)
        if room <= 0:
            return
        at = seen.at.filter(seen.marks[f"_{place}"]).head(room)
        columns = dict.fromkeys([*self.contract.key, *self.rules[place].columns])
        names = [name for name in columns if name in seen.frame.columns]
        tally.rows += [seen.start + number for number in at.to_list()]
        tally.sample += seen.frame[names][at].to_dicts() if names else []

    def _fail(self, exc: Exception) -> None:
        """A rule that cannot be computed stops the load: nobody knows what it would have kept out."""
        # polars may quote a value, which no ledger may keep where rows are about people
        said = type(exc).__name__ if self.contract.personal else str(exc).splitlines()[0][:200]
        unseen = Check("the contract can be computed", "every rule", said, False)
        self._types.append(unseen)
        self.stopped = f"a rule cannot be computed: {unseen.seen}"


def empty(frame: pl.DataFrame) -> pl.DataFrame:
    """No rows, in the shape of the quarantine."""
    return frame.clear().with_columns(pl.Series(REASONS, [], dtype=pl.List(pl.String)), pl.Series(ROW, [], dtype=pl.Int64))


def shorten(checks: list[Check]) -> tuple[Check, ...]:
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


def _told(rule: Rule, count: int, rows: int, keeps_out: bool) -> Check:
    quality = rule.quality
    seen = f"{count:,} of {wording.count(rows)}"
    if quality is None or keeps_out:
        return Check(rule.name, rule.wanted, seen, count == 0)
    measured = 100 * count / rows if quality.percent and rows else float(count)
    passed = within_bound(quality, measured)
    return Check(f"{scope(quality)}{quality.name}", rule.wanted, f"{measured:.4g} %" if quality.percent else seen, passed)


def _any(masks: list[pl.Series]) -> pl.Series:
    return functools.reduce(operator.or_, masks)


def _name(expression: pl.Expr) -> str:
    return expression.meta.output_name()
