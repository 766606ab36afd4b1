"""Vault: one key for each person in the data. What is sealed with it is gone, everywhere and at once, when the key is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class Vault(Protocol):
    """A subject is known by its token alone, a keyed hash; the vault never keeps who it is.

    Every method may raise Unavailable where the store does not answer. capabilities: `durable`, `shared` (several processes
    may seal and shred at once; a key that one of them destroyed opens nothing in another one from the next call on).
    """

    capabilities: frozenset[str]

    def token(self, subject: str) -> str:
        """HMAC-SHA256 of the subject, without white space around it, by a key of the project's pepper; 64 hex digits."""
        ...

    def seal(self, tokens: Sequence[str], plain: Sequence[bytes], about: bytes) -> list[bytes]:
        """Each text under its subject's key (AES-256-GCM, fresh nonce, `about` as additional data), in order.

        A subject that has no key gets one, durably, before this returns. Raises Denied for a subject that was erased: its data
        may not come back by itself.
        """
        ...

    def open(self, tokens: Sequence[str], sealed: Sequence[bytes], about: bytes) -> list[bytes | None]:
        """Each plain text, None where its subject's key is gone, or a later one has taken its place since.

        Raises Conflict where one was changed or is about another.
        """
        ...

    def shred(self, tokens: Iterable[str]) -> int:
        """Destroys the keys for good, durably, and remembers the tokens as erased; how many there were. Idempotent.

        Costs the same however much was sealed with a key.
        """
        ...

    def admit(self, token: str) -> None:
        """An erased subject may be taken in again from now on, under a new key: what was sealed before stays gone."""
        ...

    def erased(self) -> frozenset[str]:
        """Tokens that were shredded and not admitted again."""
        ...

    def generation(self) -> int:
        """Another number after each shred and each admission, by whatever process. Whoever keeps opened data compares it before
        each use: with another number, what was opened before may be readable no more."""
        ...

    def count(self) -> int:
        """How many keys there are."""
        ...

    def close(self) -> None: ...
