from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from falaj.api.guards import LIMIT, host_of
from falaj.api.near import with_colon
from falaj.api.routes import build_api, refuse_twins
from falaj.app import App, init_project, open_app
from falaj.core.actor import Actor
from falaj.core.errors import Bug
from falaj.core.ref import Ref
from falaj.operations import OPERATIONS
from falaj.operations.operation import Operation, Subject

SETUP = Actor("setup", "system", ("operator",))
SETTINGS = {"host": "memory", "online": "memory", "mirror": "none", "runner": "memory", "clock": "replay"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    (tmp_path / "project.py").write_text('"""Declares nothing."""\n')
    init_project(tmp_path, SETTINGS)
    with open_app(tmp_path, SETTINGS) as app:
        yield app


def key(app: App, *roles: str, name: str = "somebody") -> str:
    return app.keys.create(SETUP, Ref("key", name), roles=roles)


def call(app: App, method: str, path: str, body: Any = None, *, key: str = "", **headers: str) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(build_api(app), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7700") as client:
            given = {"Authorization": f"Bearer {key}"} if key else {}
            content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            return await client.request(method, path, content=content, headers=given | headers)

    return asyncio.run(once())


def test_health_needs_no_key(app: App) -> None:
    assert call(app, "GET", "/health").json() == {"status": "ok"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_no_route_answers_without_a_key(app: App, operation: Operation) -> None:
    answer = call(app, operation.method, operation.path.replace("{subject}", "delay@1"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


SUBJECTS = {"audit.prove": "0", "lineage.show": "model/delay@1", "policy.explain": "model/delay@1"}
"""Where another subject than a name or a version is meant."""


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_no_route_serves_a_caller_of_endpoints(app: App, operation: Operation) -> None:
    subject = SUBJECTS.get(operation.name, "delay@1" if operation.subject and operation.subject.version != "none" else "delay")
    given = {argument.name: _sample(argument.kind, argument.one_of) for argument in operation.arguments if argument.required}
    path = operation.path.replace("{subject}", subject)
    answer = call(
        app,
        operation.method,
        path if operation.changes else str(httpx.URL(path, params=given)),
        {**given, "dry_run": True} if operation.changes else None,
        key=key(app, "caller"),
    )
    if answer.status_code == 200:
        assert [ruling["verdict"] for ruling in answer.json()["policy"]] == ["deny"] * len(operation.needs)
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "denied")


def _sample(kind: str, one_of: tuple[str, ...]) -> Any:
    samples = {"list": ["operator"], "object": {}, "time": "2026-01-01T00:00:00Z"}
    return one_of[0] if one_of else samples.get(kind, "delay@1")


def test_a_refused_reading_is_recorded(app: App) -> None:
    call(app, "GET", "/v1/keys", key=key(app, "data_scientist"))
    assert [event.verb for event in app.ledger.events()][-1] == "policy.deny"


def test_a_made_key_opens_the_door_and_a_revoked_one_does_not(app: App) -> None:
    operator = key(app, "operator")
    made = call(app, "POST", "/v1/keys/ops-bot:create", {"roles": ["operator"], "kind": "service"}, key=operator).json()["key"]
    assert call(app, "GET", "/v1/keys", key=made).status_code == 200
    key_id = made.split("_")[1]
    assert call(app, "POST", f"/v1/keys/{key_id}:revoke", key=operator).json() == {"revoked": f"key/{key_id}"}
    assert call(app, "GET", "/v1/keys", key=made).status_code == 401


def test_keys_are_listed_without_their_secrets(app: App) -> None:
    listed = call(app, "GET", "/v1/keys", key=key(app, "operator")).json()
    named = ["confirmed_by", "created_at", "id", "kind", "made_by", "name", "revoked_at", "roles", "standing"]
    assert [sorted(entry) for entry in listed][-1:] == [named]


def test_a_decision_is_an_answer_and_not_an_error(app: App) -> None:
    answer = call(app, "GET", "/v1/audit:verify", key=key(app, "operator"))
    assert (answer.status_code, answer.json()["rule"]) == (200, "audit")


def test_a_dry_run_says_what_policy_says_and_changes_nothing(app: App) -> None:
    operator = key(app, "operator")
    before = sum(1 for _ in app.ledger.events())
    answer = call(app, "POST", "/v1/keys/x:create", {"roles": ["auditor"], "dry_run": True}, key=operator).json()
    assert [ruling["verdict"] for ruling in answer["policy"]] == ["allow"]
    assert answer["would_record"] == [{"verb": "key.create", "subject": "key/x", "actor": "person:somebody"}]
    assert sum(1 for _ in app.ledger.events()) == before


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7700", "127.0.0.1.evil.example", ""])
def test_a_foreign_host_is_refused_before_anything_else(app: App, host: str) -> None:
    answer = call(app, "GET", "/health", host=host)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "denied")


@pytest.mark.parametrize(
    ("header", "name"), [("localhost:7700", "localhost"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("LOCALHOST", "localhost")]
)
def test_a_host_is_read_without_its_port(header: str, name: str) -> None:
    assert host_of(header) == name


def test_a_body_beyond_the_limit_is_refused(app: App) -> None:
    answer = call(app, "POST", "/v1/keys/x:create", b" " * (LIMIT + 1), key=key(app, "operator"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "invalid_input")


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"[" * 200_000])
def test_a_body_that_is_no_object_is_refused(app: App, body: bytes) -> None:
    answer = call(app, "POST", "/v1/keys/x:create", body, key=key(app, "operator"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_input")


def test_an_unknown_argument_is_refused_with_the_nearest_name(app: App) -> None:
    error = call(app, "POST", "/v1/keys/x:create", {"role": ["operator"]}, key=key(app, "operator")).json()["error"]
    assert error["hint"] == "did you mean 'roles'?"


@pytest.mark.parametrize(
    ("method", "path", "status", "hint"),
    [
        ("GET", "/v1/datasets/weather/quarantine", 404, "a verb stands behind a colon: GET /v1/datasets/weather:quarantine."),
        ("POST", "/v1/dataset/weather/ingest", 404, "a verb stands behind a colon: POST /v1/datasets/weather:ingest."),
        ("POST", "/v1/datasets/weather/ingest", 405, "a verb stands behind a colon: POST /v1/datasets/weather:ingest."),
        ("GET", "/v1/datasets/weather:quarantin", 404, "did you mean GET /v1/datasets/weather:quarantine"),
        ("GET", "/v1/dataset", 404, "did you mean GET /v1/datasets"),
        ("GET", "/something", 404, "docs/reference/operations.md lists every route."),
    ],
)
def test_what_leads_nowhere_names_the_nearest_routes(app: App, method: str, path: str, status: int, hint: str) -> None:
    answer = call(app, method, path, key=key(app, "operator"))
    assert (answer.status_code, answer.json()["error"]["hint"][: len(hint)]) == (status, hint)


def test_a_thing_that_is_named_like_a_verb_is_found() -> None:
    assert with_colon("/v1/datasets/dataset/test") == ""
    assert with_colon("/v1/datasets/trips/test") == "GET /v1/datasets/trips:test"


@pytest.mark.parametrize(("path", "status"), [("/v1/nothing", 404), ("/", 404), ("/v1/keys/x:create", 405)])
def test_what_no_operation_names_does_not_exist(app: App, path: str, status: int) -> None:
    answer = call(app, "GET", path, key=key(app, "operator"))
    assert answer.status_code == status
    assert "error" in answer.json()


def test_a_bug_tells_the_caller_nothing_about_the_inside(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = key(app, "operator")
    monkeypatch.setattr(type(app.keys), "listing", lambda _self: 1 / 0)
    answer = call(app, "GET", "/v1/keys", key=operator)
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "falaj failed at this request.")


def test_no_answer_invites_another_origin(app: App) -> None:
    answer = call(app, "GET", "/health", origin="http://evil.example")
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_route_that_nobody_guards_stops_the_start(app: App) -> None:
    with pytest.raises(Bug, match="no role can have"):
        build_api(app, known={"key.create"})


def test_two_operations_in_one_place_stop_the_start() -> None:
    about = Subject("run", "a run")
    twins = [Operation("run", verb, "", str, about, changes=False) for verb in ("list", "show")]
    with pytest.raises(Bug, match="share the route"):
        refuse_twins(twins)
