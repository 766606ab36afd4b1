"""`falaj login`: a browser, one redirect to this machine, and from then on commands speak in the person's name."""

from __future__ import annotations

import json
import os
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from falaj.app import App, open_app
from falaj.cli import session
from falaj.cli.key import who
from falaj.cli.login import login, logout
from falaj.cli.main import main
from falaj.core.actor import Actor
from falaj.core.errors import Denied, FalajError, InvalidInput, NotFound, Unauthenticated, Unavailable
from tests.kits.empty import empty_project
from tests.kits.oidc import Op


@pytest.fixture
def app(tmp_path: Path, op: Op, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FALAJ_API_KEY", raising=False)
    with open_app(tmp_path, {**empty_project(tmp_path), **op.settings(scope="openid profile offline_access")}) as app:
        yield app


class Person(threading.Thread):
    """Opens the address that the command prints, logs in, and lets the browser follow the redirect."""

    def __init__(self, op: Op, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(daemon=True)
        self.op, self.person, self.capsys = op, name, capsys
        self.said, self.statuses = "", list[int]()

    def run(self) -> None:
        found = None
        while found is None:
            time.sleep(0.02)
            self.said += self.capsys.readouterr().err
            found = re.search(r"Log in here: (\S+)", self.said)
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(found[1]).query))
        back = asked["redirect_uri"]
        with httpx.Client(trust_env=False) as browser:
            for path, host in (("?state=guess&code=x", None), ("/else", None), ("?" + "a=1&" * 30, None), ("", "evil.example")):
                headers = {"Host": host} if host else {}
                self.statuses.append(browser.get(back + path, headers=headers).status_code)
            answer = self.op.browse(found[1], self.person)
            self.statuses.append(browser.get(back, params=answer).status_code)


def logged_in(app: App, op: Op, name: str, capsys: pytest.CaptureFixture[str], **given: Any) -> tuple[dict[str, Any], Person]:
    person = Person(op, name, capsys)
    person.start()
    told = login(app, {"no_browser": True, "within": "30s", **given})
    person.join(20)
    return told, person


def test_a_person_logs_in_acts_and_logs_out(
    app: App, op: Op, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert who(app).name == "operator"
    told, person = logged_in(app, op, "noura", capsys)
    assert person.statuses == [400, 400, 400, 400, 200]
    assert (told["name"], told["roles"], told["display"]) == ("noura", ("approver",), "noura of the tests")
    path = Path(told["kept"])
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert who(app) == Actor("noura", "person", ("approver",))
    kept = json.loads(path.read_text())
    assert kept["access"] not in json.dumps(told) + person.said
    ended = logout(app)
    assert (ended["logged_out"], ended["at_provider"], ended["tokens_shut_out"], ended["problems"]) == ("noura", True, True, [])
    assert not path.exists()
    assert who(app).name == "operator"
    monkeypatch.setenv("FALAJ_API_KEY", kept["access"])
    with pytest.raises(Unauthenticated):
        who(app)
    with pytest.raises(NotFound):
        logout(app)


def test_a_login_that_is_about_to_end_is_renewed_and_one_that_cannot_be_is_not_replaced_by_another_name(
    app: App, op: Op, capsys: pytest.CaptureFixture[str]
) -> None:
    told, _ = logged_in(app, op, "lina", capsys)
    path = Path(told["kept"])
    first = json.loads(path.read_text())
    session.write(path, {**first, "until": time.time() + 5})
    assert who(app).name == "lina"
    second = json.loads(path.read_text())
    assert second["refresh"] != first["refresh"]
    assert path.stat().st_mode & 0o777 == 0o600
    session.write(path, {**second, "until": time.time() - 5, "refresh": ""})
    with pytest.raises(Unauthenticated, match="The login is over"):
        who(app)
    path.chmod(0o644)
    with pytest.raises(Denied, match="Others may read"):
        who(app)
    path.chmod(0o600)
    path.write_text("{}")
    with pytest.raises(Unauthenticated, match="cannot be read"):
        who(app)
    path.write_text("{")
    with pytest.raises(Unavailable):
        who(app)


def test_two_commands_at_once_use_a_refresh_token_once(app: App, op: Op, capsys: pytest.CaptureFixture[str]) -> None:
    told, _ = logged_in(app, op, "lina", capsys)
    path = Path(told["kept"])
    session.write(path, {**json.loads(path.read_text()), "until": time.time() + 1})
    seen: list[str] = []

    def act() -> None:
        try:
            seen.append(who(app).name)
        except FalajError as exc:
            seen.append(str(exc))

    threads = [threading.Thread(target=act) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == ["lina"] * 5


def test_a_token_may_be_shown_instead_and_is_kept_nowhere(app: App, op: Op, capsys: pytest.CaptureFixture[str]) -> None:
    told, _ = logged_in(app, op, "omar", capsys, print=True)
    assert told["token"].count(".") == 2
    assert not list((Path(os.environ["XDG_CONFIG_HOME"])).rglob("*.json"))


def test_nobody_waits_for_ever_and_a_refusal_is_told(app: App, op: Op, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unauthenticated, match="Nobody came back"):
        login(app, {"no_browser": True, "within": "1s"})
    capsys.readouterr()
    with pytest.raises(InvalidInput):
        login(app, {"within": "1h"})
    with pytest.raises(Unauthenticated, match="access_denied"):
        logged_in(app, op, "nobody", capsys)


def test_without_a_provider_there_is_nothing_to_log_in_at(tmp_path: Path, app: App, capsys: pytest.CaptureFixture[str]) -> None:
    given = [word for name, value in empty_project(tmp_path).items() for word in ("--set", f"{name}={value}")]
    assert main(["--project", str(tmp_path), *given, "login"]) == 3
    assert "no provider to log in at" in capsys.readouterr().err
    assert main(["--project", str(tmp_path), *given, "--json", "whoami"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "operator"


def test_endpoints_are_told_of_the_provider_and_its_keys_are_put_where_they_read_them(app: App, op: Op) -> None:
    from falaj.inference.tokens import issuers_of
    from falaj.upkeep import DUTIES

    told = app.access.door()
    assert (told["tokens_issuer"], told["tokens_audience"]) == (op.issuer, "urn:falaj:api")
    next(duty for duty in DUTIES if duty.name == "provider's keys").do(app, app.kernel.now())
    kept = json.loads(Path(told["tokens_jwks"]).read_text())
    assert {key["kid"] for key in kept["keys"]} == set(op.keys)
    assert not any("d" in key for key in kept["keys"])
    names = (told["tokens_issuer"], told["tokens_audience"], told["tokens_jwks"])
    (issuer,) = issuers_of(None, *names, (told["tokens_claim"], told["tokens_roles"]))
    assert dict(issuer.roles or {})["risk"] == "approver"


def test_what_opens_nothing_here_opens_nothing_at_an_endpoint(app: App, op: Op, tmp_path: Path) -> None:
    from falaj.core.errors import Unauthenticated
    from falaj.doors import keyring
    from falaj.inference.settings import ServerSettings
    from falaj.ports.identity import Credential

    settings = ServerSettings("noshow", "blobs", "online", "key.pub", "pepper", **app.access.door())
    app.access.oidc.provider.refresh()  # type: ignore[union-attr]
    (tmp_path / "keys.json").write_text("{}")
    ring = keyring(tmp_path, b"p" * 32, settings)
    ring.look()
    good = op.signed(op.claims())
    assert ring.actor(good.encode()).name == app.access.identity.authenticate(Credential(good)).name
    now = int(op.claims()["iat"])
    for wrong in (
        op.signed(op.claims(client_id="another", azp="another")),
        op.signed(op.claims(client_id="another")),
        op.signed(op.claims(nonce="n")),
        op.signed(op.claims(exp=now + 3600)),
        op.signed(op.claims(), typ="JWT"),
    ):
        with pytest.raises(Unauthenticated):
            app.access.identity.authenticate(Credential(wrong))
        with pytest.raises(Unauthenticated):
            ring.actor(wrong.encode())
