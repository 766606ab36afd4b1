"""Whom no endpoint may be asked about for a purpose: whoever withdrew consent to it, and whoever's data is restricted."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from falaj.core.event import Change
from falaj.ports.ledger import Ledger


class Excluding:
    """Reads the records once and then the events since: asking again costs as much as has happened meanwhile.

    Erased people are not in it. What was kept about them is gone, and who comes again is answered without it.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._turn = threading.Lock()
        self._seq: int | None = None
        self._restricted: set[str] = set()
        self._withdrawn: dict[str, set[str]] = {}
        """By purpose."""

    def of(self, purposes: Iterable[str]) -> frozenset[str]:
        """The tokens of whoever may not be used for one of the purposes, as of now."""
        with self._turn:
            self._follow()
            return frozenset(self._restricted).union(*(self._withdrawn.get(purpose, ()) for purpose in purposes))

    def _follow(self) -> None:
        if self._seq is None:
            signed = self.ledger.checkpoints()
            self._seq = signed[-1].size - 1 if signed else -1  # what came later may be in the records, and is read again
            for kind in ("restricted", "consent"):
                for key, body in self.ledger.find(kind):
                    self._take(Change(kind, key, body))
        for event in self.ledger.events(after=self._seq):
            self._seq = event.seq
            for change in event.changes:
                self._take(change)

    def _take(self, change: Change) -> None:
        if change.kind == "restricted":
            (self._restricted.discard if change.body is None else self._restricted.add)(change.key)
        elif change.kind == "consent":
            token, _, purpose = change.key.partition("|")
            people = self._withdrawn.setdefault(purpose, set())
            is_withdrawn = change.body is not None and change.body["state"] == "withdrawn"
            (people.add if is_withdrawn else people.discard)(token)
