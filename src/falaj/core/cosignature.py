"""Cosignature: a witness's dated word that it saw this checkpoint and that nothing was taken back (C2SP cosignature/v1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from falaj.core.errors import InvalidInput
from falaj.core.note import Signature, Verifier, key_hash, read_statement, signature_line, split_note

KIND = 4
"""The kind of an Ed25519 key that cosigns, in a verifier's key and in a key hash."""
_LATEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Cosignature:
    """That the witness of this name cosigned `at` so many seconds since 1970."""

    witness: str
    at: int
    line: str
    """The signature line, with its newline."""


def cosign(text: str, name: str, public_key: bytes, sign: Callable[[bytes], bytes], *, at: int) -> str:
    """The signature line of a witness under a checkpoint's text. Raises InvalidInput where the text is none."""
    read_statement(text)
    signature = at.to_bytes(8, "big") + sign(_message(text, at))
    return signature_line(name, key_hash(name, public_key, KIND), signature)


def cosignatures(note: str, witnesses: Sequence[Verifier]) -> list[Cosignature]:
    """Those of a signed checkpoint that stand, at most one for each witness's key, in the witnesses' order.

    Signatures of other keys, and false ones, are passed over: they count for nobody. The message does not name its witness,
    so one key under two names counts once.
    Raises InvalidInput where the note is no signed checkpoint.
    """
    text, signatures = split_note(note)
    read_statement(text)
    return good(text, signatures, witnesses)


def good(text: str, signatures: Iterable[Signature], witnesses: Sequence[Verifier]) -> list[Cosignature]:
    """As `cosignatures`, of lines that came without the note."""
    lines, keys = list(signatures), {witness.public_key: witness for witness in reversed(witnesses)}
    found = (_first(text, lines, witness) for witness in reversed(keys.values()))
    return [cosignature for cosignature in found if cosignature is not None]


def add_lines(note: str, lines: Iterable[str]) -> str:
    """The note with more signature lines, those that it has already left out. Raises InvalidInput where it is no note."""
    _, signatures = split_note(note)
    there = {signature.line for signature in signatures}
    return note + "".join(line for line in dict.fromkeys(lines) if line not in there)


def quorum_of(wanted: int, witnesses: int) -> int:
    """How many of the witnesses have to have cosigned; 0 means all. Raises InvalidInput for more than there are."""
    if not 0 <= wanted <= witnesses:
        raise InvalidInput(
            f"A quorum of {wanted} cannot be had from {witnesses} witnesses.", "name more of them, or ask for fewer."
        )
    return wanted or witnesses


def _first(text: str, signatures: Sequence[Signature], witness: Verifier) -> Cosignature | None:
    wanted = (witness.name, key_hash(witness.name, witness.public_key, KIND))
    for signature in signatures:
        if (signature.name, signature.key_hash) != wanted or len(signature.data) != 72:
            continue
        at = int.from_bytes(signature.data[:8], "big")
        if at <= _LATEST and witness.check(signature.data[8:], _message(text, at)):
            return Cosignature(witness.name, at, signature.line)
    return None


def _message(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()
