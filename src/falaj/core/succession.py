"""Succession: whose turn it is to sign a ledger, where one key has followed another.

A rotation is an event, `audit.rotate`, that names the new key. The first checkpoint that covers it is signed by the key before;
every later one by the new key, and never again by another. So who knows the first key can follow to the last.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from falaj.core.errors import Denied, FalajError
from falaj.core.event import Event
from falaj.core.note import Statement, Verifier, open_checkpoint, read_statement, split_note

ROTATE = "audit.rotate"


class Sized(Protocol):
    @property
    def size(self) -> int: ...


class Signed(Protocol):
    """What is asked of a ledger to know its keys."""

    def events(self, *, verb: str) -> Iterable[Event]: ...

    def checkpoints(self) -> Sequence[Sized]: ...


@dataclass(frozen=True, slots=True)
class Succession:
    """The keys of one ledger. `rotations`: (seq of the event, the new key's text), in order; `sizes`: of all checkpoints."""

    first: Verifier
    rotations: Sequence[tuple[int, str]]
    sizes: Sequence[int]

    @classmethod
    def of(cls, first: Verifier, ledger: Signed) -> Succession:
        """The keys of a ledger, from the first one on, as its events name them.

        Where they cannot be read, only the first key counts: what is wrong with them is for others to say, and no new key
        follows from it.
        """
        try:
            named = rotations(ledger.events(verb=ROTATE))
            return cls(first, named, [checkpoint.size for checkpoint in ledger.checkpoints()] if named else [])
        except FalajError:
            return cls(first, [], [])

    @property
    def name(self) -> str:
        return self.first.name

    def open(self, note: str) -> Statement:
        """What a checkpoint says that was signed by the key whose turn it was. Raises Denied or InvalidInput."""
        size = read_statement(split_note(note)[0]).size
        return open_checkpoint(note, self.signer(size))

    def signer(self, size: int) -> Verifier:
        """Who had to sign a checkpoint of that size. Raises Denied where a rotation names no key that can be used."""
        place = bisect_left(self.sizes, size)
        named = turn(self.rotations, self.sizes[place - 1] if place else 0)
        if named is None:
            return self.first
        if self.first.successor is None:
            raise Denied(f"The ledger's key was followed by another, which {self.first.name} cannot check.")
        found = self.first.successor(named)
        if found.name != self.first.name:
            raise Denied(f"The ledger's key was followed by that of another log, {found.name!r}.")
        return found


def turn(rotations: Sequence[tuple[int, str]], covered: int) -> str | None:
    """The key that signs next, where the newest checkpoint covers so many events; None for the first key."""
    return next((vkey for seq, vkey in reversed(rotations) if seq < covered), None)


def rotations(events: Iterable[Event]) -> list[tuple[int, str]]:
    """What the rotations among the events say, in order."""
    return [(event.seq, str(event.facts.get("vkey", ""))) for event in events if event.verb == ROTATE]
