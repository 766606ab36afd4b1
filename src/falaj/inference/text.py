"""Names that a caller gives: the unit that is split on, request ids, headers."""

from __future__ import annotations

from typing import Any

import orjson

from falaj.core.errors import InvalidInput

MAX_TEXT = 200
"""Longest unit, request id and the like."""


def unit_of(value: Any, field: str) -> str:
    """What the split is made on. Raises InvalidInput for anything but a text or a whole number; null is nobody."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidInput(f"The field {field!r} must be a text, got {str(value)[:80]!r}.")
    return text_of(str(value), field)


def text_of(value: Any, field: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise InvalidInput(f"The field {field!r} must be a printable text of at most {MAX_TEXT} characters.")
    return value


def quoted(text: str) -> str:
    """A text as JSON."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return orjson.dumps(text).decode()
