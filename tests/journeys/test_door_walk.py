"""Every door of a running control plane and of a running endpoint, tried by everybody who must not come in."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from falaj.adapters.local.policy import ROLES
from falaj.adapters.local.signing import open_key
from falaj.adapters.local.tokens import mint, publish
from falaj.api.routes import build_api, doors_of
from falaj.app import open_app
from falaj.inference.server import ROUTES
from falaj.operations import OPERATIONS
from falaj.operations.operation import Operation
from falaj.stages.doors import PUBLIC
from tests.kits.endpoint import Installation

pytestmark = pytest.mark.slow
SETTINGS = {"host": "memory", "online": "memory", "mirror": "none", "runner": "memory", "clock": "replay", "api_port": "0"}
SUBJECTS = {"audit.prove": "0", "lineage.show": "model/delay@1", "policy.explain": "model/delay@1"}
FOREIGN = ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "")


@dataclass
class Plane:
    """A project of its own and its control plane."""

    folder: Path
    log: Any = field(default=None, repr=False)
    watcher: str = field(default="", repr=False)
    """The first key by which somebody judges others."""

    def __post_init__(self) -> None:
        self.folder.mkdir()
        (self.folder / "project.py").write_text('"""Declares nothing."""\n')
        self.run("init")

    @property
    def words(self) -> list[str]:
        given = {**SETTINGS, "name": self.folder.name}
        return ["--project", str(self.folder), *(w for pair in given.items() for w in ("--set", "=".join(pair)))]

    def run(self, *words: str, key: str = "", status: int = 0) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "falaj", *words, *self.words, "--json"], capture_output=True, text=True, check=False,
            timeout=60, env=environment(key),
        )  # fmt: skip
        assert done.returncode == status, f"falaj {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout or done.stderr)

    def up(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "falaj", "up", *self.words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=environment(),
        )  # fmt: skip

    def url(self) -> str:
        until, place = time.monotonic() + 60, self.folder / ".falaj" / "api.json"
        while not place.is_file():
            assert time.monotonic() < until, "the control plane did not start"
            time.sleep(0.05)
        return str(json.loads(place.read_text())["url"])

    def made(self, *roles: str) -> str:
        """A key, which whoever judges others confirmed where that was needed."""
        made = self.run("key", "create", f"with-{roles[0].replace('_', '-')}", "--roles", ",".join(roles))
        text = str(made["key"])
        if made["standing"] == "pending":
            self.run("key", "confirm", text.split("_")[1], "--reason", "I know them", key=self.watcher)
        elif made["standing"] == "first":
            self.watcher = text
        return text


def environment(key: str = "") -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("FALAJ_")}
    return own | ({"FALAJ_API_KEY": key} if key else {})


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = Plane(tmp_path_factory.mktemp("walk") / "ours")
    process = made.up()
    try:
        made.url()
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def strangers(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Kind of caller → the headers that it sends."""
    other = Plane(tmp_path_factory.mktemp("walk") / "theirs")
    revoked = plane.made("operator")
    plane.run("key", "revoke", revoked.split("_")[1])
    good = (plane.folder / ".falaj/keys/operator.key").read_text().strip()
    plain = {
        "no token": "",
        "an empty token": "Bearer",
        "another scheme": f"Basic {base64.b64encode(f'operator:{good}'.encode()).decode()}",
        "malformed": "Bearer falaj_not-a-key",
        "a key with one letter wrong": f"Bearer {good[:-1]}{'A' if good[-1] != 'A' else 'B'}",
        "a revoked key": f"Bearer {revoked}",
        "an expired token": f"Bearer {token(plane, -60)}",
        "another project's key": f"Bearer {(other.folder / '.falaj/keys/operator.key').read_text().strip()}",
        "another project's token": f"Bearer {token(other, 600)}",
    }
    return {kind: {"Authorization": text} if text else {} for kind, text in plain.items()}


def token(plane: Plane, life: int) -> str:
    now, who = int(time.time()), f"falaj/{plane.folder.name}"
    claims = {"iss": who, "aud": who, "sub": "ops", "roles": ["operator"], "jti": "t-1", "iat": now - 120, "nbf": now - 120}
    return mint({**claims, "exp": now + life}, open_key(plane.folder / ".falaj/keys/token.ed25519"))


def doors(plane: Plane) -> dict[str, Operation | None]:
    """`METHOD /path` → what stands behind it, of all that the application answers to."""
    with open_app(plane.folder, {**SETTINGS, "name": plane.folder.name}) as app:
        found = [door.name for door in doors_of(build_api(app).routes)]
    operations = {f"{operation.method} {operation.path}": operation for operation in OPERATIONS}
    return {name: operations.get(name) for name in found}


def place_of(name: str, operation: Operation | None) -> tuple[str, str]:
    method, _, path = name.partition(" ")
    subject = "delay@1" if operation and operation.subject and operation.subject.version != "none" else "delay"
    return method, path.replace("{subject}", SUBJECTS.get(operation.name if operation else "", subject))


def test_no_door_of_the_control_plane_opens_to_anybody_who_has_no_business_there(
    plane: Plane, strangers: Mapping[str, Mapping[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    walked, wrong, tries = doors(plane), [], 0
    assert len(walked) == len(OPERATIONS) + 1
    operator = {"Authorization": f"Bearer {(plane.folder / '.falaj/keys/operator.key').read_text().strip()}"}
    keys = {role: {"Authorization": f"Bearer {plane.made(role)}"} for role in ROLES}
    guarded = {name: operation for name, operation in walked.items() if f"route {name}" not in PUBLIC}
    assert set(walked) - set(guarded) == {"GET /health"}
    with httpx.Client(base_url=plane.url(), trust_env=False, timeout=20) as client:
        for headers in (operator, *keys.values()):  # who was let in lately need not wait for what others try behind its address
            assert client.get("/v1/keys", headers=headers).status_code in (200, 403)

        def expect(name: str, kind: str, headers: Mapping[str, str], *statuses: int) -> None:
            nonlocal tries
            tries += 1
            method, path = place_of(name, walked[name])
            # Whoever shows wrong keys has to wait; these come from an address of their own each.
            here = f"127.1.{tries // 250}.{tries % 250 + 1}"
            with httpx.Client(transport=httpx.HTTPTransport(local_address=here), base_url=client.base_url, timeout=20) as caller:
                answer = caller.request(method, path, headers=headers)
            if answer.status_code not in statuses or set(answer.json()) != {"error"}:
                wrong.append(f"{name}, {kind}: {answer.status_code} {answer.text[:200]}")

        for name, operation in guarded.items():
            assert operation is not None
            for kind, headers in strangers.items():
                expect(name, kind, headers, 401)
            small = [role for role in ROLES if not set(operation.needs) & ROLES[role]]
            assert "caller" in small, f"a caller may {operation.needs}"
            for role in small:
                expect(name, f"only {role}", keys[role], 403)
        for name in walked:
            for host in FOREIGN:
                expect(name, f"host {host!r}", {**operator, "Host": host}, 403)
        assert client.get("/health").status_code == 200
        assert client.get("/v1/keys", headers=operator).status_code == 200
    with capsys.disabled():
        print(f"\n{len(walked)} doors of the control plane, {tries} tries, {len(wrong)} let in or answered otherwise")  # noqa: T201  # the figure is the finding
    assert not wrong, "\n".join(wrong[:20])


def test_a_door_that_somebody_may_use_is_no_closed_wall(plane: Plane) -> None:
    """Without this, a walk along doors that refuse everybody would be a success."""
    operator = {"Authorization": f"Bearer {(plane.folder / '.falaj/keys/operator.key').read_text().strip()}"}
    with httpx.Client(base_url=plane.url(), trust_env=False, timeout=20, headers=operator) as client:
        opened = 0
        for name, operation in doors(plane).items():
            if operation is None or not set(operation.needs) <= ROLES["operator"]:
                continue
            method, path = place_of(name, operation)
            answer = client.request(method, path, json={"dry_run": True} if method == "POST" else None)
            assert answer.status_code not in (401, 403), f"{name}: {answer.text[:200]}"
            opened += 1
    assert opened > 60


def test_no_command_runs_for_a_key_that_may_not(plane: Plane) -> None:
    caller = plane.made("caller")
    for words in (
        ["report", "summary"], ["report", "write", "--to", str(plane.folder / "r.html")], ["lineage", "draw"],
        ["key", "list"], ["policy", "list"], ["audit", "history"], ["worker", "tick"],
    ):  # fmt: skip
        assert plane.run(*words, key=caller, status=5)["error"]["code"] == "denied"
        assert plane.run(*words, key="falaj_nobody", status=6)["error"]["code"] == "unauthenticated"
    assert not (plane.folder / "r.html").exists()


# --- the doors of an endpoint ---


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Installation]:
    signer = open_key(tmp_path / "keys" / "token.ed25519")
    jwks = publish(tmp_path / "keys" / "tokens.jwks", signer)
    place = Installation(tmp_path, {"clock": "replay", "issuer": "falaj/ours", "issuer_jwks": str(jwks)})
    yield place
    place.close()


SMALL = {"predict": "auditor", "label": "auditor", "metrics": "caller", "operate": "ml_engineer", "force": "caller"}
"""Permission of an endpoint: a role that lacks it. Whoever has a key may read."""


def test_no_door_of_an_endpoint_opens_to_anybody_who_has_no_business_there(
    endpoint: Installation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, revoked = endpoint.key("app", "operator"), endpoint.key("gone", "operator")
    small = {role: endpoint.key(f"small-{number}", role) for number, role in enumerate(sorted(set(SMALL.values())))}
    endpoint.host.serve(endpoint.wanted(), endpoint.keys)
    endpoint.host.allow({hmac: who for hmac, who in endpoint.keys.items() if who["name"] != "gone"})
    now = int(time.time())
    claims = {"iss": "falaj/ours", "aud": "falaj/ours", "sub": "ops", "roles": ["operator"], "jti": "t-1", "iat": now - 600,
              "nbf": now - 600, "exp": now - 300}  # fmt: skip
    own, theirs = open_key(tmp_path / "keys" / "token.ed25519"), open_key(tmp_path / "their.ed25519")
    bearers = {
        "no token": "",
        "an empty token": "Bearer",
        "another scheme": "Basic YTpi",
        "malformed": "Bearer wrong",
        "a revoked key": f"Bearer {revoked}",
        "an expired token": f"Bearer {mint(claims, own)}",
        "another project's token": f"Bearer {mint({**claims, 'exp': now + 600}, theirs)}",
        "a token for another project": f"Bearer {mint({**claims, 'aud': 'falaj/theirs', 'exp': now + 600}, own)}",
    }
    wrong, tries, guarded = [], 0, [route for route in ROUTES if route.permission != "open"]
    assert {route.call for route in ROUTES} - {route.call for route in guarded} == {"live", "ready", "docs"}
    with httpx.Client(base_url=endpoint.url, trust_env=False, timeout=20) as client:

        def expect(route: Any, kind: str, text: str, status: int) -> None:
            nonlocal tries
            tries += 1
            path = route.pattern.replace("{name}", "delay").replace("{version}", "1")
            body = b"{}" if route.method == "POST" else None
            answer = client.request(route.method, path, content=body, headers={"Authorization": text} if text else {})
            if answer.status_code != status:
                wrong.append(f"{route.method} {path}, {kind}: {answer.status_code} {answer.text[:200]}")

        for route in guarded:
            for kind, text in bearers.items():
                expect(route, kind, text, 401)
            if route.permission in SMALL:
                expect(route, f"only {SMALL[route.permission]}", f"Bearer {small[SMALL[route.permission]]}", 403)
        assert client.get("/v2", headers={"Authorization": f"Bearer {good}"}).status_code == 200
        assert (
            client.get("/v2", headers={"Authorization": f"Bearer {mint({**claims, 'exp': now + 600}, own)}"}).status_code == 200
        )
    with capsys.disabled():
        print(f"\n{len(ROUTES)} doors of an endpoint, {tries} tries, {len(wrong)} let in or answered otherwise")  # noqa: T201  # the figure is the finding
    assert not wrong, "\n".join(wrong[:20])
