"""A hostile caller, or a hostile web page, before a real control plane."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from falaj.api.guards import LIMIT
from falaj.operations import OPERATIONS
from tests.kits.plane import Plane
from tests.security.classes import attack

pytestmark = pytest.mark.slow

CANARY = "canary-7f3a9d2e51"
TRAVERSALS = (
    "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "%252e%252e%252fetc%252fpasswd", "....//etc/passwd",
    "/etc/passwd", "//etc/passwd", "file:///etc/passwd", "file:%2f%2f%2fetc%2fpasswd", "http://127.0.0.1:1/x", "s3://b/../x",
    "x#/../../etc/passwd", "x%23/..%2f..%2fetc/passwd", "x?/../../etc/passwd", "..\\..\\etc\\passwd", "x%00.onnx", "model/..",
    "model/.%2e", "~root", "%ef%bc%8e%ef%bc%8e/etc/passwd", "\u2025/etc/passwd",
)  # fmt: skip
METACHARACTERS = (
    "$(id)",
    "`id`",
    "; id",
    "| id",
    "&& id",
    "\nid",
    "${IFS}",
    "-oProxyCommand=id",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "%s%n",
)
SCRIPTS = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "<svg/onload=alert(1)>")
FOREIGN_HOSTS = (
    "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:80", "[::2]", "0.0.0.0", "169.254.169.254",
    "2130706433", "127.1", "0x7f000001", "[::ffff:127.0.0.1]", "localhost@evil.example", "", " ",
)  # fmt: skip
FOREIGN_PAGES = (
    {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1.evil.example"}, {"origin": "http://["},
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
    {"origin": "http://127.0.0.1", "sec-fetch-site": "cross-site"},
)  # fmt: skip
USUAL = ("", "admin", "admin:admin", "admin:password1234", "operator", "falaj", "changeme", "falaj_000000000000_" + "A" * 43)


WATCHERS: dict[Plane, str] = {}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    secrets = {"HOOK_SECRET": CANARY, "AWS_SECRET_ACCESS_KEY": CANARY, "DATABASE_PASSWORD": CANARY}
    made = Plane(
        tmp_path_factory.mktemp("first"), secrets, umask=0, webhook="http://127.0.0.1:9", webhook_secret="env:HOOK_SECRET"
    )
    watcher(made)
    yield made
    made.close()


@pytest.fixture
def third(tmp_path: Path) -> Iterator[Plane]:
    """One a test: whoever shows wrong keys has to wait."""
    made = Plane(tmp_path / "third")
    yield made
    made.close()


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = Plane(tmp_path_factory.mktemp("second"))
    yield made
    made.close()


def routes() -> list[tuple[str, str]]:
    return [(operation.method, operation.path.replace("{subject}", "x")) for operation in OPERATIONS]


def roles_key(plane: Plane, name: str, *roles: str) -> str:
    """A key, which whoever judges others confirmed where that was needed."""
    made = plane.ask("POST", f"/v1/keys/{name}:create", {"roles": list(roles)}).json
    if made["standing"] == "pending":
        path = f"/v1/keys/{made['key'].split('_')[1]}:confirm"
        assert plane.ask("POST", path, {"reason": "I know them"}, key=watcher(plane)).status == 200
    return str(made["key"])


def watcher(plane: Plane) -> str:
    """The first key by which somebody judges others, made once for a plane."""
    if plane not in WATCHERS:
        made = plane.ask("POST", "/v1/keys/first-watcher:create", {"roles": ["auditor"]}).json
        assert made["standing"] == "first", "somebody made one before"
        WATCHERS[plane] = str(made["key"])
    return WATCHERS[plane]


@attack("unguarded route")
def test_no_route_by_any_method_answers_without_a_key(plane: Plane) -> None:
    for _, path in routes():
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
            answer = plane.ask(method, path, {} if method in ("POST", "PUT", "PATCH") else None, key="")
            assert answer.status in (401, 404, 405), (method, path, answer)


@attack("default credential")
@pytest.mark.parametrize("word", USUAL)
def test_nothing_that_anybody_would_guess_opens_anything(plane: Plane, word: str) -> None:
    assert plane.ask("GET", "/v1/status", headers={"authorization": f"Bearer {word}"}).status in (401, 429)
    assert plane.ask("GET", "/v1/status", headers={"authorization": f"Basic {word}"}).status in (401, 429)
    assert plane.ask("GET", "/v1/status").status == 200


@attack("default credential")
def test_two_projects_are_born_with_different_keys_and_nothing_else(plane: Plane, other: Plane) -> None:
    assert plane.key != other.key
    assert re.fullmatch(r"falaj_[0-9a-f]{12}_[\w-]{43}", other.key)
    assert [key["name"] for key in other.ask("GET", "/v1/keys").json] == ["operator"]


@attack("cross-tenant access")
def test_a_key_of_one_project_is_nothing_in_another(plane: Plane, other: Plane) -> None:
    for number, (method, path) in enumerate(routes()):
        peer = f"127.2.0.{number % 250 + 1}"  # whoever shows a wrong key again and again has to wait
        assert plane.ask(method, path, {} if method == "POST" else None, key=other.key, peer=peer).status == 401, path


@attack("redirect and rebinding")
@attack("foreign page")
@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_name_that_is_not_this_planes_is_not_answered(plane: Plane, host: str) -> None:
    for method, path in (("GET", "/v1/status"), ("GET", "/health"), ("POST", "/v1/keys/x:create")):
        assert plane.ask(method, path, {} if method == "POST" else None, headers={"host": host}).status in (400, 403)


@attack("foreign page")
@pytest.mark.parametrize("page", FOREIGN_PAGES, ids=str)
def test_no_foreign_page_changes_anything_even_with_a_key(plane: Plane, page: dict[str, str]) -> None:
    before = plane.ask("GET", "/v1/keys").text
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert plane.ask(method, "/v1/keys/x:create", {"roles": ["operator"]}, headers=page).status == 403
    assert plane.ask("GET", "/v1/keys").text == before


@attack("foreign page")
def test_its_own_pages_and_programs_may(plane: Plane) -> None:
    for page in ({}, {"origin": f"http://{plane.address.netloc}", "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
        assert plane.ask("POST", "/v1/keys/own-page:create", {"roles": ["auditor"]}, headers=page).status == 200


@attack("client-supplied path")
@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_of_the_callers_is_ever_opened(plane: Plane, path: str) -> None:
    sent = "".join(letter if letter.isascii() else quote(letter) for letter in path)
    for operation in OPERATIONS:
        target = operation.path.replace("{subject}", sent)
        body = {argument.name: path for argument in operation.arguments if argument.kind == "text" and not argument.one_of}
        answer = plane.ask(operation.method, target, body if operation.changes else None)
        assert "root:" not in answer.text
        assert answer.status < 500 or answer.status == 503, (operation.name, answer)
        if not operation.changes and body:
            query = "&".join(f"{name}={sent.replace('#', '%23')}" for name in body)
            answer = plane.ask("GET", f"{operation.path.replace('{subject}', 'x')}?{query}")
            assert "root:" not in answer.text
            assert answer.status < 500 or answer.status == 503, (operation.name, answer)


@attack("command injection")
@pytest.mark.parametrize("text", METACHARACTERS)
def test_no_text_of_the_callers_is_ever_run(plane: Plane, text: str) -> None:
    for operation in OPERATIONS:
        body = {argument.name: text for argument in operation.arguments if argument.kind in ("text", "list")}
        answer = plane.ask(operation.method, operation.path.replace("{subject}", "x"), body if operation.changes else None)
        assert "uid=" not in answer.text
        assert "49" not in answer.text or "{{7*7}}" not in text or answer.status in (400, 404, 200)
        assert answer.status < 500 or answer.status == 503, (operation.name, answer)


@attack("script in a page")
@pytest.mark.parametrize("text", SCRIPTS)
def test_no_answer_can_be_read_as_a_page(plane: Plane, text: str) -> None:
    for method, path, body in (
        ("GET", "/" + text.replace(" ", "%20").replace("<", "%3C").replace(">", "%3E").replace('"', "%22"), None),
        ("GET", "/v1/audit:history", None),
        ("POST", "/v1/keys/x:create", {"roles": [text]}),
        ("POST", "/v1/keys/x:create", {text: text}),
    ):
        answer = plane.ask(method, path, body)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert not [name for name in answer.headers if name.startswith("access-control")]


@attack("secret in an answer")
def test_no_secret_comes_out_whatever_is_asked(plane: Plane) -> None:
    attempts = ["env:HOOK_SECRET", "${HOOK_SECRET}", "$HOOK_SECRET", "secret://HOOK_SECRET", "%(HOOK_SECRET)s", "{HOOK_SECRET}"]
    seen = []
    for operation in OPERATIONS:
        for attempt in attempts:
            body = {argument.name: attempt for argument in operation.arguments if argument.kind in ("text", "list")}
            target = operation.path.replace("{subject}", "x")
            seen.append(plane.ask(operation.method, target, body if operation.changes else None).text)
            if not body:
                break
    assert not [text for text in seen if CANARY in text or plane.key in text]
    assert CANARY not in plane.log.read_text()
    assert plane.key not in plane.log.read_text()
    for path in plane.folder.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


@attack("raised privilege")
@pytest.mark.parametrize("role", ["data_scientist", "ml_engineer", "approver", "auditor", "dpo", "service", "caller"])
def test_nobody_but_the_operator_hands_out_or_takes_back(plane: Plane, role: str) -> None:
    own = roles_key(plane, f"somebody-{role.replace('_', '-')}", role)
    for path, body in (
        ("/v1/keys/mine:create", {"roles": ["operator"]}),
        ("/v1/keys/mine:create", {"roles": [role]}),
        (f"/v1/keys/{plane.key.split('_')[1]}:revoke", {}),
        ("/v1/tokens/mine:create", {"roles": ["operator"]}),
        ("/v1/certificates/mine:allow", {"roles": ["operator"]}),
    ):
        assert plane.ask("POST", path, body, key=own).status == 403, path
    assert plane.ask("GET", "/v1/status").status == 200


@attack("raised privilege")
@pytest.mark.parametrize("role", ["approver", "auditor", "dpo"])
def test_whoever_runs_the_place_makes_nobody_of_their_own_who_judges_them(third: Plane, role: str) -> None:
    """The operator has the strongest key that there is at the start: it makes others, and takes them back."""
    watcher(third)
    made = third.ask("POST", f"/v1/keys/puppet-{role}:create", {"roles": [role, "operator"]}).json
    puppet, ref = made["key"], made["key"].split("_")[1]
    assert (made["standing"], "opens nothing" in made["note"]) == ("pending", True)
    for path in ("/v1/identity", "/v1/keys", "/v1/audit:history", "/v1/status"):
        assert third.ask("GET", path, key=puppet).status == 401
    helper = roles_key(third, f"helper-{role}", "operator", "ml_engineer")
    for own in (third.key, puppet, helper):
        assert third.ask("POST", f"/v1/keys/{ref}:confirm", {"reason": "it is me"}, key=own).status in (401, 403)
    for own in (third.key, helper):
        assert third.ask("POST", "/v1/tokens/puppet:create", {"roles": [role]}, key=own).status == 403
    allowed = third.ask("POST", f"/v1/certificates/puppet-{role}:allow", {"roles": [role]}).json
    assert allowed["standing"] == "pending"
    named = {"roles": [role], "reason": "it is ours"}
    assert third.ask("POST", f"/v1/certificates/puppet-{role}:confirm", named).status == 403
    judge = watcher(third).split("_")[1]
    for own in (third.key, helper):
        assert third.ask("POST", f"/v1/keys/{judge}:revoke", {}, key=own).status == 403, "the next one would be the first again"
    again = third.ask("POST", f"/v1/keys/again-{role}:create", {"roles": [role]}).json
    assert (again["standing"], third.ask("GET", "/v1/identity", key=again["key"]).status) == ("pending", 401)
    assert third.ask("GET", "/v1/identity", key=watcher(third)).status == 200


@attack("stolen or forged token")
def test_a_key_that_was_taken_back_opens_nothing_from_the_next_call_on(plane: Plane) -> None:
    own = roles_key(plane, "leaver", "auditor")
    assert plane.ask("GET", "/v1/audit:history", key=own).status == 200
    assert plane.ask("POST", f"/v1/keys/{own.split('_')[1]}:revoke", {}).status == 200
    assert all(plane.ask("GET", "/v1/audit:history", key=own).status in (401, 429) for _ in range(3))


@attack("exhausted server")
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 100_000 + b"]" * 100_000, 422),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 422),
        (b'{"roles": ["' + b"a" * 900_000 + b'"]}', 422),
        (b'{"roles": ' + json.dumps(["auditor"] * 100_000).encode() + b"}", 413),
        (b"x" * (LIMIT + 1), 413),
        (b"\xff\xfe", 422),
        (b'{"roles": NaN}', 422),
        (b'{"roles": 1e999}', 422),
    ],
    ids=range(8),
)
def test_a_body_that_is_too_much_is_refused_and_the_next_one_served(plane: Plane, body: bytes, status: int) -> None:
    answer = plane.ask("POST", "/v1/keys/x:create", body)
    assert answer.status == status, answer.text[:200]
    assert len(answer.text) < 2000
    assert plane.ask("GET", "/health").status == 200


@attack("exhausted server")
def test_a_name_that_is_too_long_is_refused(plane: Plane) -> None:
    answer = plane.ask("POST", f"/v1/keys/{'a' * 5000}:create", {"roles": ["auditor"]})
    assert (answer.status, len(answer.text) < 2000) == (422, True)


@attack("open permissions")
def test_the_state_is_its_owners_alone_whatever_the_umask(plane: Plane) -> None:
    """The plane was started under a umask of 0, as a careless container does."""
    state = plane.folder / ".falaj"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for path in (state / "keys").rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode & 0o077 == 0, (path, oct(mode))
    for path in (state / "ledger.db", *state.glob("ledger.db-*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert state.stat().st_uid == os.getuid()
