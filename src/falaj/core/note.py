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

ED25519 = 1
"""The kind of key that signs notes; other kinds sign other messages, as in `falaj.core.cosignature`."""
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_LIMIT_BYTES = 1 << 20
_LIMIT_SIGNATURES = 100


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key that is trusted to sign notes: `check(signature, message)` says whether it signed."""

    name: str
    public_key: bytes
    check: Callable[[bytes, bytes], bool]
    successor: Callable[[str], Verifier] | None = None
    """Makes the verifier of another key from its text, where a log's keys may follow each other."""

    def open(self, note: str) -> Statement:
        """What a checkpoint says that this key signed. Raises as `open_checkpoint`."""
        return open_checkpoint(note, self)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line, nothing of it checked."""

    name: str
    key_hash: bytes
    data: bytes
    line: str
    """As it stands in the note, with its newline."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a checkpoint says: the log of this origin has `size` leaves under `root`."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{b64(self.root)}\n"


def key_hash(name: str, public_key: bytes, kind: int = ED25519) -> bytes:
    """The four bytes that say which key signed; a hint, never evidence."""
    return hashlib.sha256(name.encode() + b"\n" + bytes((kind,)) + public_key).digest()[:4]


def vkey(name: str, public_key: bytes, kind: int = ED25519) -> str:
    """The verifier's key as one text, `<name>+<key hash>+<base64>`, as other tools for signed notes take it."""
    return f"{key_name(name)}+{key_hash(name, public_key, kind).hex()}+{b64(bytes((kind,)) + public_key)}"


def read_vkey(text: str, kind: int = ED25519) -> tuple[str, bytes]:
    """The name and the raw Ed25519 public key. Raises InvalidInput for any other form."""
    name, _, rest = text.partition("+")
    hashed, _, encoded = rest.partition("+")
    key = unb64(encoded)
    if len(key) != 33 or key[0] != kind or key_hash(key_name(name), key[1:], kind).hex() != hashed:
        raise InvalidInput(f"{text[:120]!r} is not a verifier's key.", "it is written <name>+<8 hexadecimal digits>+<base64>.")
    return name, key[1:]


def write_note(text: str, name: str, public_key: bytes, sign: Callable[[bytes], bytes]) -> str:
    """The text, signed under that name. Raises InvalidInput where the text does not end in a newline."""
    if not text.endswith("\n") or _has_controls(text):
        raise InvalidInput("The text of a note ends in a newline and holds no control characters.")
    return f"{text}\n{signature_line(name, key_hash(name, public_key), sign(text.encode()))}"


def signature_line(name: str, hashed: bytes, signature: bytes) -> str:
    """A line of a note, with its newline. Raises InvalidInput for what cannot name a key."""
    return f"— {key_name(name)} {b64(hashed + signature)}\n"


def open_note(note: str, verifier: Verifier) -> str:
    """The signed text.

    Raises Denied where the verifier's key did not sign it; signatures of other keys are passed over.
    Raises InvalidInput where it is no signed note.
    """
    text, signatures = split_note(note)
    wanted = (verifier.name, key_hash(verifier.name, verifier.public_key))
    for signature in signatures:
        if (signature.name, signature.key_hash) == wanted:
            if verifier.check(signature.data, text.encode()):
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
    root = unb64(lines[2])
    if len(root) != 32:
        raise InvalidInput("The checkpoint's root is not 32 bytes of base64.")
    return Statement(lines[0], int(lines[1]), root)


def split_note(note: Any) -> tuple[str, list[Signature]]:
    """The text and the signature lines, none of them checked. Raises InvalidInput where it is no signed note."""
    if not isinstance(note, str) or len(note) > _LIMIT_BYTES or _has_controls(note) or not note.endswith("\n"):
        raise InvalidInput("The text is not a signed note.")
    text, blank, tail = note.rpartition("\n\n")
    lines = tail.split("\n")[:-1]
    if not blank or not lines or len(lines) > _LIMIT_SIGNATURES:
        raise InvalidInput("The note has no signature, or too many.")
    return text + "\n", [_signature(line) for line in lines]


def read_signatures(lines: str) -> list[Signature]:
    """Signature lines that come without a note, as a witness answers. Raises InvalidInput for anything else."""
    if len(lines) > _LIMIT_BYTES or _has_controls(lines) or not lines.endswith("\n"):
        raise InvalidInput("The text holds no signature lines.")
    found = lines.split("\n")[:-1]
    if len(found) > _LIMIT_SIGNATURES:
        raise InvalidInput("The text holds too many signature lines.")
    return [_signature(line) for line in found]


def _signature(line: str) -> Signature:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    data = unb64(encoded)
    if dash != "—" or len(data) < 5:
        raise InvalidInput("A signature line of the note cannot be read.")
    return Signature(key_name(name), data[:4], data[4:], line + "\n")


def key_name(name: str) -> str:
    """The name, if it can name a key. Raises InvalidInput."""
    if not name or "+" in name or any(c.isspace() for c in name) or _has_controls(name):
        raise InvalidInput(f"{name!r} cannot name a key.", "use no spaces and no '+', as in example.com/log.")
    return name


def _has_controls(text: str) -> bool:
    return any((c < " " and c != "\n") or "\ud800" <= c <= "\udfff" for c in text)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def unb64(text: str) -> bytes:
    """Strict: what does not encode back to the same text is refused, so that a note has one form only."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidInput("A part of the text is not base64.") from exc
    if b64(data) != text:
        raise InvalidInput("A part of the text is not base64 in its one form.")
    return data
