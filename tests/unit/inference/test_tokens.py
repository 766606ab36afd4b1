"""Tokens: what an issuer signed opens, and nothing else does, whatever it says of itself."""

import base64
import hashlib
import hmac
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.adapters.local.signing import SigningKey
from falaj.adapters.local.tokens import jwk_of, kid_of, mint, publish
from falaj.core.actor import Actor
from falaj.core.errors import InvalidInput, MissingDependency, Unauthenticated
from falaj.inference.auth import Keyring, hmac_of
from falaj.inference.tokens import Issuer, JwtTokens, issuers_of

NOW = 1_800_000_000
PEPPER = b"p" * 32
CLAIMS = {
    "iss": "falaj/flights", "aud": "falaj/flights", "sub": "app", "roles": ["caller"], "jti": "t1",
    "iat": NOW, "nbf": NOW, "exp": NOW + 900,
}  # fmt: skip
KEY = SigningKey.generate()
PRIVATE = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
}
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def public_jwk(algorithm: str, private: Any = None, **changes: Any) -> dict[str, Any]:
    """As an issuer that nobody here wrote publishes it."""
    maker = jwt.get_algorithm_by_name(algorithm)
    return {**maker.to_jwk((private or PRIVATE[algorithm]).public_key(), as_dict=True), "kid": algorithm, **changes}


def write(path: Path, *keys: dict[str, Any]) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({"keys": keys}))
    draft.replace(path)


@pytest.fixture
def tokens(tmp_path: Path) -> JwtTokens:
    """The project's own issuer, and a company's."""
    own = Issuer("falaj/flights", "falaj/flights", publish(tmp_path / "own.jwks", KEY))
    write(tmp_path / "theirs.jwks", *map(public_jwk, PRIVATE))
    theirs = Issuer("https://id.example", "falaj", tmp_path / "theirs.jwks", "groups", {"ml-callers": "caller"})
    found = JwtTokens([own, theirs])
    found.look()
    return found


def theirs(algorithm: str = "ES256", key: Any = None, headers: dict[str, Any] | None = None, **changes: Any) -> bytes:
    claims = {**CLAIMS, "iss": "https://id.example", "aud": ["other", "falaj"], "groups": ["ml-callers", "operator"], **changes}
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None},
        PRIVATE[algorithm] if key is None else key,
        algorithm,
        {"kid": algorithm, **(headers or {})},
    ).encode()


def own(**changes: Any) -> bytes:
    return mint({name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}, KEY).encode()


def raw(header: bytes, body: bytes, sign: Callable[[bytes], bytes] = KEY.sign) -> bytes:
    text = f"{b64(header)}.{b64(body)}"
    return f"{text}.{b64(sign(text.encode()))}".encode()


HEADER = json.dumps({"alg": "EdDSA", "kid": kid_of(KEY.public_key)}).encode()
BODY = json.dumps(CLAIMS).encode()


def refused(tokens: JwtTokens, text: bytes, now: float = NOW) -> str:
    with pytest.raises(Unauthenticated) as caught:
        tokens.read(text, now)
    return str(caught.value)


def test_a_token_of_the_project_is_its_subject_with_its_roles(tokens: JwtTokens) -> None:
    token = tokens.read(own(), NOW)
    assert token.actor == Actor("app", "service", ("caller",))
    assert (token.id, token.issued, token.until) == ("t1", NOW, NOW + 930)


def test_the_key_set_is_what_other_libraries_read() -> None:
    public = jwt.PyJWK(jwk_of(KEY.public_key)).key
    unwatched = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    assert jwt.decode(own(), public, ["EdDSA"], audience="falaj/flights", options=unwatched) == CLAIMS  # type: ignore[arg-type]


def test_the_thumbprint_of_a_key_is_the_published_example() -> None:
    # RFC 8037, appendix A.3
    public = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert kid_of(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize("algorithm", list(PRIVATE))
def test_another_issuers_word_about_roles_is_mapped(tokens: JwtTokens, algorithm: str) -> None:
    assert tokens.read(theirs(algorithm), NOW).actor.roles == ("caller",)
    assert tokens.read(theirs(algorithm, groups="ml-callers operator"), NOW).actor.roles == ("caller",)
    assert tokens.read(theirs(algorithm, groups=["operator"]), NOW).actor.roles == ()
    assert tokens.read(theirs(algorithm, groups={"caller": 1}), NOW).actor.roles == ()


@pytest.mark.parametrize("missing", ["exp", "iss", "aud", "sub"])
def test_what_a_token_must_say_it_must_say(tokens: JwtTokens, missing: str) -> None:
    refused(tokens, own(**{missing: None}))


def test_a_token_says_when_it_begins_by_nbf_or_by_iat(tokens: JwtTokens) -> None:
    assert tokens.read(own(nbf=None), NOW).actor.name == "app"
    assert tokens.read(own(iat=None), NOW).actor.name == "app"
    assert "its beginning" in refused(tokens, own(nbf=None, iat=None))
    assert "not good yet" in refused(tokens, own(nbf=NOW + 100))
    assert "not good yet" in refused(tokens, own(iat=NOW + 100))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - 30},
        {"exp": NOW + 24 * 3600 + 31},
        {"exp": str(NOW + 900)},
        {"exp": True},
        {"exp": 1e300},
        {"exp": -1},
        {"nbf": "now"},
        {"iat": [NOW]},
        {"iss": "https://id.example"},
        {"iss": ["falaj/flights"]},
        {"aud": "falaj/other"},
        {"aud": []},
        {"aud": {"falaj/flights": 1}},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\nb"},
        {"sub": "x" * 201},
        {"cnf": {"x5t#S256": "x"}},
    ],
)
def test_a_token_that_says_something_else_is_refused(tokens: JwtTokens, changes: dict[str, Any]) -> None:
    refused(tokens, own(**changes))


def test_a_clock_may_be_half_a_minute_off(tokens: JwtTokens) -> None:
    assert tokens.read(own(exp=NOW - 29), NOW)
    assert tokens.read(own(iat=NOW + 29, nbf=NOW + 29), NOW)


# --- algorithms and keys ---


def test_a_token_without_a_signature_is_refused(tokens: JwtTokens) -> None:
    kid = kid_of(KEY.public_key)
    for name in ("none", "None", "NONE", "nOnE"):
        header = json.dumps({"alg": name, "kid": kid}).encode()
        for signature in (b"", b".", b"." + b64(b"x").encode()):
            refused(tokens, f"{b64(header)}.{b64(BODY)}".encode() + signature)


def test_a_public_key_is_no_shared_secret(tokens: JwtTokens) -> None:
    pems = [
        PRIVATE["RS256"].public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        json.dumps(public_jwk("RS256")).encode(),
        KEY.public_key,
    ]
    for secret in pems:
        for kid in ("RS256", kid_of(KEY.public_key)):
            header = json.dumps({"alg": "HS256", "kid": kid}).encode()
            refused(tokens, raw(header, BODY, lambda text, s=secret: hmac.digest(s, text, hashlib.sha256)))  # type: ignore[misc]


def test_the_algorithm_is_the_keys_and_not_the_tokens_word(tokens: JwtTokens) -> None:
    refused(tokens, theirs("ES256", headers={"kid": "RS256"}))
    refused(tokens, theirs("RS256", headers={"kid": "EdDSA"}))
    for other in ("RS384", "RS512", "PS256"):
        refused(tokens, jwt.encode({**CLAIMS, "iss": "https://id.example", "aud": "falaj"}, PRIVATE["RS256"], other,
                                   {"kid": "RS256"}).encode())  # fmt: skip


def test_a_key_that_comes_with_the_token_means_nothing(tokens: JwtTokens) -> None:
    mine = ec.generate_private_key(ec.SECP256R1())
    jwk = public_jwk("ES256", mine)
    for headers in ({"jwk": jwk}, {"jku": "https://evil.example/jwks"}, {"x5u": "https://evil.example"}, {"x5c": ["MIIB"]}):
        refused(tokens, theirs(key=mine, headers=headers))
        refused(tokens, theirs(key=mine, headers={**headers, "kid": jwk["x"]}))
        assert tokens.read(theirs(headers=headers), NOW).actor.name == "app"


@pytest.mark.parametrize(
    "kid", ["", "../../own.jwks", "/dev/null", "EdDSA\x00", "' OR 1=1 --", "a" * 4000, 0, None, ["ES256"], {"a": 1}, True]
)
def test_a_kid_is_a_name_in_the_issuers_file_and_nothing_else(tokens: JwtTokens, kid: Any) -> None:
    header = json.dumps({"alg": "EdDSA", "kid": kid}).encode()
    refused(tokens, raw(header, BODY))


def test_one_issuer_cannot_speak_for_another(tokens: JwtTokens, tmp_path: Path) -> None:
    refused(tokens, theirs(iss="falaj/flights", aud="falaj/flights"))
    write(tmp_path / "theirs.jwks", public_jwk("EdDSA", kid=kid_of(KEY.public_key)))
    assert tokens.look()
    refused(tokens, theirs("EdDSA", headers={"kid": kid_of(KEY.public_key)}))
    assert tokens.read(own(), NOW).actor.name == "app"


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"b64": False}, {"zip": "DEF"}, {"typ": "dpop+jwt"}, {"typ": 1}])
def test_what_would_change_the_meaning_of_a_token_is_refused(tokens: JwtTokens, header: dict[str, Any]) -> None:
    refused(tokens, raw(json.dumps({"alg": "EdDSA", "kid": kid_of(KEY.public_key), **header}).encode(), BODY))


def test_a_name_that_stands_twice_is_refused_though_it_was_signed(tokens: JwtTokens) -> None:
    refused(tokens, raw(HEADER, BODY[:-1] + b',"roles":["operator"]}'))
    refused(tokens, raw(HEADER[:-1] + b',"alg":"none"}', BODY))
    assert tokens.read(raw(HEADER, BODY), NOW)


def test_what_is_huge_deep_or_no_json_is_refused(tokens: JwtTokens) -> None:
    deep = b'{"a":' + b"[" * 5000
    for header, body in (
        (deep, BODY), (HEADER, deep), (HEADER, BODY[:-1] + b',"x":"' + b"y" * 8192 + b'"}'), (b"\xff", BODY), (HEADER, b"\xff"),
        (b"[]", BODY), (b"null", BODY), (HEADER, b"[]"), (HEADER, b"7"), (HEADER, BODY[:-1] + b',"x":NaN}'),
        (HEADER, BODY[:-1] + b',"exp":' + b"9" * 5000 + b"}"),
    ):  # fmt: skip
        refused(tokens, raw(header, body))
    for text in (b"..", b"a.b", b"a.b.c.d", b".a.b", b"a b.c.d", own() + b"=", own() + b"\n", b"." * 10_000):
        refused(tokens, text)


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "oct", "k": "c2VjcmV0"},
        public_jwk("ES256", use="enc"),
        public_jwk("ES256", alg="RS256"),
        public_jwk("ES256", crv="P-384"),
        public_jwk("ES256", x=7),
        public_jwk("ES256", d="secret"),
        public_jwk("RS256", WEAK),
        {"kty": ["EC"], "crv": {}},
    ],
)
def test_a_key_that_is_secret_weak_or_for_something_else_checks_nothing(tokens: JwtTokens, tmp_path: Path, jwk: Any) -> None:
    write(tmp_path / "theirs.jwks", {**jwk, "kid": "ES256"}, {**jwk, "kid": "RS256"})
    assert tokens.look()
    refused(tokens, theirs())
    # Signed by hand: the library that plays the issuer warns of a key this short.
    refused(
        tokens, raw(b'{"alg":"RS256","kid":"RS256"}', BODY, lambda text: WEAK.sign(text, padding.PKCS1v15(), hashes.SHA256()))
    )


def test_a_kid_that_stands_twice_checks_nothing(tokens: JwtTokens, tmp_path: Path) -> None:
    write(tmp_path / "theirs.jwks", public_jwk("ES256"), public_jwk("RS256"), public_jwk("EdDSA", kid="ES256"))
    assert tokens.look()
    refused(tokens, theirs())
    assert tokens.read(theirs("RS256"), NOW)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"keys": 7}', '{"keys": [7, null, {}, {"kid": 1}]}', "[" * 9000])
def test_a_key_set_that_cannot_be_read_opens_nothing(tokens: JwtTokens, tmp_path: Path, content: str) -> None:
    (tmp_path / "theirs.jwks").write_text(content)
    assert tokens.look()
    refused(tokens, theirs())
    assert tokens.read(own(), NOW)


# --- with the keyring ---


def ring(tmp_path: Path, tokens: JwtTokens, clock: list[float], body: Any = None) -> Keyring:
    (tmp_path / "keys.json").write_text(json.dumps(body or {}))
    keyring = Keyring(tmp_path / "keys.json", PEPPER, tokens, lambda: clock[0])
    keyring.look()
    return keyring


def test_a_token_is_verified_once_and_then_remembered_until_it_is_over(
    tmp_path: Path, tokens: JwtTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [float(NOW)]
    keyring, text, read = ring(tmp_path, tokens, clock), own(), []
    real = JwtTokens.read
    monkeypatch.setattr(JwtTokens, "read", lambda *args: read.append(1) or real(*args))
    for _ in range(5):
        keyring.look()
        assert keyring.actor(text).name == "app"
    assert len(read) == 1
    clock[0] += 931
    keyring.look()
    with pytest.raises(Unauthenticated, match="over"):
        keyring.actor(text)


def taken_back(text: str, at: float = NOW) -> dict[str, Any]:
    return {f"revoked:{hmac_of(PEPPER, text.encode())}": {"at": at}}


@pytest.mark.parametrize(
    "revoked", [taken_back("jti:t1"), taken_back("jti:t1", 0), taken_back("sub:app"), taken_back("sub:app", NOW + 5)]
)
def test_a_token_that_is_taken_back_is_refused_on_the_very_next_call(tmp_path: Path, tokens: JwtTokens, revoked: Any) -> None:
    keyring, text = ring(tmp_path, tokens, [NOW]), own()
    assert keyring.actor(text)
    (tmp_path / "keys.json").write_text(json.dumps(revoked))
    keyring.look()
    with pytest.raises(Unauthenticated, match="revoked"):
        keyring.actor(text)


def test_a_subject_that_was_shut_out_may_come_back_with_a_later_token(tmp_path: Path, tokens: JwtTokens) -> None:
    keyring = ring(tmp_path, tokens, [NOW], {**taken_back("sub:app", NOW - 1), **taken_back("jti:other"), **taken_back("jti:")})
    assert keyring.actor(own()).name == "app"
    assert keyring.actor(own(jti=None)).name == "app"


def test_a_key_that_leaves_the_key_set_takes_its_tokens_with_it(tmp_path: Path, tokens: JwtTokens) -> None:
    clock = [float(NOW)]
    keyring, text = ring(tmp_path, tokens, clock), theirs()
    assert keyring.actor(text)
    write(tmp_path / "theirs.jwks", public_jwk("RS256"))
    clock[0] += 1
    keyring.look()
    with pytest.raises(Unauthenticated, match="names no key"):
        keyring.actor(text)


def test_keys_that_nobody_looked_at_for_too_long_open_nothing_also_to_who_is_remembered(tmp_path: Path) -> None:
    """Whoever keeps them fresh may be away while the issuer withdraws one."""
    path = tmp_path / "theirs.jwks"
    write(path, public_jwk("ES256"))
    os.utime(path, (NOW, NOW))
    company = Issuer("https://id.example", "falaj", path, "groups", {"ml-callers": "caller"}, oldest_s=600.0)
    clock = [float(NOW)]
    keyring, text = ring(tmp_path, JwtTokens([company]), clock), theirs()
    assert keyring.actor(text).roles == ("caller",)
    clock[0] = NOW + 599.0
    keyring.look()
    assert keyring.actor(text)
    clock[0] = NOW + 600.0
    keyring.look()
    with pytest.raises(Unauthenticated, match="not looked at for too long"):
        keyring.actor(text)
    os.utime(path, (NOW + 600, NOW + 600))
    clock[0] += 1
    keyring.look()
    assert keyring.actor(text), "they are believed again once somebody looked"


def test_a_clock_that_is_set_back_lets_no_token_live_longer(tmp_path: Path, tokens: JwtTokens) -> None:
    clock = [float(NOW)]
    keyring, text = ring(tmp_path, tokens, clock), own()
    assert keyring.actor(text)
    clock[0] = NOW - 3600
    keyring.look()
    with pytest.raises(Unauthenticated, match="not good yet"):
        keyring.actor(text)
    clock[0] = NOW + 929
    keyring.look()
    assert keyring.actor(text)
    clock[0] = NOW + 930
    keyring.look()
    with pytest.raises(Unauthenticated, match="over"):
        keyring.actor(text)


def test_without_issuers_no_token_opens_anything(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{}")
    keyring = Keyring(tmp_path / "keys.json", PEPPER)
    keyring.look()
    with pytest.raises(Unauthenticated, match="tokens are not taken"):
        keyring.actor(own())


def test_without_the_library_a_token_says_what_is_missing_and_keys_go_on(
    tmp_path: Path, tokens: JwtTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(MissingDependency) as caught:
        tokens.read(own(), NOW)
    assert "falaj[tokens]" in caught.value.hint
    keyring = ring(tmp_path, tokens, [NOW], {hmac_of(PEPPER, b"good"): {"name": "app", "roles": ["caller"]}})
    assert keyring.actor(b"good").name == "app"


# --- the settings ---


def test_an_issuer_that_is_named_by_halves_is_refused() -> None:
    assert issuers_of(None, "", "", "", ("", "")) == []
    for given_ in (("i", "", ""), ("", "a", ""), ("i", "a", ""), ("", "", "j")):
        with pytest.raises(InvalidInput, match="all three"):
            issuers_of(None, *given_, ("", "a=caller"))


@pytest.mark.parametrize("table", ["", "caller", "a=", "=caller", "a=Caller", "a=caller b"])
def test_what_anothers_word_means_has_to_be_said(table: str) -> None:
    with pytest.raises(InvalidInput, match="serve_tokens_roles"):
        issuers_of(None, "i", "a", "j", ("", table))
    assert issuers_of(None, "i", "a", "j", ("groups", "x=caller, y=operator"))[0].roles == {"x": "caller", "y": "operator"}


# --- mutations ---


@settings(max_examples=400, deadline=None)
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255), how=st.sampled_from(["replace", "insert", "remove"]))
def test_a_token_that_was_touched_anywhere_opens_nothing_more(tmp_path_factory: Any, place: int, byte: int, how: str) -> None:
    text, tokens = own(), _shared(tmp_path_factory)
    place %= len(text)
    middle = {"replace": bytes([byte]), "insert": bytes([byte]) + text[place : place + 1], "remove": b""}[how]
    touched = text[:place] + middle + text[place + 1 :]
    try:
        found = tokens.read(touched, NOW)
    except Unauthenticated:
        return
    # Only spare bits of the last character of the signature may differ (64 bytes are 86 characters and 4 bits).
    assert touched[:-1] == text[:-1]
    assert found.actor == Actor("app", "service", ("caller",))


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda inner: st.lists(
    inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8)  # fmt: skip
NAMES = st.sampled_from(
    ["alg", "kid", "typ", "crit", "jwk", "jku", "iss", "aud", "sub", "exp", "nbf", "iat", "jti", "roles", "cnf"]
)


@settings(max_examples=100, deadline=None)
@given(header=st.dictionaries(NAMES, JSON, max_size=4), body=st.dictionaries(NAMES, JSON, max_size=6))
def test_whatever_is_signed_is_read_or_refused(tmp_path_factory: Any, header: dict[str, Any], body: dict[str, Any]) -> None:
    """Also from an issuer that is trusted and mad: nothing but a token or Unauthenticated comes out."""
    tokens = _shared(tmp_path_factory)
    head = json.dumps({"alg": "EdDSA", "kid": kid_of(KEY.public_key), **header}).encode()
    try:
        token = tokens.read(raw(head, json.dumps({**CLAIMS, **body}).encode()), NOW)
    except Unauthenticated:
        return
    assert token.until > NOW
    assert all(isinstance(role, str) for role in token.actor.roles)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.from_regex(rb"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}", fullmatch=True))
def test_anything_else_is_refused(tmp_path_factory: Any, text: bytes) -> None:
    refused(_shared(tmp_path_factory), text)


_SHARED: list[JwtTokens] = []


def _shared(factory: Any) -> JwtTokens:
    if not _SHARED:
        _SHARED.append(JwtTokens([Issuer("falaj/flights", "falaj/flights", publish(factory.mktemp("t") / "own.jwks", KEY))]))
        _SHARED[0].look()
    return _SHARED[0]
