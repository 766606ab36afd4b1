"""What changed in the columns of a contract: types, nulls, limits, patterns, classification, references."""

from __future__ import annotations

from collections.abc import Iterator

from falaj.core.masking import LEVELS
from falaj.stages.contracts.bounds import RANGES, compared, edges
from falaj.stages.contracts.contract import Column, Contract
from falaj.stages.contracts.edit import Edit, both, consumers, nobody, producers, sided, wording


def column_changes(old: Contract, new: Contract) -> Iterator[Edit]:
    for column in old.columns:
        after = new.column(column.name)
        if after is None:
            yield consumers(column.name, "column removed", column.kind, "", "whoever reads it finds nothing")
        else:
            yield from _column(column, after)
    for column in new.columns:
        if old.column(column.name) is None:
            yield producers(column.name, "column added", "", column.kind, "a load without it is denied")


def level(place: str, was: str, now: str) -> Edit:
    """A classification that changed: a higher one keeps people out who could read before."""
    one, other = (LEVELS.index(text.lower()) if text.lower() in LEVELS else None for text in (was, now))
    if not was and other is not None:
        one = 0
    if not now:
        return nobody(place, "classification removed", was, now, "more people may read it: ask who decides that")
    if one is None or other is None:
        return consumers(place, "classification changed", was, now, "who may read it cannot be compared")
    if other > one:
        return consumers(place, "classification raised", was, now, "fewer people may read it")
    if other == one:
        return wording(place, "classification stated", was, now, "it means the same")
    return nobody(place, "classification lowered", was, now, "more people may read it: ask who decides that")


def _column(old: Column, new: Column) -> Iterator[Edit]:
    name = old.name
    if old.kind != new.kind:
        yield _kind(old, new)
    elif old.width != new.width:
        yield _width(old, new)
    for what, one, other, why in (
        ("required", old.required, new.required, "nulls"),
        ("unique", old.unique, new.unique, "repeated values"),
    ):
        if other and not one:
            yield producers(name, f"{what} added", "", what, f"{why} are kept out")
        elif one and not other:
            yield consumers(name, f"{what} removed", what, "", f"{why} can come now")
    if old.limits != new.limits and (old.kind == new.kind or {old.kind, new.kind} == {"integer", "number"}):
        tightened, loosened = compared(edges(old.limits), edges(new.limits))
        yield sided(f"{name} limits", _limits(old), _limits(new), tightened=tightened, loosened=loosened)
    yield from _text_rules(old, new)
    if old.multiple_of != new.multiple_of:
        yield _multiple(old, new)
    if old.naive_is_utc != new.naive_is_utc:
        make = nobody if new.naive_is_utc else producers
        yield make(
            name, "times without a zone", _naive(old), _naive(new), "more comes in" if new.naive_is_utc else "they are refused"
        )
    if old.classification != new.classification:
        yield level(f"{name} classification", old.classification, new.classification)
    if old.subject != new.subject:
        what, why = ("added", "rows to come are sealed") if new.subject else ("removed", "rows to come can be erased no more")
        yield nobody(f"{name} subject", f"subject {what}", old.subject, new.subject, why)
    if old.references != new.references:
        yield _references(old, new)
    if old.description != new.description:
        yield wording(name, "description changed", old.description[:80], new.description[:80], "for people")


def _kind(old: Column, new: Column) -> Edit:
    place, was, now = f"{old.name} type", old.kind, new.kind
    if (was, now) == ("integer", "number"):
        return consumers(place, "type widened", was, now, "fractions can come where whole numbers were promised")
    if (was, now) == ("number", "integer"):
        return producers(place, "type narrowed", was, now, "fractions are kept out")
    return both(place, "type changed", was, now, "nothing that reads or writes the one fits the other")


def _width(old: Column, new: Column) -> Edit:
    place, was, now = f"{old.name} width", old.width, new.width
    if old.kind == "number":
        # A single is a double with fewer digits; without a width numbers stay as they come.
        tightened, loosened = now == "f32" or (not was and now == "f64"), was == "f32" or not now
        if now == "f64" and not was:
            return nobody(place, "width stated", was, now, "numbers are stored as doubles")
    else:
        anything = (-(2**64), 2**64)
        one, other = (RANGES.get(width, anything) for width in (was, now))
        tightened, loosened = compared(_range(one), _range(other))
    if tightened and loosened:
        return both(place, "width changed", was, now, "neither holds all of the other")
    if tightened:
        return producers(place, "type narrowed", was, now, "numbers that do not fit are kept out")
    return consumers(place, "type widened", was, now, "numbers can come that did not fit before")


def _range(ends: tuple[int, int]) -> tuple[tuple[float, bool], tuple[float, bool]]:
    return (ends[0], True), (ends[1], True)


def _text_rules(old: Column, new: Column) -> Iterator[Edit]:
    place = f"{old.name} pattern"
    if old.pattern != new.pattern:
        if not old.pattern:
            yield producers(place, "pattern added", "", new.pattern, "texts of another form are kept out")
        elif not new.pattern:
            yield consumers(place, "pattern removed", old.pattern, "", "texts of any form can come")
        else:
            yield both(place, "pattern changed", old.pattern, new.pattern, "the two cannot be compared")
    if old.lengths != new.lengths:
        one, other = (edges(_lengths(column)) for column in (old, new))
        tightened, loosened = compared(one, other)
        yield sided(f"{old.name} length", _length(old), _length(new), tightened=tightened, loosened=loosened)


def _lengths(column: Column) -> tuple[tuple[str, int], ...]:
    shortest, longest = column.lengths
    return ((">=", shortest or 0), *((("<=", longest),) if longest is not None else ()))


def _length(column: Column) -> str:
    return " to ".join("" if end is None else str(end) for end in column.lengths)


def _multiple(old: Column, new: Column) -> Edit:
    place, one, other = f"{old.name} multipleOf", old.multiple_of, new.multiple_of
    if one is None or (other is not None and other % one == 0):
        return producers(place, "step added or coarser", one, other, "values between the steps are kept out")
    if other is None or one % other == 0:
        return consumers(place, "step removed or finer", one, other, "values between the steps can come")
    return both(place, "step changed", one, other, "neither step holds all of the other")


def _references(old: Column, new: Column) -> Edit:
    place = f"{old.name} reference"
    was, now = (".".join(column.references or ()) for column in (old, new))
    if not was:
        return producers(place, "reference added", was, now, "values that are not there are kept out")
    if not now:
        return consumers(place, "reference removed", was, now, "a join can find nothing")
    return both(place, "reference changed", was, now, "it points to another dataset")


def _limits(column: Column) -> str:
    return ", ".join(f"{op} {limit}" for op, limit in column.limits)


def _naive(column: Column) -> str:
    return "are UTC" if column.naive_is_utc else "are refused"
