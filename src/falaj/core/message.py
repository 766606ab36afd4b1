"""Messages: what producers put on a stream and consumers are handed, and what no stream takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from falaj.core.errors import InvalidInput

LARGEST_VALUE = 1 << 20
"""Bytes, where the broker does not set a lower limit."""
LONGEST_NAME = 1_000
"""Characters of a key or an id."""
LONGEST_HEADER = 8_000
_NAME = re.compile(r"[A-Za-z0-9_.~+\-]{1,200}")
MOST_HEADERS = 64


@dataclass(frozen=True, slots=True)
class Message:
    """What is put on a stream. Messages of one `key` belong in order; an empty key belongs with nothing."""

    value: bytes
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    """Names the message for its producer: one that is produced again under the same id is the same message."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it is handed out to one consumer of a group."""

    message: Message
    position: str
    """Where it lies in its stream: never used for another message of that stream, and the same each time it is handed out."""
    attempts: int
    """How often the group was handed it, this time included. See the capability `counts`."""
    at_ms: int
    """When the stream took it, milliseconds since 1970-01-01T00:00Z; 0 or less where it does not know."""


def check_messages(messages: Sequence[Message], largest: int = LARGEST_VALUE) -> None:
    """Raises InvalidInput for a message that no stream takes, before any of them is written."""
    for place, message in enumerate(messages):
        if len(message.value) > largest:
            raise InvalidInput(
                f"Message {place} holds {len(message.value):,} bytes.", f"{largest:,} are the most; send a reference instead."
            )
        if len(message.headers) > MOST_HEADERS:
            raise InvalidInput(f"Message {place} has {len(message.headers)} headers.", f"{MOST_HEADERS} are the most.")
        for text in (message.key, message.id):
            _check_text(place, "A key or id", text, LONGEST_NAME)
        for name, value in message.headers.items():
            if not is_header_name(name):
                raise InvalidInput(
                    f"Message {place} has a header of the name {name[:80]!r}.", "letters, digits and -_.~+ are taken."
                )
            _check_text(place, f"The header {name[:80]!r}", value, LONGEST_HEADER)


def is_header_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def _check_text(place: int, what: str, text: str, longest: int) -> None:
    if len(text) > longest or not text.isprintable():
        raise InvalidInput(
            f"{what} of message {place} is no printable text of at most {longest:,} characters.",
            "put what is longer in the value.",
        )
