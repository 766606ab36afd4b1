"""A real endpoint behind its doors: encryption, certificates, tokens, traces and deadlines."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.flights.replay import Client
from falaj.adapters.local.authority import Authority
from falaj.adapters.local.signing import open_key
from falaj.adapters.local.tokens import mint, publish
from falaj.core.errors import Unavailable
from falaj.inference.auth import hmac_of
from tests.kits.collector import collecting, values
from tests.kits.doors import NOW, client_pair, connected
from tests.kits.endpoint import REQUEST, Installation

pytestmark = pytest.mark.slow
ROUTE = "/v1/models/delay:predict"
TENSOR = {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [700.0, 1.0, 50.0, 5.0]}]}
AT = {"at": "2013-05-01T09:30:00Z"}
Open = Callable[..., Installation]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Open]:
    """An endpoint with these settings more."""
    opened: list[Installation] = []

    def start(*, is_encrypted: bool = False, **options: Any) -> Installation:
        found = Installation(tmp_path, {"clock": "replay", **options}, is_encrypted)
        opened.append(found)
        found.key("app", "caller")
        found.host.serve(found.wanted(), found.keys)
        return found

    yield start
    for one in opened:
        one.close()


def port_of(place: Installation) -> int:
    return int(place.url.rpartition(":")[2])


# --- encryption ---


def test_an_encrypted_endpoint_answers_who_trusts_its_authority_and_nobody_in_clear(place: Open) -> None:
    endpoint = place(is_encrypted=True)
    key = endpoint.key("second", "caller")
    endpoint.host.allow(endpoint.keys)
    assert endpoint.url.startswith("https://127.0.0.1:")
    with endpoint.client(key) as client:
        assert client.post(ROUTE, json=REQUEST).status_code == 200
        big = {"requests": [REQUEST] * 256, "id": "x" * 100}
        assert len(client.post(ROUTE, json=big).json()["predictions"]) == 256
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"{endpoint.url}/v2/health/live", trust_env=False)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://127.0.0.1:{port_of(endpoint)}/v2/health/live", trust_env=False)


def test_a_renewed_certificate_is_shown_without_losing_a_connection(place: Open) -> None:
    endpoint = place(is_encrypted=True)
    key = endpoint.key("second", "caller")
    endpoint.host.allow(endpoint.keys)
    context, path = endpoint.trust(), endpoint.folder / "service.pem"

    def serial() -> Any:
        with connected(port_of(endpoint), context) as connection:
            return (connection.getpeercert() or {})["serialNumber"]

    before = serial()
    with endpoint.client(key) as client:
        assert client.post(ROUTE, json=REQUEST).status_code == 200
        pid = endpoint.host.look("delay").pid
        path.unlink()
        endpoint.pair("delay", endpoint.folder)
        until = time.monotonic() + 10
        while serial() == before:
            assert time.monotonic() < until
            assert client.post(ROUTE, json=REQUEST).status_code == 200
        assert client.post(ROUTE, json=REQUEST).status_code == 200
    assert endpoint.host.look("delay").pid == pid


def test_a_key_that_others_may_read_keeps_the_endpoint_shut(tmp_path: Path) -> None:
    Authority(tmp_path / "keys", "flights").keep(tmp_path / "service.pem", "delay", [], datetime.now(UTC))
    (tmp_path / "service.pem").chmod(0o644)
    pair = {"tls_certificate": str(tmp_path / "service.pem"), "tls_key": str(tmp_path / "service.pem")}
    endpoint = Installation(tmp_path, {"clock": "replay", **pair})
    with pytest.raises(Unavailable, match="Others than its owner may use the key"):
        endpoint.host.serve(endpoint.wanted(), endpoint.keys)
    endpoint.close()


# --- certificates instead of keys ---


def test_a_client_is_known_by_its_certificate_until_that_is_taken_back(place: Open, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "keys", "flights")
    endpoint = place(is_encrypted=True, tls_clients=str(authority.path))
    known, other = (client_pair(tmp_path, authority, name) for name in ("billing", "stranger"))
    who = {"certificate:spiffe://flights/service/billing": {"name": "billing", "kind": "service", "roles": ["caller"]}}
    endpoint.host.allow({**endpoint.keys, **who})

    def client(context: ssl.SSLContext, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=endpoint.url, headers=headers, timeout=10, trust_env=False, verify=context)

    with client(endpoint.trust(known)) as billing:
        answer = billing.post(ROUTE, json=REQUEST)
        assert answer.status_code == 200
        assert billing.get("/metrics").status_code == 403
        # A key beside it names somebody else; one that is wrong is not made good by a certificate.
        key = endpoint.key("boss", "operator")
        endpoint.host.allow({**endpoint.keys, **who})
        assert billing.get("/metrics", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        for wrong in ({"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}, {"X-Falaj-Key": "wrong"}):
            assert billing.post(ROUTE, json=REQUEST, headers=wrong).status_code == 401
        endpoint.host.allow(endpoint.keys)
        assert billing.post(ROUTE, json=REQUEST).status_code == 401
    endpoint.host.allow({**endpoint.keys, **who})
    with client(endpoint.trust(other)) as stranger:
        assert stranger.post(ROUTE, json=REQUEST).status_code == 401
    for name in (b":peer", b"peer", b" :peer"):  # nobody can say so themselves
        with connected(port_of(endpoint), endpoint.trust(other)) as connection:
            connection.sendall(b"GET /v2 HTTP/1.1\r\nhost: x\r\n" + name + b": spiffe://flights/service/billing\r\n\r\n")
            assert connection.recv(100)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 401")
    with pytest.raises(httpx.HTTPError), client(endpoint.trust()) as nobody:
        nobody.post(ROUTE, json=REQUEST)
    assert b"".join(path.read_bytes() for path in (endpoint.folder / "segments").iterdir()).count(b'"by":"billing"') == 1


def test_a_connection_ends_with_the_certificate_that_opened_it(place: Open, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "keys", "flights")
    endpoint = place(is_encrypted=True, tls_clients=str(authority.path))
    short = client_pair(tmp_path, authority, "billing", datetime.now(UTC) - NOW + timedelta(seconds=3))
    with connected(port_of(endpoint), endpoint.trust(short)) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.settimeout(20)
        assert connection.recv(1) == b""


def test_the_airline_of_the_example_trusts_an_encrypted_endpoint(place: Open) -> None:
    endpoint = place(is_encrypted=True)
    key = endpoint.key("second", "caller")
    endpoint.host.allow(endpoint.keys)
    airline = Client(lambda: endpoint.url, key, endpoint.trust())
    assert airline.call("POST", ROUTE, REQUEST)["arm"] == "champion"
    airline.close()
    stranger = Client(lambda: endpoint.url, key)
    with pytest.raises(ssl.SSLCertVerificationError):
        stranger.call("POST", ROUTE, REQUEST, patience=0.1)


# --- tokens ---


def test_a_token_opens_the_endpoint_until_it_is_taken_back(place: Open, tmp_path: Path) -> None:
    signer = open_key(tmp_path / "keys" / "token.ed25519")
    endpoint = place(issuer="falaj/flights", issuer_jwks=str(publish(tmp_path / "keys" / "tokens.jwks", signer)))
    now = int(time.time())
    claims = {"iss": "falaj/flights", "aud": "falaj/flights", "sub": "app", "roles": ["caller"], "jti": "t-1",
              "iat": now, "nbf": now, "exp": now + 60}  # fmt: skip
    with endpoint.client(mint(claims, signer)) as client:
        assert client.post(ROUTE, json=REQUEST).status_code == 200
        assert client.get("/metrics").status_code == 403
        endpoint.host.allow({**endpoint.keys, f"revoked:{hmac_of(endpoint.pepper, b'jti:t-1')}": {"at": now}})
        answer = client.post(ROUTE, json=REQUEST)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert "revoked" in answer.json()["error"]["message"]
    for changes in ({"exp": now - 60}, {"iss": "falaj/other"}, {"aud": "falaj/other"}, {"exp": None}):
        with endpoint.client(mint({**claims, "jti": "t-2", **changes}, signer)) as client:
            assert client.post(ROUTE, json=REQUEST).status_code == 401


# --- traces ---

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_callers_trace_goes_on_in_the_log_the_answer_and_the_collector(place: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with collecting() as collector:
        endpoint = place(trace_url=collector.url, trace_share=0.0)
        key = endpoint.key("second", "caller")
        endpoint.host.allow(endpoint.keys)
        endpoint.store()
        with endpoint.client(key) as client:
            parent = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=1", "x-request-id": "r-1"}
            answer = client.post(ROUTE, json=REQUEST, headers=parent)
            assert answer.status_code == 200
            own = answer.headers["traceparent"].split("-")
            assert (own[1], own[3], answer.headers["x-request-id"]) == (TRACE, "01", "r-1")
            assert own[2] != CALLER
            client.post("/v2/models/delay/infer", json={**TENSOR, "parameters": AT}, headers=parent)
            assert client.post(ROUTE, json={"carrier": 7}, headers=parent).status_code == 422
            parts = [*(pair for pair in parent.items() if pair[0] != "tracestate"), ("tracestate", "b=2"), ("tracestate", "c=3")]
            assert client.post(ROUTE, json=REQUEST, headers=parts).status_code == 200
            quiet = client.post(ROUTE, json=REQUEST)  # nobody decided, and the share is nothing
            assert quiet.headers["traceparent"].endswith("-02")
        spans = collector.wait(4 + 3 + 1 + 4)
    endpoint.close()
    by_request = {span.span_id: span for span in spans if span.name == "request"}
    assert len(by_request) == 4
    assert sorted(span.trace_state for span in by_request.values()) == ["b=2,c=3", "vendor=1", "vendor=1", "vendor=1"]
    first = by_request[bytes.fromhex(own[2])]
    assert (first.trace_id.hex(), first.parent_span_id.hex(), first.trace_state) == (TRACE, CALLER, "vendor=1")
    told = values(first)
    assert (told["falaj.endpoint"], told["falaj.model"], told["falaj.arm"], told["falaj.rows"]) == (
        "delay",
        "model/delay@1",
        "champion",
        1,
    )
    assert (told["http.response.status_code"], told["http.route"]) == (200, "/v1/models/{name}:predict")
    names = sorted((span.name, by_request[span.parent_span_id] is first) for span in spans if span.name != "request")
    others = [("features", False), ("log", False), ("log", False), ("model", False), ("model", False)]
    assert names == sorted([*others, ("features", True), ("log", True), ("model", True)])
    assert sorted(values(span)["http.response.status_code"] for span in by_request.values()) == [200, 200, 200, 422]
    assert any(f'"trace":"{answer.headers["traceparent"]}"'.encode() in path.read_bytes()
               for path in (endpoint.folder / "segments").iterdir() if path.is_file())  # fmt: skip


def test_without_a_collector_a_callers_trace_is_kept_in_the_log(place: Open) -> None:
    endpoint = place()
    key = endpoint.key("second", "caller")
    endpoint.host.allow(endpoint.keys)
    parent = f"00-{TRACE}-{CALLER}-01"
    with endpoint.client(key) as client:
        answer = client.post(ROUTE, json=REQUEST, headers={"traceparent": parent})
        assert answer.headers["traceparent"] == parent
        for wrong in (parent.upper(), "00-x", ""):
            answer = client.post(ROUTE, json=REQUEST, headers={"traceparent": wrong})
            assert (answer.status_code, "traceparent" in answer.headers) == (200, False)
        twice = client.post(ROUTE, json=REQUEST, headers=[("traceparent", parent), ("traceparent", parent)])
        assert (twice.status_code, "traceparent" in twice.headers) == (200, False)
        assert "traceparent" not in client.post(ROUTE, json=REQUEST).headers


# --- deadlines ---


def test_what_nobody_waits_for_any_more_is_not_computed(place: Open) -> None:
    endpoint = place()
    key = endpoint.key("second", "caller")
    endpoint.host.allow(endpoint.keys)

    def logged() -> int:
        return sum(
            path.read_bytes().count(b'"kind":"prediction"') for path in (endpoint.folder / "segments").iterdir() if path.is_file()
        )

    with endpoint.client(key) as client:
        before = logged()
        late = client.post("/v2/models/delay/infer", json={**TENSOR, "parameters": {**AT, "timeout": 1}})
        assert late.status_code == 504
        assert late.headers["retry-after"] == "1"
        assert "could not be begun" in late.json()["error"]
        assert logged() == before
        for wait in ({"timeout": 0}, {"timeout": 9_000_000}, {}):
            assert client.post("/v2/models/delay/infer", json={**TENSOR, "parameters": {**AT, **wait}}).status_code == 200
        assert client.post(ROUTE, json=REQUEST, headers={"X-Request-Timeout-Ms": "5000"}).status_code == 200
        for wrong in ("0", "soon", "-1"):
            assert client.post(ROUTE, json=REQUEST, headers={"X-Request-Timeout-Ms": wrong}).status_code == 422
        assert client.post("/v2/models/delay/infer", json={**TENSOR, "parameters": {**AT, "timeout": "x"}}).status_code == 422


def test_a_deadline_of_the_settings_holds_where_a_caller_says_nothing(place: Open) -> None:
    endpoint = place(timeout_ms=1, sync="always")
    key = endpoint.key("second", "caller")
    endpoint.host.allow(endpoint.keys)
    with endpoint.client(key, **{"X-Request-Timeout-Ms": "5000"}) as client:
        assert client.post(ROUTE, json=REQUEST).status_code == 200
    with endpoint.client(key) as client:
        body = json.dumps({"requests": [{**REQUEST, "flight_id": f"f-{n}"} for n in range(256)]}).encode()

        def slowly() -> Iterator[bytes]:
            yield body[:100]
            time.sleep(0.05)
            yield body[100:]

        assert client.post(ROUTE, content=slowly()).status_code == 504
