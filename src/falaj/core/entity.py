"""Entity keys: several values as one text, the same in a dataset's rows, in the online store and in a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SEPARATOR, ESCAPE = "|", "\\"


def key_text(value: Any) -> str | None:
    """One value as the text of a key: a whole number in decimals, true and false in lower case; None for null."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def joined_key(values: Sequence[Any]) -> str | None:
    """The key of several columns: `JFK|UA`, with `\\` before any `|` or `\\` of a value; None where any value is null.

    No two lists of values have the same text: the separators are the bars that no `\\` stands before.
    """
    texts = [key_text(value) for value in values]
    if any(text is None for text in texts):
        return None
    return SEPARATOR.join(_escaped(text) for text in texts if text is not None)


def split_key(text: str) -> list[str]:
    """The values of a key of several columns, as texts: what `joined_key` put together."""
    parts, current, is_escaped = [], "", False
    for letter in text:
        if is_escaped or letter not in (SEPARATOR, ESCAPE):
            current, is_escaped = current + letter, False
        elif letter == ESCAPE:
            is_escaped = True
        else:
            parts.append(current)
            current = ""
    return [*parts, current]


def _escaped(text: str) -> str:
    return text.replace(ESCAPE, ESCAPE * 2).replace(SEPARATOR, ESCAPE + SEPARATOR)
