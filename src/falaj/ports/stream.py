"""Stream: messages that producers put in and groups of consumers take out, each at least once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from falaj.core.message import LARGEST_VALUE, Delivery, Message, check_messages

__all__ = ["LARGEST_VALUE", "Delivery", "Message", "Stream", "check_messages"]


class Stream(Protocol):
    """One stream (a topic, a subject), opened by one consumer, producer or both. Belongs to one thread at a time.

    Every message is handed out to each group until the group has acknowledged it: at least once, and after a crash again.
    Consumers that open the same stream and name the same group share the work; a new group starts with the oldest message
    that is kept. A stream that does not exist yet is made when it is first used, where the broker allows that.

    capabilities
      `durable`  what `produce` or `acknowledge` has returned from outlives the broker's end (and kill -9 of it)
      `dedup`    a message whose id was produced a moment ago is not stored again, also by a producer that was opened anew
                 after a crash. How long a moment is, and between whom, the adapter says.
      `ordered`  messages of one key are handed out in the order they were produced, and never to two consumers at once
      `leases`   what is neither acknowledged nor extended for the visibility time is handed out again while its consumer
                 lives; without it, when its consumer is closed or lost
      `counts`   `attempts` counts every delivery to the group; without it, only those to this object
      `shared`   another process sees the same stream

    Every method raises Unavailable where the broker does not answer or has no room (the same call may work later, without
    opening anything anew), Denied where it refuses, Conflict where what is stored cannot be read. Nothing is lost by that:
    what was not acknowledged comes again, what was not produced the caller still has.
    """

    capabilities: frozenset[str]

    def consume(self, group: str, limit: int, wait_s: float) -> list[Delivery]:
        """Up to `limit` messages, oldest first, as soon as there is one; [] after `wait_s` seconds without any.

        Each is this consumer's for the visibility time that the stream was opened with.
        """
        ...

    def acknowledge(self, group: str, deliveries: Sequence[Delivery]) -> None:
        """The group needs them no more. Idempotent; also for what is meanwhile with somebody else, or was never handed out.

        Acknowledging out of order loses nothing: what lies before is handed out again.
        """
        ...

    def release(self, group: str, deliveries: Sequence[Delivery]) -> None:
        """Gives them back, to be handed out again at once. Idempotent."""
        ...

    def extend(self, group: str, deliveries: Sequence[Delivery]) -> None:
        """The visibility time of them starts anew: their consumer is still at it. To be called more often than that."""
        ...

    def produce(self, messages: Sequence[Message]) -> int:
        """Stores them in this order and returns once they are as safe as `durable` says. Returns how many were new.

        Where it raises, some may have been stored, and the same call with the same ids mends that (`dedup`).
        Raises InvalidInput for a message that is too large or holds unprintable text, before any of them is stored.
        """
        ...

    def replay(self) -> Iterator[Delivery]:
        """All messages that are kept, for no group (`attempts` is 0): ends at those that were there when it began.

        Messages of one key come in order. The same messages come in the same order each time.
        """
        ...

    def lag(self, group: str) -> int:
        """How many messages the group has not acknowledged. Where a broker only estimates that, 0 is still exact."""
        ...

    def close(self) -> None:
        """Gives back what was handed out and not acknowledged, as far as the broker can be told."""
        ...
