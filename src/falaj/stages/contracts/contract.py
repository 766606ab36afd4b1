"""Contract: what producer and consumers of a dataset agreed on, as falaj enforces it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from falaj.stages.contracts import personal
from falaj.stages.contracts.expression import Node

ROW_METRICS = frozenset({"nullValues", "missingValues", "invalidValues", "duplicateValues", "expression"})
Limit = int | float | datetime | date


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: str
    """ODCS logical type: string, integer, number, boolean, timestamp or date."""
    required: bool = False
    unique: bool = False
    width: str = ""
    """`i8` … `u64`, `f32`, `f64`: how a number is stored; empty leaves it as it comes."""
    limits: tuple[tuple[str, Limit], ...] = ()
    """(`>=`, 0) and the like."""
    pattern: str = ""
    lengths: tuple[int | None, int | None] = (None, None)
    multiple_of: int | float | None = None
    naive_is_utc: bool = False
    classification: str = ""
    subject: bool = False
    """Its value says whose row it is: what is personal in the row is sealed under that person's key."""
    references: tuple[str, str] | None = None
    """(dataset, column): every value must be there, in that dataset as it is known when this one is taken in."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Quality:
    """One ODCS quality rule. A rule of rows finds the rows that break it; the others judge a whole load."""

    name: str
    metric: str
    """Of ODCS: `nullValues`, `missingValues`, `invalidValues`, `duplicateValues`, `rowCount`. Of falaj: `expression`; `mean`,
    `minimum`, `maximum`, `sum`, `distinct` of a column over the load; `drift` of a column from the last good snapshot
    (Jensen-Shannon divergence over that profile's bins, base 2, 0 to 1); `growth`, rows of this load ÷ rows of the last load
    that had rows; a load without rows is not judged by it."""
    columns: tuple[str, ...] = ()
    op: str = "=="
    bound: float | tuple[float, float] = 0
    percent: bool = False
    severity: str = "error"
    """`error` keeps the rows out that break a rule of rows, or the load that breaks another; `stop` keeps the load out in
    both cases; `warning` and `info` only tell."""
    values: tuple[Any, ...] | None = None
    pattern: str = ""
    expression: Node | None = None
    text: str = ""
    """The expression as it was written."""

    @property
    def of_rows(self) -> bool:
        """None may break it: so each row that does is known and can be kept out alone."""
        return self.metric in ROW_METRICS and self.op == "==" and self.bound == 0


@dataclass(frozen=True, slots=True)
class Contract:
    name: str
    version: str
    owner: str
    columns: tuple[Column, ...]
    checks: tuple[Quality, ...] = ()
    key: tuple[str, ...] = ()
    """The columns of the primary key, in order."""
    sla: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """SLA property → its value, unit and element."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """Classification, purposes, retention and whatever else customProperties say about the whole dataset."""
    digest: str = ""
    """SHA-256 of the file it was read from."""
    id: str = ""
    status: str = ""
    description: str = ""
    """What it is for, as `description.purpose` says."""

    @property
    def subject(self) -> str:
        """The column that says whose row it is; empty where rows are about nobody."""
        return next((column.name for column in self.columns if column.subject), "")

    @property
    def personal(self) -> tuple[str, ...]:
        """The columns whose values tell of a person: by their own classification or by that of the whole; and the subject."""
        whole = str(self.labels.get("classification") or "")
        return tuple(
            column.name
            for column in self.columns
            if column.subject or (column.classification or whole).strip().lower() in personal.CLASSES
        )

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    @property
    def kinds(self) -> Mapping[str, str]:
        return {column.name: column.kind for column in self.columns}
