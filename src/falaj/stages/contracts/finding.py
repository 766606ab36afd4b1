"""Finding: one thing that lint has to say about a contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    place: str
    """As in `schema[0].properties[3].logicalType`; empty for the whole file."""
    severity: Literal["error", "warning", "advice"]
    """`error`: falaj or the standard refuses the file. `warning`: it does not say what somebody will need, or says nothing by
    it. `advice`: it could say more."""
    message: str
    hint: str = ""
