"""Seals of prediction segments enter the ledger once, and a changed segment is refused."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from falaj.adapters.local.policy import RolePolicy
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.errors import Conflict
from falaj.core.ref import Ref
from falaj.core.segment import Seal, seal
from falaj.stages.action import Kernel
from falaj.stages.serving.service import Serving

WORKER = Actor("worker", "service", ("service",))


class Shelf:
    """A log that holds seals only."""

    def __init__(self, *seals: Seal) -> None:
        self._seals = list(seals)

    def seals(self) -> list[Seal]:
        return self._seals


def build(*seals: Seal) -> Serving:
    kernel = Kernel(MemoryLedger(), RolePolicy(), lambda: datetime(2026, 1, 1, tzinfo=UTC))
    return Serving(kernel, lambda _: Shelf(*seals))  # type: ignore[arg-type,return-value]


FIRST = seal("delay", 0, b'{"a":1}\n{"a":2}\n', "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:01.000Z")


def test_a_seal_is_recorded_once() -> None:
    serving = build(FIRST)
    assert serving.unsealed("delay") == [FIRST]
    assert serving.seal(WORKER, Ref("endpoint", "delay"), seals=serving.unsealed("delay")) == 1
    assert serving.unsealed("delay") == []
    assert serving.sealed("delay", 0) == FIRST
    assert serving.seal(WORKER, Ref("endpoint", "delay"), seals=[FIRST]) == 0


def test_a_segment_that_changed_after_its_seal_is_a_conflict() -> None:
    serving = build(FIRST)
    serving.seal(WORKER, Ref("endpoint", "delay"), seals=[FIRST])
    with pytest.raises(Conflict, match="Segment 0"):
        serving.seal(WORKER, Ref("endpoint", "delay"), seals=[replace(FIRST, root="sha256:" + "0" * 64)])
