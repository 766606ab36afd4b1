"""What a provider's token must look like and say, before anybody believes a word of it. Pure: the time is an argument.

RFC 7519 (tokens), RFC 8725 (what to refuse), RFC 9068 (access tokens), OpenID Connect Core 3.1.3.7 (ID tokens).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jwk, jws
from joserfc.errors import JoseError

from falaj.adapters.oidc.pinned import Pinned
from falaj.core.actor import Actor
from falaj.core.errors import Unauthenticated
from falaj.core.strict import strict_json

LEEWAY_S = 30.0
"""How far the provider's clock may be from this machine's."""
SIZE = 16_384
_TEXT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_NAME = re.compile(r"[!-~][ -~]{0,199}")
_ALGORITHMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    # kind and curve of a key: what it may sign with. A secret key, `none` and HS256 are not here.
    ("OKP", "Ed25519"): ("EdDSA", "Ed25519"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("RSA", ""): ("RS256", "PS256", "RS384", "PS384", "RS512", "PS512"),
}
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
_HINT = "log in again: falaj login."


@dataclass(frozen=True, slots=True)
class Holder:
    """Who shows an access token. Times in seconds since 1970; `id`: its jti, empty for none."""

    actor: Actor
    id: str
    issued: float
    until: float


def head_of(text: str) -> Mapping[str, Any]:
    """The header of what has the form of a signed JWT. Raises Unauthenticated."""
    if len(text) > SIZE or not _TEXT.fullmatch(text):
        raise Unauthenticated(f"The token is no signed JWT of at most {SIZE} bytes.", _HINT)
    head = _object(text.partition(".")[0], "header")
    if not head.keys().isdisjoint(("crit", "b64", "zip", "jwk", "jku", "x5u")):
        raise Unauthenticated("The token is signed in a way that is not taken here.", _HINT)
    return head


def usable(keys: Any) -> dict[str, Mapping[str, Any]]:
    """The public signing keys of a key set (RFC 7517) by their `kid`; a `kid` that stands there twice names nothing."""
    listed = keys.get("keys") if isinstance(keys, Mapping) else None
    found: dict[str, Mapping[str, Any] | None] = {}
    for key in listed[:64] if isinstance(listed, list) else ():
        if isinstance(key, dict) and isinstance(kid := key.get("kid"), str):
            found[kid] = key if algorithms_of(key) and kid not in found else None
    return {kid: key for kid, key in found.items() if key is not None}


def algorithms_of(key: Mapping[str, Any]) -> tuple[str, ...]:
    """What this key may sign with; none for one that is secret, too weak, or for something else."""
    kind, curve, own = key.get("kty"), key.get("crv", ""), key.get("alg")
    fits = isinstance(kind, str) and isinstance(curve, str) and key.get("use", "sig") == "sig" and "d" not in key
    found = _ALGORITHMS.get((kind, curve), ()) if fits and isinstance(kind, str) and isinstance(curve, str) else ()
    modulus = key.get("n")
    if kind == "RSA" and (not isinstance(modulus, str) or not 342 <= len(modulus) <= 1366):  # 2048 to 8192 bits
        return ()
    return found if own is None else tuple(name for name in found if name == own)


def verified(text: str, head: Mapping[str, Any], key: Mapping[str, Any]) -> Mapping[str, Any]:
    """The claims, signed by that key with an algorithm that is the key's. Raises Unauthenticated."""
    algorithm = head.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms_of(key):
        raise Unauthenticated("The token is signed in a way that is not taken here.", _HINT)
    signed, _, signature = text.rpartition(".")
    try:
        # The algorithm alone: joserfc's own reader of headers warns of the name that EdDSA had until RFC 9864.
        model = jws.JWSRegistry.algorithms[algorithm]
        is_good = model.verify(signed.encode(), _bytes(signature), jwk.import_key(dict(key)))
    except (JoseError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as exc:
        raise Unauthenticated("The token is not valid here.", _HINT) from exc
    if is_good is not True:
        raise Unauthenticated("The token is not valid here.", _HINT)
    return _object(text.split(".")[1], "body")


def holder_of(head: Mapping[str, Any], claims: Mapping[str, Any], pinned: Pinned, now: float) -> Holder:
    """Who an access token is about, and what they may do here. Raises Unauthenticated for one that is not for here and now."""
    kind = head.get("typ", "")
    if not isinstance(kind, str) or kind.lower() not in pinned.types:
        raise Unauthenticated("The token is no access token (its typ is another).", "see oidc_type; an ID token opens nothing.")
    if not claims.keys().isdisjoint(("nonce", "at_hash", "c_hash")):
        raise Unauthenticated("An ID token opens nothing.", "send the access token.")
    issued, until, name = _times(claims, pinned, now)
    if pinned.audience not in _listed(claims.get("aud")):
        raise Unauthenticated("The token is meant for somebody else (aud).", "ask the provider for one that names oidc_audience.")
    if until - issued > pinned.longest_s + LEEWAY_S:
        raise Unauthenticated(
            f"The token is good for more than {pinned.longest_s / 60:.0f} min.",
            "let the provider issue shorter ones, or see oidc_longest.",
        )
    if "cnf" in claims:
        raise Unauthenticated("The token is bound to its sender, which is not checked here.", "ask for a bearer token.")
    client = claims.get("client_id", claims.get("azp"))
    taken = isinstance(client, str) and (client == pinned.client or client in pinned.clients)
    if not taken or claims.get("azp", client) != client:
        raise Unauthenticated(
            "The token was issued to another client (client_id).", "name it in oidc_clients, if it may come here."
        )
    # Whoever logs in is a person; what gets tokens for itself, or by another client, is a program, and approves nothing.
    is_person = client == pinned.client and name != client
    token_id = claims.get("jti", "")
    actor = Actor(name, "person" if is_person else "service", _roles(claims, pinned))
    return Holder(actor, token_id if isinstance(token_id, str) else "", issued, until)


def logged_in(head: Mapping[str, Any], claims: Mapping[str, Any], expected: tuple[Pinned, str, str], now: float) -> str:
    """The subject of an ID token that answers this very login. `expected`: provider, nonce, access token.

    Raises Unauthenticated.
    """
    pinned, nonce, access = expected
    _, _, name = _times(claims, pinned, now)
    audiences = _listed(claims.get("aud"))
    party = claims.get("azp")
    if pinned.client not in audiences or (len(audiences) > 1 and party is None) or party not in (None, pinned.client):
        raise Unauthenticated("The ID token is meant for somebody else (aud, azp).", _HINT)
    seen = claims.get("nonce")
    if not isinstance(seen, str) or not hmac.compare_digest(seen.encode("utf-8", "replace"), nonce.encode()):
        raise Unauthenticated("The ID token answers another login (nonce).", _HINT)
    wanted = _half(str(head.get("alg")), access)
    if "at_hash" in claims and (not wanted or claims["at_hash"] != wanted):
        raise Unauthenticated("The ID token belongs to another access token (at_hash).", _HINT)
    return name


def _times(claims: Mapping[str, Any], pinned: Pinned, now: float) -> tuple[float, float, str]:
    """When it was issued and when it ends, and about whom it is."""
    if claims.get("iss") != pinned.issuer:
        raise Unauthenticated("The token is another issuer's.", _HINT)
    issued, until, since, name = _moment(claims, "iat"), _moment(claims, "exp"), _moment(claims, "nbf"), claims.get("sub")
    if issued is None or until is None or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Unauthenticated("The token lacks its subject (sub), its end (exp) or its beginning (iat).", _HINT)
    if until + LEEWAY_S <= now:
        raise Unauthenticated("The token is over.", _HINT)
    if max(issued, since or 0.0) - LEEWAY_S > now:
        raise Unauthenticated("The token is not good yet.", "set the clock right, here or at its issuer.")
    return issued, until, name


def _roles(claims: Mapping[str, Any], pinned: Pinned) -> tuple[str, ...]:
    found: Any = claims
    for step in (pinned.claim,) if pinned.claim in claims else pinned.claim.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    values = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
    return tuple(dict.fromkeys(pinned.roles[value] for value in values if isinstance(value, str) and value in pinned.roles))


def _listed(given: Any) -> list[Any]:
    return [given] if isinstance(given, str) else given if isinstance(given, list) else []


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e11:
        raise Unauthenticated(f"The token's {name!r} is no time.", _HINT)
    return float(value)


def _half(algorithm: str, access: str) -> str:
    """The left half of the access token's hash, by the hash of the ID token's own algorithm (OIDC Core 3.1.3.6)."""
    made = _HASHES.get("512" if algorithm in ("EdDSA", "Ed25519") else algorithm[-3:])
    if made is None:
        return ""
    digest = made(access.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).decode().rstrip("=")


def _object(part: str, what: str) -> dict[str, Any]:
    try:
        body = strict_json(_bytes(part))
    except (ValueError, TypeError, RecursionError) as exc:
        raise Unauthenticated(f"The token's {what} cannot be read.", _HINT) from exc
    if not isinstance(body, dict):
        raise Unauthenticated(f"The token's {what} is no object.", _HINT)
    return body


def _bytes(part: str) -> bytes:
    """Raises ValueError."""
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
