"""Shadows: a model is shown copies of what was asked once the answers have left, and what it would have said is logged."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from falaj.core.errors import Bug, FalajError
from falaj.core.moments import iso, millis
from falaj.core.recipe import Recipe, Value
from falaj.inference.models import Live
from falaj.ports.online import Online, Stored

Rows = NDArray[np.float32] | NDArray[np.float64]
HandOver = Callable[[list[bytes]], None]
"""Takes log lines to the thread that the log belongs to; called from the shadows' own thread."""

ROWS = 64
"""In one run of a model."""
TIMED_EVERY = 16
"""Of so many runs one also times the model that answered, on the same rows: that is what a latency can be compared with."""
_PAUSE_S = 0.002
"""From the first copy to the first run: by then the answers have left, and more copies have come to share the run."""


@dataclass(frozen=True, slots=True)
class Copied:
    """The rows of one call that one model answered."""

    shadow: Live
    answered: Live
    ids: Sequence[str]
    scores: Sequence[float]
    matrix: Rows
    """(rows, columns), as the model that answered took them."""
    at: Sequence[datetime]
    threshold: float
    requests: Sequence[Mapping[str, Any]] = ()
    """Of a call by entity: a shadow with other columns makes its own of them. Empty for a call by tensor."""


@dataclass(slots=True)
class Counts:
    """Rows, since the process began."""

    compared: int = 0
    changed: int = 0
    """The decision would have been the other one."""
    failed: int = 0
    unfit: int = 0
    """A call by tensor whose columns are not the shadow's."""
    dropped: int = 0
    """There was no time for them."""
    size: float = 0.0
    """The sum of the sizes of all differences."""

    def to_dict(self) -> dict[str, float]:
        """By the names under which metrics show them."""
        return {
            "rows": self.compared, "changed": self.changed, "difference": self.size, "failed": self.failed, "unfit": self.unfit,
            "dropped": self.dropped,
        }  # fmt: skip

    @property
    def mean_size(self) -> float:
        return self.size / self.compared if self.compared else 0.0


@dataclass(slots=True)
class _Queue:
    waiting: deque[Copied] = field(default_factory=deque)
    rows: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Shadows:
    """A bounded queue and one thread behind it. Answers never wait for it, and nothing that goes wrong here reaches them.

    What does not fit the queue is dropped and counted. The thread runs models outside of the interpreter's lock and rests
    `rest` times as long as it worked: even a worker that has no time to spare gives it no more than a tenth of its own.

    A model may be run here and in the serving thread at once, which an onnxruntime session allows.
    """

    def __init__(
        self,
        endpoint: str,
        online: Online,
        hand_over: HandOver,
        now: Callable[[], datetime],
        *,
        rows: int = 512,
        rest: float = 9.0,
    ) -> None:
        """`online`: a connection of its own. `rows`: as many wait at most."""
        self.endpoint, self.online = endpoint, online
        self.counts: dict[tuple[str, str], Counts] = {}
        """By model and version."""
        self._hand_over, self._now, self._most, self._rest = hand_over, now, rows, rest
        self._queue = _Queue()
        self._come, self._over = threading.Event(), threading.Event()
        self._runs = 0
        self._thread: threading.Thread | None = None

    def offer(self, copies: Iterable[Copied]) -> None:
        """Takes copies on, or drops them; a microsecond either way. For the serving thread."""
        queue = self._queue
        for copied in copies:
            count = len(copied.ids)
            with queue.lock:
                if queue.rows + count > self._most:
                    self.of(copied.shadow).dropped += count
                    continue
                queue.rows += count
                queue.waiting.append(copied)
        self._come.set()

    def of(self, shadow: Live) -> Counts:
        return self.counts.setdefault(shadow.labels[:2], Counts())

    def run(self) -> int:
        """Shows the next rows to their shadow and hands over what is to be logged; returns how many rows that were."""
        batch = self._next()
        if not batch:
            return 0
        try:
            lines = self._compare(batch)
        except FalajError as exc:
            lines = self._each_alone(batch, exc)
        except Exception as exc:
            lines = self._each_alone(batch, Bug(f"The shadow failed: {type(exc).__name__}: {str(exc)[:200]}"))
        if lines:
            with contextlib.suppress(Exception):  # nobody takes them any more: the server is about to end
                self._hand_over(lines)
        return sum(len(copied.ids) for copied in batch)

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_running, name="falaj-shadows", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends after the run that is under way; what still waits is dropped."""
        self._over.set()
        self._come.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._queue.lock:
            for copied in self._queue.waiting:
                self.of(copied.shadow).dropped += len(copied.ids)
            self._queue.rows = 0
            self._queue.waiting.clear()

    def _keep_running(self) -> None:
        while self._come.wait() and not self._over.is_set():
            self._come.clear()
            time.sleep(_PAUSE_S)
            began = time.perf_counter()
            while not self._over.is_set() and self.run():
                self._over.wait((time.perf_counter() - began) * self._rest)
                began = time.perf_counter()

    def _next(self) -> list[Copied]:
        """Copies for one shadow, together no more than a run takes; one that is larger goes alone."""
        queue, batch, count = self._queue, list[Copied](), 0
        with queue.lock:
            while queue.waiting:
                copied = queue.waiting[0]
                if batch and (copied.shadow is not batch[0].shadow or count + len(copied.ids) > ROWS):
                    break
                batch.append(queue.waiting.popleft())
                count += len(copied.ids)
            queue.rows -= count
        return batch

    def _compare(self, batch: Sequence[Copied]) -> list[bytes]:
        """The log lines of a batch. Raises what the features or the model raise."""
        fitting, parts = list[Copied](), list[Any]()
        for copied in batch:
            rows = self._rows(copied)
            if rows is None:
                self.of(copied.shadow).unfit += len(copied.ids)
            else:
                fitting.append(copied)
                parts.append(rows)
        if not fitting:
            return []
        shadow = fitting[0].shadow
        matrix: Rows = np.concatenate(parts)
        began = time.perf_counter()
        scores = shadow.model.scores(shadow.model.run(matrix))
        ms = (time.perf_counter() - began) * 1000 / len(matrix)
        usual_ms = self._usual_ms(fitting)
        lines, start = [], 0
        for copied in fitting:
            end = start + len(copied.ids)
            lines += self._lines(copied, scores[start:end], (ms, usual_ms))
            start = end
        return lines

    def _rows(self, copied: Copied) -> Rows | None:
        """The rows as the shadow takes them; None where they cannot be made."""
        shadow = copied.shadow.model
        if shadow.recipe.columns == copied.answered.model.recipe.columns:
            return copied.matrix
        if not copied.requests:
            return None
        keys = [shadow.reader.keys_of(request) for request in copied.requests]
        wanted = [pair for one in keys for pair in one.items()]
        stored = iter(self.online.get(wanted) if wanted else ())
        made = []
        for request, at, one in zip(copied.requests, copied.at, keys, strict=True):
            values = usable(shadow.recipe, millis(at), {view: next(stored) for view in one})
            made.append(shadow.reader.vector(request, at, values))
        return np.array(made)

    def _usual_ms(self, batch: Sequence[Copied]) -> float | None:
        """Milliseconds a row of the model that answered all of them; seldom, since it costs as much as an answer."""
        self._runs += 1
        live = batch[0].answered
        if self._runs % TIMED_EVERY != 1 or any(copied.answered is not live for copied in batch):
            return None
        matrix: Rows = np.concatenate([copied.matrix for copied in batch])
        began = time.perf_counter()
        live.model.scores(live.model.run(matrix))
        return (time.perf_counter() - began) * 1000 / len(matrix)

    def _lines(self, copied: Copied, scores: Sequence[float], times: tuple[float, float | None]) -> list[bytes]:
        ms, usual_ms = round(times[0], 4), None if times[1] is None else round(times[1], 4)
        lines, counts, cut = [], self.of(copied.shadow), copied.threshold
        for about, answered, score in zip(self._about(copied), copied.scores, scores, strict=True):
            diff = score - answered
            counts.compared += 1
            counts.size += abs(diff)
            counts.changed += (score >= cut) != (answered >= cut)
            lines.append(
                orjson.dumps(about | {"answered": answered, "score": score, "diff": diff, "ms": ms, "usual_ms": usual_ms})
            )
        return lines

    def _each_alone(self, batch: Sequence[Copied], error: FalajError) -> list[bytes]:
        """One call's rows must not fail another's. What fails by itself is logged with the code of its error."""
        if len(batch) == 1:
            self.of(batch[0].shadow).failed += len(batch[0].ids)
            told = {"code": error.code, "message": batch[0].shadow.mask.message(error.message[:300])}
            return [orjson.dumps(about | told) for about in self._about(batch[0])]
        lines = []
        for copied in batch:
            try:
                lines += self._compare([copied])
            except FalajError as exc:
                lines += self._each_alone([copied], exc)
            except Exception as exc:
                lines += self._each_alone([copied], Bug(f"The shadow failed: {type(exc).__name__}: {str(exc)[:200]}"))
        return lines

    def _about(self, copied: Copied) -> list[dict[str, Any]]:
        """What every record of a row says, whether it was compared or failed."""
        arm, wrote = copied.shadow.arm, iso(self._now())
        common = {
            "wrote": wrote, "endpoint": self.endpoint, "release": arm.release, "model": arm.model, "digest": arm.digest,
            "arm": copied.answered.role, "against": copied.answered.arm.model,
        }  # fmt: skip
        return [
            {"kind": "shadow", "of": issued, "at": iso(at), **common} for issued, at in zip(copied.ids, copied.at, strict=True)
        ]


def usable(recipe: Recipe, at_ms: int, stored: Mapping[str, Stored | None]) -> dict[str, Sequence[Value | None] | None]:
    """The stored values that a request may use: neither older than their view allows nor from after the request."""
    values: dict[str, Sequence[Value | None] | None] = {}
    for view in recipe.views:
        found, ttl = stored.get(view), recipe.ttl_ms.get(view)
        is_right = found is not None and found.at_ms <= at_ms and (ttl is None or found.at_ms >= at_ms - ttl)
        values[view] = found.values if found is not None and is_right else None
    return values
