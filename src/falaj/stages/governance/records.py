"""Records: the state that follows from the events, made again where somebody has changed it by hand."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from falaj.core.errors import FalajError, InvalidInput
from falaj.core.ref import Ref
from falaj.ports.evidence import Evidence, Evident
from falaj.stages.action import Act, Kernel, action
from falaj.stages.governance.rules import Walk, held


@dataclass(frozen=True, slots=True)
class Rebuilt:
    records: int
    """How many there have to be."""
    mended: int
    """How many were missing, read otherwise than their last event says, or followed from no event."""
    examples: tuple[str, ...]
    """The first of them, as `kind key`."""


@dataclass(frozen=True, slots=True)
class Records:
    kernel: Kernel

    @action("audit.rebuild")
    def rebuild(self, act: Act, subject: Ref) -> Rebuilt:
        """Drops the records and makes them again from the events alone.

        The event comes first and says how many records were wrong: whoever finds it knows that the state was made anew after
        it, and if that fails midway, the records are as they were and it is done again. Raises InvalidInput where an event
        cannot be read: the past is not mended here, only what follows from it.
        """
        found = self._look()
        with act.change() as draft:
            draft.note(records=found.records, mended=found.mended)
        self.kernel.ledger.rebuild()
        return found

    def _look(self) -> Rebuilt:
        ledger = self.kernel.ledger
        if not isinstance(ledger, Evident):
            raise InvalidInput("This ledger does not show its evidence.", "use an adapter that does.")
        with ledger.evidence() as evidence:
            return look(evidence)


def look(evidence: Evidence) -> Rebuilt:
    """What a rebuilding would mend. Raises InvalidInput where the events themselves are not whole."""
    walk = Walk(frozenset())
    walk.over(evidence.events())
    for name in ("sequence", "leaves", "hashes"):
        if name in walk.faults:
            raise InvalidInput(
                f"The records cannot be made from these events: {walk.faults[name]}.", "restore the ledger from a backup."
            )
    wrong, missing = list[str](), dict(walk.state)
    with suppress(FalajError):  # what cannot be read is missing
        for record in evidence.records():
            if missing.pop((record.kind, record.key), None) != held(record.body):
                wrong.append(f"{record.kind} {record.key}")
    wrong += [f"{kind} {key}" for kind, key in missing]
    return Rebuilt(len(walk.state), len(wrong), tuple(wrong[:5]))
