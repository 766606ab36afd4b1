"""Calls by entity: what a request says of itself, as JSON; the features are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from falaj.core.errors import InvalidInput
from falaj.inference.errors import Malformed
from falaj.inference.text import text_of

MAX_ENTITIES = 256


def read_json(body: bytes) -> Any:
    """Raises Malformed; NaN and Infinity are not JSON."""
    try:
        return orjson.loads(body)
    except ValueError as exc:
        raise Malformed(f"The body is not JSON: {exc}.", "null stands where a number is missing; JSON has no NaN.") from exc


def read_entities(body: bytes) -> tuple[list[Mapping[str, Any]], bool, str]:
    """(requests, whether it was a single one, id of the call). Raises Malformed or InvalidInput."""
    given = read_json(body)
    if not isinstance(given, dict):
        raise Malformed("The body must be an object.", 'send one request, or {"requests":[…]}.')
    if "requests" not in given:
        return [given], True, ""
    rows = given["requests"]
    if not isinstance(rows, list) or not rows:
        raise InvalidInput("`requests` must be a list with at least one request.", 'send {"requests":[{…}]}.')
    if len(rows) > MAX_ENTITIES:
        raise InvalidInput(f"One call takes at most {MAX_ENTITIES} requests, got {len(rows)}.", "send the rest in another call.")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidInput(f"requests[{index}] must be an object, got {type(row).__name__}.", index=index)
    return rows, False, text_of(given.get("id"), "id")
