"""A real control plane and a real endpoint: whoever is shut out is out on the next call at both, by whatever they came in."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from falaj.adapters.local.authority import Authority
from falaj.app import App, init_project, open_app
from falaj.core.actor import Actor
from falaj.core.ref import Ref
from tests.kits.doors import client_pair
from tests.kits.endpoint import REQUEST, Installation
from tests.kits.oidc import Op

pytestmark = pytest.mark.slow
SETUP = Actor("setup", "system", ("operator",))
ALL = Ref("token", "all")
SETTINGS = {"name": "company", "online": "lmdb", "mirror": "none", "runner": "memory", "clock": "replay", "api_port": "0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "project.py").write_text('"""Declares nothing."""\n')
    init_project(tmp_path, SETTINGS)
    return tmp_path


@contextlib.contextmanager
def up(folder: Path, **settings: str) -> Iterator[str]:
    """`falaj up` as it is started; its address."""
    given = [word for pair in ({**SETTINGS, **settings}).items() for word in ("--set", "=".join(pair))]
    argv = [sys.executable, "-m", "falaj", "--project", str(folder), *given, "up"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FALAJ_")}
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("falaj listens on "), "it did not start"
        yield line.rsplit(maxsplit=1)[1].strip()
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def trusting(authority: Path, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority))
    if pair is not None:
        context.load_cert_chain(*pair)
    return context


def key(app: App, name: str, *roles: str) -> str:
    return app.keys.create(SETUP, Ref("key", name), roles=roles)


# --- the control plane's own door ---


def test_an_encrypted_control_plane_answers_who_trusts_its_authority_and_nobody_in_clear(folder: Path) -> None:
    with open_app(folder, SETTINGS) as app:
        operator, trust = key(app, "sami", "operator"), trusting(app.access.authority.path)
    with up(folder, api_tls="local") as url, httpx.Client(verify=trust, trust_env=False) as client:
        assert url.startswith("https://127.0.0.1:")
        found = client.get(f"{url}/v1/identity", headers={"Authorization": f"Bearer {operator}"})
        assert (found.status_code, found.json()["name"]) == (200, "sami")
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(f"{url}/health", trust_env=False)
        with pytest.raises(httpx.HTTPError):
            httpx.get(url.replace("https", "http") + "/health", trust_env=False, timeout=10)
        where = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(where, timeout=10) as plain, trust.wrap_socket(plain, server_hostname="localhost") as shown:
            until = ssl.cert_time_to_seconds(str((shown.getpeercert() or {})["notAfter"]))
            assert 0 < until - time.time() <= 3601  # an hour


def test_a_program_is_known_by_its_certificate_and_out_on_the_next_call_also_on_a_connection_that_stands(
    folder: Path, tmp_path: Path
) -> None:
    with open_app(folder, SETTINGS) as app:
        authority, operator = app.access.authority, key(app, "sami", "operator")
        app.access.certificates.allow(SETUP, Ref("certificate", "billing"), roles=["auditor"])
        pair = client_pair(tmp_path, authority, "billing")
        stranger = client_pair(tmp_path, authority, "stranger")
        (tmp_path / "rogue").mkdir()
        rogue = client_pair(tmp_path / "rogue", Authority(tmp_path / "rogue" / "keys", "company"), "billing")
    with up(folder, api_tls="local", api_tls_clients="local") as url:
        for wrong in (None, rogue):
            with pytest.raises(httpx.HTTPError):
                httpx.get(f"{url}/health", verify=trusting(authority.path, wrong), trust_env=False, timeout=10)
        with httpx.Client(verify=trusting(authority.path, stranger), trust_env=False) as client:
            answer = client.get(f"{url}/v1/identity")
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
        with httpx.Client(verify=trusting(authority.path, pair), trust_env=False) as client:
            found = client.get(f"{url}/v1/identity").json()
            assert (found["name"], found["kind"], found["roles"]) == ("billing", "service", ["auditor"])
            beside = client.get(f"{url}/v1/identity", headers={"Authorization": f"Bearer {operator}"})
            assert beside.json()["name"] == "sami"  # a key says who calls, beside a certificate
            wrong_key = client.get(f"{url}/v1/identity", headers={"Authorization": "Bearer falaj_no"})
            assert wrong_key.status_code == 401
            headers = {"Authorization": f"Bearer {operator}"}
            assert client.post(f"{url}/v1/certificates/billing:revoke", headers=headers).status_code == 200
            assert client.get(f"{url}/v1/identity").status_code == 401


def test_a_certificate_that_ends_opens_nothing_any_more_on_a_connection_that_stands(folder: Path, tmp_path: Path) -> None:
    with open_app(folder, SETTINGS) as app:
        authority = app.access.authority
        app.access.certificates.allow(SETUP, Ref("certificate", "billing"), roles=["auditor"])
        now = datetime.now(UTC)
        pair = client_pair(tmp_path, authority, "billing", now + timedelta(seconds=20) - _kit_now())
    door = up(folder, api_tls="local", api_tls_clients="local")
    with door as url, httpx.Client(verify=trusting(authority.path, pair), trust_env=False) as client:
        seen = [client.get(f"{url}/v1/identity").status_code]
        until = time.monotonic() + 60
        while seen[-1] == 200 and time.monotonic() < until:
            time.sleep(0.25)
            seen.append(client.get(f"{url}/v1/identity").status_code)
        assert (seen[0], seen[-1]) == (200, 401)


def _kit_now() -> datetime:
    from tests.kits.doors import NOW

    return NOW


# --- out at both doors ---


@pytest.fixture
def both(folder: Path, op: Op, tmp_path: Path) -> Iterator[tuple[App, Installation, str]]:
    """A project with its provider, an endpoint with its keys, and the control plane's address; all of it encrypted."""
    settings = {**SETTINGS, **op.settings(), "api_tls": "local", "api_tls_clients": "local"}
    with open_app(folder, settings) as app:
        assert app.access.oidc is not None
        app.access.oidc.provider.refresh()
        options = {"clock": "replay", **app.access.door(), "tls_clients": str(app.access.authority.path), "tls_names": "spiffe"}
        place = Installation(app.state, options, is_encrypted=True)
        try:
            place.host.serve(place.wanted(), app.access.allowed())
            given = {name: str(value) for name, value in settings.items() if name not in SETTINGS}
            with up(folder, **given) as url:
                yield app, place, url
        finally:
            place.close()


Shown = tuple[dict[str, str], tuple[Path, Path], Callable[[], None]]


def ways(app: App, op: Op, tmp_path: Path) -> dict[str, Shown]:
    """How somebody comes in: headers, the certificate of the connection, and what shuts them out."""
    roles, access = ["operator"], app.access
    access.certificates.allow(SETUP, Ref("certificate", "billing"), roles=roles)
    known, billing = (client_pair(tmp_path, access.authority, name) for name in ("unknown", "billing"))
    text = app.keys.create(SETUP, Ref("key", "lina"), roles=roles)
    by_id = access.tokens.create(SETUP, Ref("token", "one"), roles=roles, ttl=timedelta(minutes=5))
    by_name = access.tokens.create(SETUP, Ref("token", "two"), roles=roles, ttl=timedelta(minutes=5))
    subject = op.signed(op.claims(sub="sami", groups=["operations"], iat=int(time.time()) - 1))
    jti = op.signed(op.claims(sub="huda", groups=["operations"], jti="j-9"))

    def bearer(value: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {value}"}

    return {
        "key": (bearer(text), known, lambda: access.keys.revoke(SETUP, Ref("key", text.split("_")[1]))),
        "token by its id": (bearer(by_id["token"]), known, lambda: access.tokens.revoke(SETUP, ALL, id=by_id["id"])),
        "token by its name": (bearer(by_name["token"]), known, lambda: access.tokens.revoke(SETUP, ALL, name="two")),
        "subject of the provider": (bearer(subject), known, lambda: access.tokens.revoke(SETUP, ALL, name="sami")),
        "token of the provider": (bearer(jti), known, lambda: access.tokens.revoke(SETUP, ALL, id="j-9")),
        "certificate": ({}, billing, lambda: access.certificates.revoke(SETUP, Ref("certificate", "billing"))),
    }


def test_whoever_is_shut_out_is_out_on_the_next_call_at_the_control_plane_and_at_the_endpoint(
    both: tuple[App, Installation, str], op: Op, tmp_path: Path
) -> None:
    app, place, url = both
    shown = ways(app, op, tmp_path)
    place.host.allow(app.access.allowed())
    seen: dict[str, Any] = {}
    for name, (headers, pair, shut_out) in shown.items():
        with httpx.Client(
            verify=trusting(app.access.authority.path, pair), trust_env=False, headers=headers, timeout=20
        ) as client:

            def asked(client: httpx.Client = client) -> tuple[int, int]:
                predicted = client.post(f"{place.url}/v1/models/delay:predict", json=REQUEST)
                return client.get(f"{url}/v1/identity").status_code, predicted.status_code

            before = asked()
            shut_out()
            place.host.allow(app.access.allowed())
            seen[name] = (before, asked())
    assert seen == dict.fromkeys(shown, ((200, 200), (401, 401))), json.dumps(seen)
