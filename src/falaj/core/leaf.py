"""Leaf: the bytes of one event as they stand in the ledger, and the event that they hold."""

from __future__ import annotations

import functools
import json
from typing import NamedTuple

from falaj.core.actor import Actor
from falaj.core.codec import canonical, canonical_text, decode, encode, utf8
from falaj.core.errors import InvalidInput
from falaj.core.event import Event
from falaj.core.moments import iso

MAX_LEAF = 65_535
"""C2SP entry bundles (tlog-tiles) count the bytes of a leaf in a uint16."""


class Entry(NamedTuple):
    """What a leaf says of itself, in the texts that it is filed under."""

    seq: int
    verb: str
    subject: str
    at: str
    """RFC 3339 in UTC with milliseconds, as `iso` writes it."""
    changes: list[tuple[str, str, bytes | None]]
    """Kind and key of each record that it changes, and the canonical bytes of its body; None where the record is gone."""
    took_ms: int = 0
    """How long after `at` the event came into the ledger, where it says so (`stages.action`)."""


def leaf_of(event: Event) -> bytes:
    """The canonical bytes of an event that has its seq. Raises InvalidInput where they are more than a leaf may hold."""
    leaf, _ = written(event)
    return leaf


def written(event: Event) -> tuple[bytes, Entry]:
    """The canonical bytes of an event that has its seq, and what they are filed under. Raises InvalidInput as `leaf_of`.

    They are `canonical(encode(event))`; each body is written once for the leaf and for its record.
    """
    subject, at = str(event.subject), iso(event.at)
    changes: list[tuple[str, str, bytes | None]] = []
    parts = []
    for change in event.changes:
        body = "null" if change.body is None else canonical_text(encode(change.body))
        parts.append(f'{{"body":{body},"key":{canonical_text(change.key)},"kind":{canonical_text(change.kind)}}}')
        changes.append((change.kind, change.key, None if change.body is None else utf8(body)))
    leaf = utf8(
        f'{{"actor":{_actor(event.actor)},"at":"{at}","changes":[{",".join(parts)}],"facts":{canonical_text(encode(event.facts))},'
        f'"seq":{canonical_text(event.seq)},"subject":{canonical_text(subject)},"trace":{canonical_text(event.trace)},'
        f'"verb":{canonical_text(event.verb)}}}'
    )
    if len(leaf) > MAX_LEAF:
        raise InvalidInput(
            f"The event {event.verb} {event.subject} has {len(leaf)} bytes; a leaf of the ledger holds {MAX_LEAF}.",
            "keep the content as a blob and its digest in the event.",
        )
    return leaf, Entry(event.seq, event.verb, subject, at, changes)


def _actor(actor: Actor) -> str:
    """Remembered, since the same few ask all the time; but only where equal actors are sure to be written alike."""
    if type(actor.roles) is tuple and all(type(part) is str for part in (actor.name, actor.kind, actor.zone, *actor.roles)):
        return _known_actor(actor)
    return canonical_text(encode(actor))


@functools.lru_cache(1024)
def _known_actor(actor: Actor) -> str:
    return canonical_text(encode(actor))


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
