"""Leases: who of a group holds which message of a stream and until when, decided without a clock and without any storage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_HELD = 4_096
"""Messages of a group that are handed out or passed over at once; more wait until some are acknowledged."""


@dataclass(slots=True)
class Lease:
    """`owner` is empty where nobody holds the message: it was passed over because of its key, or given back."""

    key: str
    owner: str = ""
    until_ms: int = 0
    attempts: int = 0


@dataclass(slots=True)
class Leases:
    """One group's place in a stream whose messages are numbered from 0.

    Every message below `done` is acknowledged, and so are those in `acked`; `held` are the others below `next`.
    """

    done: int = 0
    acked: set[int] = field(default_factory=set)
    held: dict[int, Lease] = field(default_factory=dict)
    next: int = 0
    """The first message that nobody was handed yet."""

    def take(self, fresh: Iterable[tuple[int, str]], owner: str, limit: int, times: tuple[int, int]) -> list[tuple[int, int]]:
        """(number, attempts) of the messages that `owner` may have now, oldest first, each leased to it.

        `fresh`: number and key of the messages from `next` on. `times`: now and the end of the lease, in milliseconds. A
        message is passed over while another of its key is with somebody else, be it a later one whose earlier was given back.
        """
        now_ms, until_ms = times
        taken: list[tuple[int, int]] = []
        live = {number: lease for number, lease in self.held.items() if lease.owner and lease.until_ms > now_ms}
        blocked = {lease.key for lease in live.values() if lease.owner != owner}
        for number in sorted(self.held.keys() - live.keys()):
            if len(taken) == limit:
                return taken
            lease = self.held[number]
            if not lease.key or lease.key not in blocked:
                taken.append((number, self._lease(number, lease, owner, until_ms)))
        for number, key in fresh:
            if len(taken) == limit or len(self.held) >= MOST_HELD:
                break
            self.next = number + 1
            if number in self.acked:
                continue
            lease = self.held[number] = Lease(key)
            if not key or key not in blocked:
                taken.append((number, self._lease(number, lease, owner, until_ms)))
        return taken

    def acknowledge(self, numbers: Iterable[int]) -> None:
        """Settles them, whoever holds them; those that are settled already stay so."""
        for number in numbers:
            if self.done <= number < self.next:
                self.acked.add(number)
                self.held.pop(number, None)
        while self.done in self.acked:
            self.acked.remove(self.done)
            self.done += 1

    def release(self, numbers: Iterable[int], owner: str) -> None:
        """Gives back what `owner` holds of them: whoever asks next may have it."""
        for lease in self._own(numbers, owner):
            lease.owner, lease.until_ms = "", 0

    def extend(self, numbers: Iterable[int], owner: str, until_ms: int) -> None:
        for lease in self._own(numbers, owner):
            lease.until_ms = max(lease.until_ms, until_ms)

    def skip_to(self, number: int) -> None:
        """Forgets what lies before `number`: retention has removed it."""
        if number > self.done:
            self.done = number
            self.next = max(self.next, number)
            self.acked = {one for one in self.acked if one >= number}
            self.held = {one: lease for one, lease in self.held.items() if one >= number}
            self.acknowledge(())

    def _lease(self, number: int, lease: Lease, owner: str, until_ms: int) -> int:
        lease.owner, lease.until_ms, lease.attempts = owner, until_ms, lease.attempts + 1
        self.held[number] = lease
        return lease.attempts

    def _own(self, numbers: Iterable[int], owner: str) -> list[Lease]:
        return [lease for number in numbers if (lease := self.held.get(number)) is not None and lease.owner == owner]

    def settled(self) -> dict[str, Any]:
        """What must outlive a power cut."""
        return {"done": self.done, "acked": sorted(self.acked)}

    def open(self) -> dict[str, Any]:
        """What may be lost: those messages are handed out again."""
        held = {str(number): [one.key, one.owner, one.until_ms, one.attempts] for number, one in self.held.items()}
        return {"next": self.next, "held": held}

    @classmethod
    def read(cls, settled: Mapping[str, Any] | None, held: Mapping[str, Any] | None) -> Leases:
        """What `settled` and `open` wrote, also where they were written at different times. Raises ValueError or KeyError."""
        done = int(settled["done"]) if settled else 0
        acked = {int(number) for number in settled["acked"]} if settled else set()
        if held is None:
            return cls(done, acked, {}, done)
        rows: Mapping[str, Sequence[Any]] = held["held"]
        leases = {int(number): Lease(*row) for number, row in rows.items()}
        leases = {number: lease for number, lease in leases.items() if number >= done and number not in acked}
        return cls(done, acked, leases, max(int(held["next"]), done))
