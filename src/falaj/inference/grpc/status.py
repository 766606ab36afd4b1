"""falaj's errors as gRPC statuses, with when to come back and the error's code in the public `google.rpc.Status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from falaj.core.errors import (
    Bug,
    Conflict,
    Denied,
    FalajError,
    InvalidInput,
    MissingDependency,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from falaj.inference.errors import RETRY_AFTER_S
from falaj.inference.grpc.messages import message

_Status = message("google.rpc.Status")
_ErrorInfo = message("google.rpc.ErrorInfo")
_RetryInfo = message("google.rpc.RetryInfo")


class Unknown(FalajError):
    """The service has no such method."""

    code, http_status = "not_found", 404


UNKNOWN, UNIMPLEMENTED = 2, 12
CODES: Mapping[type[FalajError], int] = {
    InvalidInput: 3,  # INVALID_ARGUMENT
    NotFound: 5,
    Denied: 7,  # PERMISSION_DENIED
    Conflict: 9,  # FAILED_PRECONDITION
    Unknown: UNIMPLEMENTED,
    MissingDependency: UNIMPLEMENTED,
    Bug: 13,  # INTERNAL
    Unavailable: 14,
    Unauthenticated: 16,
}
"""error → status, as numbered in the gRPC specification; a subclass that is not here has that of its nearest ancestor."""
BY_HTTP: Mapping[int, int] = {408: 4, 413: 8, 429: 8, 504: 4}
"""What HTTP tells apart more finely: too slow and too late are DEADLINE_EXCEEDED, too large and too many RESOURCE_EXHAUSTED."""
_LONGEST = 2000
"""Characters of a text: it travels in headers, which clients limit."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """`metadata`: the trailing metadata."""

    code: int
    text: bytes
    metadata: tuple[tuple[str, str | bytes], ...]


def refusal(error: FalajError) -> Refusal:
    code, text = code_of(error), str(error)[:_LONGEST]
    told = _Status(code=code, message=error.message[:_LONGEST])
    info = _ErrorInfo(reason=error.code.upper(), domain="falaj", metadata={"hint": error.hint[:_LONGEST]} if error.hint else {})
    told.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=info.SerializeToString())
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    if isinstance(error, Unavailable):
        retry = _RetryInfo(retry_delay={"seconds": RETRY_AFTER_S})
        told.details.add(type_url="type.googleapis.com/google.rpc.RetryInfo", value=retry.SerializeToString())
        metadata = (("grpc-retry-pushback-ms", str(RETRY_AFTER_S * 1000)),)
    return Refusal(code, text.encode(), (("grpc-status-details-bin", told.SerializeToString()), *metadata))


def code_of(error: FalajError) -> int:
    if error.http_status in BY_HTTP:
        return BY_HTTP[error.http_status]
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), UNKNOWN)
