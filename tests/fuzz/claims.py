"""Mutates the provider's tokens, in their text, their parts and their meaning: nobody becomes more than the provider said.

    python -m tests.fuzz.claims --rounds 100000 --seed 1

A token that the provider signed may say anything, and is read or refused. One that it did not sign is refused, unless it differs
from a signed one only in the spare bits of its last character.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from joserfc import jwk, jws

from falaj.adapters.oidc.claims import head_of, holder_of, usable, verified
from falaj.adapters.oidc.pinned import Pinned
from falaj.core.errors import Unauthenticated
from tests.fuzz.tokens import NOW, ODD

KEYS = {kid: jwk.generate_key("OKP", "Ed25519") for kid in ("own", "stranger")}
EC = jwk.generate_key("EC", "P-256")
PINNED = Pinned(
    "https://id.example", "falaj", "urn:falaj", {"risk": "approver", "callers": "caller"}, clients=frozenset({"batch"})
)
CLAIMS = {
    "iss": "https://id.example", "aud": "urn:falaj", "sub": "u-1", "client_id": "falaj", "groups": ["callers"], "jti": "t1",
    "iat": NOW, "exp": NOW + 300,
}  # fmt: skip
HEADER = {"alg": "EdDSA", "kid": "own", "typ": "at+jwt"}
PUBLIC = usable({"keys": [{**KEYS["own"].as_dict(private=False), "kid": "own"}, {**EC.as_dict(private=False), "kid": "ec"}]})
NAMES = ("alg", "kid", "typ", "crit", "b64", "zip", "jwk", "jku", "x5u", "cty", "nbf", "azp", "nonce", "cnf", "at_hash", *CLAIMS)
MORE: tuple[Any, ...] = (*ODD, "risk", ["risk"], "https://id.example", "falaj", ["urn:falaj", "x"], "ec", "own", "at+jwt", "JWT")


def part(body: Any) -> str:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signed(head: Any, claims: Any, by: str = "own") -> str:
    text = f"{part(head)}.{part(claims)}"
    return f"{text}.{part(jws.JWSRegistry.algorithms['EdDSA'].sign(text.encode(), KEYS[by]))}"


GOOD = signed(HEADER, CLAIMS)


def bytes_changed(chance: random.Random) -> str:
    """Characters replaced, inserted, removed or doubled, anywhere."""
    text = list(GOOD)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(text))
        how = chance.randrange(4)
        if how == 0:
            text[place] = chance.choice("ABab09-_.=+/ \n\x00é{")
        elif how == 1:
            text[place:place] = [chr(chance.randrange(300))]
        elif how == 2:
            del text[place : place + chance.randint(1, 40)]
        else:
            text[place:place] = text[: chance.randint(0, 60)]
        if not text:
            return ""
    return "".join(text)


def parts_changed(chance: random.Random) -> str:
    """The parts of two tokens, and of none, in any order."""
    pool = [
        *GOOD.split("."),
        *signed(HEADER, {**CLAIMS, "groups": ["risk"]}, "stranger").split("."),
        "",
        part(b"{}"),
        part(b"\xff"),
    ]
    return ".".join(chance.choice(pool) for _ in range(chance.choice((2, 3, 3, 3, 3, 4, 5))))


def meaning_changed(chance: random.Random) -> str:
    """Other claims and headers, signed by a stranger."""
    return signed(_odd(HEADER, chance), _odd({**CLAIMS, "groups": ["risk"]}, chance), "stranger")


def said_by_the_provider(chance: random.Random) -> str:
    """Other claims and headers, well signed; names that stand twice, deep and long ones."""
    claims: Any = _odd(CLAIMS, chance)
    if chance.random() < 0.2:
        claims = json.dumps(CLAIMS)[:-1].encode() + chance.choice(
            (b',"groups":["risk"]}', b',"sub":"boss"}', b',"x":' + b"[" * 2000 + b"]" * 2000 + b"}", b',"x":NaN}', b"", b"}}")
        )
    return signed(_odd(HEADER, chance), claims)


def _odd(body: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    found = dict(body)
    for _ in range(chance.randint(0, 3)):
        name = chance.choice(NAMES)
        if chance.random() < 0.3:
            found.pop(name, None)
        else:
            found[name] = chance.choice(MORE)
    return found


WAYS: tuple[tuple[Callable[[random.Random], str], bool], ...] = (
    # how a token is made, and whether the provider signed it
    (bytes_changed, False),
    (parts_changed, False),
    (meaning_changed, False),
    (said_by_the_provider, True),
)


def tried(chance: random.Random) -> str:
    """What became of one token. Raises AssertionError where somebody became more than the provider said."""
    make, is_signed = chance.choice(WAYS)
    text = make(chance)
    try:
        head = head_of(text)
        kid = head.get("kid")
        key = PUBLIC.get(kid) if isinstance(kid, str) else None
        if key is None:
            return f"{make.__name__}: names no key"
        found = holder_of(head, claims := verified(text, head, key), PINNED, NOW)
    except Unauthenticated as exc:
        return f"{make.__name__}: {exc.message}"
    assert found.until > NOW - 30, text
    assert claims["iss"] == PINNED.issuer, text
    assert PINNED.audience in claims["aud"], text
    assert set(found.actor.roles) <= set(PINNED.roles.values()), text
    assert found.actor.kind == "service" or claims["client_id"] == PINNED.client, text
    if not is_signed:
        assert text[:-1] == GOOD[:-1], text
        assert (found.actor.name, found.actor.roles) == ("u-1", ("caller",)), text
    return f"{make.__name__}: read"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    seen = Counter(tried(chance) for _ in range(asked.rounds))
    for what, times in seen.most_common():
        print(f"{times:8} {what}")  # noqa: T201


if __name__ == "__main__":
    main()
