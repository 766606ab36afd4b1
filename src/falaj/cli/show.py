"""Shows an answer to a person: a list as a table, a word as its fields, a decision as its checks.

What is no terminal has no width: there a table is as wide as it is. Where a table does not fit into a terminal, its rows are
shown one below the other, one field a line.
"""

from __future__ import annotations

import importlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_RENDERED: Mapping[str, str] = {
    # what came out: what draws it, loaded only then
    "falaj.console.story:Story": "falaj.console.summary:summary_of",
    "falaj.stages.governance.graph:Lineage": "falaj.console.lineage_text:render",
    "falaj.stages.governance.trace:Traced": "falaj.console.trace_text:render",
}
_MARKS = {True: "[green]passed[/]", False: "[red]failed[/]", None: "[yellow]not seen[/]"}
_DIGEST = re.compile(r"\b(sha256:[0-9a-f]{12})[0-9a-f]{52}\b")
_WIDEST = 100_000
MOST_PASSED = 5
"""More passed checks than these are told as a number: who reads a decision looks for what did not pass."""

_COLOURS = {"allow": "green", "deny": "red", "hold": "yellow"}


def show(result: Any, plain: Any, console: Console | None = None) -> None:
    out = console or Console(soft_wrap=True, highlight=False)
    drawn = _RENDERED.get(f"{type(result).__module__}:{type(result).__qualname__}")
    if drawn is not None:
        module, _, name = drawn.partition(":")
        out.print(getattr(importlib.import_module(module), name)(result), soft_wrap=False)
    elif _is_decision(plain):
        _decision(plain, out)
    elif isinstance(plain, Mapping):
        _fields(plain, out)
    elif isinstance(plain, Sequence) and not isinstance(plain, str):
        _list(plain, out)
    else:
        text = str(plain)
        out.print(text, markup=False, emoji=False, end="" if text.endswith("\n") else "\n")


def _decision(decision: Mapping[str, Any], out: Console) -> None:
    verdict = f"[{_COLOURS[decision['verdict']]}]{decision['verdict']}[/]"
    out.print(f"{verdict}  {escape(str(decision['subject']))}  ({escape(decision['rule'])})")
    if decision["reason"]:
        out.print(escape(decision["reason"]))
    passed = [check for check in decision["checks"] if check["passed"] is True]
    shown = decision["checks"] if len(passed) <= MOST_PASSED else [c for c in decision["checks"] if c["passed"] is not True]
    rows = [[escape(check["name"]), escape(check["wanted"]), escape(check["seen"]), _MARKS[check["passed"]]] for check in shown]
    if rows:
        _table(("check", "wanted", "seen", ""), rows, out)
    if len(passed) > MOST_PASSED:
        out.print(f"{_MARKS[True]}  {len(passed)} checks (--json lists them)")


def _list(rows: Sequence[Any], out: Console) -> None:
    if not rows:
        out.print("none")
    elif not all(isinstance(row, Mapping) for row in rows):
        for row in rows:
            out.print(escape(_cell(row)))
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
        _table(names, [[escape(_cell(row.get(name))) for name in names] for row in rows], out)


def _fields(fields: Mapping[str, Any], out: Console) -> None:
    """Short values first, one a line; whatever has a shape of its own follows under its name."""
    later = {name: value for name, value in fields.items() if _is_shaped(value)}
    width = max((len(name) for name in fields if name not in later), default=0)
    for name, value in fields.items():
        if name not in later:
            out.print(f"[dim]{escape(name):<{width}}[/]  {escape(_cell(value))}")
    for name, value in later.items():
        out.print(f"\n[dim]{escape(name)}[/]")
        for item in value if isinstance(value, list) and _is_decision(value[0]) else [value]:
            show(None, item, out)


def _is_decision(value: Any) -> bool:
    return isinstance(value, Mapping) and {"subject", "rule", "verdict", "checks", "reason"} <= set(value)


def _is_shaped(value: Any) -> bool:
    is_table = isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)
    return is_table or (isinstance(value, Mapping) and bool(value))


def _cell(value: Any) -> str:
    """One line: digests shortened, objects as name=value. The whole of it is in --json."""
    if value is None or value in ([], {}):
        return "–"
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_cell(item)}" for name, item in value.items())
    return _DIGEST.sub(r"\1…", value) if isinstance(value, str) else json.dumps(value, default=str)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], out: Console) -> None:
    """`rows`: cells with their markup, as many as there are names."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, name in enumerate(names):
        words = [word for row in rows for word in Text.from_markup(row[place]).plain.split()]
        table.add_column(name, overflow="fold", min_width=max(map(cell_len, [name, *words])))
    for row in rows:
        table.add_row(*row)
    size = Measurement.get(out, out.options.update(max_width=_WIDEST), table)
    if not out.is_terminal:
        wide = Console(file=io.StringIO(), width=max(size.maximum, out.width), highlight=False)
        with wide.capture() as drawn:
            wide.print(table)
        for line in drawn.get().splitlines():
            out.print(line.rstrip(), markup=False, soft_wrap=True)
    elif size.minimum <= out.width and size.maximum <= 2 * out.width:
        out.print(table)
    else:
        _records(names, rows, out)


def _records(names: Sequence[str], rows: Sequence[Sequence[str]], out: Console) -> None:
    """Rows one below the other, with a line between them."""
    width = max(map(cell_len, names), default=0)
    for number, row in enumerate(rows):
        if number:
            out.print()
        for name, cell in zip(names, row, strict=True):
            out.print(f"[dim]{escape(name)}{' ' * (width - cell_len(name))}[/]  {cell}")
