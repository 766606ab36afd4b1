"""Adaptive micro-batching: whatever waits when the loop comes round, while it brings more, becomes one run of the model."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Awaitable, Callable

from falaj.core.errors import Bug, FalajError
from falaj.inference.calls import Answered, Call, TensorCall
from falaj.inference.errors import Busy
from falaj.inference.gather import Gather
from falaj.inference.predict import Predictor

Done = Callable[[Answered | FalajError], None]
Batch = list[tuple[Call, Done]]


class Batcher:
    """For one event loop. Nothing waits for company that is not there: a call that comes alone is answered alone.

    `after` is awaited between the append to the log and the answers, while the next calls are worked on; it makes
    `sync = "always"` wait for the disk.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        rows: int = 1024,
        waiting: int = 256,
        after: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`rows`: at most so many rows in a run (one call may have more). `waiting`: calls beyond these are told to come back."""
        self.predictor = predictor
        self.rows = rows
        self._most, self._after = waiting, after
        self._waiting: deque[tuple[Call, Done]] = deque()
        self._gather = Gather(lambda: len(self._waiting), rows, self._flush)
        self.open = 0
        """Calls that were taken on and are not answered yet."""
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, call: Call, done: Done) -> None:
        """`done` is told the outcome, soon and on this loop; at once where too many wait."""
        if self.is_full:
            done(Busy("More requests wait than this server takes on.", "come back in a second."))
            return
        self.open += 1
        if not self._waiting:
            self._gather.begin()
        self._waiting.append((call, done))

    @property
    def is_full(self) -> bool:
        return self.open >= self._most

    def settle(self, done: Callable[[FalajError | None], None]) -> None:
        """`done` is told once what was appended by now is as safe as the settings ask for, or what is in the way."""
        if self._after is None:
            done(None)
            return
        task = asyncio.ensure_future(self._settle(done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _flush(self) -> None:
        while self._waiting:
            batch: Batch = []
            rows = 0
            while self._waiting and (not batch or rows + _rows(self._waiting[0][0]) <= self.rows):
                one = self._waiting.popleft()
                rows += _rows(one[0])
                batch.append(one)
            self.predictor.metrics.batched(rows, time.perf_counter() - batch[0][0].caller.started)
            found = self.predictor.answer([call for call, _ in batch])
            self.settle(functools.partial(self._tell, batch, found))

    async def _settle(self, done: Callable[[FalajError | None], None]) -> None:
        problem: FalajError | None = None
        try:
            await self._after()  # type: ignore[misc]  # asked before
        except FalajError as exc:
            problem = exc
        except Exception as exc:
            problem = Bug(f"The log could not be settled: {exc!r}")
        done(problem)

    def _tell(self, batch: Batch, found: list[Answered | FalajError], problem: FalajError | None) -> None:
        self.open -= len(batch)
        # One by one: while the last are told, the first callers ask again, and the next batch is as large as this one.
        for (_, done), one in zip(batch, found, strict=True):
            done(problem if problem is not None and isinstance(one, Answered) else one)


def _rows(call: Call) -> int:
    return len(call.matrix) if type(call) is TensorCall else len(call.requests)  # type: ignore[union-attr]
