"""The provider as it was last seen: its addresses and its public keys, kept in a file and looked at again in time."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from falaj.adapters.oidc.claims import usable
from falaj.adapters.oidc.fetch import Fetch
from falaj.adapters.oidc.pinned import Pinned, refuse_open
from falaj.core.errors import FalajError, Unauthenticated, Unavailable

FRESH_S = 600.0
"""After that the keys are asked for again: one that the provider took away is believed no longer than this while it answers."""
OLDEST_S = 6 * 3600.0
"""So long they are believed while the provider is away; then nobody is let in by its word."""
PAUSE_S = 30.0
"""Between two questions, however many tokens name keys that nobody knows."""
ADDRESSES = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_SKEW_S = 300.0


@dataclass(frozen=True, slots=True)
class Seen:
    """`at`: seconds since 1970."""

    at: float
    metadata: Mapping[str, Any]
    keys: Mapping[str, Mapping[str, Any]]


@dataclass(slots=True)
class Provider:
    """One a process; several processes share the file."""

    pinned: Pinned
    folder: Path
    """Holds `oidc.json`, what was seen, and `oidc.jwks`, the keys as endpoints read them."""
    now: Callable[[], float]
    fetch: Fetch = field(default_factory=Fetch)
    _seen: Seen | None = None
    _stat: tuple[int, int, int] | None = None
    _asked: float = float("-inf")
    _failed: FalajError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def key(self, kid: str) -> Mapping[str, Any]:
        """The public key of that name.

        Raises Unauthenticated where the provider has none of that name, Unavailable where it cannot be asked and what is kept
        is older than `OLDEST_S`, or does not know the name.
        """
        with self._lock:
            seen = self._read()
            if seen is None or not self._is_younger(seen, FRESH_S) or kid not in seen.keys:
                seen = self._look_again(seen)
            if seen is None or not self._is_younger(seen, OLDEST_S):
                raise self._away()
            if kid not in seen.keys:
                if self._failed is not None:
                    raise self._away()
                raise Unauthenticated(
                    "The token names no key of the provider that is trusted here.", "log in again: falaj login."
                )
            return seen.keys[kid]

    def metadata(self) -> Mapping[str, Any]:
        """The provider's own description (OpenID Connect Discovery 1.0). Raises Unavailable."""
        with self._lock:
            seen = self._read()
            if seen is None or not self._is_younger(seen, FRESH_S):
                seen = self._look_again(seen)
            if seen is None or not self._is_younger(seen, OLDEST_S):
                raise self._away()
            return seen.metadata

    def refresh(self) -> int:
        """Asks now, for the worker and the doctor; how many keys there are. Raises Unavailable."""
        with self._lock:
            self._asked = float("-inf")
            seen = self._look_again(self._read())
            if self._failed is not None or seen is None:
                raise self._away()
            return len(seen.keys)

    def _look_again(self, seen: Seen | None) -> Seen | None:
        """The newest there is, asked for unless that was done a moment ago."""
        now = self.now()
        if self._asked <= now < self._asked + PAUSE_S:
            return seen
        self._asked, self._failed = now, None
        try:
            metadata = self._discovered()
            jwks = self.fetch.get(str(metadata["jwks_uri"]))
            if not usable(jwks):
                raise Unavailable(
                    "The provider publishes no key that is taken here.", "EdDSA, ES256, ES384, RS256 and PS256 are."
                )
            self._keep(now, metadata, jwks)
        except FalajError as exc:
            self._failed = exc
            return seen
        return self._read()

    def _discovered(self) -> Mapping[str, Any]:
        metadata = self.fetch.get(self.pinned.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if metadata.get("issuer") != self.pinned.issuer:
            raise Unavailable("The provider calls itself by another name.", "set oidc_issuer to its own, to the letter.")
        for name in (*ADDRESSES, "revocation_endpoint"):
            if name in metadata or name in ADDRESSES:
                refuse_open(f"The provider's {name}", str(metadata.get(name, "")))
                if self.pinned.issuer.startswith("https:") and not str(metadata[name]).startswith("https:"):
                    raise Unavailable(f"The provider's {name} is not encrypted.", "ask whoever runs it.")
        return metadata

    def _keep(self, at: float, metadata: Mapping[str, Any], jwks: Mapping[str, Any]) -> None:
        told = {name: metadata[name] for name in _TOLD if name in metadata}
        keys = {"keys": list(usable(jwks).values())}
        replace_file(self.folder / "oidc.jwks", json.dumps(keys, sort_keys=True).encode())
        replace_file(self.folder / "oidc.json", json.dumps({"at": at, "metadata": told, "jwks": keys}, sort_keys=True).encode())

    def _read(self) -> Seen | None:
        """What is kept, of this very issuer; anything that cannot be read is nothing."""
        path = self.folder / "oidc.json"
        try:
            found = path.stat()
            stat = (found.st_mtime_ns, found.st_ino, found.st_size)
            if stat != self._stat:
                body = json.loads(path.read_bytes())
                self._seen = Seen(float(body["at"]), dict(body["metadata"]), usable(body["jwks"]))
                self._stat = stat
        except (OSError, ValueError, TypeError, KeyError):
            self._seen = self._stat = None
        if self._seen is not None and self._seen.metadata.get("issuer") != self.pinned.issuer:
            return None
        return self._seen

    def _is_younger(self, seen: Seen, seconds: float) -> bool:
        return -_SKEW_S <= self.now() - seen.at < seconds

    def _away(self) -> Unavailable:
        why = self._failed.message if self._failed is not None else "what is kept of it is too old."
        return Unavailable(f"The provider of logins cannot be asked: {why}", "try later, or use a key: falaj key create.")


_TOLD = ("issuer", *ADDRESSES, "revocation_endpoint", "authorization_response_iss_parameter_supported")


def replace_file(path: Path, data: bytes) -> None:
    """The whole file or none of it, for its owner alone."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
