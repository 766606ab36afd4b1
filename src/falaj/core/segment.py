"""The prediction log's file format: lines of JSON that are the leaves of a Merkle tree, and the seal that closes a file.

A segment `000012.jsonl` holds one record a line; line i (without its newline) is leaf i. Sealing it writes
`000012.seal`, whose root becomes one leaf of the ledger: a single prediction is proven in two steps.
A last line without its newline was never acknowledged and is cut off when the log is opened again.

A call with several rows is one line of kind `predictions`: what the rows share once, their features in one flat list, their
scores in another. `records_of` gives it back as one record a row.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from falaj.core.errors import InvalidInput
from falaj.core.merkle import leaf_hash, root

_ID = re.compile(r"p([0-9a-f]{1,12})-([0-9a-f]{1,12})-([0-9a-f]{1,12})(?:x([0-9a-f]{1,4}))?-[0-9a-f]{16}(?:\.([0-9a-f]{1,4}))?")


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
    prediction without any index, also after a restart. A line of several predictions says how many, and each of them which
    one it is: `p<segment>-<row>-<millis>x<rows>-<tag>.<part>`; the tag is that of the line.
    """

    segment: int
    row: int
    millis: int
    """Event time of the prediction, milliseconds since 1970-01-01T00:00Z."""
    rows: int = 1
    """How many predictions the line holds."""
    part: int = 0

    def issue(self, key: bytes) -> str:
        return issue(self.segment, self.row, self.millis, key, self.rows) + (f".{self.part:x}" if self.rows > 1 else "")

    @classmethod
    def read(cls, text: Any) -> PredictionId:
        """The parts of an id, its tag not checked. Raises InvalidInput where it has another form."""
        found = _ID.fullmatch(text) if isinstance(text, str) else None
        if found is not None:
            rows, part = int(found[4] or "1", 16), int(found[5] or "0", 16)
            if (found[4] is None) == (found[5] is None) and part < rows:
                return cls(int(found[1], 16), int(found[2], 16), int(found[3], 16), rows, part)
        raise InvalidInput(f"{str(text)[:80]!r} is not a prediction id.", "use the id that came with the prediction.")

    @classmethod
    def check(cls, text: str, key: bytes) -> PredictionId:
        """The parts of an id that was issued with this key. Raises InvalidInput for any other."""
        found = cls.read(text)
        body, _, tag = text.partition(".")[0].rpartition("-")
        if not hmac.compare_digest(_tag(body, key).encode(), tag.encode()):
            raise InvalidInput(f"{text!r} is not an id that this server issued.", "use the id that came with the prediction.")
        return found

    @property
    def number(self) -> int:
        """One number of 64 bits for each prediction of a log."""
        return self.segment << 40 | self.row << 12 | self.part


def issue(segment: int, row: int, millis: int, key: bytes, rows: int = 1) -> str:
    """The id of a line; of several predictions it is what their ids begin with, `.<part>` follows."""
    body = f"p{segment:x}-{row:x}-{millis:x}" if rows == 1 else f"p{segment:x}-{row:x}-{millis:x}x{rows:x}"
    return f"{body}-{_tag(body, key)}"


def issue_lines(segment: int, row: int, millis: int, key: bytes, count: int) -> list[str]:
    """As `issue`, for so many lines of one prediction each, that stand one behind the other."""
    bodies = [f"p{segment:x}-{place:x}-{millis:x}" for place in range(row, row + count)]
    return [f"{body}-{_tag(body, key)}" for body in bodies]


def records_of(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The predictions of a line of several, one record each; any other record is handed on as it is."""
    if record.get("kind") != "predictions":
        yield record
        return
    shared = {name: value for name, value in record.items() if name not in ("features", "scores", "rows")}
    scores, flat = record["scores"], record["features"]
    width = len(flat) // len(scores)
    for part, score in enumerate(scores):
        yield shared | {
            "kind": "prediction",
            "id": f"{record['id']}.{part:x}",
            "request_id": f"{record['request_id']}-{part}",
            "features": flat[part * width : (part + 1) * width],
            "score": score,
        }


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
    """Keyed BLAKE2s (RFC 7693), 64 bits: on the way of every prediction, and a third of the cost of HMAC-SHA256."""
    tag = _keyed(key).copy()
    tag.update(body.encode())
    return tag.hexdigest()


@functools.lru_cache(16)
def _keyed(key: bytes) -> hashlib.blake2s:
    """Nothing hashed yet: a copy of it costs less than taking in the key each time."""
    return hashlib.blake2s(key=key, digest_size=8)
