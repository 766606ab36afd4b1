"""Ledger: the append-only record of every change, and the state that follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from falaj.core.event import Change, Event
from falaj.core.ref import Ref


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement of the tree's size and root. `note` is the text in C2SP signed-note form (tlog-checkpoint)."""

    origin: str
    size: int
    root: bytes
    note: str


@dataclass(frozen=True, slots=True)
class Proof:
    """That leaf `index` with these canonical bytes is under the checkpoint's root."""

    index: int
    leaf: bytes
    path: tuple[bytes, ...]
    checkpoint: Checkpoint


class Transaction(Protocol):
    """One change in the making. Reads see the writes of the same transaction."""

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None: ...

    def find(self, kind: str, *, prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
        """Records whose key starts with `prefix`, in key order."""
        ...

    def append(self, event: Event) -> Event:
        """Applies the event's changes to the records and adds it as the next leaf. Returns it with its `seq`."""
        ...


class Ledger(Protocol):
    """Every method may raise Unavailable when the store does not answer.

    capabilities: `durable` (survives the process), `shared` (several processes may write at once).
    """

    capabilities: frozenset[str]

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Takes the write lock at once, so that what was read stays true until the commit.

        Commits at the end of the block, durably before it returns; a block that raises leaves nothing.
        """
        ...

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None: ...

    def find(self, kind: str, *, prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]: ...

    def events(self, *, after: int = -1, verb: str = "", subject: Ref | None = None) -> Iterator[Event]:
        """Events in order with seq > `after`. A `verb` ending in `.` matches as a prefix, a `subject` without version matches
        all its versions."""
        ...

    def leaves(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The canonical bytes of the events, as hashed."""
        ...

    def checkpoint(self) -> Checkpoint:
        """Signs the present size and root and keeps the checkpoint; the same size gives the same checkpoint."""
        ...

    def checkpoints(self) -> list[Checkpoint]:
        """Every checkpoint that was kept, by size."""
        ...

    def prove(self, seq: int) -> Proof:
        """Raises NotFound where there is no such event."""
        ...

    def rebuild(self) -> None:
        """Drops the records and makes them again from the events alone."""
        ...

    def close(self) -> None: ...


__all__ = ["Change", "Checkpoint", "Ledger", "Proof", "Transaction"]
