"""What has come of a call so far: one message and one answer, or many of them on a stream."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from falaj.core.actor import Actor
from falaj.core.errors import FalajError, Unauthenticated, Unavailable
from falaj.inference.calls import Caller
from falaj.inference.grpc.infer import id_of, stream_answer, stream_error
from falaj.inference.grpc.port import Port, message_of, was_cancelled
from falaj.inference.grpc.service import Method
from falaj.inference.grpc.status import refusal
from falaj.inference.text import text_of

AHEAD = 64
"""Messages of one stream that are taken before the first of them is answered; the next ones wait in the connection."""
GOING = Unavailable("The server is going away.", "call again: another one takes over.")
_ENDED = (0, b"", None)
_NOTHING = (1, b"The caller sent no message.", None)
"""CANCELLED: nobody waits for it, or the core has said what is wrong already."""


@dataclass(slots=True)
class Asker:
    """What came with a call: its metadata, and until when its caller waits."""

    key: bytes = b""
    arm: str = ""
    request_id: str = ""
    trace: str = ""
    started: float = 0.0
    deadline: float = 0.0
    """Of time.perf_counter, as `started`; 0: none."""
    actor: Actor | None = None
    """Whose call it was found to be when it came; what that actor may do need not be asked again."""

    def caller(self, actor: Actor) -> Caller:
        """Raises InvalidInput for metadata that say nothing usable."""
        if self.arm or self.request_id or self.trace:
            for value, name in ((self.arm, "x-falaj-arm"), (self.request_id, "x-request-id"), (self.trace, "traceparent")):
                text_of(value, name)
        return Caller(actor, self.request_id, self.arm, self.started, self.deadline, self.trace)


def asker(event: Any, default_s: float) -> Asker:
    """Of an accepted call; `default_s` is how long its caller waits who does not say, 0 for ever."""
    found = Asker(started=time.perf_counter())
    until = event.call_details.deadline
    if until < _FAR:
        found.deadline = found.started + until - time.time()
    elif default_s:
        found.deadline = found.started + default_s
    for name, value in event.invocation_metadata:
        if name == "authorization":
            found.key = value[7:].strip().encode() if value[:7].lower() == "bearer " else b""
        elif name in _NAMES:
            setattr(found, _NAMES[name], value)
        elif name == "x-falaj-key":
            found.key = found.key or value.encode()
    return found


_FAR = 1e12
"""Seconds since 1970: what is later is no deadline."""
_NAMES = {"x-falaj-arm": "arm", "x-request-id": "request_id", "traceparent": "trace"}


class Waiting(Protocol):
    """A message that wants an answer."""

    @property
    def asker(self) -> Asker: ...

    @property
    def call(self) -> Any: ...

    @property
    def method(self) -> Method: ...

    @property
    def data(self) -> bytes: ...

    def reply(self, message: bytes) -> None: ...

    def refuse(self, error: FalajError) -> None: ...


class Single:
    """A call with one message and one answer."""

    __slots__ = ("_is_over", "_over", "_port", "_take", "asker", "call", "data", "method")

    def __init__(self, port: Port, event: Any, method: Method, over: Callable[[Any], None]) -> None:
        """`over` happens when the answer was sent, or the caller does not want it any more."""
        self._port, self.call, self.method, self._over = port, event.call, method, over
        self.asker = asker(event, port.timeout_s)
        self.data = b""
        self._is_over = False

    def receive(self, take: Callable[[Single, bool], None]) -> None:
        """`take` gets this call when its message is there, or with False when none will come and the call is over."""
        self._take = take
        self._port.receive(self.call, self._came)

    def reply(self, message: bytes) -> None:
        if not self._is_over:
            self._is_over = True
            self._port.answer(self.call, message, self._over)

    def refuse(self, error: FalajError) -> None:
        told = refusal(error)
        self._end((told.code, told.text, told.metadata))

    def _end(self, status: tuple[int, bytes, Any]) -> None:
        if not self._is_over:
            self._is_over = True
            self._port.refuse(self.call, status, self._over)

    def _came(self, event: Any) -> None:
        found = message_of(event)
        if found is None or self._is_over:
            self._end(_NOTHING)
            self._take(self, False)
        else:
            self.data = found
            self._take(self, True)


@dataclass(slots=True)
class Part:
    """One message of a stream."""

    stream: Stream
    data: bytes
    asker: Asker

    @property
    def method(self) -> Method:
        return self.stream.method

    @property
    def call(self) -> Any:
        return self.stream.call

    def reply(self, message: bytes) -> None:
        self.stream.send(stream_answer(message))

    def refuse(self, error: FalajError) -> None:
        """The stream goes on, unless its caller may not call at all any more."""
        if isinstance(error, Unauthenticated):
            self.stream.end(error)
        else:
            self.stream.send(stream_error(str(error), id_of(self.data)))


class Stream:
    """A call with many messages, each answered in its turn; it reads on only as fast as its answers are taken."""

    def __init__(
        self, port: Port, event: Any, method: Method, take: Callable[[Part], None], over: Callable[[Stream], None]
    ) -> None:
        self._port, self.call, self.method, self._take, self._over = port, event.call, method, take, over
        self.asker = asker(event, port.timeout_s)
        self._owed = 0
        self._out: deque[bytes] = deque()
        self._is_reading = self._is_sending = self._is_whole = self._is_over = False
        self._end: tuple[int, bytes, Any] | None = None

    def open(self) -> None:
        self._port.open(self.call, self._closed)
        self._read()

    def send(self, message: bytes) -> None:
        self._out.append(message)
        self._push()

    def end(self, error: FalajError | None = None) -> None:
        """Ends it: at once with an error, otherwise when everything that was read is answered."""
        if error is not None and self._end is None:
            told = refusal(error)
            self._end = told.code, told.text, told.metadata
            self._out.clear()
            self._owed = 0
        self._is_whole = True
        self._push()

    def drain(self) -> None:
        """Answers what was read, takes no more, and tells the caller to go elsewhere."""
        told = refusal(GOING)
        self._end = self._end or (told.code, told.text, told.metadata)
        self._is_whole = True
        self._push()

    def _read(self) -> None:
        if not self._is_reading and not self._is_whole and self._owed < AHEAD:
            self._is_reading = True
            self._port.receive(self.call, self._came)

    def _came(self, event: Any) -> None:
        self._is_reading = False
        found = message_of(event)
        if found is None:
            self._is_whole = True
            self._push()
        elif not self._is_over and self._end is None:
            self._owed += 1
            started = time.perf_counter()
            given = self.asker
            self._take(Part(self, found, replace(given, started=started)))
            self._read()

    def _push(self) -> None:
        if self._is_sending or self._is_over:
            return
        if self._out:
            self._is_sending = True
            self._port.send(self.call, self._out.popleft(), self._sent)
        elif self._is_whole and not self._owed:
            self._is_over = True
            self._port.finish(self.call, self._end or _ENDED, self._finished)

    def _sent(self, _event: Any) -> None:
        self._is_sending = False
        self._owed = max(0, self._owed - 1)
        self._push()
        self._read()

    def _finished(self, _event: Any) -> None:
        self._over(self)

    def _closed(self, event: Any) -> None:
        """A caller that went away: what is still on its way to it is dropped."""
        if was_cancelled(event) and not self._is_over:
            self._is_over = self._is_whole = True
            self._out.clear()
            self._over(self)
