"""Tokens (JWT): checked here against the issuers' published keys, once; nobody is asked over the network.

RFC 7519 (tokens), RFC 7517 (keys), RFC 8725 (what to refuse): the algorithm is the key's, never the token's own word; a key
is found by its `kid` among those in the issuer's file and nowhere else; `jwk`, `jku` and `x5u` in a token mean nothing.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from falaj.core.actor import Actor
from falaj.core.errors import InvalidInput, MissingDependency, Unauthenticated
from falaj.core.strict import strict_json
from falaj.inference.auth import Token

LEEWAY_S = 30.0
"""How far the issuer's clock may be from this machine's."""
LONGEST_S = 24 * 3600.0
"""A token that is good for longer is a key that cannot be taken back."""
_SIZE = 8192
_JWKS_SIZE = 1 << 18
_MOST_KEYS = 64
_TEXT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_NAME = re.compile(r"[!-~][ -~]{0,199}")
_ROLE = re.compile(r"[a-z][a-z_]{0,39}")
_ALGORITHMS: Mapping[tuple[str, str], str] = {
    ("OKP", "Ed25519"): "EdDSA",
    ("EC", "P-256"): "ES256",
    ("RSA", ""): "RS256",
}
_HINT = "ask its issuer for a new one."


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are taken, for whom they must be meant, and what their word about roles is worth."""

    name: str
    """What `iss` must say."""
    audience: str
    """What `aud` must say, or hold."""
    jwks: Path
    claim: str = "roles"
    """Which claim tells the roles: a list of texts, or one text of words."""
    roles: Mapping[str, str] | None = None
    """The claim's value → a role here; any other value gives none. None: the values are roles of this project."""
    clients: frozenset[str] = frozenset()
    """To whom a token must have been issued (RFC 9068 section 2.2), and then no ID token is taken; empty for anybody."""
    types: frozenset[str] = frozenset({"jwt", "at+jwt"})
    """What a token's header may call itself, in small letters."""
    longest_s: float = float("inf")
    """How far its beginning and its end may be apart; its end is never further away than LONGEST_S."""
    oldest_s: float = float("inf")
    """So long after its keys were written they are believed: whoever keeps them fresh may be away, and a key may be withdrawn."""


@dataclass(frozen=True, slots=True)
class _Key:
    issuer: Issuer
    algorithm: str
    jwk: Mapping[str, Any]
    until: float
    """So long it is believed, in seconds since 1970."""


class JwtTokens:
    """What issuers signed. Their files are read again when they change; one that cannot be read opens nothing."""

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        self._issuers = tuple(issuers)
        self._seen: list[tuple[int, int, int] | None] | None = None
        self._keys: dict[str, _Key] = {}
        self._made: dict[str, Any] = {}
        """The public keys that were needed so far, by their `kid`."""

    def look(self) -> bool:
        """Takes in what changed; True where something did. One `stat` an issuer."""
        seen = [_stat(issuer.jwks) for issuer in self._issuers]
        if seen == self._seen:
            return False
        self._seen, self._made, keys = seen, {}, {}
        # The first issuer comes last, and so keeps a `kid` that another one uses too.
        for issuer, stat in reversed([*zip(self._issuers, seen, strict=True)]):
            if stat is not None:
                keys.update(_read_keys(issuer, stat[0] / 1e9 + issuer.oldest_s))
        self._keys = keys
        return True

    def read(self, text: bytes, now: float) -> Token:
        """The token, if an issuer signed it and it is good at `now` (seconds since 1970).

        Raises Unauthenticated, without a word of what the token says; MissingDependency where PyJWT is not installed.
        """
        if len(text) > _SIZE or not _TEXT.fullmatch(text):
            raise Unauthenticated(f"The token is no signed JWT of at most {_SIZE} bytes.", _HINT)
        header = _object(text.partition(b".")[0], "header")
        kid = header.get("kid")
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise Unauthenticated("The token names no key of an issuer that is trusted here.", _HINT)
        kind = header.get("typ", "JWT")
        if (
            header.get("alg") != key.algorithm
            or not isinstance(kind, str)
            or kind.lower() not in key.issuer.types
            or not header.keys().isdisjoint(("crit", "b64", "zip"))
        ):
            raise Unauthenticated("The token is signed in a way that is not taken here.", "EdDSA, ES256 and RS256 are.")
        claims = self._verified(text, str(kid), key)
        token = _token(claims, key.issuer, now)
        if now >= key.until:
            raise Unauthenticated("The keys of the token's issuer were not looked at for too long.", "the control plane does it.")
        return replace(token, until=min(token.until, key.until))

    def _verified(self, text: bytes, kid: str, key: _Key) -> Mapping[str, Any]:
        jwt = library()
        try:
            public = self._made.get(kid)
            if public is None:
                public = self._made[kid] = jwt.PyJWK(dict(key.jwk), key.algorithm).key
            # The times are looked at below: against the clock that was given, and more strictly.
            jwt.decode(
                text, public, algorithms=[key.algorithm], issuer=key.issuer.name, audience=key.issuer.audience,
                options={"require": ["exp", "iss", "aud", "sub"], "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )  # fmt: skip
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as exc:
            raise Unauthenticated("The token is not valid here.", _HINT) from exc
        return _object(text.split(b".")[1], "body")


def library() -> Any:
    """PyJWT, imported when it is first needed. Raises MissingDependency."""
    try:
        import jwt
    except ModuleNotFoundError as exc:
        raise MissingDependency.of("Reading a token", str(exc.name), "tokens") from exc
    return jwt


def issuers_of(own: Issuer | None, issuer: str, audience: str, jwks: str, roles: tuple[str, str]) -> list[Issuer]:
    """The project's own issuer, and the one that the settings name. `roles`: the claim, and `value=role value=role`.

    Raises InvalidInput for an issuer that is named by halves, or whose roles are not mapped: what another's word means here
    has to be said here.
    """
    found = [own] if own is not None else []
    if not (issuer or audience or jwks):
        return found
    if not (issuer and audience and jwks):
        raise InvalidInput(
            "Tokens of another issuer need all three of it.",
            "set serve_tokens_issuer, serve_tokens_audience and serve_tokens_jwks.",
        )
    claim, table = roles
    mapped = dict(pair.partition("=")[::2] for pair in table.replace(",", " ").split())
    wrong = [f"{value}={role}" for value, role in mapped.items() if not value or not _ROLE.fullmatch(role)]
    if wrong or not mapped:
        raise InvalidInput(
            f"serve_tokens_roles says {wrong[0] if wrong else 'nothing'!r}.",
            'write which value of the claim gives which role: "ml-callers=caller ml-admins=operator".',
        )
    return [*found, Issuer(issuer, audience, Path(jwks), claim or "roles", mapped)]


def _token(claims: Mapping[str, Any], issuer: Issuer, now: float) -> Token:
    """Raises Unauthenticated for a token that is over, not good yet, good for too long, or says nothing usable."""
    until, since, name = _moment(claims, "exp"), _moment(claims, "nbf"), claims.get("sub")
    issued = _moment(claims, "iat")
    if until is None or (since is None and issued is None) or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Unauthenticated("The token lacks its subject (sub), its end (exp) or its beginning (nbf or iat).", _HINT)
    begins = max(moment for moment in (since, issued) if moment is not None)
    if until + LEEWAY_S <= now:
        raise Unauthenticated("The token is over.", _HINT)
    if begins - LEEWAY_S > now:
        raise Unauthenticated("The token is not good yet.", "set the clock right, here or at its issuer.")
    if until > now + LONGEST_S + LEEWAY_S:
        raise Unauthenticated(f"The token is good for more than {LONGEST_S / 3600:.0f} h.", "ask for one that ends sooner.")
    if until - begins > issuer.longest_s + LEEWAY_S:
        raise Unauthenticated(
            f"The token is good for more than {issuer.longest_s / 60:.0f} min.", "ask for one that ends sooner."
        )
    if issuer.clients:
        _check_client(claims, issuer.clients)
    if "cnf" in claims:
        raise Unauthenticated("The token is bound to its sender, which is not checked here.", "ask for a bearer token.")
    jti = claims.get("jti", "")
    actor = Actor(name, "service", _roles(claims.get(issuer.claim), issuer.roles))
    return Token(actor, jti if isinstance(jti, str) else "", issued if issued is not None else begins, until + LEEWAY_S)


def _check_client(claims: Mapping[str, Any], clients: frozenset[str]) -> None:
    """Raises Unauthenticated for an ID token, and for one that was issued to somebody who may not come here."""
    if not claims.keys().isdisjoint(("nonce", "at_hash", "c_hash")):
        raise Unauthenticated("An ID token opens nothing.", "send the access token.")
    client = claims.get("client_id", claims.get("azp"))
    if not isinstance(client, str) or client not in clients or claims.get("azp", client) != client:
        raise Unauthenticated("The token was issued to another client (client_id).", _HINT)


def _roles(given: Any, mapped: Mapping[str, str] | None) -> tuple[str, ...]:
    values = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
    texts = [value for value in values if isinstance(value, str)]
    found = texts if mapped is None else [mapped[value] for value in texts if value in mapped]
    return tuple(dict.fromkeys(role for role in found if _ROLE.fullmatch(role)))


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    """Seconds since 1970; None where it is not there. Raises Unauthenticated for what is no time."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e11:
        raise Unauthenticated(f"The token's {name!r} is no time.", _HINT)
    return float(value)


def _read_keys(issuer: Issuer, until: float) -> dict[str, _Key]:
    """The keys of an issuer that can be used until then, by their `kid`; a `kid` that stands there twice names nothing."""
    try:
        with issuer.jwks.open("rb") as file:
            listed = strict_json(file.read(_JWKS_SIZE))["keys"][:_MOST_KEYS]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}
    found: dict[str, _Key | None] = {}
    for jwk in listed:
        if not isinstance(jwk, dict) or not isinstance(kid := jwk.get("kid"), str):
            continue
        algorithm = _algorithm(jwk)
        found[kid] = _Key(issuer, algorithm, jwk, until) if algorithm and kid not in found else None
    return {kid: key for kid, key in found.items() if key is not None}


def _algorithm(jwk: Mapping[str, Any]) -> str:
    """What this key signs with; empty for one that is not for signing, is secret, or is too weak."""
    kind, curve = jwk.get("kty"), jwk.get("crv", "")
    found = _ALGORITHMS.get((kind, curve), "") if isinstance(kind, str) and isinstance(curve, str) else ""
    weak = found == "RS256" and (not isinstance(n := jwk.get("n"), str) or len(n) < 342)  # 2048 bits in base64
    fits = jwk.get("use", "sig") == "sig" and jwk.get("alg", found) == found and "d" not in jwk
    return found if fits and not weak else ""


def _object(part: bytes, what: str) -> dict[str, Any]:
    """Raises Unauthenticated for what is no JSON object, or says something twice."""
    try:
        body = strict_json(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (ValueError, TypeError, RecursionError) as exc:
        raise Unauthenticated(f"The token's {what} cannot be read.", _HINT) from exc
    if not isinstance(body, dict):
        raise Unauthenticated(f"The token's {what} is no object.", _HINT)
    return body


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  # for each request that comes alone
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
