"""Shows an answer to a person: a list as a table, a word as its fields, a decision as its checks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from falaj.core.decision import Decision

_MARKS = {True: "[green]passed[/]", False: "[red]failed[/]", None: "[yellow]not seen[/]"}
_COLOURS = {"allow": "green", "deny": "red", "hold": "yellow"}


def show(result: Any, plain: Any, console: Console | None = None) -> None:
    out = console or Console(soft_wrap=True, highlight=False)
    if isinstance(result, Decision):
        _decision(result, out)
    elif isinstance(plain, Mapping):
        _fields(plain, out)
    elif isinstance(plain, Sequence) and not isinstance(plain, str):
        _list(plain, out)
    else:
        out.print(escape(str(plain)))


def _decision(decision: Decision, out: Console) -> None:
    verdict = f"[{_COLOURS[decision.verdict]}]{decision.verdict}[/]"
    out.print(f"{verdict}  {escape(str(decision.subject))}  ({escape(decision.rule)})")
    if decision.reason:
        out.print(escape(decision.reason))
    if decision.checks:
        table = _table("check", "wanted", "seen", "")
        for check in decision.checks:
            table.add_row(escape(check.name), escape(check.wanted), escape(check.seen), _MARKS[check.passed])
        out.print(table)


def _list(rows: Sequence[Any], out: Console) -> None:
    if not rows:
        out.print("none")
    elif not all(isinstance(row, Mapping) for row in rows):
        for row in rows:
            out.print(escape(_cell(row)))
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = _table(*names)
        for row in rows:
            table.add_row(*(escape(_cell(row.get(name))) for name in names))
        out.print(table)


def _fields(fields: Mapping[str, Any], out: Console) -> None:
    """Short values first, one a line; lists of objects follow as tables of their own."""
    later = {name: value for name, value in fields.items() if _is_table(value)}
    width = max((len(name) for name in fields if name not in later), default=0)
    for name, value in fields.items():
        if name not in later:
            out.print(f"[dim]{escape(name):<{width}}[/]  {escape(_cell(value))}")
    for name, value in later.items():
        out.print(f"\n[dim]{escape(name)}[/]")
        _list(value, out)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list) and not any(isinstance(item, (list, Mapping)) for item in value):
        return ", ".join(str(item) for item in value) or "–"
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, Mapping)) else str(value)


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in names:
        table.add_column(name, overflow="fold")
    return table
