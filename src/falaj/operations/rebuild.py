"""What can be done about the ledger's records: make them again from the events."""

from __future__ import annotations

from typing import Any

from falaj.core.ref import Ref
from falaj.operations.operation import Asked, Operation


def _rebuild(asked: Asked) -> Any:
    return asked.app.governance.records.rebuild(asked.actor, Ref("ledger", "local"))


OPERATIONS: tuple[Operation, ...] = (
    Operation("audit", "rebuild", "Drops the records and makes them again from the events alone.", _rebuild),
)
