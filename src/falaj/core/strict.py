"""JSON that has one meaning: no name stands twice in it, and there is no NaN."""

from __future__ import annotations

import json
from typing import Any


def strict_json(data: bytes) -> Any:
    """The value of these UTF-8 bytes; two readers of one signed text must not see two things (RFC 8259 section 4).

    Raises ValueError (also RecursionError for what is nested too deeply).
    """
    return json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_never)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise ValueError("a name stands twice")
    return body


def _never(text: str) -> Any:
    raise ValueError(text)
