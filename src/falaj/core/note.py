"""Note: the signed text of a checkpoint, in the C2SP forms signed-note and tlog-checkpoint, so that any verifier reads it.

The signature itself is made and checked by whoever holds the keys: functions that do it come in as arguments.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from falaj.core.errors import Denied, InvalidInput

_ED25519 = b"\x01"
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_LIMIT_BYTES = 1 << 20
_LIMIT_SIGNATURES = 100


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key that is trusted to sign notes: `check(signature, message)` says whether it signed."""

    name: str
    public_key: bytes
    check: Callable[[bytes, bytes], bool]


@dataclass(frozen=True, slots=True)
class Statement:
    """What a checkpoint says: the log of this origin has `size` leaves under `root`."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n"


def key_hash(name: str, public_key: bytes) -> bytes:
    """The four bytes that say which key signed; a hint, never evidence."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def vkey(name: str, public_key: bytes) -> str:
    """The verifier's key as one text, `<name>+<key hash>+<base64>`, as other tools for signed notes take it."""
    return f"{_key_name(name)}+{key_hash(name, public_key).hex()}+{_b64(_ED25519 + public_key)}"


def read_vkey(text: str) -> tuple[str, bytes]:
    """The name and the raw Ed25519 public key. Raises InvalidInput for any other form."""
    name, _, rest = text.partition("+")
    hashed, _, encoded = rest.partition("+")
    key = _unb64(encoded)
    if len(key) != 33 or key[:1] != _ED25519 or key_hash(_key_name(name), key[1:]).hex() != hashed:
        raise InvalidInput(f"{text[:120]!r} is not a verifier's key.", "it is written <name>+<8 hexadecimal digits>+<base64>.")
    return name, key[1:]


def write_note(text: str, name: str, public_key: bytes, sign: Callable[[bytes], bytes]) -> str:
    """The text, signed under that name. Raises InvalidInput where the text does not end in a newline."""
    _key_name(name)
    if not text.endswith("\n") or _has_controls(text):
        raise InvalidInput("The text of a note ends in a newline and holds no control characters.")
    return f"{text}\n— {name} {_b64(key_hash(name, public_key) + sign(text.encode()))}\n"


def open_note(note: str, verifier: Verifier) -> str:
    """The signed text.

    Raises Denied where the verifier's key did not sign it; signatures of other keys are passed over.
    Raises InvalidInput where it is no signed note.
    """
    text, signatures = _split(note)
    wanted = (verifier.name, key_hash(verifier.name, verifier.public_key))
    for name, hashed, signature in signatures:
        if (name, hashed) == wanted:
            if verifier.check(signature, text.encode()):
                return text
            # A known key whose signature is wrong spoils the whole note, whatever stands in the lines after it.
            break
    raise Denied(f"The note is not signed by {verifier.name}.", "compare the verifier's key with the one that made the note.")


def open_checkpoint(note: str, verifier: Verifier) -> Statement:
    """What a signed checkpoint says. Raises as `open_note`, and Denied where it speaks of another log than its signer's."""
    statement = read_statement(open_note(note, verifier))
    if statement.origin != verifier.name:
        raise Denied(f"The checkpoint is of {statement.origin!r}, its key belongs to {verifier.name!r}.")
    return statement


def read_statement(text: str) -> Statement:
    """The statement in a note's text, its signature not looked at. Raises InvalidInput for any other form."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]) or not _SIZE.fullmatch(lines[1]):
        raise InvalidInput("The text is not a checkpoint.", "it has three lines: origin, size, root.")
    root = _unb64(lines[2])
    if len(root) != 32:
        raise InvalidInput("The checkpoint's root is not 32 bytes of base64.")
    return Statement(lines[0], int(lines[1]), root)


def _split(note: Any) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    if not isinstance(note, str) or len(note) > _LIMIT_BYTES or _has_controls(note) or not note.endswith("\n"):
        raise InvalidInput("The text is not a signed note.")
    text, blank, tail = note.rpartition("\n\n")
    lines = tail.split("\n")[:-1]
    if not blank or not lines or len(lines) > _LIMIT_SIGNATURES:
        raise InvalidInput("The note has no signature, or too many.")
    return text + "\n", [_signature(line) for line in lines]


def _signature(line: str) -> tuple[str, bytes, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    data = _unb64(encoded)
    if dash != "—" or len(data) < 5:
        raise InvalidInput("A signature line of the note cannot be read.")
    return _key_name(name), data[:4], data[4:]


def _key_name(name: str) -> str:
    if not name or "+" in name or any(c.isspace() for c in name) or _has_controls(name):
        raise InvalidInput(f"{name!r} cannot name a key.", "use no spaces and no '+', as in example.com/log.")
    return name


def _has_controls(text: str) -> bool:
    return any((c < " " and c != "\n") or "\ud800" <= c <= "\udfff" for c in text)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unb64(text: str) -> bytes:
    """Strict: what does not encode back to the same text is refused, so that a note has one form only."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidInput("A part of the text is not base64.") from exc
    if _b64(data) != text:
        raise InvalidInput("A part of the text is not base64 in its one form.")
    return data
