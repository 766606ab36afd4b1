"""A trace on the terminal: hop by hop, facts first, and of the checks those that a person has to know."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from falaj.core.decision import Check
from falaj.core.moments import iso

if TYPE_CHECKING:
    from rich.console import RenderableType

    from falaj.stages.governance.hop import Hop
    from falaj.stages.governance.trace import Traced

_VERDICTS = {
    "allow": ("green", "proven: every link was checked and holds"),
    "hold": ("yellow", "not all of it can be seen yet; what can be seen holds"),
    "deny": ("red", "NOT proven: something is missing or was changed"),
}
_MARKS = {True: ("✓", "green"), None: ("○", "yellow"), False: ("✗", "red")}
_LONG = 160


def render(traced: Traced) -> RenderableType:
    """The trace as rich shows it."""
    from rich.console import Group
    from rich.text import Text

    colour, said = _VERDICTS[traced.verdict]
    head = Text.assemble(("prediction ", "dim"), (traced.prediction, "bold"), ("  ·  ", "dim"), (said, f"bold {colour}"))
    hops = [_hop(number, hop) for number, hop in enumerate(traced.hops, 1)]
    return Group(head, *hops, _approvals(traced), _ledger(traced))


def _hop(number: int, hop: Hop) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    mark, colour = _MARKS[hop.passed]
    good = sum(check.passed is True for check in hop.checks)
    title = Text.assemble(
        (f"\n{number} ", "dim"),
        (hop.title, "bold"),
        ("  "),
        (mark, colour),
        (f" {good} of {len(hop.checks)} checks passed", "dim"),
    )
    return Group(title, Padding(_facts(hop.facts), (0, 0, 0, 2)), Padding(_checks(hop.checks), (0, 0, 0, 2)))


def _facts(facts: Mapping[str, Any]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(Text(name.replace("_", " ")), Text(shown(value)))
    return table


def _checks(checks: Sequence[Check]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    told = [check for check in checks if check.passed is not True]
    lines = []
    for check in told:
        mark, colour = _MARKS[check.passed]
        lines.append(Text.assemble((f"{mark} {check.name}: ", colour), (check.seen), (f"  (wanted: {check.wanted})", "dim")))
    return Group(*lines)


def _approvals(traced: Traced) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=None, title="\nwho let it pass", title_justify="left", title_style="bold", show_header=False, pad_edge=False
    )
    for approval in traced.approvals:
        table.add_row(
            Text(iso(approval.at)[:16].replace("T", " ")), Text(approval.by), Text(approval.what), Text(f"event {approval.event}")
        )
    return table


def _ledger(traced: Traced) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    failed = [check for check in traced.ledger if check.passed is not True]
    size = traced.checkpoint.split("\n")[1] if traced.checkpoint.count("\n") > 1 else "0"
    whole = Text(f"\nledger: proven against a signed checkpoint of {size} events", style="dim")
    return Group(whole, _checks(failed))


def shown(value: Any) -> str:
    """A fact in one line; long ones are cut, the whole of them is in `--json`."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        text = ", ".join(f"{name} {_inner(item)}" for name, item in value.items())
    elif isinstance(value, (list, tuple)):
        text = ", ".join(map(_inner, value))
    else:
        text = str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _inner(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (Mapping, list)) else str(value)
