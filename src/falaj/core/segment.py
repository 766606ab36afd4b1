"""The prediction log's file format: lines of JSON that are the leaves of a Merkle tree, and the seal that closes a file.

A segment `000012.jsonl` holds one record a line; line i (without its newline) is leaf i. Sealing it writes
`000012.seal`, whose root becomes one leaf of the ledger: a single prediction is proven in two steps.
A last line without its newline was never acknowledged and is cut off when the log is opened again.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from falaj.core.errors import InvalidInput
from falaj.core.merkle import leaf_hash, root

_ID = re.compile(r"p([0-9a-f]{1,12})-([0-9a-f]{1,12})-([0-9a-f]{1,12})-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Seal:
    """What a closed segment holds. `root` and `digest` are written as `sha256:…`."""

    endpoint: str
    segment: int
    rows: int
    root: str
    digest: str
    first_at: str
    last_at: str


@dataclass(frozen=True, slots=True)
class PredictionId:
    """Where a prediction stands and when it was made; a keyed tag proves that this server issued it.

    Written `p<segment>-<row>-<millis>-<tag>`, numbers in hexadecimal: a label can be checked against the time of its
    prediction without any index, also after a restart.
    """

    segment: int
    row: int
    millis: int
    """Event time of the prediction, milliseconds since 1970-01-01T00:00Z."""

    def issue(self, key: bytes) -> str:
        body = f"p{self.segment:x}-{self.row:x}-{self.millis:x}"
        return f"{body}-{_tag(body, key)}"

    @classmethod
    def read(cls, text: Any) -> PredictionId:
        """The parts of an id, its tag not checked. Raises InvalidInput where it has another form."""
        found = _ID.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise InvalidInput(f"{str(text)[:80]!r} is not a prediction id.", "use the id that came with the prediction.")
        return cls(*(int(part, 16) for part in found.groups()))

    @classmethod
    def check(cls, text: str, key: bytes) -> PredictionId:
        """The parts of an id that was issued with this key. Raises InvalidInput for any other."""
        found = cls.read(text)
        body, _, tag = text.rpartition("-")
        if not hmac.compare_digest(_tag(body, key).encode(), tag.encode()):
            raise InvalidInput(f"{text!r} is not an id that this server issued.", "use the id that came with the prediction.")
        return found


def seal(endpoint: str, segment: int, data: bytes, first_at: str, last_at: str) -> Seal:
    """The seal of a segment's bytes. Raises InvalidInput where the last line has no newline."""
    lines = split(data)
    return Seal(
        endpoint,
        segment,
        len(lines),
        "sha256:" + root([leaf_hash(line) for line in lines]).hex(),
        "sha256:" + hashlib.sha256(data).hexdigest(),
        first_at,
        last_at,
    )


def split(data: bytes) -> Sequence[bytes]:
    """The lines of a segment, without newlines."""
    if data and not data.endswith(b"\n"):
        raise InvalidInput("The segment ends in half a line.", "open the log again: it cuts off what was never acknowledged.")
    return data[:-1].split(b"\n") if data else []


def _tag(body: str, key: bytes) -> str:
    return hmac.new(key, body.encode(), hashlib.sha256).hexdigest()[:16]
