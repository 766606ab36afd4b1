"""A vault in this process's memory, for tests and for looking around: its keys are gone when it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from threading import Lock

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from falaj.adapters.sealing.cipher import NONCE, Key, head, raw, seal, token_key, token_of, unseal
from falaj.core.errors import Denied


class MemoryVault:
    """capabilities: none. Safe for many threads."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self, pepper: bytes = b"") -> None:
        self._token_key = token_key(pepper or os.urandom(32))
        self._keys: dict[str, Key] = {}
        self._erased: set[str] = set()
        self._epochs: dict[str, int] = {}
        self._generation = 0
        self._lock = Lock()

    def token(self, subject: str) -> str:
        return token_of(self._token_key, subject)

    def seal(self, tokens: Sequence[str], plain: Sequence[bytes], about: bytes) -> list[bytes]:
        with self._lock:
            if not self._erased.isdisjoint(tokens):
                raise Denied("A person whose data was erased may not be taken in again by itself.", "admit them first.")
            for token in tokens:
                if token not in self._keys:
                    raw(token)
                    self._keys[token] = (AESGCM(os.urandom(32)), head(self._epochs.get(token, 0)))
            keys = [self._keys[token] for token in tokens]
        return [seal(key, os.urandom(NONCE), text, about) for key, text in zip(keys, plain, strict=True)]

    def open(self, tokens: Sequence[str], sealed: Sequence[bytes], about: bytes) -> list[bytes | None]:
        with self._lock:
            keys = [self._keys.get(token) for token in tokens]
        return [None if key is None else unseal(key, data, about) for key, data in zip(keys, sealed, strict=True)]

    def shred(self, tokens: Iterable[str]) -> int:
        gone = list(dict.fromkeys(tokens))
        for token in gone:
            raw(token)
        with self._lock:
            self._erased.update(gone)
            self._generation += 1
            return sum(self._keys.pop(token, None) is not None for token in gone)

    def admit(self, token: str) -> None:
        with self._lock:
            if token in self._erased:
                self._erased.remove(token)
                self._epochs[token] = self._epochs.get(token, 0) + 1
                self._generation += 1

    def erased(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._erased)

    def generation(self) -> int:
        with self._lock:
            return self._generation

    def count(self) -> int:
        with self._lock:
            return len(self._keys)

    def close(self) -> None:
        with self._lock:
            self._keys.clear()
