"""Hands what the ledger tells of data and models to an OpenLineage collector: at least once, in order, each under its id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from falaj.core.event import Event
from falaj.core.ref import Ref
from falaj.ports.lineage import Lineage
from falaj.stages.action import Act, Kernel, action

MOST = 200
"""Events of the ledger that are handed over at once; the next round goes on."""

Told = Callable[[Event], Sequence[Mapping[str, Any]]]
"""An event of the ledger as OpenLineage has it; nothing where it speaks of no data."""


class Exports:
    """The cursor is kept in the ledger, and moves after the collector has taken what lies before it."""

    def __init__(self, kernel: Kernel, sink: Lineage, told: Told) -> None:
        self.kernel = kernel
        self.sink = sink
        self.told = told
        self._seen = -1
        """Up to here nothing more is to be told; the cursor itself moves only with something that was."""

    @action("lineage.export")
    def export(self, act: Act, subject: Ref) -> int:
        """Hands over what is new; returns how many OpenLineage events that were. Raises Unavailable where the collector does not
        take them: the same ones are handed over again by the next call. Nothing new leaves no event of its own."""
        cursor = self.kernel.ledger.get("cursor", str(subject.bare))
        start = max(int(cursor["seq"]) if cursor else -1, self._seen)
        batch: list[Mapping[str, Any]] = []
        last = start
        for event in self.kernel.ledger.events(after=start):
            batch += self.told(event)
            last = event.seq
            if len(batch) >= MOST:
                break
        if batch:
            self.sink.emit(batch)
            with act.change() as draft:
                draft.put("cursor", str(subject.bare), {"seq": last})
                draft.note(events=len(batch), upto=last)
        self._seen = last
        return len(batch)
