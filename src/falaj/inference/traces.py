"""One request's place in a trace that other programs began: W3C Trace Context, and which requests are told to a collector."""

from __future__ import annotations

import random
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Attribute = str | int | float | bool
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_KEY = re.compile(r"[a-z0-9][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}")
_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MEMBERS = 32
_STATE_SIZE = 4096
_SAMPLED, _RANDOM = 1, 2


@dataclass(slots=True)
class Context:
    """What came with a request: who asked, in which trace."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16, the caller's span."""
    flags: int
    """1: the caller records this trace. 2: the trace id is random. The others are not known and not passed on."""
    state: str = ""
    """Other vendors' words, passed on as they are."""

    @property
    def text(self) -> str:
        """As `traceparent` writes it."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def is_sampled(self) -> bool:
        return bool(self.flags & _SAMPLED)


def read_context(parent: str, state: str = "") -> Context | None:
    """The headers `traceparent` and `tracestate`; None for what is none by the standard, which then counts for nothing.

    W3C Trace Context, level 2: a later version may have more fields behind the four that are known. A state that is not
    good is left out and takes nothing else with it.
    """
    found = _PARENT.fullmatch(parent)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or trace_id == "0" * 32 or span_id == "0" * 16:
        return None
    return Context(trace_id, span_id, int(flags, 16) & (_SAMPLED | _RANDOM), read_state(state) if state else "")


def read_state(text: str) -> str:
    """`tracestate` without empty members and the space around them; empty for one that is not good."""
    if len(text) > _STATE_SIZE:
        return ""
    members: dict[str, str] = {}
    for part in text.split(","):
        member = part.strip(" \t")
        if not member:
            continue
        key, equals, value = member.partition("=")
        if not equals or key in members or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            return ""
        members[key] = value
    return ",".join(f"{key}={value}" for key, value in members.items()) if len(members) <= _MEMBERS else ""


@dataclass(slots=True)
class Span:
    """One request here. `context` is this server's own span, `parent` the caller's, if there was one."""

    context: Context
    parent: Context | None
    stages: tuple[tuple[str, float, float], ...] = ()
    """(`features`, `model` or `log`, beginning, end) by time.perf_counter, as the predictor tells them."""
    attributes: dict[str, Attribute] = field(default_factory=dict)

    @property
    def is_sampled(self) -> bool:
        return self.context.is_sampled


class Stages:
    """What one turn of the predictor was busy with; all requests that it answered together have it in common."""

    def __init__(self, began: float) -> None:
        self._last = began
        self._found: list[tuple[str, float, float]] = []

    def over(self, name: str) -> None:
        """What was done since the last call was this stage; empty for nothing worth a span."""
        now = time.perf_counter()
        if name:
            self._found.append((name, self._last, now))
        self._last = now

    def tell(self, spans: Iterable[Span | None]) -> None:
        for span in spans:
            if span is not None and span.is_sampled:
                span.stages = tuple(self._found)


@dataclass(slots=True)
class Ended:
    """A span that is over, for the collector. Times are time.perf_counter's."""

    span: Span
    began: float
    ended: float
    status: int
    """The HTTP status of the answer."""
    attributes: Mapping[str, Attribute]


class Traces:
    """Begins and ends spans. `send` takes what a collector is to get; without it nothing is recorded, and what a caller
    said of its trace is still kept with the prediction."""

    def __init__(
        self, send: Callable[[Ended], None] | None = None, share: float = 1.0, chance: random.Random | None = None
    ) -> None:
        """`share`: of the requests that no caller has decided about, 0 to 1."""
        self._send = send
        self._below = round(share * (1 << 56))
        self._chance = chance or random.Random(secrets.randbits(128))  # noqa: S311  # a trace id is no secret
        self.is_on = send is not None
        self.dropped: Callable[[], int] = int
        """Requests that were to be recorded and are lost."""

    def begin(self, parent: bytes | None, state: bytes | None = None) -> Span | None:
        """A span for a request with these headers; None where nobody asked for one and none is recorded here.

        A caller's decision is honoured. Where there is none, the trace id decides, so that every server decides alike.
        """
        if parent is None and not self.is_on:
            return None
        given = read_context(parent.decode("latin-1"), state.decode("latin-1") if state else "") if parent is not None else None
        if not self.is_on:
            return Span(given, None) if given is not None else None
        if given is not None:
            return Span(Context(given.trace_id, self._id(64), given.flags, given.state), given)
        trace_id = self._id(128)
        flags = _RANDOM | (_SAMPLED if int(trace_id[-14:], 16) < self._below else 0)
        return Span(Context(trace_id, self._id(64), flags), None)

    def end(self, span: Span | None, began: float, ended: float, status: int, attributes: Mapping[str, Any]) -> None:
        """The answer is on its way. Costs an append where the span is recorded, and nothing elsewhere."""
        if span is not None and self._send is not None and span.is_sampled:
            self._send(Ended(span, began, ended, status, {**span.attributes, **attributes}))

    def _id(self, bits: int) -> str:
        while not (number := self._chance.getrandbits(bits)):
            pass
        return f"{number:0{bits // 4}x}"


def trace_lines(span: Span | None, request_id: bytes) -> bytes:
    """The header lines of the answer: `traceparent` of this server's span, and the caller's `X-Request-Id` as it came."""
    lines = b"" if span is None else f"traceparent: {span.context.text}\r\n".encode()
    is_plain = request_id.isascii() and request_id.decode("ascii", "replace").isprintable()
    return lines + (b"x-request-id: %b\r\n" % request_id if request_id and is_plain else b"")
