"""What the edge and the service behind it say to each other: whole requests, whole answers, and refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from falaj.core.errors import FalajError, Unavailable
from falaj.inference.errors import RETRY_AFTER_S, body_of

if TYPE_CHECKING:
    from falaj.inference.heads import Known

JSON = b"content-type: application/json\r\n"
PEER = b":peer"
"""Stands among the headers of a request for who its connection's certificate says it is; no caller can send such a name."""
_REASONS: Mapping[int, bytes] = {
    200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed",
    408: b"Request Timeout", 409: b"Conflict", 413: b"Content Too Large", 422: b"Unprocessable Content",
    429: b"Too Many Requests", 431: b"Request Header Fields Too Large", 500: b"Internal Server Error",
    503: b"Service Unavailable", 504: b"Gateway Timeout",
}  # fmt: skip
HEADS = {status: b"HTTP/1.1 %d %s\r\n" % (status, reason) for status, reason in _REASONS.items()}


@dataclass(slots=True)
class Request:
    """A whole request. `open`: what `Service.admit` made of its head."""

    method: bytes
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes
    started: float
    opened: Any
    keep: bool
    span: Any = None
    """What the service makes of its `traceparent`."""


@dataclass(slots=True)
class Answer:
    """`head`: header lines, each with its line end; the length and what the connection needs are added."""

    status: int
    body: bytes
    head: bytes = JSON


Respond = Callable[[Answer], None]


class Asker(Protocol):
    """Who waits for the answer to a request that was taken up quickly: one of the three is called, once."""

    @property
    def is_alone(self) -> bool:
        """Whether nobody else can ask in this turn of the loop: there is no company to wait for."""
        ...

    def finish(self, body: str, now: float) -> None:
        """The answer, a JSON text in ASCII; status 200."""
        ...

    def refuse(self, error: FalajError, path: str) -> None: ...

    def handle(self, request: Request) -> None:
        """It is one for `Service.handle` after all."""
        ...


class Service(Protocol):
    def admit(self, method: bytes, path: str, headers: Mapping[bytes, bytes]) -> Any:
        """Whether the request may go on, before its body is read. Raises FalajError."""
        ...

    def admits_still(self, opened: Any) -> bool:
        """Whether `admit` would give the same now as it once did. False where that is not known: then it is asked."""
        ...

    def quick(self, known: Known, body: bytes, started: float, asker: Asker) -> bool:
        """Takes a request up that needs no `Request` of its own; then `asker` is told once. False: it is one for `handle`."""
        ...

    def handle(self, request: Request, respond: Respond) -> None:
        """Answers once, now or later on this loop. Never raises."""
        ...

    def refused(self, error: FalajError) -> None:
        """Counts what was refused at the edge."""
        ...


def refusal(error: FalajError, path: str) -> Answer:
    """An error as an answer, in the shape that the route's clients expect."""
    head = JSON
    if isinstance(error, Unavailable):
        head += b"retry-after: %d\r\n" % RETRY_AFTER_S
    elif error.http_status == 401:
        head += b"www-authenticate: Bearer\r\n"
    elif error.http_status == 405:
        head += b"allow: %b\r\n" % str(error.facts.get("allow", "GET")).encode("ascii", "replace")
    return Answer(error.http_status, orjson.dumps(body_of(error, path)), head)
