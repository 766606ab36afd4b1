"""Evidence: everything that a ledger has stored, as it is stored, for somebody who does not trust it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from falaj.ports.ledger import Checkpoint


class StoredEvent(NamedTuple):
    """A leaf and what is stored beside it. Nothing here has been checked; `seq` is -1 where it is no integer."""

    seq: int
    leaf: bytes
    leaf_hash: bytes
    verb: str
    subject: str
    at: str


@dataclass(frozen=True, slots=True)
class StoredRecord:
    kind: str
    key: str
    body: bytes


class Evidence(Protocol):
    """One moment of a ledger: what is written meanwhile is not seen.

    Each method may raise any FalajError where nothing readable is stored.
    """

    def events(self) -> Iterator[StoredEvent]:
        """In the order of their seq."""
        ...

    def records(self) -> Iterator[StoredRecord]: ...

    def checkpoints(self) -> list[Checkpoint]:
        """By size, signatures not checked."""
        ...

    def edge(self) -> tuple[int, bytes]:
        """The size and the root that the next event would be added to."""
        ...


@runtime_checkable
class Evident(Protocol):
    """A ledger that lets itself be audited."""

    def evidence(self) -> AbstractContextManager[Evidence]: ...
