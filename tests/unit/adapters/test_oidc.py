"""A real provider: whoever logs in there is known here, and nothing that it did not sign for this place opens anything."""

from __future__ import annotations

import contextlib
import hmac
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk, jws

from falaj.adapters.local.policy import ROLES as KNOWN
from falaj.adapters.local.reference import secret
from falaj.adapters.oidc import provider as limits
from falaj.adapters.oidc.fetch import Fetch
from falaj.adapters.oidc.identity import OidcIdentity
from falaj.adapters.oidc.login import Login
from falaj.adapters.oidc.pinned import Pinned, pinned_of, refuse_open
from falaj.config import TABLE
from falaj.core.actor import Actor
from falaj.core.errors import FalajError, InvalidInput, NotFound, Unauthenticated, Unavailable
from falaj.ports.identity import Credential
from tests.kits.oidc import AUDIENCE, SECRET, Op, oidc_provider, part, private_keys

REDIRECT = "http://127.0.0.1:5/callback"


def pinned(op: Op, **others: Any) -> Pinned:
    given = {setting.name: setting.default for setting in TABLE} | op.settings(**others)
    found = pinned_of(given.__getitem__, secret, KNOWN)
    assert found is not None
    return found


def identity(op: Op, folder: Path, now: Callable[[], float] = time.time, **others: Any) -> OidcIdentity:
    return OidcIdentity(pinned=pinned(op, **others), folder=folder, now=now, is_revoked=lambda *_: False)


def test_a_person_logs_in_by_code_and_pkce_and_is_known_by_the_access_token(op: Op, tmp_path: Path) -> None:
    known = identity(op, tmp_path)
    flow = Login(known.provider)
    begun = flow.begin(REDIRECT)
    session = flow.finish(begun, op.browse(begun.address, "noura"))
    assert (session.name, session.display, session.refresh) == ("noura", "noura of the tests", "")
    assert known.authenticate(Credential(session.access)) == Actor("noura", "person", ("approver",))
    for hidden in (session.access, begun.state, begun.nonce, begun.verifier):
        assert hidden not in repr(session) + repr(Credential(session.access))
    assert begun.verifier not in repr(begun)
    assert begun.verifier not in begun.address


def test_a_client_with_a_secret_shows_it_and_the_secret_is_nowhere_else(
    op: Op, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OIDC_SECRET", SECRET)
    known = identity(op, tmp_path, client="falaj-secret", client_secret="env:OIDC_SECRET")
    flow = Login(known.provider)
    begun = flow.begin(REDIRECT)
    assert flow.finish(begun, op.browse(begun.address, "lina")).name == "lina"
    assert SECRET not in repr(known.provider.pinned) + "".join(path.read_text() for path in tmp_path.glob("*"))
    monkeypatch.setenv("OIDC_SECRET", "another one")
    wrong = Login(identity(op, tmp_path, client="falaj-secret", client_secret="env:OIDC_SECRET").provider)
    begun = wrong.begin(REDIRECT)
    with pytest.raises(Unauthenticated, match="invalid_client"):
        wrong.finish(begun, op.browse(begun.address, "lina"))


def test_a_code_opens_once_and_only_for_whoever_began(op: Op, tmp_path: Path) -> None:
    flow = Login(identity(op, tmp_path).provider)
    begun = flow.begin(REDIRECT)
    answer = op.browse(begun.address, "noura")
    with pytest.raises(Unauthenticated, match="invalid_grant"):
        flow.finish(replace(begun, verifier="v" * 43), answer)
    begun = flow.begin(REDIRECT)
    answer = op.browse(begun.address, "noura")
    flow.finish(begun, answer)
    with pytest.raises(Unauthenticated, match="invalid_grant"):
        flow.finish(begun, answer)
    begun = flow.begin(REDIRECT)
    with pytest.raises(Unauthenticated, match="invalid_grant"):
        flow.finish(replace(begun, redirect="http://127.0.0.1:6/callback"), op.browse(begun.address, "noura"))


def test_what_comes_back_must_answer_this_very_login(op: Op, tmp_path: Path) -> None:
    flow = Login(identity(op, tmp_path).provider)
    begun = flow.begin(REDIRECT)
    answer = op.browse(begun.address, "noura")
    for wrong, why in (
        (answer | {"state": "x"}, "state"),
        ({name: value for name, value in answer.items() if name != "state"}, "state"),
        (answer | {"iss": "http://127.0.0.1:1"}, "RFC 9207"),
        ({name: value for name, value in answer.items() if name != "iss"}, "RFC 9207"),
        ({"state": begun.state, "iss": op.issuer, "error": "access_denied"}, "access_denied"),
        ({"state": begun.state, "iss": op.issuer, "error": "<b>\n"}, "does not say why"),
    ):
        with pytest.raises(Unauthenticated, match=why):
            flow.finish(begun, wrong)
    with pytest.raises(Unauthenticated, match="nonce"):
        flow.finish(replace(begun, nonce="another"), answer)
    refused = flow.begin(REDIRECT)
    with pytest.raises(Unauthenticated, match="access_denied"):
        flow.finish(refused, op.browse(refused.address, "nobody"))


def test_a_login_is_renewed_by_a_refresh_token_that_is_good_once(op: Op, tmp_path: Path) -> None:
    known = identity(op, tmp_path, scope="openid profile offline_access")
    flow = Login(known.provider)
    begun = flow.begin(REDIRECT)
    first = flow.finish(begun, op.browse(begun.address, "noura"))
    second = flow.renew(first)
    assert (second.name, second.display) == ("noura", first.display)
    assert second.refresh not in ("", first.refresh)
    assert second.access != first.access
    with pytest.raises(Unauthenticated, match="invalid_grant"):
        flow.renew(first)
    with pytest.raises(Unauthenticated, match="invalid_grant"):
        flow.renew(second)  # whoever uses an old one twice ends the whole line
    begun = flow.begin(REDIRECT)
    third = flow.finish(begun, op.browse(begun.address, "noura"))
    assert flow.end(third)
    with pytest.raises(Unauthenticated, match="invalid_grant"):
        flow.renew(third)


def test_a_program_of_the_provider_is_no_person_and_comes_in_only_where_it_is_named(op: Op, tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated, match="another client"):
        identity(op, tmp_path).authenticate(Credential(op.of_program()))
    found = identity(op, tmp_path, clients="batch").authenticate(Credential(op.of_program()))
    assert found == Actor("batch", "service", ("caller",))
    person_by_it = op.signed(op.claims(client_id="batch"))
    known = identity(op, tmp_path, clients="batch").authenticate(Credential(person_by_it))
    assert known is not None
    assert known.kind == "service"


def unsigned(op: Op, **head: Any) -> str:
    given = {"alg": "none", "typ": "at+jwt", "kid": "rsa-1", **head}
    return f"{part(json.dumps(given).encode())}.{part(json.dumps(op.claims()).encode())}."


def confused(op: Op) -> str:
    """HS256, with the provider's public key as the secret."""
    public = jwk.import_key(dict(op.keys["rsa-1"])).as_pem(private=False)
    head = part(json.dumps({"alg": "HS256", "typ": "at+jwt", "kid": "rsa-1"}).encode())
    signed = f"{head}.{part(json.dumps(op.claims()).encode())}"
    return f"{signed}.{part(hmac.digest(public, signed.encode(), 'sha256'))}"


def _head(kid: str | None) -> str:
    body = {"alg": "RS256", "typ": "at+jwt"} | ({"kid": kid} if kid else {})
    return part(json.dumps(body).encode())


def stranger(op: Op) -> str:
    key = jwk.generate_key("RSA", 2048)
    header = {"alg": "RS256", "typ": "at+jwt", "kid": "rsa-1"}
    return jws.serialize_compact(header, json.dumps(op.claims()).encode(), key, algorithms=["RS256"])


def _crit(op: Op) -> str:
    head = {"alg": "RS256", "typ": "at+jwt", "kid": "rsa-1", "crit": ["exp"], "exp": 1}
    return ".".join((part(json.dumps(head).encode()), *op.signed(op.claims()).split(".")[1:]))


NOW = int(time.time())
WRONG: Mapping[str, tuple[Callable[[Op], str], str]] = {
    "alg none": (unsigned, "no signed JWT"),
    "alg none with a signature": (lambda op: unsigned(op) + "AAAA", "a way that is not taken"),
    "HS256 with the public key": (confused, "a way that is not taken"),
    "another of the key's family that it is not for": (lambda op: op.signed(op.claims(), alg="PS256"), "a way that is not taken"),
    "kid unknown": (
        lambda op: op.signed(op.claims()).replace(op.signed(op.claims()).split(".")[0], _head("gone")),
        "names no key",
    ),
    "no kid": (lambda op: op.signed(op.claims()).replace(op.signed(op.claims()).split(".")[0], _head(None)), "names no key"),
    "signed by a stranger": (stranger, "not valid here"),
    "another key's name": (lambda op: op.signed(op.claims(), "ec-1", kid="ed-1"), "a way that is not taken"),
    "a key of its own inside": (lambda op: op.signed(op.claims(), jwk={"kty": "oct"}), "a way that is not taken"),
    "crit": (_crit, "a way that is not taken"),
    "another issuer": (lambda op: op.signed(op.claims(iss=op.issuer + "/")), "another issuer"),
    "another audience": (lambda op: op.signed(op.claims(aud="urn:other")), "meant for somebody else"),
    "audience that begins alike": (lambda op: op.signed(op.claims(aud=AUDIENCE + ":more")), "meant for somebody else"),
    "no audience": (lambda op: op.signed(op.claims(aud=None)), "meant for somebody else"),
    "another client": (lambda op: op.signed(op.claims(client_id="else")), "another client"),
    "no client": (lambda op: op.signed(op.claims(client_id=None)), "another client"),
    "azp of another client": (lambda op: op.signed(op.claims(azp="else")), "another client"),
    "over": (lambda op: op.signed(op.claims(iat=NOW - 900, exp=NOW - 600)), "is over"),
    "not yet": (lambda op: op.signed(op.claims(nbf=NOW + 600)), "not good yet"),
    "issued tomorrow": (lambda op: op.signed(op.claims(iat=NOW + 86400, exp=NOW + 86500)), "not good yet"),
    "good for too long": (lambda op: op.signed(op.claims(exp=NOW + 86400)), "more than 10 min"),
    "no end": (lambda op: op.signed(op.claims(exp=None)), "lacks"),
    "no beginning": (lambda op: op.signed(op.claims(iat=None)), "lacks"),
    "no subject": (lambda op: op.signed(op.claims(sub=None)), "lacks"),
    "a subject that is no name": (lambda op: op.signed(op.claims(sub="a\nb")), "lacks"),
    "an end that is no time": (lambda op: op.signed(op.claims(exp=True)), "no time"),
    "bound to a sender": (lambda op: op.signed(op.claims(cnf={"jkt": "x"})), "bound to its sender"),
    "an ID token": (lambda op: op.signed(op.claims(aud="falaj"), typ="JWT"), "no access token"),
    "no typ": (lambda op: op.signed(op.claims(), typ=None), "no access token"),
    "a nonce in it": (lambda op: op.signed(op.claims(nonce="n")), "ID token"),
    "a name that stands twice": (
        lambda op: op.signed(json.dumps(op.claims())[:-1].encode() + b',"groups":["operations"]}'),
        "cannot be read",
    ),
    "too long": (lambda op: op.signed(op.claims(filler="x" * 20_000)), "no signed JWT"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_token_with_one_thing_wrong_opens_nothing_and_is_not_told(op: Op, tmp_path: Path, how: str) -> None:
    make, why = WRONG[how]
    text = make(op)
    with pytest.raises(Unauthenticated, match=why) as caught:
        identity(op, tmp_path).authenticate(Credential(text))
    assert "noura" not in str(caught.value)
    assert text not in str(caught.value)


@pytest.mark.parametrize("kid", ["rsa-1", "ec-1", "ed-1"])
def test_each_kind_of_key_is_taken_with_its_own_algorithm(op: Op, tmp_path: Path, kid: str) -> None:
    found = identity(op, tmp_path).authenticate(Credential(op.signed(op.claims(), kid)))
    assert found == Actor("noura", "person", ("approver",))


def test_groups_that_nobody_mapped_give_no_role_and_a_claim_may_lie_deeper(op: Op, tmp_path: Path) -> None:
    deep = identity(op, tmp_path, claim="realm_access.roles")
    for claims, roles in (
        ({"groups": ["operator", "approver", 7, None]}, ()),
        ({"groups": "risk science"}, ("approver", "data_scientist")),
        ({"groups": {"risk": 1}}, ()),
        ({"groups": None}, ()),
    ):
        found = identity(op, tmp_path).authenticate(Credential(op.signed(op.claims(**claims))))
        assert found is not None
        assert found.roles == roles
    found = deep.authenticate(Credential(op.signed(op.claims(realm_access={"roles": ["risk"]}))))
    assert found is not None
    assert found.roles == ("approver",)


def test_a_provider_that_does_not_know_rfc_9068_is_taken_where_that_is_said_but_never_its_id_tokens(
    op: Op, tmp_path: Path
) -> None:
    plain = identity(op, tmp_path, type="jwt")
    assert plain.authenticate(Credential(op.signed(op.claims(), typ="JWT"))) is not None
    flow = Login(plain.provider)
    begun = flow.begin(REDIRECT)
    body = flow._ask(_form(op.browse(begun.address, "noura")["code"], begun.verifier))
    with pytest.raises(Unauthenticated, match=r"ID token|somebody else"):
        plain.authenticate(Credential(str(body["id_token"])))


def _form(code: str, verifier: str) -> str:
    from urllib.parse import urlencode

    given = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": verifier}
    return urlencode({**given, "resource": AUDIENCE})


def test_a_token_of_another_provider_opens_nothing_even_where_it_signs_with_the_same_kid(op: Op, tmp_path: Path) -> None:
    with oidc_provider() as other:
        text = other.signed(other.claims())
        with pytest.raises(Unauthenticated, match="not valid here"):
            identity(op, tmp_path).authenticate(Credential(text))
        assert identity(other, tmp_path).authenticate(Credential(text)) is not None  # what was kept of one is not the other's


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def test_while_the_provider_is_away_its_keys_are_believed_for_a_while_and_then_nobody_is_let_in(op: Op, tmp_path: Path) -> None:
    clock = Clock()
    known = identity(op, tmp_path, clock)
    known.provider.fetch = Fetch(within_s=0.6)
    assert known.authenticate(Credential(op.signed(op.claims()))) is not None
    with op.away():
        clock.ahead = limits.FRESH_S + 1
        later = int(clock())
        assert known.authenticate(Credential(op.signed(op.claims(iat=later, exp=later + 300)))) is not None
        with pytest.raises(Unavailable):  # it may be a new key, but nobody can be asked
            known.authenticate(Credential(op.signed(op.claims(iat=later, exp=later + 300)).replace(*_other_kid(op))))
        clock.ahead = limits.OLDEST_S + 1
        later = int(clock())
        with pytest.raises(Unavailable, match="cannot be asked"):
            known.authenticate(Credential(op.signed(op.claims(iat=later, exp=later + 300))))
        fresh = identity(op, tmp_path / "none", clock)
        (tmp_path / "none").mkdir()
        fresh.provider.fetch = Fetch(within_s=0.6)
        with pytest.raises(Unavailable):
            fresh.authenticate(Credential(op.signed(op.claims())))
    clock.ahead += limits.PAUSE_S + 1
    later = int(clock())
    assert known.authenticate(Credential(op.signed(op.claims(iat=later, exp=later + 300)))) is not None


def _other_kid(op: Op) -> tuple[str, str]:
    return op.signed(b"{}").split(".")[0], _head("rotated")


def test_keys_that_nobody_knows_make_no_more_than_one_question_in_a_while(tmp_path: Path, op: Op) -> None:
    stands = [time.time()]
    known = identity(op, tmp_path, lambda: stands[0])
    asked: list[str] = []
    rest = op.signed(op.claims()).partition(".")[2]

    class Counting(Fetch):
        def get(self, url: str) -> Mapping[str, Any]:
            asked.append(url)
            return super().get(url)

    known.provider.fetch = Counting()
    for n in range(50):
        with pytest.raises(Unauthenticated, match="names no key"):
            known.authenticate(Credential(f"{_head(f'k{n}')}.{rest}"))
    assert len(asked) == 2  # its description and its keys
    stands[0] += limits.PAUSE_S + 1
    with pytest.raises(Unauthenticated):
        known.authenticate(Credential(f"{_head('k')}.{rest}"))
    assert len(asked) == 4


def test_a_key_that_the_provider_rotated_in_is_found_and_one_that_it_took_away_is_not_believed(tmp_path: Path) -> None:
    with oidc_provider() as before:
        keys, port = dict(before.keys), int(before.issuer.rpartition(":")[2])
        clock = Clock()
        known = identity(before, tmp_path, clock)
        old = before.signed(before.claims())
        assert known.authenticate(Credential(old)) is not None
    fresh = {f"new-{kid}": {**body, "kid": f"new-{kid}"} for kid, body in private_keys().items()}
    assert keys.keys().isdisjoint(fresh)
    with oidc_provider(keys=fresh, port=port) as after:
        assert after.issuer == before.issuer
        clock.ahead = limits.PAUSE_S + 1
        assert known.authenticate(Credential(after.signed(after.claims(), "new-rsa-1"))) is not None
        with pytest.raises(Unauthenticated):
            known.authenticate(Credential(old))


@contextlib.contextmanager
def documents(answers: Mapping[str, Callable[[http.server.BaseHTTPRequestHandler], None]]) -> Iterator[str]:
    """A server on loopback that says exactly what a test wants said."""

    class Saying(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                answers[self.path](self)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Saying)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def says(body: bytes, status: int = 200, **headers: str) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def drips(request: http.server.BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    for _ in range(200):
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.05)


def drips_its_head(request: http.server.BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(200):
        request.wfile.write(b"x")
        request.wfile.flush()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (says(b'{"keys": [' + b" " * 400_000 + b"]}"), "too large"),
        (drips, "too large or too slow|does not answer"),
        (drips_its_head, "does not answer"),
        (says(b"", 302, Location="http://169.254.169.254/latest"), "answered 302"),
        (says(b"<html>"), "no JSON"),
        (says(b"[]"), "no object"),
        (says(b'{"keys":[],"keys":[]}'), "no JSON"),
        (says(b'{"keys": []}'), "no key that is taken"),
        (says(b'{"keys": [{"kty":"oct","k":"c2VjcmV0","kid":"a"}]}'), "no key that is taken"),
        (says(b"[" * 100_000), "no JSON"),
        (says(b"{}", 500), "answered 500"),
    ],
)
def test_keys_that_are_too_large_too_slow_elsewhere_or_no_keys_let_nobody_in(
    tmp_path: Path, answer: Callable[[http.server.BaseHTTPRequestHandler], None], why: str
) -> None:
    told: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {"/keys": answer}
    with documents(told) as url:
        about = {"issuer": url, "authorization_endpoint": url + "/a", "token_endpoint": url + "/t", "jwks_uri": url + "/keys"}
        told["/.well-known/openid-configuration"] = says(json.dumps(about).encode())
        pin = Pinned(url, "falaj", AUDIENCE, {"risk": "approver"})
        known = OidcIdentity(pinned=pin, folder=tmp_path, now=time.time, is_revoked=lambda *_: False)
        known.provider.fetch = Fetch(within_s=0.9)
        with pytest.raises(Unavailable, match=why):
            known.provider.refresh()
        with pytest.raises(Unavailable):
            known.authenticate(Credential(f"{_head('a')}.{_head('b')}.AAAA"))
        assert not list(tmp_path.glob("*"))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"issuer": "https://other.example"}, "another name"),
        ({"jwks_uri": "http://id.example/keys"}, "no address"),
        ({"token_endpoint": "file:///etc/passwd"}, "no address"),
        ({"authorization_endpoint": None}, "no address"),
        ({"revocation_endpoint": "http://user:hush@127.0.0.1/"}, "no address"),
    ],
)
def test_a_description_that_leads_elsewhere_is_not_followed(tmp_path: Path, changed: dict[str, Any], why: str) -> None:
    told: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {}
    with documents(told) as url:
        about = {"issuer": url, "authorization_endpoint": url + "/a", "token_endpoint": url + "/t", "jwks_uri": url + "/keys"}
        told["/.well-known/openid-configuration"] = says(json.dumps(about | changed).encode())
        known = OidcIdentity(
            pinned=Pinned(url, "falaj", AUDIENCE, {}), folder=tmp_path, now=time.time, is_revoked=lambda *_: False
        )
        with pytest.raises(Unavailable, match=why) as caught:
            known.provider.refresh()
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"issuer": "http://id.example"}, InvalidInput),
        ({"issuer": "https://user:hush@id.example"}, InvalidInput),
        ({"issuer": "id.example"}, InvalidInput),
        ({"issuer": "https://[/"}, InvalidInput),
        ({"issuer": ""}, InvalidInput),
        ({"client": ""}, InvalidInput),
        ({"audience": ""}, InvalidInput),
        ({"roles": ""}, InvalidInput),
        ({"roles": "risk"}, InvalidInput),
        ({"roles": "=approver"}, InvalidInput),
        ({"roles": "risk=approvers"}, NotFound),
        ({"scope": "profile"}, InvalidInput),
        ({"longest": "3d"}, InvalidInput),
        ({"longest": "1s"}, InvalidInput),
        ({"client_secret": "hush"}, InvalidInput),
    ],
)
def test_settings_of_a_login_that_do_not_fit_together_are_refused(given: dict[str, Any], kind: type[FalajError]) -> None:
    good = {"issuer": "https://id.example", "client": "falaj", "audience": "falaj", "roles": "risk=approver"}
    values = {setting.name: setting.default for setting in TABLE}
    values |= {f"oidc_{name}": value for name, value in (good | given).items()}
    with pytest.raises(kind) as caught:
        pinned_of(values.__getitem__, secret, KNOWN)
    assert "hush" not in str(caught.value)


def test_without_an_issuer_there_is_no_provider() -> None:
    assert pinned_of({setting.name: setting.default for setting in TABLE}.__getitem__, secret, KNOWN) is None
    refuse_open("x", "http://[::1]:80/a")
