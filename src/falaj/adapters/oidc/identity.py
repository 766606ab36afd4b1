"""People of the company's provider: its access tokens (JWT) as credentials, checked here against its published keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from falaj.adapters.oidc.claims import Holder, head_of, holder_of, verified
from falaj.adapters.oidc.pinned import Pinned
from falaj.adapters.oidc.provider import Provider
from falaj.core.actor import Actor
from falaj.core.errors import Unauthenticated
from falaj.ports.identity import Credential

Revoked = Callable[[str, str, float], bool]


class OidcIdentity:
    """`is_revoked`: of a token's id, its subject and its time of issue (seconds since 1970). `folder`: where what was seen of the
    provider is kept. `now`: seconds since 1970."""

    def __init__(self, *, pinned: Pinned, folder: Path, now: Callable[[], float], is_revoked: Revoked) -> None:
        self.provider, self._is_revoked = Provider(pinned, folder, now), is_revoked

    def authenticate(self, credential: Credential) -> Actor | None:
        """Raises what the port says. A token is looked at anew each time: a subject that was shut out is out on the next call."""
        if credential.text.count(".") != 2:
            return None
        holder = self.read(credential.text)
        if self._is_revoked(holder.id, holder.actor.name, holder.issued):
            raise Unauthenticated("The token was revoked.", "log in again: falaj login.")
        return holder.actor

    def read(self, text: str) -> Holder:
        """Who shows it, whether it was revoked or not. Raises Unauthenticated, Unavailable."""
        head, claims = opened(text, self.provider)
        return holder_of(head, claims, self.provider.pinned, self.provider.now())


def opened(text: str, provider: Provider) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and claims of what the provider signed. Raises Unauthenticated, Unavailable."""
    head = head_of(text)
    kid = head.get("kid")
    if not isinstance(kid, str):
        raise Unauthenticated("The token names no key of the provider that is trusted here.", "log in again: falaj login.")
    return head, verified(text, head, provider.key(kid))
