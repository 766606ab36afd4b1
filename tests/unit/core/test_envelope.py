from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from falaj.adapters.local.signing import SigningKey, open_envelope, sign_envelope
from falaj.core.envelope import pae
from falaj.core.errors import Conflict, Denied, FalajError, InvalidInput

# Keys A and B and the vectors of the DSSE repository.
A = SigningKey(
    Ed25519PrivateKey.from_private_bytes(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
)
B = SigningKey(
    Ed25519PrivateKey.from_private_bytes(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
)
TYPE = "application/vnd.in-toto+json"
PAYLOAD = "eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEifQ=="
SIG_A = "2WAfaHm5jluo0w+0rk8uVkluELJYWjSmU9x7EUzx+AyteDGJ4/nqyJXfmAUVFIAoQafWm7AxBZNw5M9ixNHiCA=="
SIG_B = "c1+67/aT0yqEpwx8PsVY3MLHsj9D0CZ014/Fv/QlG59P+9CobUZ7xECJ/V3USG0Ob9CiE5LjReEZUzNF2l7eBw=="
STATEMENT = b'{"_type":"https://in-toto.io/Statement/v1"}'


def enveloped(payload: Any = PAYLOAD, kind: Any = TYPE, *sigs: Any) -> dict[str, Any]:
    return {"payload": payload, "payloadType": kind, "signatures": [{"sig": sig} for sig in sigs or (SIG_A,)]}


def test_the_example_of_the_specification_is_encoded_as_written() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_lengths_are_counted_in_bytes() -> None:
    assert pae("exämple", b"") == b"DSSEv1 8 ex\xc3\xa4mple 0 "


@pytest.mark.parametrize(
    ("envelope", "kind", "payload"),
    [
        (enveloped(), TYPE, STATEMENT),
        (
            enveloped(
                "-_-_Pj8=", TYPE, "P-_KHICeR7tI6S_YyejJTRtrXhcQyQ2LYPaL8h90KjC9qN8HU_svOQ6TuDOT1HIrsGW886DbWNWcCmX5twLrAw=="
            ),
            TYPE,
            b"\xfb\xff\xbf>?",
        ),
        (
            enveloped("", TYPE, "gSggCAaTLTYyRH6FIDBem6meyIynsYy8RTHVzwx9tnTb7Bg/1jMWnuVgI/gffqmbsC2VX5/jHfkkDqsj7CDbDg=="),
            TYPE,
            b"",
        ),
        (
            enveloped(
                PAYLOAD,
                "application/vnd.exämple+json",
                "xmSk/ug66ysT7ayhkCIjhAq42zgZXSsEWuzUaNL7w2eGAdF/NU6/fRXPtmfN+5DNSAs5/i2lUnHjbbjPsu0tAw==",
            ),
            "application/vnd.exämple+json",
            STATEMENT,
        ),
        (enveloped(PAYLOAD, TYPE, SIG_B, SIG_A), TYPE, STATEMENT),
    ],
)
def test_published_envelopes_are_opened(envelope: dict[str, Any], kind: str, payload: bytes) -> None:
    assert open_envelope(envelope, A.public_key, kind) == payload


def test_the_published_key_makes_the_published_signature() -> None:
    envelope = sign_envelope(STATEMENT, TYPE, A)
    assert (envelope["payload"], envelope["signatures"][0]["sig"]) == (PAYLOAD, SIG_A)


def test_a_key_id_decides_nothing() -> None:
    envelope = sign_envelope(STATEMENT, TYPE, A)
    envelope["signatures"][0]["keyid"] = B.id
    assert open_envelope(envelope, A.public_key, TYPE) == STATEMENT


@pytest.mark.parametrize(
    ("envelope", "kind", "error"),
    [
        (enveloped(PAYLOAD, TYPE, SIG_B), TYPE, Denied),
        (enveloped("eHg="), TYPE, Denied),
        (enveloped(PAYLOAD, "application/other"), "application/other", Denied),
        (enveloped(), "application/other", Conflict),
        (enveloped(PAYLOAD, ""), "", Conflict),
        (enveloped(PAYLOAD, None), TYPE, Conflict),
        (enveloped("é"), TYPE, InvalidInput),
        (enveloped(None), TYPE, InvalidInput),
        (enveloped("a"), TYPE, InvalidInput),
        (enveloped(PAYLOAD, TYPE, None), TYPE, InvalidInput),
        (enveloped(PAYLOAD, TYPE, *[SIG_B] * 17), TYPE, InvalidInput),
        (enveloped(PAYLOAD, TYPE, ""), TYPE, Denied),
        ({"payload": PAYLOAD, "payloadType": TYPE}, TYPE, InvalidInput),
        ({"payload": PAYLOAD, "payloadType": TYPE, "signatures": []}, TYPE, InvalidInput),
        ({"payload": PAYLOAD, "payloadType": TYPE, "signatures": [SIG_A]}, TYPE, InvalidInput),
        ([], TYPE, InvalidInput),
        (None, TYPE, InvalidInput),
    ],
)
def test_what_is_not_well_signed_is_not_opened(envelope: Any, kind: str, error: type[FalajError]) -> None:
    with pytest.raises(error):
        open_envelope(envelope, A.public_key, kind)


def test_any_changed_byte_of_the_payload_is_denied() -> None:
    for at in range(len(STATEMENT)):
        changed = bytearray(STATEMENT)
        changed[at] ^= 1
        envelope = sign_envelope(bytes(changed), TYPE, B) | {"signatures": [{"sig": SIG_A}]}
        with pytest.raises(Denied):
            open_envelope(envelope, A.public_key, TYPE)
