"""Points in time and lengths of time, and the one way each is written down."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from falaj.core.errors import InvalidInput

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_LENGTH = re.compile(r"\s*(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|min|m|h|d|w)\s*")


def iso(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: `2013-05-01T09:30:00.000Z`."""
    if at.tzinfo is None:
        raise InvalidInput(f"The time {str(at)!r} has no time zone.", "give it one: a time without a zone is two times.")
    here = at if at.tzinfo is UTC else at.astimezone(UTC)
    return here.isoformat(timespec="milliseconds")[:-6] + "Z"


def moment(text: str | datetime) -> datetime:
    """The moment that an RFC 3339 text names, in UTC.

    Raises InvalidInput where the text is no time, or has no time zone: a time without a zone is two times.
    """
    if isinstance(text, datetime):
        at = text
    else:
        try:
            at = datetime.fromisoformat(text)
        except (ValueError, TypeError) as exc:
            raise InvalidInput(f"{str(text)[:80]!r} is not a time.", "write it as 2013-05-01T09:30:00Z.") from exc
    if at.tzinfo is None:
        raise InvalidInput(f"The time {str(text)!r} has no time zone.", "end it with Z or an offset such as +04:00.")
    try:
        return at.astimezone(UTC)
    except OverflowError as exc:
        raise InvalidInput(f"The time {str(text)!r} is outside the years 1 to 9999 in UTC.") from exc


def millis(at: datetime) -> int:
    """Milliseconds since 1970-01-01T00:00Z, cut off as `iso` cuts them off."""
    since = at - _EPOCH
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def from_millis(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def length(text: str | timedelta) -> timedelta:
    """The length that `3h`, `30m`, `7d` or `1h30m` names. Raises InvalidInput for anything else."""
    if isinstance(text, timedelta):
        return text
    if not isinstance(text, str):
        raise InvalidInput(f"{text!r} is not a length of time.", "write it as 30m, 3h, 7d or 1h30m.")
    total, end = 0.0, 0
    for match in _LENGTH.finditer(text):
        if match.start() != end:
            break
        total += float(match[1]) * _UNITS[match[2]]
        end = match.end()
    if end == 0 or end != len(text):
        raise InvalidInput(f"{text!r} is not a length of time.", "write it as 30m, 3h, 7d or 1h30m.")
    if total > timedelta.max.total_seconds() / 2:
        raise InvalidInput(f"{text!r} is longer than any calendar.")
    return timedelta(seconds=total)


def short(span: timedelta) -> str:
    """The shortest text that `length` reads back: `3h`, `7d`, `90s`."""
    seconds = span.total_seconds()
    for unit in ("w", "d", "h", "m", "s"):
        count, rest = divmod(seconds, _UNITS[unit])
        if count and not rest:
            return f"{int(count)}{unit}"
    return f"{round(seconds * 1000)}ms"


def in_words(span: timedelta) -> str:
    """For a reader, its two greatest units, cut off: `60d`, `6142d 13h`, `1h 30m`, `12s`; below a second as `short` has it."""
    rest = int(span.total_seconds())
    if rest < 1:
        return short(span) if span else "0s"
    parts = []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, int(_UNITS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
