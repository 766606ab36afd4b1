"""`falaj login` and `falaj logout`: a person at the company's provider, by the browser and a redirect to this machine."""

from __future__ import annotations

import http.server
import sys
import time
import webbrowser
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from falaj.cli import session
from falaj.core.errors import FalajError, InvalidInput, NotFound, Unauthenticated
from falaj.core.moments import from_millis, iso, length
from falaj.core.ref import Ref
from falaj.ports.identity import Credential

if TYPE_CHECKING:
    from falaj.adapters.oidc.login import Session
    from falaj.app import App

PATH = "/callback"
LONGEST = timedelta(minutes=15)
_EARLY_S = 30.0
"""A token that ends within this is renewed before it is shown."""
_PAGE = b"<!doctype html><meta charset=utf-8><title>falaj</title><p>%s</p>"


def login(app: App, given: Mapping[str, Any]) -> dict[str, Any]:
    """Waits for one login and keeps it; with `print`, shows the access token instead and keeps nothing.

    Raises Unauthenticated where the provider lets nobody in, or nobody comes back in time.
    """
    within = length(given.get("within") or "5m")
    if not timedelta(seconds=1) <= within <= LONGEST:
        raise InvalidInput(f"A login cannot wait {within}.", "write a span up to 15m.")
    found = _through_browser(app, within.total_seconds(), opens=not given.get("no_browser"))
    actor = app.access.identity.authenticate(Credential(found.access))
    told = {
        "name": found.name,
        "display": found.display,
        "roles": actor.roles,
        "until": iso(from_millis(int(found.until * 1000))),
    }
    if given.get("print"):
        return {**told, "token": found.access, "note": "kept nowhere; export FALAJ_API_KEY with it"}
    path = session.place_of(found.issuer, found.client)
    with session.alone(path):
        session.write(path, asdict(found))
    return {**told, "kept": str(path)}


def logout(app: App) -> dict[str, Any]:
    """Ends the login here, at the provider where it offers that, and everywhere else for tokens that were made until now.

    Raises NotFound where nobody is logged in.
    """
    path = session.place_of(app.access.login.provider.pinned.issuer, app.access.login.provider.pinned.client)
    with session.alone(path):
        body = session.read(path)
        if body is None:
            raise NotFound("Nobody is logged in here.", "falaj login")
        found = _session(body)
        path.unlink(missing_ok=True)
    problems = []
    ended = shut_out = False
    try:
        actor = app.access.identity.authenticate(Credential(found.access))
        app.access.tokens.logout(actor, Ref("identity", "all"))
        app.host.allow(app.access.allowed())
        shut_out = True
    except Unauthenticated:
        pass  # it is over already, and opens nothing
    except FalajError as exc:
        problems.append(exc.message)
    try:
        ended = app.access.login.end(found)
    except FalajError as exc:
        problems.append(exc.message)
    return {"logged_out": found.name, "at_provider": ended, "tokens_shut_out": shut_out, "problems": problems}


def held(app: App) -> str:
    """The access token of the login that is kept here, renewed where it is about to end; empty where nobody is logged in.

    Raises Unauthenticated where it is over and cannot be renewed: nobody should act under another name without knowing.
    """
    pinned = app.access.login.provider.pinned
    path = session.place_of(pinned.issuer, pinned.client)
    body = session.read(path)
    if body is None or _session(body).until > time.time() + _EARLY_S:
        return _session(body).access if body is not None else ""
    with session.alone(path):
        body = session.read(path)
        if body is None:
            return ""
        found = _session(body)
        if found.until <= time.time() + _EARLY_S:
            found = app.access.login.renew(found)
            session.write(path, asdict(found))
        return found.access


def _session(body: Mapping[str, Any]) -> Session:
    from falaj.adapters.oidc.login import Session

    try:
        return Session(**{**body, "until": float(body["until"])})
    except (TypeError, ValueError, KeyError) as exc:
        raise Unauthenticated("The login that is kept here cannot be read.", "falaj login") from exc


def _through_browser(app: App, within_s: float, *, opens: bool) -> Session:
    """RFC 8252 section 7.3: a free port of 127.0.0.1, for one redirect."""
    flow = app.access.login
    with _Listener(("127.0.0.1", 0), _Callback) as server:
        begun = flow.begin(f"http://127.0.0.1:{server.server_address[1]}{PATH}")
        server.state = begun.state
        print(f"Log in here: {begun.address}", file=sys.stderr, flush=True)
        if opens:
            webbrowser.open(begun.address)
        answer = server.wait(within_s)
    return flow.finish(begun, answer)


class _Listener(http.server.HTTPServer):
    """Takes requests until one answers this login; any other page that calls here changes nothing."""

    state = ""
    answer: dict[str, str] | None = None
    timeout = 1.0

    def wait(self, within_s: float) -> dict[str, str]:
        ends = time.monotonic() + within_s
        while self.answer is None:
            if time.monotonic() >= ends:
                raise Unauthenticated(f"Nobody came back from the provider within {within_s:.0f} s.", "falaj login")
            self.handle_request()
        return self.answer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody hung up; whoever logs in comes by another connection."""


class _Callback(http.server.BaseHTTPRequestHandler):
    server: _Listener
    timeout = 5.0
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        import hmac

        try:
            found = urlsplit(self.path)
            pairs = parse_qsl(found.query, keep_blank_values=True, max_num_fields=20)
        except ValueError:
            found, pairs = urlsplit("/"), []
        answer = dict(pairs)
        here = f"127.0.0.1:{self.server.server_address[1]}"
        is_mine = (
            found.path == PATH
            and self.headers.get("Host") == here
            and len(answer) == len(pairs)
            and hmac.compare_digest(answer.get("state", "").encode("utf-8", "replace"), self.server.state.encode())
        )
        self.send_response(200 if is_mine else 400)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Security-Policy", "default-src 'none'")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(_PAGE % (b"You can close this page and go back." if is_mine else b"This answers no login."))
        if is_mine:
            self.server.answer = answer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its own name there
        """Nothing: the request line holds the code."""
