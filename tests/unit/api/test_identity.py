"""Who asks the control plane: by any credential, until that is taken back, and never by one that is shown again."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from falaj.api import attempts
from falaj.api.routes import build_api
from falaj.app import App, init_project, open_app
from falaj.core.actor import Actor
from falaj.core.ref import Ref
from falaj.operations import OPERATIONS
from tests.kits.oidc import Op

SETUP = Actor("setup", "system", ("operator",))
SETTINGS = {"host": "memory", "online": "memory", "mirror": "none", "runner": "memory", "clock": "replay"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    (tmp_path / "project.py").write_text('"""Declares nothing."""\n')
    init_project(tmp_path, SETTINGS)
    with open_app(tmp_path, SETTINGS) as app:
        yield app


@pytest.fixture
def at_provider(tmp_path: Path, app: App, op: Op) -> Iterator[App]:
    with open_app(tmp_path, {**SETTINGS, **op.settings()}) as found:
        yield found


class Caller:
    """One API, asked again and again: what it remembers of one call it knows at the next."""

    def __init__(self, app: App) -> None:
        self.api = build_api(app)

    def __call__(self, method: str, path: str, body: Any = None, *, bearer: str = "", peer: str = "10.0.0.9") -> httpx.Response:
        import asyncio

        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(self.api, raise_app_exceptions=False, client=(peer, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7700") as client:
                headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
                content = None if body is None else json.dumps(body).encode()
                return await client.request(method, path, content=content, headers=headers)

        return asyncio.run(once())


def key(app: App, name: str, *roles: str) -> str:
    return app.keys.create(SETUP, Ref("key", name), roles=roles)


def test_everybody_is_told_who_they_are_and_with_which_roles(app: App) -> None:
    call = Caller(app)
    token = app.access.tokens.create(SETUP, Ref("token", "nightly"), roles=["service"], ttl=timedelta(minutes=5))["token"]
    for bearer, name, kind in ((key(app, "lina", "auditor"), "lina", "person"), (token, "nightly", "service")):
        found = call("GET", "/v1/identity", bearer=bearer).json()
        assert (found["name"], found["kind"], found["grant"]) == (name, kind, None)
    assert call("GET", "/v1/identity", bearer=key(app, "c", "caller")).status_code == 403


def test_a_token_of_the_project_opens_the_control_plane_until_its_id_or_its_name_is_shut_out(app: App) -> None:
    call, tokens = Caller(app), app.access.tokens
    made = [tokens.create(SETUP, Ref("token", "nightly"), roles=["service"], ttl=timedelta(minutes=5)) for _ in range(3)]
    assert [call("GET", "/v1/identity", bearer=one["token"]).status_code for one in made] == [200] * 3
    tokens.revoke(SETUP, Ref("token", "all"), id=made[0]["id"])
    assert [call("GET", "/v1/identity", bearer=one["token"]).status_code for one in made] == [401, 200, 200]
    operator = key(app, "sami", "operator")
    assert call("POST", "/v1/token:revoke", {"name": "nightly"}, bearer=operator).status_code == 200
    assert [call("GET", "/v1/identity", bearer=one["token"]).status_code for one in made] == [401] * 3


def test_a_person_of_the_provider_comes_in_until_the_subject_is_shut_out(at_provider: App, op: Op) -> None:
    call = Caller(at_provider)
    text = op.signed(op.claims(sub="omar"))
    found = call("GET", "/v1/identity", bearer=text).json()
    assert (found["name"], found["kind"], found["roles"]) == ("omar", "person", ["approver"])
    at_provider.access.tokens.revoke(SETUP, Ref("token", "all"), name="omar")
    assert call("GET", "/v1/identity", bearer=text).status_code == 401
    by_id = op.signed(op.claims(sub="noura", jti="j-1"))
    assert call("GET", "/v1/identity", bearer=by_id).status_code == 200
    at_provider.access.tokens.revoke(SETUP, Ref("token", "all"), id="j-1")
    assert call("GET", "/v1/identity", bearer=by_id).status_code == 401
    names = [event.facts for event in at_provider.ledger.events(verb="token.revoke")]
    assert "omar" not in json.dumps(names, default=str)


def test_whoever_logs_out_is_out_with_every_token_of_theirs_and_nobody_else_is(at_provider: App, op: Op) -> None:
    call = Caller(at_provider)
    mine = [op.signed(op.claims(sub="noura", iat=int(time.time()) - n)) for n in (1, 2)]
    other = op.signed(op.claims(sub="omar"))
    assert call("POST", "/v1/identity:logout", bearer=mine[0]).json()["logged_out"] == "noura"
    assert [call("GET", "/v1/identity", bearer=text).status_code for text in (*mine, other)] == [401, 401, 200]


def test_while_the_provider_is_away_and_nothing_is_kept_the_answer_is_503_and_not_an_open_door(
    tmp_path: Path, app: App, op: Op
) -> None:
    gone = "http://127.0.0.1:9"
    with open_app(tmp_path, {**SETTINGS, **op.settings(issuer=gone)}) as found:
        answer = Caller(found)("GET", "/v1/identity", bearer=op.signed(op.claims(iss=gone)))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"]
        assert Caller(found)("GET", "/v1/identity", bearer=key(app, "sami", "operator")).status_code == 200


def test_a_role_taken_in_an_emergency_acts_and_is_seen_in_every_event_until_it_ends(app: App) -> None:
    call = Caller(app)
    anna, omar = key(app, "anna", "ml_engineer"), key(app, "omar", "auditor")
    assert call("POST", "/v1/keys/x:create", {"roles": ["caller"]}, bearer=anna).status_code == 403
    asked = {"roles": ["operator"], "reason": "INC-7", "span": "1h"}
    taken = call("POST", "/v1/access:elevate", asked, bearer=anna).json()
    made = call("POST", "/v1/keys/x:create", {"roles": ["caller"]}, bearer=anna)
    assert made.status_code == 200
    event = list(app.ledger.events(verb="key.create"))[-1]
    assert (event.actor.name, event.actor.grant) == ("anna", taken["access"])
    assert call("GET", "/v1/identity", bearer=anna).json()["grant"] == taken["access"]
    alert = app.alerts.open_for(f"break-glass|{taken['access']}")
    assert alert is not None
    assert "INC-7" in alert.title
    name = taken["access"].partition("/")[2]
    review = {"verdict": "unjustified", "reason": "no incident"}
    assert call("POST", f"/v1/access/{name}:review", review, bearer=anna).status_code == 403
    assert call("POST", f"/v1/access/{name}:review", review, bearer=omar).json()["verdict"] == "allow"
    assert call("POST", "/v1/keys/y:create", {"roles": ["caller"]}, bearer=anna).status_code == 403
    assert app.alerts.open_for(f"break-glass|{taken['access']}") is None
    assert [record["review"]["by"] for record in call("GET", "/v1/access", bearer=omar).json()] == ["omar"]


def test_an_emergency_that_nobody_reviews_opens_its_alert_by_the_worker_and_a_graver_one_when_it_is_overdue(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    from falaj import access
    from falaj.stages.governance.elevation import REVIEWED_WITHIN
    from falaj.upkeep import DUTIES

    anna = Actor("anna", "person", ("ml_engineer",))
    made = app.access.elevations.elevate(anna, Ref("access", "all"), roles=["operator"], reason="INC-7", span=timedelta(hours=1))
    chase = next(duty for duty in DUTIES if duty.name == "reviews of access")
    assert "INC-7" in chase.do(app, app.kernel.now())[0]
    assert chase.do(app, app.kernel.now()) == []
    later = access.wall() + REVIEWED_WITHIN
    object.__setattr__(app.access.elevations, "wall", lambda: later)
    assert "nobody has reviewed it within 72 h" in chase.do(app, app.kernel.now())[0]
    alert = app.alerts.open_for(f"break-glass-overdue|access/{made['id']}")
    assert alert is not None
    assert alert.severity == "critical"


def test_after_too_many_wrong_keys_an_address_waits_and_whoever_is_known_there_does_not(app: App) -> None:
    call = Caller(app)
    good = key(app, "sami", "operator")
    assert call("GET", "/v1/identity", bearer=good).status_code == 200
    seen = [call("GET", "/v1/identity", bearer=f"falaj_{n:012x}_{'A' * 43}").status_code for n in range(attempts.BURST + 5)]
    assert seen == [401] * attempts.BURST + [429] * 5
    refused = call("GET", "/v1/identity", bearer=key(app, "lina", "auditor"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "unavailable")
    assert refused.headers["retry-after"]
    assert call("GET", "/v1/identity", bearer=good).status_code == 200
    assert call("GET", "/v1/identity", bearer="wrong", peer="10.0.0.10").status_code == 401
    assert call("GET", "/health").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Basic YTpi")],
        [("Authorization", "Bearer ")],
        [("Authorization", "Bearer")],
        [("Authorization", "")],
        [("Authorization", "Bearer one"), ("Authorization", "Bearer two")],
        [("X-Falaj-Peer", "spiffe://wired/service/billing")],
    ],
)
def test_a_request_that_says_in_no_clear_way_who_asks_is_nobody(app: App, headers: list[tuple[str, str]]) -> None:
    import asyncio

    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(build_api(app), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7700") as client:
            return await client.get("/v1/identity", headers=headers)

    assert asyncio.run(once()).status_code == 401


def test_no_secret_is_in_any_answer_or_line_of_the_log(
    at_provider: App, op: Op, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Canaries: keys, tokens, the pepper, the private keys. Every route is asked with every one of them, good and bad."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(attempts, "BURST", 10**6)
    app, call = at_provider, Caller(at_provider)
    operator = key(app, "sami", "operator")
    revoked = key(app, "gone", "operator")
    app.keys.revoke(SETUP, Ref("key", revoked.split("_")[1]))
    token = app.access.tokens.create(SETUP, Ref("token", "nightly"), roles=["operator"], ttl=timedelta(minutes=5))["token"]
    provided = op.signed(op.claims(sub="sami", groups=["operations"]))
    shown = [operator, revoked, token, provided, provided[:-6] + "AAAAAA", "canary-7f3a"]
    answers = []
    for bearer in shown:
        for operation in OPERATIONS:
            subject = "delay@1" if operation.subject and operation.subject.version != "none" else "delay"
            body = {"dry_run": True, "canary-argument": bearer} if operation.changes else None
            path = operation.path.replace("{subject}", subject)
            answers.append(
                call(operation.method, path, body, bearer=bearer, peer=f"10.1.{len(answers) >> 8}.{len(answers) & 255}")
            )
    text = "\n".join(answer.text + str(answer.headers) for answer in answers) + caplog.text
    leaves = b"\n".join(app.ledger.leaves()).decode()
    files = [path.read_bytes().decode("latin-1").strip() for path in (app.state / "keys").iterdir() if path.suffix != ".pub"]
    private = [line for body in files if "PRIVATE" in body for line in body.splitlines()[1:-1] if len(line) > 40]
    secrets = [
        *shown,
        *private,
        (app.state / "keys" / "pepper").read_bytes().hex(),
        (app.state / "keys" / "operator.key").read_text(),
    ]
    for secret in secrets:
        assert secret not in leaves
        assert secret not in text
    assert op.signed(op.claims()).split(".")[2] not in leaves
