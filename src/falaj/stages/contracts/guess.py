"""What a column's values look like: kind, range with slack, list of values, form of texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

import polars as pl

from falaj.stages.contracts import personal
from falaj.stages.contracts.contract import Limit

MOST_LISTED = 20
SAMPLED = 10_000
"""Texts that are looked at before all are: most columns have no form, and one text shows it."""

_FORMS: Mapping[str, str] = {
    # in this order: the first that all values keep
    "a UUID": r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    "an ISO 8601 date": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    "an ISO 8601 time": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?$",
    **personal.FORMS,
}
_LETTERS: Mapping[str, str] = {"digits": "0-9", "capital letters": "A-Z", "small letters": "a-z", "capitals and digits": "0-9A-Z"}
_NAMES = re.compile(r"(?:^|_)(?:id|key|code|uuid|guid|no|nr|number|tailnum)$|[a-z]Id$", re.IGNORECASE)
_EXACT = 2**53


def kind_of(dtype: pl.DataType) -> str | None:
    """The logical type of a contract that takes such values; None where there is none."""
    if dtype.is_integer():
        return "integer"
    if dtype.is_float() or dtype.is_decimal():
        return "number"
    if isinstance(dtype, pl.Datetime):
        return "timestamp"
    kinds: Mapping[type, str] = {pl.Date: "date", pl.Boolean: "boolean", pl.String: "string", pl.Categorical: "string"}
    kinds = {**kinds, pl.Enum: "string", pl.Null: "string"}
    return kinds.get(type(dtype))


def is_name(column: str) -> bool:
    """Whether a column's own name says that it names things."""
    return _NAMES.search(column) is not None


def form_of(texts: pl.Series) -> tuple[str, str]:
    """A well-known form that every text keeps, and its pattern; two empty texts for none."""
    if not len(texts):
        return "", ""
    for form, pattern in _FORMS.items():
        if texts.head(SAMPLED).str.contains(pattern).all() and texts.str.contains(pattern).all():
            return form, pattern
    return "", ""


def shape_of(texts: pl.Series) -> tuple[str, str]:
    """Texts of one length and one kind of letters, such as `^[A-Z]{3}$`."""
    lengths = texts.str.len_chars()
    size = lengths.min()
    if not isinstance(size, int) or size < 2 or size != lengths.max() or texts.n_unique() < 2:
        return "", ""
    for what, letters in _LETTERS.items():
        pattern = f"^[{letters}]{{{size}}}$"
        if texts.str.contains(pattern).all():
            return f"{size} {what}", pattern
    return "", ""


def values_of(texts: pl.Series) -> tuple[str, ...] | None:
    """The values, where there are few and each comes often: then another one is news."""
    distinct = texts.unique()
    few = min(MOST_LISTED, len(texts) // 10)
    return tuple(sorted(distinct.to_list())) if 0 < len(distinct) <= few else None


def range_of(series: pl.Series, kind: str, *, is_name: bool) -> tuple[tuple[tuple[str, Limit], ...], list[str]]:
    """Limits around what was seen, a tenth of the range further out, at readable numbers. A name of things has no upper end."""
    if kind not in ("integer", "number"):
        return (), []
    there = series.drop_nulls()
    notes: list[str] = []
    if series.dtype.is_float():
        finite = there.filter(there.is_finite())
        if len(finite) < len(there):
            notes.append(f"{len(there) - len(finite):,} values are not finite; such rows are always kept out.")
        there = finite
    low, high = there.min(), there.max()
    if low is None or high is None:
        return (), notes
    first, last = Decimal(str(low)), Decimal(str(high))
    lower, upper = _around(first, last)
    limits: list[tuple[str, Limit]] = []
    ends = _ends(series.dtype)
    if abs(lower) <= _EXACT and (ends is None or lower > ends[0] or ends[0] == 0):
        limits.append((">=", _plain(lower, kind, "ROUND_FLOOR")))
    if not is_name and abs(upper) <= _EXACT and (ends is None or upper < ends[1]):
        limits.append(("<=", _plain(upper, kind, "ROUND_CEILING")))
    kept = tuple((op, limit) for op, limit in limits if (limit <= low if op == ">=" else limit >= high))  # type: ignore[operator]
    if ends is not None and ends[0] == 0:
        kept = tuple((op, limit) for op, limit in kept if not (op == ">=" and limit == 0))  # an unsigned number says so itself
    return kept, notes


def _around(first: Decimal, last: Decimal) -> tuple[Decimal, Decimal]:
    """A tenth further out on both sides, rounded outwards to one step of about a tenth; never across zero."""
    spread = last - first or max(abs(first), Decimal(1))
    step = Decimal(1).scaleb(spread.adjusted() - 1)
    step *= 5 if spread / step >= 50 else 2 if spread / step >= 20 else 1
    lower = ((first - spread / 10) / step).to_integral_value("ROUND_FLOOR") * step
    upper = ((last + spread / 10) / step).to_integral_value("ROUND_CEILING") * step
    if first >= 0 > lower:
        lower = Decimal(0)
    if last <= 0 < upper:
        upper = Decimal(0)
    return lower, upper


def _plain(value: Decimal, kind: str, rounding: str) -> int | float:
    whole = value.to_integral_value(rounding)
    return int(whole) if kind == "integer" or value == whole else float(value)


def _ends(dtype: pl.DataType) -> tuple[int, int] | None:
    if not dtype.is_integer() or not isinstance(dtype, (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)):
        return None
    bits = int("".join(letter for letter in str(dtype) if letter.isdigit()))
    return (0, 2**bits - 1) if str(dtype).startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
