"""The errors that falaj can raise, sorted by what the reader does next.

FalajError                        exit  http  retryable
├── InvalidInput      mend it       2    422  no
├── NotFound          name another  3    404  no
├── Conflict          look again    4    409  no
├── Denied            ask for it    5    403  no
├── Unauthenticated   show a key    6    401  no
├── MissingDependency install it    7    501  no
├── Unavailable       try later     8    503  yes
└── Bug               report it    70    500  no

A refused gate or policy is not here: that is a Decision, with its evidence.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self


class FalajError(Exception):
    """What stopped falaj from answering: a message, the next action, and the facts."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, hint: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = facts

    def to_dict(self) -> dict[str, Any]:
        """The one JSON shape of an error, the same in HTTP, `--json` and logs."""
        body: dict[str, Any] = {"code": self.code, "message": self.message, "retryable": self.retryable}
        if self.hint:
            body["hint"] = self.hint
        if self.facts:
            body["facts"] = {key: _plain(value) for key, value in self.facts.items()}
        return {"error": body}

    def __str__(self) -> str:
        return f"{self.message}  Hint: {self.hint}" if self.hint else self.message


class InvalidInput(FalajError):
    """What was given cannot be used as it is."""

    code, exit_code, http_status = "invalid_input", 2, 422


class NotFound(FalajError):
    """Nothing has that name."""

    code, exit_code, http_status = "not_found", 3, 404

    @classmethod
    def named(cls, what: str, name: str, known: Iterable[str]) -> Self:
        """An error that offers the nearest known names."""
        names = sorted(set(known))
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
        if close:
            hint = "did you mean " + " or ".join(repr(c) for c in close) + "?"
        elif names:
            shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            hint = f"there is: {shown}."
        else:
            hint = f"there is no {what} yet."
        return cls(f"There is no {what} named {name!r}.", hint)


class Conflict(FalajError):
    """The world has moved on, or two things want the same place."""

    code, exit_code, http_status = "conflict", 4, 409


class Denied(FalajError):
    """The caller is known and may not do this."""

    code, exit_code, http_status = "denied", 5, 403


class Unauthenticated(FalajError):
    """Nobody vouches for the caller."""

    code, exit_code, http_status = "unauthenticated", 6, 401


class MissingDependency(FalajError):
    """A package that this needs is not installed."""

    code, exit_code, http_status = "missing_dependency", 7, 501

    @classmethod
    def of(cls, what: str, package: str, extra: str) -> Self:
        return cls(f"{what} needs the package {package!r}, which is not installed.", f"pip install 'falaj[{extra}]'")


class Unavailable(FalajError):
    """Something outside did not answer; the same call may work later."""

    code, exit_code, http_status, retryable = "unavailable", 8, 503, True


class Bug(FalajError):
    """falaj itself is wrong."""

    code, exit_code, http_status = "bug", 70, 500


def error_from_dict(body: Any) -> FalajError:
    """The error that `to_dict` wrote, as its own class again. A body of another form becomes a plain FalajError."""
    inner = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(inner, Mapping):
        return FalajError(str(body)[:500])
    kinds = {c.code: c for c in FalajError.__subclasses__()}
    kind = kinds.get(str(inner.get("code")), FalajError)
    error = kind(str(inner.get("message", "")), str(inner.get("hint", "")))
    facts = inner.get("facts")
    error.facts = dict(facts) if isinstance(facts, Mapping) else {}
    return error


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    return str(value)
