"""One measured figure, with what it is compared with and what it may be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """`against`: what the same machine needs for the least that could be done, so that a slow machine is not a slow falaj.

    `budget` is what the value may be at most, `floor` what it must be at least, `least` what the ratio must be at least.
    """

    name: str
    value: float
    unit: str
    against: str = ""
    ratio: float | None = None
    budget: float | None = None
    note: str = ""
    floor: float | None = None
    least: float | None = None

    @property
    def is_missed(self) -> bool:
        is_slow = self.least is not None and (self.ratio is None or self.ratio < self.least)
        is_below = self.floor is not None and self.value < self.floor
        return is_slow or is_below or (self.budget is not None and self.value > self.budget)

    def __str__(self) -> str:
        text = f"{self.name:<44} {self.value:>10,.1f} {self.unit:<6}"
        text += f" {self.ratio:>6.1f} × {self.against}" if self.ratio is not None else ""
        text += f"  budget {self.budget:,.0f} {self.unit}" if self.budget is not None else ""
        text += f"  at least {self.floor:,.0f} {self.unit}" if self.floor is not None else ""
        text += f"  at least {self.least:,.0f} ×" if self.least is not None else ""
        text += " MISSED" if self.is_missed else ""
        return text + (f"  ({self.note})" if self.note else "")


def show(figures: Iterable[Figure]) -> int:
    """One line each; 1 where a budget was missed."""
    missed = False
    for figure in figures:
        print(figure, flush=True)
        missed = missed or figure.is_missed
    return int(missed)
