"""Who may call: by key, token or certificate; whoever was taken back is refused on the very next call."""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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
LOOK_EVERY_S = 1.0
"""How long an issuer's key that was taken away may still be believed."""
REMEMBERED = 4096
"""Keys and tokens that were good and need no second look; with one more, all of them are looked at again."""
_UNKNOWN = "The key is unknown or was revoked."


@dataclass(frozen=True, slots=True)
class Token:
    """A token whose signature and times were good. `id`: its jti, empty where it has none; times in seconds since 1970."""

    actor: Actor
    id: str
    issued: float
    until: float


class Tokens(Protocol):
    """What verifies tokens: see falaj.inference.tokens."""

    def look(self) -> bool:
        """Reads the issuers' keys again where they changed; True where they did."""
        ...

    def read(self, text: bytes, now: float) -> Token:
        """Raises Unauthenticated."""
        ...


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


@dataclass(slots=True)
class _Allowed:
    """`keys.json` as it was read. A name says what its entry is about:

    64 hexadecimal digits: the HMAC of a key · `certificate:<identity>` · `revoked:<HMAC>`: tokens that were taken back, by
    their own id or their subject (`hmac_of(pepper, b"jti:…")`, `b"sub:…"`: whoever reads the file learns no name).
    """

    keys: dict[str, Actor]
    certificates: dict[str, Actor]
    revoked: dict[str, float]
    """HMAC → when it was taken back, in seconds since 1970: what a subject gets after that is good again."""


class Keyring:
    """`keys.json` and the issuers of tokens. What cannot be read opens nothing.

    `look` compares the files with what was read, and is for once before the calls that arrived together; `actor` and
    `holder` are lookups in a dict for whoever was good before. A call that arrives after a key was taken back finds it gone.
    """

    def __init__(self, path: Path, pepper: bytes, tokens: Tokens | None = None, now: Callable[[], float] = time.time) -> None:
        self._path = str(path)
        self._pepper = pepper
        self._tokens, self._now = tokens, now
        self._seen: tuple[int, int, int] | None = None
        self._allowed = _Allowed({}, {}, {})
        self._met: dict[bytes, Actor] = {}
        """Keys and tokens that were good when the files last changed: they need not be looked at again."""
        self._ends = float("inf")
        """When the first of the tokens among them ends, in seconds since 1970."""
        self._since = self._due = 0.0
        """From when on and until when nothing has to be done about tokens."""

    def look(self) -> None:
        """Takes in what changed. Costs one `stat`; call it once for all requests that arrived together.

        The issuers' keys are looked at once a second, and tokens that are over forgotten in time.
        """
        if self._tokens is not None and not self._since <= (now := self._now()) < self._due:
            self._look_at_tokens(now)
        try:
            stat = os.stat(self._path)  # noqa: PTH116  # for each request that comes alone: a Path takes twice as long
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen == self._seen:
                return
            self._forget()
            self._allowed = _read(self._path)
            self._seen = seen
        except (OSError, ValueError, TypeError, AttributeError):
            self._forget()
            self._seen, self._allowed = None, _Allowed({}, {}, {})

    def actor(self, key: bytes) -> Actor:
        """Whose key or token that is, as of the last look. Raises Unauthenticated for one that is unknown, over or revoked."""
        found = self._met.get(key)
        return found if found is not None else self._meet(key)

    def holder(self, identity: str) -> Actor:
        """Whose certificate names that identity, as of the last look. Raises Unauthenticated.

        The certificate itself was checked when the connection was made.
        """
        found = self._allowed.certificates.get(identity)
        if found is None:
            raise Unauthenticated(
                f"No one is known by the certificate of {identity[:200]!r}.", "ask the operator: falaj certificate allow."
            )
        return found

    def _meet(self, key: bytes) -> Actor:
        if not key:
            raise Unauthenticated("No key came with the request.", "send the header `Authorization: Bearer <key>`.")
        if key.count(b".") == 2:
            return self._meet_token(key)
        found = self._allowed.keys.get(hmac_of(self._pepper, key))
        if found is None:
            raise Unauthenticated(_UNKNOWN, "ask the operator for a key: falaj key create.")
        self._remember(key, found)
        return found

    def _meet_token(self, text: bytes) -> Actor:
        if self._tokens is None:
            raise Unauthenticated(_UNKNOWN, "tokens are not taken here: send a key.")
        token = self._tokens.read(text, self._now())
        if self._allowed.revoked and self._is_revoked(token):
            raise Unauthenticated("The token was revoked.", "ask its issuer for a new one.")
        self._remember(text, token.actor)
        self._ends = min(self._ends, token.until)
        self._due = min(self._due, self._ends)
        return token.actor

    def _is_revoked(self, token: Token) -> bool:
        revoked = self._allowed.revoked
        by_id, by_name = (hmac_of(self._pepper, text.encode()) for text in (f"jti:{token.id}", f"sub:{token.actor.name}"))
        return (bool(token.id) and by_id in revoked) or token.issued <= revoked.get(by_name, -1.0)

    def _remember(self, key: bytes, actor: Actor) -> None:
        if len(self._met) >= REMEMBERED:
            self._forget()
        self._met[key] = actor

    def _look_at_tokens(self, now: float) -> None:
        """The issuers' keys are as they were, mostly; a token whose time is over is met again, and refused."""
        is_over = now >= self._ends or now < self._since
        if (self._tokens is not None and self._tokens.look()) or is_over:
            self._forget()
        self._since, self._due = now, min(now + LOOK_EVERY_S, self._ends)

    def _forget(self) -> None:
        self._met.clear()
        self._ends = float("inf")


def _read(path: str) -> _Allowed:
    """Raises OSError, ValueError, TypeError or AttributeError for what is no table of keys."""
    keys: dict[str, Actor] = {}
    certificates: dict[str, Actor] = {}
    revoked: dict[str, float] = {}
    for name, who in orjson.loads(Path(path).read_bytes()).items():
        if name.startswith("revoked:"):
            revoked[name.removeprefix("revoked:")] = float(who["at"])
        elif isinstance(who, dict) and "name" in who and not who.get("revoked_at"):
            table = certificates if name.startswith("certificate:") else keys
            table[name.removeprefix("certificate:")] = Actor(
                str(who["name"]),
                str(who.get("kind", "service")),
                tuple(map(str, who.get("roles", ()))),
                str(who.get("zone", "local")),
            )
    return _Allowed(keys, certificates, revoked)
