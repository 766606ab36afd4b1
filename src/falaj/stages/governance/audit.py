"""Audit: shows that the ledger is whole, proves single events, and tells what happened to anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from falaj.core.decision import Decision
from falaj.core.errors import InvalidInput
from falaj.core.event import Event
from falaj.core.note import Verifier
from falaj.core.ref import Ref
from falaj.ports.evidence import Evident
from falaj.ports.ledger import Checkpoint, Proof
from falaj.stages.action import Act, Kernel, action
from falaj.stages.governance.rules import verify


@dataclass(frozen=True, slots=True)
class Audit:
    kernel: Kernel
    verifier: Verifier
    """The key whose checkpoints are trusted."""

    def verify(self, *, remembered: str | None = None, max_age: timedelta = timedelta(days=1)) -> Decision:
        """Whether the ledger is whole. `remembered`: a checkpoint's text that was kept elsewhere.

        Allow: every question could be asked and was answered well. Hold: some of it is not under a checkpoint for too long.
        Deny: something was changed, and the checks name the first place.
        """
        ledger = self.kernel.ledger
        if not isinstance(ledger, Evident):
            raise InvalidInput("This ledger does not show its evidence.", "use an adapter that does: sqlite or memory.")
        with ledger.evidence() as evidence:
            return verify(evidence, self.verifier, now=self.kernel.now(), remembered=remembered, max_age=max_age)

    @action("audit.checkpoint")
    def checkpoint(self, act: Act, subject: Ref) -> Checkpoint:
        """Signs the ledger as it is. The signing is an event itself, so that silence shows."""
        with act.change():
            pass
        return self.kernel.ledger.checkpoint()

    def prove(self, seq: int) -> Proof:
        """That an event is in the ledger, for a stranger. Raises NotFound, or Conflict where it was changed."""
        return self.kernel.ledger.prove(seq)

    def history(self, subject: Ref) -> list[Event]:
        """Everything that was ever done to it; without a version, to any of its versions."""
        return list(self.kernel.ledger.events(subject=subject))
