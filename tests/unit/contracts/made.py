"""Contracts that hypothesis makes: whatever a contract can say, in any combination."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import strategies as st

from falaj.stages.contracts import expression, measure
from falaj.stages.contracts.contract import Column, Contract, Quality

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
_NAMES = st.one_of(st.from_regex(r"\A[a-z][a-z0-9_]{0,8}\Z"), _TEXTS).filter(lambda name: not name.startswith("_"))
_NUMBERS = st.one_of(st.integers(-(2**53), 2**53), st.floats(-1e15, 1e15, allow_nan=False))
_MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
_LIMITS: dict[str, Any] = {
    "integer": _NUMBERS,
    "number": _NUMBERS,
    "timestamp": _MOMENTS,
    "date": st.dates(date(1, 1, 1)),
}
_WIDTHS = {"integer": ("", "i8", "i64", "u16"), "number": ("", "f32", "f64")}
_VALUES: dict[str, Any] = {
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    "integer": st.integers(-99, 99),
}
_VALUES |= {"number": _NUMBERS, "boolean": st.booleans()}
_SEVERITIES = st.sampled_from(["error", "stop", "warning", "info"])
_PATTERNS = ["^[a-z]+$", "x", r"^\d{4}-\d{2}$", "'\"#: ,", "^é\t$"]


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    names = draw(st.lists(_NAMES, min_size=1, max_size=5, unique=True))
    key = tuple(draw(st.lists(st.sampled_from(names), max_size=3, unique=True)))
    columns = tuple(draw(_columns(name, name in key)) for name in names)
    whose = draw(st.none() | st.sampled_from(names))
    columns = tuple(replace(c, subject=c.name == whose and c.kind in ("string", "integer")) for c in columns)
    found = {check.name: check for check in draw(st.lists(_checks(columns), max_size=6))}
    at_columns = ("nullValues", "missingValues", "invalidValues")
    # As a file has them: the rules of each column, in the columns' order, then those of the table.
    own = [c for n in names for c in found.values() if (c.metric in at_columns or _is_single(c)) and c.columns[0] == n]
    checks = (*own, *(check for check in found.values() if check not in own))
    times = [column.name for column in columns if column.kind == "timestamp"]
    return Contract(
        name=draw(_NAMES),
        version=draw(st.from_regex(r"\A[0-9]\.[0-9]\.[0-9]\Z") | _TEXTS),
        owner=draw(st.just("") | _TEXTS),
        columns=columns,
        checks=checks,
        key=key,
        sla=draw(_promises(times)),
        labels=draw(st.dictionaries(_TEXTS.filter(lambda n: n != "retention"), _labels(), max_size=3)),
        id=draw(_TEXTS),
        status=draw(st.sampled_from(["draft", "active", "retired"])),
        description=draw(st.just("") | _TEXTS),
    )


def _is_single(check: Quality) -> bool:
    return check.metric == "duplicateValues" and len(check.columns) == 1


@st.composite
def _columns(draw: st.DrawFn, name: str, in_key: bool) -> Column:
    kind = draw(st.sampled_from(["string", "integer", "number", "boolean", "timestamp", "date"]))
    limits = tuple((op, draw(_LIMITS[kind])) for op in (">=", ">", "<=", "<") if kind in _LIMITS and draw(st.booleans()))
    is_text, counts = kind == "string", kind in _WIDTHS
    return Column(
        name=name,
        kind=kind,
        required=in_key or draw(st.booleans()),
        unique=draw(st.booleans()),
        width=draw(st.sampled_from(_WIDTHS[kind])) if counts else "",
        limits=limits,
        pattern=draw(st.sampled_from(["", *_PATTERNS])) if is_text else "",
        lengths=(draw(_lengths), draw(_lengths)) if is_text else (None, None),
        multiple_of=draw(st.none() | st.integers(1, 100) | st.floats(0.001, 100)) if counts else None,
        naive_is_utc=draw(st.booleans()) if kind == "timestamp" else False,
        classification=draw(st.just("") | _TEXTS),
        references=draw(st.none() | st.sampled_from([("planes", "tailnum"), ("p-1", "X_y")])),
        description=draw(st.just("") | _TEXTS),
    )


_lengths = st.none() | st.integers(0, 99)


@st.composite
def _checks(draw: st.DrawFn, columns: tuple[Column, ...]) -> Quality:
    column = draw(st.sampled_from(columns))
    kinds = {c.name: c.kind for c in columns}
    name, severity = draw(_TEXTS), draw(_SEVERITIES)
    op = draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "between", "not between"]))
    bound = draw(_bounds(op))
    possible = [name for name, taken in measure.OF_COLUMN.items() if column.kind in taken]
    metric = draw(
        st.sampled_from(["nullValues", "missingValues", "duplicateValues", "rowCount", "growth", "expression", *possible])
    )
    if metric in ("growth", *measure.OF_COLUMN):
        about = () if metric == "growth" else (column.name,)
        return Quality(name, metric, about, op, bound, severity=severity)
    if metric == "rowCount":
        return Quality(name, metric, (), op, bound, severity=severity)
    if metric == "expression":
        text = _expression(column)
        return Quality(name, metric, severity=severity, expression=expression.read(text, kinds), text=text)
    if metric == "duplicateValues":
        about = tuple(draw(st.lists(st.sampled_from([c.name for c in columns]), min_size=1, max_size=3, unique=True)))
        return Quality(name, metric, about, op, bound, draw(st.booleans()), severity)
    values = None
    if metric == "missingValues" and column.kind in _VALUES:
        values = draw(st.none() | st.lists(st.none() | _VALUES[column.kind], max_size=3).map(tuple))
    if metric == "nullValues" and column.kind in _VALUES and draw(st.booleans()):
        metric, values = "invalidValues", tuple(draw(st.lists(_VALUES[column.kind], max_size=3)))
    return Quality(name, metric, (column.name,), op, bound, draw(st.booleans()), severity, values)


def _expression(column: Column) -> str:
    """Only names that Python could have can be written in an expression."""
    import keyword

    usable = column.name.isidentifier() and column.name.isascii() and not keyword.iskeyword(column.name) and column.name != "null"
    return f"({column.name} is null) or {column.name} is not null" if usable else "1 <= 2 < 3"


@st.composite
def _bounds(draw: st.DrawFn, op: str) -> Any:
    if "between" not in op:
        return draw(_NUMBERS)
    low, high = sorted([draw(_NUMBERS), draw(_NUMBERS)])
    return (low, high if high > low else low + 1) if low < 2**53 else (0, low)


def _labels() -> Any:
    return st.one_of(_TEXTS, st.booleans(), _NUMBERS, st.lists(_TEXTS, max_size=3))


@st.composite
def _promises(draw: st.DrawFn, times: list[str]) -> dict[str, Any]:
    spans = st.fixed_dictionaries(
        {
            "value": st.integers(1, 90) | st.floats(0.5, 90),
            "unit": st.sampled_from(["h", "days", "y", "min"]),
            "element": st.sampled_from(["", *times]),
        }
    )
    free = st.fixed_dictionaries(
        {"value": st.booleans() | _NUMBERS | _TEXTS, "unit": st.just("") | _TEXTS, "element": st.just("")}
    )
    kept = draw(st.dictionaries(st.sampled_from(["latency", "freshness", "retention"]), spans, max_size=2))
    return kept | draw(
        st.dictionaries(_TEXTS.filter(lambda name: name not in ("latency", "freshness", "retention")), free, max_size=2)
    )
