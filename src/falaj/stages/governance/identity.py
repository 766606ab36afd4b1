"""Who asks: each way of knowing in turn, and what a person may have taken in an emergency on top."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from falaj.core.actor import Actor
from falaj.core.errors import Unauthenticated
from falaj.ports.identity import Credential, Identity
from falaj.ports.ledger import Ledger
from falaj.stages.governance.keys import Keys
from falaj.stages.vouching import opens

_HINT = "send Authorization: Bearer <key or token>; an operator makes a key with `falaj key create`."


@dataclass(frozen=True, slots=True)
class ByKey:
    """Keys of this project, `falaj_…`."""

    keys: Keys

    def authenticate(self, credential: Credential) -> Actor | None:
        return self.keys.authenticate(credential.text) if credential.text.startswith("falaj_") else None


@dataclass(frozen=True, slots=True)
class ByToken:
    """Tokens of one issuer. `is_mine`: whether a text is one of them, by its form and the key that it names alone."""

    is_mine: Callable[[str], bool]
    read: Callable[[str], tuple[Actor, str, float]] = field(repr=False)
    """The holder, the token's id (empty for none) and when it was issued, in seconds since 1970. Raises Unauthenticated."""
    is_revoked: Callable[[str, str, float], bool]
    """Of an id, a name and a time of issue."""

    def authenticate(self, credential: Credential) -> Actor | None:
        if not self.is_mine(credential.text):
            return None
        actor, token_id, issued = self.read(credential.text)
        if self.is_revoked(token_id, actor.name, issued):
            raise Unauthenticated("The token was revoked.", "ask its issuer for a new one.")
        return actor


@dataclass(frozen=True, slots=True)
class ByCertificate:
    """Programs that show a certificate, as `certificate.allow` let them in."""

    ledger: Ledger

    def authenticate(self, credential: Credential) -> Actor | None:
        """A certificate speaks only where nothing else does: a wrong key is not made good by it."""
        if credential.text or not credential.certificate:
            return None
        for name, body in self.ledger.find("certificate"):
            if opens(body) and body["identity"] == credential.certificate:
                return Actor(name, "service", tuple(body["roles"]))
        raise Unauthenticated(
            f"No one is known by the certificate of {credential.certificate[:200]!r}.",
            "ask the operator: falaj certificate allow.",
        )


@dataclass(frozen=True, slots=True)
class Identities:
    """All ways together: the first one that reads the credential's form decides."""

    ways: Sequence[Identity]
    elevated: Callable[[Actor], Actor] = lambda actor: actor
    """Adds what a person took by break-glass."""

    def authenticate(self, credential: Credential) -> Actor:
        """Raises Unauthenticated where nobody vouches for it; nothing is let in by default."""
        for way in self.ways:
            actor = way.authenticate(credential)
            if actor is not None:
                return self.elevated(actor)
        what = "a key or token of a form that is not taken here" if credential.text else "nothing"
        raise Unauthenticated(f"To say who asks, {what} was shown.", _HINT)
