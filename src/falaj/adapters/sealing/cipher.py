"""Sealed bytes: AES-256-GCM under one person's key, with the epoch of that key in front."""

from __future__ import annotations

import hmac
from typing import TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from falaj.core.errors import Conflict, InvalidInput

NONCE = 12
"""Bytes, drawn by chance for each text (NIST SP 800-38D, section 8.2.2: at most 2^32 texts a key)."""
_TAG = 16
_HEAD = 5
_FORM = b"\x01"

Key: TypeAlias = tuple[AESGCM, bytes]
"""The cipher, and the head of everything that is sealed with it."""


def head(epoch: int) -> bytes:
    """One byte for the form and four for the epoch: how often the subject was admitted again, and so got a new key."""
    return _FORM + epoch.to_bytes(4, "big")


def token_key(pepper: bytes) -> bytes:
    """The project's key for tokens of subjects, of its pepper; other uses of the pepper have other keys."""
    return hmac.digest(pepper, b"falaj subject token 1", "sha256")


def token_of(key: bytes, subject: str) -> str:
    """White space around a subject does not count: a form that pads its fields names the same person."""
    return hmac.digest(key, subject.strip().encode("utf-8", "surrogatepass"), "sha256").hex()


def raw(token: str) -> bytes:
    """The 32 bytes of a token. Raises InvalidInput for what is none."""
    try:
        found = bytes.fromhex(token)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise InvalidInput("That is no token of a subject.", "ask the vault for it: token(subject).")
    return found


def seal(key: Key, nonce: bytes, plain: bytes, about: bytes) -> bytes:
    """head ‖ nonce ‖ cipher text ‖ tag; `about` is authenticated, not kept."""
    cipher, start = key
    return start + nonce + cipher.encrypt(nonce, plain, about)


def unseal(key: Key, data: bytes, about: bytes) -> bytes | None:
    """None where an earlier key of the same subject sealed it. Raises Conflict for what was changed, or is about another."""
    cipher, start = key
    if data[:_HEAD] != start:
        if data[:1] == _FORM and len(data) >= _HEAD + NONCE + _TAG and data[1:_HEAD] < start[1:]:
            return None
        raise Conflict("What should be sealed is not.", "restore it from a backup; `falaj audit verify` shows what changed.")
    try:
        return cipher.decrypt(data[_HEAD : _HEAD + NONCE], data[_HEAD + NONCE :], about)
    except (InvalidTag, ValueError) as exc:
        raise Conflict("Sealed data was changed, or is about something else.", "restore it from a backup.") from exc
