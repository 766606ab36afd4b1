"""What one consumer holds of each partition of a topic, and how far its group has come there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

MOST_REMEMBERED = 10_000


@dataclass(slots=True)
class Place:
    """Of one partition. A group's offset says that everything before it is done, so what is done out of order has to wait."""

    behind: int = 0
    """The offset after the last message that was handed out."""
    held: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    """Acknowledged, while something before them is not."""

    def hand_out(self, offset: int) -> bool:
        """Whether it is still to be done: after going back, what was acknowledged comes by again."""
        self.behind = max(self.behind, offset + 1)
        if offset in self.done:
            return False
        self.held.add(offset)
        return True

    def acknowledge(self, offset: int) -> bool:
        """Whether it was held."""
        if offset not in self.held:
            return False
        self.held.remove(offset)
        self.done.add(offset)
        return True

    def offset(self) -> int:
        """Everything before it is done."""
        first = min(self.held, default=self.behind)
        self.done = {one for one in self.done if one > first}
        return first

    def go_back(self, offset: int) -> None:
        """From `offset` on everything that is not acknowledged is handed out again."""
        self.held = {one for one in self.held if one < offset}


class Places:
    def __init__(self) -> None:
        self._of: dict[int, Place] = {}
        self._attempts: dict[tuple[int, int], int] = {}

    def hand_out(self, partition: int, offset: int) -> int:
        """The attempt that this is, or 0 where the message is done already."""
        if not self._of.setdefault(partition, Place()).hand_out(offset):
            return 0
        count = self._attempts[partition, offset] = self._attempts.pop((partition, offset), 0) + 1
        while len(self._attempts) > MOST_REMEMBERED:
            del self._attempts[next(iter(self._attempts))]
        return count

    def acknowledge(self, places: Iterable[tuple[int, int]]) -> dict[int, int]:
        """By partition: the offset that the group has come to, where that may have changed."""
        touched = set()
        for partition, offset in places:
            if partition in self._of and self._of[partition].acknowledge(offset):
                touched.add(partition)
                self._attempts.pop((partition, offset), None)
        return {partition: self._of[partition].offset() for partition in touched}

    def release(self, places: Iterable[tuple[int, int]]) -> dict[int, int]:
        """By partition: the offset to go back to. What was handed out behind it comes again too, or the order would break."""
        back: dict[int, int] = {}
        for partition, offset in places:
            if partition in self._of and offset in self._of[partition].held:
                back[partition] = min(offset, back.get(partition, offset))
        for partition, offset in back.items():
            self._of[partition].go_back(offset)
        return back

    def forget(self, partitions: Iterable[int]) -> None:
        """They are another consumer's now."""
        for partition in partitions:
            self._of.pop(partition, None)
