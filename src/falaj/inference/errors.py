"""What the inference server answers when it cannot predict: core's errors with the HTTP status that a client expects."""

from __future__ import annotations

from typing import Any

from falaj.core.errors import Bug, FalajError, InvalidInput, Unavailable


class Malformed(InvalidInput):
    """The body is not the JSON that was asked for."""

    http_status = 400


class TooLarge(InvalidInput):
    """The body is longer than the server reads."""

    http_status = 413


class HeadersTooLarge(InvalidInput):
    """More header bytes than the server reads."""

    http_status = 431


class TooSlow(InvalidInput):
    """The request did not arrive in time."""

    http_status = 408


class NotThatMethod(InvalidInput):
    """The route exists, with other methods."""

    http_status = 405


class Busy(Unavailable):
    """More requests wait than the server takes on."""

    http_status = 429


class Late(Unavailable):
    """Nobody waits for the answer any more."""

    http_status = 504


RETRY_AFTER_S = 1
_LONGEST = 1000


def body_of(error: FalajError, path: str) -> dict[str, Any]:
    """The JSON of an error: the Open Inference Protocol wants a text under `error`, every other route has falaj's own shape."""
    shape = error.to_dict()
    for part in ("message", "hint"):
        # A net under all that repeats what was sent: nobody should get back a megabyte of their own.
        if len(shape["error"].get(part, "")) > _LONGEST:
            shape["error"][part] = shape["error"][part][:_LONGEST] + " …"
    if path != "/v2" and not path.startswith("/v2/"):
        return shape
    inner = shape["error"]
    return {"error": inner.pop("message"), **inner}


def failed(error: Exception) -> Bug:
    """What a caller is told of an error that nobody foresaw."""
    return Bug(f"The server failed: {type(error).__name__}: {str(error)[:200]}", "report it with server.log.")


def at_place(error: FalajError, where: str, index: int) -> FalajError:
    """The same error, saying which element of a batch it is about."""
    return type(error)(f"{where}[{index}]: {error.message}", error.hint, **{**error.facts, "index": index})
