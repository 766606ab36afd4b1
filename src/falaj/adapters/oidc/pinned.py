"""What the settings say of the provider: who it is, what its tokens must say, and what its word about groups is worth here."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.moments import length

LONGEST = timedelta(hours=24)
_HERE = ("127.0.0.1", "::1", "localhost")
_SCOPE = re.compile(r"[!#-\[\]-~]+( [!#-\[\]-~]+)*")


@dataclass(frozen=True, slots=True)
class Pinned:
    """Nothing of this is ever taken from a token or from the provider's own documents."""

    issuer: str
    client: str
    """The client by which people log in."""
    audience: str
    """Whom access tokens must be meant for: this installation."""
    roles: Mapping[str, str]
    """A value of the claim → a role here. Any other value gives none."""
    claim: str = "groups"
    """Where an access token tells groups; `realm_access.roles` leads into an object."""
    clients: frozenset[str] = frozenset()
    """Other clients whose tokens are taken: programs."""
    scope: str = "openid"
    types: tuple[str, ...] = ("at+jwt", "application/at+jwt")
    """What the header of an access token must call itself (RFC 9068 section 4)."""
    longest_s: float = 600.0
    secret: bytes | None = field(default=None, repr=False)


def pinned_of(get: Callable[[str], Any], secret: Callable[[str], bytes | None], known: Collection[str]) -> Pinned | None:
    """From the settings `oidc_…`; None where no issuer is named. `known`: the roles that policy knows.

    Raises InvalidInput for settings that do not fit together, NotFound for a role that policy does not know.
    """
    text = {
        name: str(get(f"oidc_{name}")).strip() for name in ("issuer", "client", "audience", "roles", "claim", "clients", "scope")
    }
    if not text["issuer"]:
        set_anyway = [name for name in ("client", "audience", "roles") if text[name]]
        if set_anyway:
            raise InvalidInput(f"oidc_{set_anyway[0]} is set, but no provider is named.", 'set oidc_issuer = "https://…".')
        return None
    missing = [f"oidc_{name}" for name in ("client", "audience", "roles") if not text[name]]
    if missing:
        raise InvalidInput(f"A provider is named, and {', '.join(missing)} is not said.", "set all of it, or no oidc_issuer.")
    refuse_open("oidc_issuer", text["issuer"])
    longest = length(str(get("oidc_longest")))
    if not timedelta(minutes=1) <= longest <= LONGEST:
        raise InvalidInput(
            f"oidc_longest is {longest}.", "write a span from 1m to 24h; the shorter, the less a stolen token is worth."
        )
    if not _SCOPE.fullmatch(text["scope"]) or "openid" not in text["scope"].split():
        raise InvalidInput(
            f"oidc_scope is {text['scope'][:80]!r}.", 'write words with openid among them: "openid offline_access".'
        )
    any_type = str(get("oidc_type")) == "jwt"
    return Pinned(
        text["issuer"], text["client"], text["audience"], _mapped(text["roles"], known), text["claim"] or "groups",
        frozenset(text["clients"].replace(",", " ").split()), text["scope"],
        ("at+jwt", "application/at+jwt", "jwt", "") if any_type else ("at+jwt", "application/at+jwt"),
        longest.total_seconds(), secret(str(get("oidc_client_secret"))),
    )  # fmt: skip


def refuse_open(what: str, url: str) -> None:
    """Raises InvalidInput for an address that is not encrypted and not of this machine, or holds a name or a password."""
    try:
        parts = urlsplit(url)
        good = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _HERE)
        good = good and bool(parts.hostname) and parts.username is None and parts.password is None and not parts.fragment
    except ValueError:
        good = False
    if not good or len(url) > 2000 or not url.isascii() or re.search(r"[\x00-\x20\"<>\\^`{|}]", url):
        raise InvalidInput(f"{what} is no address that a login may go to.", "write https://…; http is for this machine only.")


def _mapped(text: str, known: Collection[str]) -> dict[str, str]:
    mapped = dict(pair.partition("=")[::2] for pair in text.replace(",", " ").split())
    wrong = [group for group, role in mapped.items() if not group or not role]
    if wrong:
        raise InvalidInput(
            f"oidc_roles says {wrong[0]!r}.", 'write which group gives which role: "ml-team=ml_engineer risk=approver".'
        )
    unknown = [role for role in mapped.values() if role not in known]
    if unknown:
        raise NotFound.named("role", unknown[0], known)
    return mapped
