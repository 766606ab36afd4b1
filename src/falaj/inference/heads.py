"""Heads of requests that were read before: the same bytes mean the same, and need not be read again.

A caller that keeps its connection sends one head over and over; reading it costs as much as the model. What is remembered is what
llhttp made of exactly these bytes, never what they look like; who may come in is asked anew each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from falaj.inference.exchange import Request

END = b"\r\n\r\n"
LONGEST = 1024
"""Bytes of a head that is worth remembering."""
MOST = 1024
"""Heads; with one more, all of them are read again."""
PLAIN = frozenset({b"authorization", b"content-type", b"x-falaj-key"})
"""Headers that say who asks, and nothing of how it is to be answered."""


@dataclass(frozen=True, slots=True)
class Known:
    """A head that llhttp has read."""

    request: Request
    """The first request that came with it, without its body."""
    end: int
    """Bytes of the head."""
    whole: int
    """Bytes of the head and the body that it announces."""
    is_plain: bool
    """Whether it holds nothing that is asked for in a way of its own."""

    def request_of(self, body: bytes, started: float) -> Request:
        first = self.request
        return Request(first.method, first.path, first.headers, body, started, first.opened, first.keep)


class Heads:
    """Of all connections of a server. `admitted`: whether what a head was once admitted as would be admitted now."""

    def __init__(self, admitted: Callable[[Any], bool]) -> None:
        self.admitted = admitted
        self._known: dict[bytes, Known] = {}

    def find(self, data: bytes) -> Known | None:
        """What a whole request, and nothing but it, begins with; None where it is not known, or may not come in any more."""
        found = self._known.get(data[: data.find(END) + 4])
        return found if found is not None and len(data) == found.whole and self.admitted(found.request.opened) else None

    def learn(self, data: bytes, request: Request, length: int) -> None:
        """`data`: all that was read between two requests; `request`: what llhttp made of it, with a body of announced length.

        Only where the end of the head is beyond doubt: every line of it ends in CRLF, so that the first empty line is its
        end (RFC 9112, 2.1), and what follows is the announced body to the byte.
        """
        end = data.find(END) + 4
        if not 4 < end <= LONGEST or length != len(request.body) or len(data) != end + length:
            return
        bare = data[:end].replace(b"\r\n", b"")
        if b"\r" in bare or b"\n" in bare or request.method != b"POST" or not request.keep:
            return
        if b"expect" in request.headers or not self.admitted(request.opened):
            return
        if len(self._known) >= MOST:
            self._known.clear()
        kept = replace(request, body=b"", span=None)
        self._known[data[:end]] = Known(kept, end, end + length, PLAIN.issuperset(request.headers))
