"""The stream worker: takes requests from a stream, answers them in batches, and acknowledges them when the answers are out.

    consume → read → answer (the prediction log has it now) → send answers and dead letters → note → acknowledge

Killed anywhere, it goes on with what was not acknowledged: see `effects` for how nothing is answered twice. Whatever does not
answer (the broker, the disk, a model that is not there yet) is waited for with the batch in hand: nothing is dropped, and no
more is taken on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from falaj.core.actor import Actor
from falaj.core.errors import Bug, FalajError, InvalidInput, Unavailable
from falaj.core.message import Delivery, Message
from falaj.inference.calls import Answered
from falaj.inference.effects import Effects
from falaj.inference.messages import Request, answer_again, answer_to, dead_letter, key_of, read_request, shortened
from falaj.inference.models import Serving
from falaj.inference.predict import Predictor
from falaj.inference.settings import ServerSettings
from falaj.inference.stream_counts import StreamCounts
from falaj.ports.stream import Stream

MOST_ROWS = 2_048
"""Rows of a batch that become one round of answers."""
WAIT_S = 0.5
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_LAG_EVERY_S = 5.0
T = TypeVar("T")


class Leaving(Exception):  # not an error: the worker was asked to stop
    """What was not finished is given back."""


@dataclass(frozen=True, slots=True)
class Streams:
    source: Stream
    sink: Stream
    dead: Stream

    def close(self) -> None:
        for stream in (self.source, self.sink, self.dead):
            stream.close()


@dataclass(slots=True)
class _Batch:
    """What is in hand, in the order in which it came."""

    deliveries: list[Delivery]
    requests: dict[str, Request] = field(default_factory=dict)
    answers: dict[str, Message] = field(default_factory=dict)
    letters: dict[str, Message] = field(default_factory=dict)
    """By key; a message that is in there twice is in there once."""
    ids: list[str] = field(default_factory=list)
    extended: float = field(default_factory=time.monotonic)


class StreamWorker:
    """Everything belongs to the one thread that calls `run`; `leave` may be called from any."""

    def __init__(
        self, settings: ServerSettings, predictor: Predictor, streams: Streams, effects: Effects, *,
        on_problem: Callable[[FalajError], None] = lambda _error: None,
    ) -> None:  # fmt: skip
        self.settings, self.predictor, self.streams, self.effects = settings, predictor, streams, effects
        self.counts = StreamCounts()
        self._on_problem = on_problem
        self._actor = Actor(f"stream:{settings.stream_group}", "service")
        self._is_leaving = False
        self._measured = self._rested = 0.0

    def run(self) -> None:
        """Until `leave` was called: the batch in hand is finished, unless something is waited for."""
        try:
            while not self._is_leaving:
                self.turn(WAIT_S)
        except Leaving:
            pass

    def leave(self) -> None:
        self._is_leaving = True

    def turn(self, wait_s: float) -> int:
        """One batch from the stream to its acknowledgement; returns how many messages it had. Raises Leaving."""
        settings = self.settings
        batch = _Batch([])
        batch.deliveries = self._patiently(
            batch, lambda: self.streams.source.consume(settings.stream_group, settings.stream_batch, wait_s)
        )
        self._measure()
        if not batch.deliveries:
            self._rest()
            return 0
        self.counts.consumed += len(batch.deliveries)
        self.counts.in_hand = len(batch.deliveries)
        try:
            self._read(batch)
            self._answer_all(batch)
            self._send(batch)
            rows = {key: request.rows for key, request in batch.requests.items()} | dict.fromkeys(batch.letters, 1)
            self._patiently(batch, lambda: self.effects.settle(rows, batch.ids))
            self._patiently(batch, lambda: self.streams.source.acknowledge(settings.stream_group, batch.deliveries))
        except Leaving:
            self._give_back(batch)
            raise
        finally:
            self.counts.in_hand = 0
        return len(batch.deliveries)

    # --- from messages to answers ---

    def _read(self, batch: _Batch) -> None:
        serving = self._patiently(batch, self._serving)
        self.counts.age_seconds = max(time.time() - batch.deliveries[0].at_ms / 1000, 0.0)
        for delivery in batch.deliveries:
            key = key_of(self.settings.stream_source, delivery)
            if key in batch.requests or key in batch.letters:
                self.counts.duplicates += 1
                continue
            try:
                request = read_request(delivery, self.settings, serving, self._actor)
            except FalajError as exc:
                self._bury(batch, key, delivery, exc)
                continue
            if self.effects.is_settled(key, request.rows):
                self.counts.duplicates += 1
                continue
            batch.requests[key] = request
            if records := self.effects.logged(key, request.rows):
                try:
                    batch.answers[key] = answer_again(request, records, serving)
                except FalajError as exc:
                    self._bury(batch, key, delivery, exc)
                    continue
                batch.ids += [str(record["id"]) for record in records]
                self.counts.recovered += 1

    def _answer_all(self, batch: _Batch) -> None:
        """What was in hand when the process died goes alone: if it is what it died of, only that dies with it again."""
        suspects: list[Request] = []
        group: list[Request] = []
        rows = 0
        for request in list(batch.requests.values()):
            if request.key in batch.answers or request.key in batch.letters:
                continue
            if request.key in self.effects.tries:
                suspects.append(request)
                continue
            if group and rows + request.rows > MOST_ROWS:
                self._answer(batch, group)
                group, rows = [], 0
            group.append(request)
            rows += request.rows
        if group:
            self._answer(batch, group)
        for request in suspects:
            if self.effects.tries[request.key] >= self.settings.stream_tries:
                error = Bug(f"The server died {self.effects.tries[request.key]} times while it answered this.", "see server.log.")
                self._bury(batch, request.key, request.delivery, error)
            else:
                self._answer(batch, [request])

    def _answer(self, batch: _Batch, group: Sequence[Request]) -> None:
        """Until each has an answer or a dead letter. What is refused for what it is goes at once, what fails after some tries."""
        pause = _SHORTEST_PAUSE_S
        while group:
            asked = list(group)
            keys = [request.key for request in asked]
            self._patiently(batch, lambda keys=keys: self.effects.trying(keys))  # type: ignore[misc]
            for request in asked:
                request.call.caller.started = time.perf_counter()
            outcomes = self.predictor.answer([request.call for request in asked])
            if self.settings.sync == "always":
                self._patiently(batch, self.predictor.log.sync)
            group, problem = [], None
            for request, outcome in zip(asked, outcomes, strict=True):
                if isinstance(outcome, Answered):
                    batch.answers[request.key] = answer_to(request, outcome)
                    batch.ids += outcome.ids
                elif self._may_try_again(request.key, outcome):
                    group.append(request)
                    problem = outcome
                else:
                    self._bury(batch, request.key, request.delivery, outcome)
            if problem is not None:
                self._pause(batch, problem, pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _may_try_again(self, key: str, error: FalajError) -> bool:
        if isinstance(error, Unavailable):
            return True
        return isinstance(error, Bug) and self.effects.failed(key) < self.settings.stream_tries

    def _bury(self, batch: _Batch, key: str, delivery: Delivery, error: FalajError) -> None:
        attempts = max(delivery.attempts, self.effects.tries.get(key, 0))
        batch.letters[key] = dead_letter(self.settings.stream_source, delivery, error, attempts)

    # --- from answers to the acknowledgement ---

    def _send(self, batch: _Batch) -> None:
        """In the order of the requests. An answer that its stream does not take becomes a dead letter."""
        answers = [batch.answers[key] for key in batch.requests if key in batch.answers]
        if answers:
            try:
                self._patiently(batch, lambda: self.streams.sink.produce(answers))
            except InvalidInput:
                self._send_one_by_one(batch)
            self.counts.produced += len(answers)
        if batch.letters:
            letters = list(batch.letters.values())
            for size in (-1, 1 << 16, 0):
                given = letters if size < 0 else [shortened(letter, size) for letter in letters]
                try:
                    self._patiently(batch, lambda given=given: self.streams.dead.produce(given))  # type: ignore[misc]
                    break
                except InvalidInput as exc:
                    self._on_problem(exc)
            self.counts.dead += len(letters)

    def _send_one_by_one(self, batch: _Batch) -> None:
        for key, request in batch.requests.items():
            if key in batch.answers:
                answer = batch.answers[key]
                try:
                    self._patiently(batch, lambda answer=answer: self.streams.sink.produce([answer]))  # type: ignore[misc]
                except InvalidInput as exc:
                    self._bury(batch, key, request.delivery, exc)

    # --- waiting ---

    def _serving(self) -> Serving:
        serving = self.predictor.serving
        if serving is None:
            raise Unavailable("No model is served here yet.", "falaj status says why.")
        return serving

    def _patiently(self, batch: _Batch, call: Callable[[], T]) -> T:
        """Again and again until it works. Raises InvalidInput, which no waiting mends, and Leaving."""
        pause = _SHORTEST_PAUSE_S
        while True:
            try:
                return call()
            except InvalidInput:
                raise
            except FalajError as exc:
                self._pause(batch, exc, pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _pause(self, batch: _Batch, error: FalajError, seconds: float) -> None:
        """Keeps what is in hand meanwhile. Raises Leaving."""
        self.counts.waits += 1
        self.counts.problem(error, self._on_problem)
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if self._is_leaving:
                raise Leaving
            if batch.deliveries and now - batch.extended > self.settings.stream_visible_s / 3:
                batch.extended = now
                try:
                    self.streams.source.extend(self.settings.stream_group, batch.deliveries)
                except FalajError as exc:
                    self.counts.problem(exc, self._on_problem)
            if now >= until:
                return
            time.sleep(min(until - now, 0.05))

    def _give_back(self, batch: _Batch) -> None:
        try:
            self.streams.source.release(self.settings.stream_group, batch.deliveries)
        except FalajError as exc:  # then its time runs out
            self._on_problem(exc)

    def _rest(self) -> None:
        now = time.monotonic()
        if now - self._rested > 60.0:
            self._rested = now
            try:
                self.effects.rest(self.streams.source.lag(self.settings.stream_group))
            except FalajError as exc:
                self._on_problem(exc)

    def _measure(self) -> None:
        now = time.monotonic()
        if now - self._measured > _LAG_EVERY_S:
            self._measured = now
            try:
                self.counts.lag = self.streams.source.lag(self.settings.stream_group)
            except FalajError as exc:
                self.counts.problem(exc, self._on_problem)
