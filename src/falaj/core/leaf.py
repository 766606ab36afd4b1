"""Leaf: the bytes of one event as they stand in the ledger, and the event that they hold."""

from __future__ import annotations

import json

from falaj.core.codec import canonical, decode, encode
from falaj.core.errors import InvalidInput
from falaj.core.event import Event

MAX_LEAF = 65_535
"""C2SP entry bundles (tlog-tiles) count the bytes of a leaf in a uint16."""


def leaf_of(event: Event) -> bytes:
    """The canonical bytes of an event that has its seq. Raises InvalidInput where they are more than a leaf may hold."""
    leaf = canonical(encode(event))
    if len(leaf) > MAX_LEAF:
        raise InvalidInput(
            f"The event {event.verb} {event.subject} has {len(leaf)} bytes; a leaf of the ledger holds {MAX_LEAF}.",
            "keep the content as a blob and its digest in the event.",
        )
    return leaf


def event_of(leaf: bytes) -> Event:
    """The event that `leaf_of` wrote. Raises InvalidInput where the bytes hold none, or are not canonical."""
    try:
        value = json.loads(leaf)
        if canonical(value) != leaf:
            raise InvalidInput("The leaf is not canonical JSON.")
        event = decode(Event, value)
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"The leaf is not JSON: {exc}.") from exc
    if type(event.seq) is not int or not isinstance(event.verb, str):
        raise InvalidInput("The leaf's seq is no integer, or its verb no text.")
    return event
