"""The settings decide how an endpoint's door is locked, and its server is told in its own words."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from falaj.adapters.local.authority import Authority, ends_at
from falaj.adapters.local.host import ProcessHost
from falaj.app import App, init_project, open_app
from falaj.cli.doctor import _doors
from falaj.cli.key import who
from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.inference.settings import settings_from
from falaj.operations import OPERATIONS
from tests.unit.adapters.test_authority import request

NEEDED = {"endpoint": "delay", "blobs": "/b", "public_key": "/k", "pepper": "/p", "online": "/o"}


def opened(folder: Path, **settings: Any) -> App:
    module = f"project_{uuid4().hex}"
    (folder / f"{module}.py").write_text('"""Nothing is declared."""\n')
    given = {"modules": module, "clock": "replay", "runner": "memory", "mirror": "none", "name": "wired", **settings}
    if not (folder / ".falaj").exists():
        init_project(folder, given)
    return open_app(folder, given)


def do(app: App, name: str, subject: str | None = None, **given: Any) -> Any:
    operation = next(operation for operation in OPERATIONS if operation.name == name)
    return operation.do(app, who(app), subject, given)


def test_by_default_nothing_is_encrypted_and_the_projects_own_tokens_are_known(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        told = app.access.door()
        assert told == {"issuer": "falaj/wired", "issuer_jwks": str(tmp_path / ".falaj" / "keys" / "tokens.jwks")}
        assert app.access.pair("delay", tmp_path) == {}
        assert app.access.ends() == {}
        assert not app.access.is_in_clear
        assert "plain HTTP" in _doors(app)


def test_every_setting_reaches_the_server_under_a_name_that_it_knows(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "keys", "company")
    authority.keep(tmp_path / "own.pem", "delay", [], datetime.now(UTC))
    settings = {
        "serve_tls": "files", "serve_tls_certificate": "own.pem", "serve_tls_key": "own.pem", "serve_tls_passphrase": "env:HUSH",
        "serve_tls_clients": "keys/authority.pem", "serve_tls_names": "cn", "serve_tokens_issuer": "https://id.example",
        "serve_tokens_audience": "falaj", "serve_tokens_jwks": "id.jwks", "serve_tokens_claim": "groups",
        "serve_tokens_roles": "ml=caller", "serve_timeout_ms": "250", "serve_trace_url": "https://collector/v1/traces",
        "serve_trace_share": "0.0",
    }  # fmt: skip
    with opened(tmp_path, **settings) as app:
        told = app.access.door()
    server = settings_from({**NEEDED, **told})
    assert (server.tls_certificate, server.tls_clients) == (str(tmp_path / "own.pem"), str(tmp_path / "keys" / "authority.pem"))
    assert (server.tls_names, server.tls_passphrase, server.tokens_claim, server.tokens_roles) == (
        "cn",
        "env:HUSH",
        "groups",
        "ml=caller",
    )
    assert (server.timeout_ms, server.trace_share, server.trace_url) == (250, 0.0, "https://collector/v1/traces")


@pytest.mark.parametrize(
    "settings",
    [
        {"serve_tls": "files"},
        {"serve_tls": "files", "serve_tls_certificate": "a"},
        {"serve_tls": "local", "serve_tls_certificate": "a", "serve_tls_key": "b"},
        {"serve_tls_certificate": "a", "serve_tls_key": "b"},
        {"serve_tls_clients": "local"},
        {"serve_timeout_ms": "-1"},
        {"serve_trace_url": "http://collector/v1/traces"},
        {"serve_trace_url": "ftp://127.0.0.1/"},
        {"serve_trace_url": "https://user:hush@collector/"},
        {"serve_trace_url": "https://[/"},
        {"serve_trace_url": "http://127.0.0.1/", "serve_trace_share": "1.5"},
    ],
)
def test_settings_that_do_not_fit_together_are_refused(tmp_path: Path, settings: dict[str, str]) -> None:
    with opened(tmp_path, **settings) as app, pytest.raises(InvalidInput) as told:
        app.access.door()
    assert told.value.hint
    assert "hush" not in str(told.value)


def test_the_projects_own_authority_makes_a_pair_for_an_endpoint_and_keeps_it_fresh(tmp_path: Path) -> None:
    with opened(tmp_path, serve_tls="local", serve_tls_clients="local") as app:
        assert isinstance(app.host, ProcessHost)
        folder = app.state / "serving" / "delay"
        folder.mkdir(parents=True)
        app.host._settle("delay", folder)
        written = (folder / "settings.json").read_text()
        told = settings_from(json.loads(written))
        assert (told.tls_certificate, told.tls_clients) == (
            str(folder / "service.pem"),
            str(app.state / "keys" / "authority.pem"),
        )
        app.host._settle("delay", folder)
        assert (folder / "settings.json").read_text() == written
        (folder / "wanted.json").write_text("{}")
        (folder / "service.pem").unlink()
        app.host._renew()
        assert list(app.access.ends()) == ["endpoint/delay"]
        assert "endpoint/delay until" in _doors(app)
        ssl.create_default_context(cafile=told.tls_clients)


def test_the_doctor_says_what_is_about_to_end_and_what_crosses_the_network_in_clear(tmp_path: Path) -> None:
    with opened(tmp_path, serve_host="0.0.0.0") as app, pytest.raises(Conflict, match="without encryption"):
        _doors(app)
    with opened(tmp_path, serve_tls="files", serve_tls_certificate="own.pem", serve_tls_key="own.pem") as app:
        app.access.authority.keep(tmp_path / "own.pem", "delay", [], datetime.now(UTC))
        with pytest.raises(Conflict, match=r"own\.pem ends"):
            _doors(app)


def test_a_certificate_is_let_in_and_signed_and_a_token_made_by_the_operations(tmp_path: Path) -> None:
    with opened(tmp_path, host="memory") as app:
        assert do(app, "certificate.allow", "billing", roles="caller")["identity"] == "spiffe://wired/service/billing"
        made = do(app, "certificate.sign", "billing", request=request(ec.generate_private_key(ec.SECP256R1())).decode())
        (tmp_path / "billing.pem").write_text(made["certificate"])
        assert ends_at(tmp_path / "billing.pem") is not None
        assert made["authority"] == app.access.authority.path.read_text()
        token = do(app, "token.create", "app", roles="caller", ttl="5m")
        do(app, "token.revoke", id=token["id"])
        assert sorted(name.partition(":")[0] for name in app.access.allowed() if ":" in name) == ["certificate", "revoked"]
        do(app, "certificate.revoke", "billing")
        assert [body["name"] for body in do(app, "certificate.list")] == ["billing"]
        assert not any(name.startswith("certificate:") for name in app.access.allowed())


def test_the_control_plane_is_locked_by_the_same_words_and_its_certificate_is_renewed_at_half_of_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as app:
        assert app.access.lock() is None
    with opened(tmp_path, api_tls="local", api_tls_clients="local") as app:
        files = app.access.lock()
        assert files is not None
        assert (files.certificate, files.clients) == (tmp_path / ".falaj" / "keys" / "api.pem", app.access.authority.path)
        first = ends_at(files.certificate)
        assert first is not None
        assert timedelta(minutes=58) < first - datetime.now(UTC) <= timedelta(hours=1)
        app.access.lock()
        assert ends_at(files.certificate) == first
        later = datetime.now(UTC) + timedelta(minutes=31)
        monkeypatch.setattr("falaj.access.wall", lambda: later)
        app.access.lock()
        assert ends_at(files.certificate) == (later + timedelta(hours=1)).replace(microsecond=0)
    for wrong in ({"api_tls_clients": "local"}, {"api_tls": "files"}, {"api_tls_key": "a", "api_tls_certificate": "b"}):
        with opened(tmp_path, **wrong) as app, pytest.raises(InvalidInput, match="api_tls"):
            app.access.lock()
    for life in ("1m", "3d"):
        with opened(tmp_path, tls_life=life) as app, pytest.raises(InvalidInput, match="tls_life"):
            _ = app.access.authority


def test_a_program_asks_for_a_certificate_of_a_day_at_most(tmp_path: Path) -> None:
    with opened(tmp_path, host="memory") as app:
        do(app, "certificate.allow", "billing", roles="caller")
        asked = request(ec.generate_private_key(ec.SECP256R1())).decode()
        (tmp_path / "billing.pem").write_text(do(app, "certificate.sign", "billing", request=asked, ttl="12h")["certificate"])
        until = ends_at(tmp_path / "billing.pem")
        assert until is not None
        assert until - datetime.now(UTC) > timedelta(hours=11)
        with pytest.raises(InvalidInput, match="cannot be good for"):
            do(app, "certificate.sign", "billing", request=asked, ttl="25h")


def test_roles_that_are_taken_in_an_emergency_must_exist(tmp_path: Path) -> None:
    with opened(tmp_path, elevate_roles="operators") as app, pytest.raises(NotFound, match="no role named 'operators'"):
        _ = app.access.elevations
