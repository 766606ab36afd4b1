"""Who may call: keys are kept only as HMACs, and a key that was taken back is refused on the very next call."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from pathlib import Path

import orjson

from falaj.core.actor import Actor
from falaj.core.errors import Denied, Unauthenticated

PERMISSIONS: Mapping[str, frozenset[str] | None] = {
    # permission: the roles that have it; None is anybody with a key
    "read": None,
    "predict": frozenset({"caller", "service", "ml_engineer", "operator"}),
    "label": frozenset({"caller", "service", "ml_engineer", "operator"}),
    "metrics": frozenset({"service", "operator"}),
    "force": frozenset({"ml_engineer", "operator"}),
}


def hmac_of(pepper: bytes, key: bytes) -> str:
    """How a key is kept: HMAC-SHA256(pepper, key), hexadecimal."""
    return hmac.digest(pepper, key, "sha256").hex()


def has(actor: Actor, permission: str) -> bool:
    roles = PERMISSIONS[permission]
    return roles is None or not roles.isdisjoint(actor.roles)


def demand(actor: Actor, permission: str) -> None:
    """Raises Denied unless one of the actor's roles has the permission."""
    if not has(actor, permission):
        wanted = ", ".join(sorted(PERMISSIONS[permission] or ()))
        raise Denied(f"{actor} may not {permission} here.", f"it takes one of the roles: {wanted}.", permission=permission)


class Keyring:
    """`keys.json`: HMAC of a key → its actor. Its stat is compared on each request; what cannot be read opens nothing."""

    def __init__(self, path: Path, pepper: bytes) -> None:
        self._path = str(path)
        self._pepper = pepper
        self._seen: tuple[int, int, int] | None = None
        self._actors: dict[str, Actor] = {}
        self._met: dict[bytes, Actor] = {}
        """Keys that were good since the file last changed: their HMAC need not be made again."""

    def actor(self, key: bytes) -> Actor:
        """Raises Unauthenticated for a key that is unknown, revoked or missing."""
        self._look()
        found = self._met.get(key)
        if found is not None:
            return found
        found = self._actors.get(hmac_of(self._pepper, key)) if key else None
        if found is None:
            if not key:
                raise Unauthenticated("No key came with the request.", "send the header `Authorization: Bearer <key>`.")
            raise Unauthenticated("The key is unknown or was revoked.", "ask the operator for a key: falaj key create.")
        self._met[key] = found
        return found

    def _look(self) -> None:
        try:
            stat = os.stat(self._path)  # noqa: PTH116  # on each request: a Path takes twice as long
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen == self._seen:
                return
            self._met.clear()
            self._actors = _read(self._path)
            self._seen = seen
        except (OSError, ValueError, TypeError, AttributeError):
            self._seen, self._actors, self._met = None, {}, {}


def _read(path: str) -> dict[str, Actor]:
    body = orjson.loads(Path(path).read_bytes())
    return {
        str(hashed): Actor(
            str(who["name"]),
            str(who.get("kind", "service")),
            tuple(map(str, who.get("roles", ()))),
            str(who.get("zone", "local")),
        )
        for hashed, who in body.items()
        if isinstance(who, dict) and "name" in who and not who.get("revoked_at")
    }
