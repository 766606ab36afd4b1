"""A ledger that is not written for longer without its witnesses than an event may wait for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from falaj.core.errors import InvalidInput, Unavailable
from falaj.core.event import Event
from falaj.core.ref import Ref
from falaj.ports.evidence import Evidence, Evident
from falaj.ports.ledger import Checkpoint, Ledger, Proof, Transaction
from falaj.stages.governance.witnessing import Witnesses, overdue


class WitnessedLedger:
    """Reads as the ledger behind it; a transaction raises Unavailable where the witnesses have been away for too long."""

    def __init__(self, ledger: Ledger, witnesses: Witnesses, now: Callable[[], datetime]) -> None:
        """Raises InvalidInput where no witness is named."""
        if not witnesses.asked:
            raise InvalidInput("Witnesses are required, and none is named.", 'set witnesses = ["<key> <address>"] in falaj.toml.')
        self._ledger, self._witnesses, self._now = ledger, witnesses, now
        self.capabilities = ledger.capabilities

    def transaction(self) -> AbstractContextManager[Transaction]:
        if why := overdue(self._ledger, self._witnesses, self._now()):
            raise Unavailable(f"Nothing is written: {why}.", "start the witnesses; `falaj audit witness` shows them the ledger.")
        return self._ledger.transaction()

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        return self._ledger.get(kind, key)

    def find(self, kind: str, *, prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
        return self._ledger.find(kind, prefix=prefix)

    def events(self, *, after: int = -1, verb: str = "", subject: Ref | None = None) -> Iterator[Event]:
        return self._ledger.events(after=after, verb=verb, subject=subject)

    def leaves(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        return self._ledger.leaves(start, end)

    def checkpoint(self) -> Checkpoint:
        return self._ledger.checkpoint()

    def checkpoints(self) -> list[Checkpoint]:
        return self._ledger.checkpoints()

    def prove(self, seq: int) -> Proof:
        return self._ledger.prove(seq)

    def rebuild(self) -> None:
        self._ledger.rebuild()

    def evidence(self) -> AbstractContextManager[Evidence]:
        if not isinstance(self._ledger, Evident):
            raise InvalidInput("This ledger does not show its evidence.", "use an adapter that does: sqlite or memory.")
        return self._ledger.evidence()

    def close(self) -> None:
        self._ledger.close()
