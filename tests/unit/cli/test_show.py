"""What a person sees: nothing is squeezed letter by letter, and what did not pass is not lost among what did."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from falaj.cli.show import show

ROWS = [
    {
        "place": f"schema[0].properties[{n}].logicalTypeOptions",
        "severity": "warning",
        "message": "it has " + "words " * 20,
        "hint": "x" * 60,
    }
    for n in range(3)
]


def seen(plain: Any, *, width: int = 80, terminal: bool = False) -> list[str]:
    file = io.StringIO()
    show(
        None, plain, Console(file=file, width=width, force_terminal=terminal, color_system=None, soft_wrap=True, highlight=False)
    )
    lines = file.getvalue().splitlines()
    assert terminal or lines == [line.rstrip() for line in lines]
    return [line.rstrip() for line in lines]


def decision(*checks: tuple[str, bool | None]) -> dict[str, Any]:
    told = [{"name": name, "wanted": "0", "seen": "0", "passed": passed} for name, passed in checks]
    return {"subject": "dataset/x", "rule": "contract", "verdict": "allow", "reason": "", "checks": told}


def test_what_is_no_terminal_has_no_width() -> None:
    lines = seen(ROWS)
    assert len(lines) == 1 + len(ROWS)
    assert lines[1].endswith("x" * 60)
    assert "logicalTypeOptions" in lines[1]


def test_a_table_that_does_not_fit_is_shown_row_below_row() -> None:
    lines = seen(ROWS, terminal=True)
    assert lines[0] == "place     schema[0].properties[0].logicalTypeOptions"
    assert lines[1] == "severity  warning"
    assert lines.count("") == len(ROWS) - 1


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_word_is_cut_where_a_table_is_shown(width: int) -> None:
    rows = [{"ref": "model/delay@7", "at": "2013-05-01T00:00:00Z", "why": "the model was worse than its baseline"}]
    text = " ".join(seen(rows, width=width, terminal=True))
    assert "model/delay@7" in text
    assert "2013-05-01T00:00:00Z" in text


def test_what_passed_is_a_number_and_what_did_not_is_shown() -> None:
    many = [(f"check {n}", True) for n in range(25)]
    lines = seen(decision(*many, ("late", False), ("far", None)))
    assert [line.split()[0] for line in lines[1:4]] == ["check", "late", "far"]
    assert lines[4:] == ["passed  25 checks (--json lists them)"]
    assert len(seen(decision(*many))) == 2
    assert len(seen(decision(*many[:3]))) == 5
