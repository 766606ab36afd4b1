"""Messages in this process's memory: for tests, and for trying things out."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from falaj.core.errors import Unavailable
from falaj.core.leases import Leases
from falaj.core.message import LARGEST_VALUE, Delivery, Message, check_messages


@dataclass(slots=True)
class Channel:
    """What all that open the same stream share. `is_away` plays a broker that does not answer."""

    messages: list[tuple[Message, int]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    groups: dict[str, Leases] = field(default_factory=dict)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    is_away: bool = False


class MemoryStream:
    """Gone with the process. capabilities: `dedup` (for ever), `ordered`, `leases`, `counts`."""

    capabilities: frozenset[str] = frozenset({"dedup", "ordered", "leases", "counts"})

    def __init__(self, channel: Channel | None = None, *, visible_s: float = 30.0, largest: int = LARGEST_VALUE) -> None:
        """Streams that are opened with the same channel are the same stream."""
        self.channel = Channel() if channel is None else channel
        self._visible_ms, self._largest = int(visible_s * 1000), largest
        self._owner = secrets.token_hex(8)

    def consume(self, group: str, limit: int, wait_s: float) -> list[Delivery]:
        until = time.monotonic() + wait_s
        with self._there():
            while True:
                found = self._take(group, limit)
                left = until - time.monotonic()
                if found or left <= 0:
                    return found
                self.channel.arrived.wait(min(left, 0.02))

    def acknowledge(self, group: str, deliveries: Sequence[Delivery]) -> None:
        with self._there():
            self._group(group).acknowledge(int(one.position) for one in deliveries)

    def release(self, group: str, deliveries: Sequence[Delivery]) -> None:
        with self._there():
            self._group(group).release((int(one.position) for one in deliveries), self._owner)

    def extend(self, group: str, deliveries: Sequence[Delivery]) -> None:
        with self._there():
            self._group(group).extend((int(one.position) for one in deliveries), self._owner, _now_ms() + self._visible_ms)

    def produce(self, messages: Sequence[Message]) -> int:
        check_messages(messages, self._largest)
        with self._there() as channel:
            before = len(channel.messages)
            for message in messages:
                if not message.id or message.id not in channel.ids:
                    channel.messages.append((message, _now_ms()))
                    channel.ids.add(message.id)
            channel.arrived.notify_all()
            return len(channel.messages) - before

    def replay(self) -> Iterator[Delivery]:
        with self._there() as channel:
            kept = list(channel.messages)
        for number, (message, at_ms) in enumerate(kept):
            yield Delivery(message, str(number), 0, at_ms)

    def lag(self, group: str) -> int:
        with self._there() as channel:
            leases = self._group(group)
            return len(channel.messages) - leases.done - len(leases.acked)

    def close(self) -> None:
        with self.channel.arrived:
            for leases in self.channel.groups.values():
                leases.release(list(leases.held), self._owner)

    @contextmanager
    def _there(self) -> Iterator[Channel]:
        with self.channel.arrived:
            if self.channel.is_away:
                raise Unavailable("The stream is away.", "it comes back when it is let.")
            yield self.channel

    def _group(self, group: str) -> Leases:
        return self.channel.groups.setdefault(group, Leases())

    def _take(self, group: str, limit: int) -> list[Delivery]:
        messages, leases, now_ms = self.channel.messages, self._group(group), _now_ms()
        fresh = ((number, messages[number][0].key) for number in range(leases.next, len(messages)))
        taken = leases.take(fresh, self._owner, limit, (now_ms, now_ms + self._visible_ms))
        return [Delivery(messages[number][0], str(number), attempts, messages[number][1]) for number, attempts in taken]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
