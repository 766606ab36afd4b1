"""Mutates good tokens, in their text, their parts and their meaning: nobody becomes more than the issuer said.

    python -m tests.fuzz.tokens --rounds 100000 --seed 1

A token that was signed by the issuer may say anything, and is read or refused. One that was not is refused, unless it differs
from a signed one only in the spare bits of its last character.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from falaj.adapters.local.signing import SigningKey
from falaj.adapters.local.tokens import kid_of, mint, publish
from falaj.core.errors import Unauthenticated
from falaj.inference.tokens import Issuer, JwtTokens

NOW = 1_800_000_000
KEY, STRANGER = SigningKey.generate(), SigningKey.generate()
CLAIMS = {
    "iss": "falaj/flights", "aud": "falaj/flights", "sub": "app", "roles": ["caller"], "jti": "t1",
    "iat": NOW, "nbf": NOW, "exp": NOW + 900,
}  # fmt: skip
HEADER = {"alg": "EdDSA", "kid": kid_of(KEY.public_key), "typ": "JWT"}
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 2**63, "", "none", "HS256", "RS256", "operator", "../../etc/passwd", "\x00", "é", [], ["operator"],
    {}, {"a": {"b": []}}, NOW, NOW + 10**9, str(NOW), "falaj/flights", ["falaj/flights"], "a" * 5000,
)  # fmt: skip
NAMES = ("alg", "kid", "typ", "crit", "b64", "zip", "jwk", "jku", "x5u", "x5c", "cty", *CLAIMS, "cnf", "role", "scope")


def part(body: Any) -> str:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signed(header: Any, claims: Any, key: SigningKey) -> bytes:
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{part(key.sign(text.encode()))}".encode()


def bytes_changed(chance: random.Random) -> bytes:
    """Bytes replaced, inserted, removed, doubled or swapped, anywhere."""
    text = bytearray(mint(CLAIMS, KEY).encode())
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(text))
        how = chance.randrange(4)
        if how == 0:
            text[place] = chance.choice(b"ABab09-_.=+/ \n\x00\xff{")
        elif how == 1:
            text[place:place] = bytes([chance.randrange(256)])
        elif how == 2:
            del text[place : place + chance.randint(1, 40)]
        else:
            text[place:place] = text[: chance.randint(0, 60)]
        if not text:
            return b""
    return bytes(text)


def parts_changed(chance: random.Random) -> bytes:
    """The parts of two good tokens, and of none, in any order."""
    pool = [
        *mint(CLAIMS, KEY).split("."),
        *mint({**CLAIMS, "roles": ["operator"]}, STRANGER).split("."),
        "",
        part(b"{}"),
        part(b"\xff"),
    ]
    return ".".join(chance.choice(pool) for _ in range(chance.choice((2, 3, 3, 3, 3, 4, 5)))).encode()


def meaning_changed(chance: random.Random) -> bytes:
    """Other claims and headers, signed by a stranger."""
    header, claims = _odd(HEADER, chance), _odd({**CLAIMS, "roles": ["operator"]}, chance)
    return signed(header, claims, STRANGER)


def said_by_the_issuer(chance: random.Random) -> bytes:
    """Other claims and headers, well signed; names that stand twice, deep and long ones."""
    claims: Any = _odd(CLAIMS, chance)
    if chance.random() < 0.2:
        claims = json.dumps(CLAIMS)[:-1].encode() + chance.choice(
            (b',"roles":["operator"]}', b',"sub":"boss"}', b',"x":' + b"[" * 2000 + b"]" * 2000 + b"}", b',"x":NaN}', b"", b"}}")
        )
    return signed(_odd(HEADER, chance), claims, KEY)


def _odd(body: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    found = dict(body)
    for _ in range(chance.randint(0, 3)):
        name = chance.choice(NAMES)
        if chance.random() < 0.3:
            found.pop(name, None)
        else:
            found[name] = chance.choice(ODD)
    return found


WAYS: tuple[tuple[Callable[[random.Random], bytes], bool], ...] = (
    # how a token is made, and whether the issuer signed it
    (bytes_changed, False),
    (parts_changed, False),
    (meaning_changed, False),
    (said_by_the_issuer, True),
)


def reader(folder: Path) -> JwtTokens:
    tokens = JwtTokens([Issuer("falaj/flights", "falaj/flights", publish(folder / "tokens.jwks", KEY))])
    tokens.look()
    return tokens


def tried(tokens: JwtTokens, chance: random.Random) -> str:
    """What became of one token. Raises AssertionError where somebody became more than the issuer said."""
    make, is_signed = chance.choice(WAYS)
    text = make(chance)
    try:
        found = tokens.read(text, NOW)
    except Unauthenticated as exc:
        return f"{make.__name__}: {exc.message}"
    good = mint(CLAIMS, KEY).encode()
    assert found.until > NOW, text
    if not is_signed:
        assert text[:-1] == good[:-1], text
        assert (found.actor.name, found.actor.roles) == ("app", ("caller",)), text
    return f"{make.__name__}: read"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        tokens = reader(Path(folder))
        seen = Counter(tried(tokens, chance) for _ in range(asked.rounds))
    for what, times in seen.most_common():
        print(f"{times:8} {what}")  # noqa: T201


if __name__ == "__main__":
    main()
