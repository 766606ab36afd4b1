"""When those that wait are enough: as soon as a look brings nobody more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Gather:
    """Looks once more for as long as each look brings some, and then calls `answer`; for one event loop.

    What a batch costs is shared by all that are in it, and callers that were answered together ask again together. A look
    takes microseconds, and who comes alone waits for one.
    """

    def __init__(self, waiting: Callable[[], int], most: int, answer: Callable[[], None]) -> None:
        """`waiting`: how many wait now. `most`: with so many there is no need to look."""
        self._waiting, self._most, self._answer = waiting, most, answer
        self._seen = 0

    def begin(self) -> None:
        """For the first that waits."""
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        waiting = self._waiting()
        if self._seen < waiting < self._most:
            self._seen = waiting
            asyncio.get_running_loop().call_soon(self._look)
        else:
            self._seen = 0
            self._answer()
