"""Measures of a whole load, as a contract states them: `mean(miles) between 1 and 50`, `drift(miles) <= 0.1`, `growth() < 2`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from falaj.core.errors import InvalidInput
from falaj.core.wording import a

OF_COLUMN: Mapping[str, tuple[str, ...]] = {
    # measure: the kinds of column that it takes
    "mean": ("integer", "number"),
    "minimum": ("integer", "number"),
    "maximum": ("integer", "number"),
    "sum": ("integer", "number"),
    "distinct": ("string", "integer", "number", "boolean", "timestamp", "date"),
    "drift": ("string", "integer", "number", "boolean"),
}
OF_LOAD = ("growth",)
MEASURES = (*OF_COLUMN, *OF_LOAD)

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?"
_STATED = re.compile(
    rf"\s*(?P<measure>{'|'.join(MEASURES)})\s*\((?P<column>.*)\)\s*"
    rf"(?:(?P<op><=|>=|==|!=|<|>)\s*(?P<bound>{_NUMBER})|(?P<range>between|not\s+between)\s+(?P<low>{_NUMBER})\s+and\s+(?P<high>{_NUMBER}))\s*",
    re.DOTALL,
)
_BEGINS = re.compile(rf"\s*(?:{'|'.join(MEASURES)})\s*\(")
_HINT = "write a measure and a bound, such as `mean(miles) <= 50`, `growth() between 0.5 and 2` or `drift(miles) <= 0.1`."


def is_measure(text: str) -> bool:
    return _BEGINS.match(text) is not None


def read(text: str, columns: Mapping[str, str]) -> tuple[str, tuple[str, ...], str, float | tuple[float, float]]:
    """(measure, columns, op, bound) of a text over `columns` (name → kind). Raises InvalidInput."""
    found = _STATED.fullmatch(text)
    if found is None:
        raise InvalidInput(f"The measure {text[:120]!r} cannot be read.", _HINT)
    op = found["op"] or re.sub(r"\s+", " ", found["range"])
    bound = _number(found["bound"]) if found["bound"] is not None else (_number(found["low"]), _number(found["high"]))
    if isinstance(bound, tuple) and bound[0] >= bound[1]:
        raise InvalidInput(f"The measure {text[:120]!r} lies between a number and a smaller one.", "write the smaller one first.")
    return found["measure"], _columns(found["measure"], found["column"], columns), op, bound


def write(measure: str, columns: tuple[str, ...], op: str, bound: float | tuple[float, float]) -> str:
    """The text that `read` reads back."""
    limit = f"{bound[0]!r} and {bound[1]!r}" if isinstance(bound, tuple) else repr(bound)
    return f"{measure}({', '.join(columns)}) {op} {limit}"


def _columns(measure: str, named: str, columns: Mapping[str, str]) -> tuple[str, ...]:
    if measure in OF_LOAD:
        if named.strip():
            raise InvalidInput(f"{measure}() takes no column, got {named.strip()[:80]!r}.", f"write {measure}().")
        return ()
    name = named if named in columns else named.strip()
    if name not in columns:
        raise InvalidInput(
            f"{measure}() is of {name[:80]!r}, which is no column.", f"there is: {', '.join(sorted(columns)[:20])}."
        )
    if columns[name] not in OF_COLUMN[measure]:
        raise InvalidInput(
            f"{measure}() cannot be of {a(columns[name])}.", f"{measure} takes {', '.join(OF_COLUMN[measure])} columns."
        )
    return (name,)


def _number(text: str) -> int | float:
    value = float(text) if re.search(r"[.eE]", text) else int(text)
    if not abs(value) <= 2**53:
        raise InvalidInput(f"The number {text[:40]} in the measure is too large to compare exactly.", _HINT)
    return value
