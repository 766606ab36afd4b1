"""What a witness may cosign: the order of the questions, and the answer to each, as C2SP tlog-witness has them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from falaj.core.errors import FalajError, InvalidInput
from falaj.core.merkle import EMPTY_ROOT, verify_consistency
from falaj.core.note import Statement, Verifier, key_hash, read_statement, split_note, unb64

MOST_BYTES = 64 << 10
MOST_PATH = 63
SIZE = "text/x.tlog.size"
TEXT = "text/plain; charset=utf-8"
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: str
    kind: str = TEXT


@dataclass(frozen=True, slots=True)
class Request:
    """`old`: how far the witness has seen the log, as its sender believes; `path` leads from there to the checkpoint."""

    old: int
    path: tuple[bytes, ...]
    note: str
    text: str
    statement: Statement


def read_request(body: bytes) -> Request:
    """Raises InvalidInput for anything but the lines `old`, proof, an empty one, and a signed checkpoint."""
    try:
        head, blank, note = body.decode().partition("\n\n")
    except UnicodeDecodeError as exc:
        raise InvalidInput("The request is no UTF-8 text.") from exc
    first, *lines = head.split("\n")
    found = _OLD.fullmatch(first)
    if not blank or found is None or len(lines) > MOST_PATH:
        raise InvalidInput("The request does not begin with the old size and a proof.")
    path = tuple(unb64(line) for line in lines)
    if any(len(node) != 32 for node in path):
        raise InvalidInput("A hash of the proof is not 32 bytes of base64.")
    text, _ = split_note(note)
    return Request(int(found[1]), path, note, text, read_statement(text))


def refuse(request: Request, keys: Mapping[str, Sequence[Verifier]], seen: Statement | None) -> Answer | None:
    """The answer to what must not be cosigned, None where it may be. `keys`: origin → keys; `seen`: what was cosigned last."""
    told, old = request.statement, request.old
    if told.origin not in keys:
        return Answer(404, f"the log {told.origin} is not known here\n")
    if not any(_signed(request, key) for key in keys[told.origin]):
        return Answer(403, f"no key that is trusted for {told.origin} signed this checkpoint\n")
    if old > told.size:
        return Answer(400, "the old size is larger than the checkpoint's\n")
    if old != (seen.size if seen else 0):
        return Answer(409, f"{seen.size if seen else 0}\n", SIZE)
    if old == told.size and seen is not None and told.root != seen.root:
        return Answer(409, f"{seen.size}\n", SIZE)
    return None if _extends(request, seen) else Answer(422, "the proof does not lead from the old size to this checkpoint\n")


def _signed(request: Request, key: Verifier) -> bool:
    wanted = (key.name, key_hash(key.name, key.public_key))
    for signature in split_note(request.note)[1]:
        if (signature.name, signature.key_hash) == wanted:
            return key.check(signature.data, request.text.encode())
    return False


def _extends(request: Request, seen: Statement | None) -> bool:
    told = request.statement
    if request.old == 0 or seen is None:
        return not request.path and (told.size > 0 or told.root == EMPTY_ROOT)
    return verify_consistency(request.old, told.size, seen.root, told.root, request.path)


def unreadable(error: FalajError) -> Answer:
    return Answer(400, error.message + "\n")
