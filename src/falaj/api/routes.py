"""Every operation as a route; what the table does not name does not exist."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from falaj.api.attempts import Attempts
from falaj.api.guards import LOOPBACK, Guards, on_exception, on_falaj_error, on_http_exception
from falaj.api.near import hint_for, with_colon
from falaj.core.codec import encode
from falaj.core.errors import Bug, FalajError, InvalidInput, NotFound, Unauthenticated
from falaj.operations import OPERATIONS, Operation
from falaj.ports.identity import Credential

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.core.actor import Actor


PEER = "falaj.peer"
"""Where a connection keeps whom its certificate names: see falaj.api.doors."""


class Reference(Convertor[str]):
    """A subject in a path, `delay@7` or `model/delay@7`: everything up to the colon before the verb."""

    regex = "(?:[^/:]+/)?[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("ref", Reference())


def build_api(app: App, *, hosts: Collection[str] = LOOPBACK, known: Collection[str] | None = None) -> Starlette:
    """The ASGI application. `known`: the verbs that policy knows; raises Bug where a route asks for none of them."""
    refuse_unbound(OPERATIONS, known)
    attempts = Attempts(time.monotonic, os.urandom(32))
    api = Starlette(
        routes=[Route("/health", _health, methods=["GET"]), *(_route(app, operation, attempts) for operation in OPERATIONS)],
        exception_handlers={FalajError: on_falaj_error, HTTPException: on_http_exception, Exception: on_exception},
    )
    api.add_middleware(Guards, hosts=hosts)
    return api


def refuse_unbound(operations: Sequence[Operation], known: Collection[str] | None) -> None:
    """Deny by default: no control plane starts with a route that nobody guards, or with two routes in one place."""
    places: dict[tuple[str, str], str] = {}
    for operation in operations:
        unknown = [verb for verb in operation.needs if known is not None and verb not in known]
        if unknown or not operation.needs:
            raise Bug(
                f"The route {operation.path} asks policy for {unknown or 'nothing'}, which no role can have.",
                "mend falaj.operations.",
            )
        other = places.setdefault((operation.method, operation.path), operation.name)
        if other != operation.name:
            raise Bug(f"{operation.name} and {other} share the route {operation.path}.", "mend falaj.operations.")


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _route(app: App, operation: Operation, attempts: Attempts) -> Route:
    async def endpoint(request: Request) -> Response:
        if with_colon(request.url.path):  # a subject may hold a slash, so the route fits; what was meant is another
            raise NotFound(f"There is nothing at {request.url.path}.", hint_for(request.url.path))
        credential = _credential(request)
        given = await _given(request, operation)
        subject = request.path_params.get("subject")
        dry = given.pop("dry_run", False) in (True, "true")
        answered = await run_in_threadpool(
            _answer, app, operation, attempts, _Ask(credential, _peer(request), subject, given, dry)
        )
        return JSONResponse(answered)

    path = operation.path.replace("{subject}", "{subject:ref}")
    return Route(path, endpoint, methods=[operation.method], name=operation.name)


@dataclass(frozen=True, slots=True)
class _Ask:
    """What a request asks for, read off the wire."""

    credential: Credential
    peer: str
    subject: str | None
    given: dict[str, Any]
    dry: bool


def _answer(app: App, operation: Operation, attempts: Attempts, ask: _Ask) -> Any:
    """Runs in a thread: the ledger, the provider, the host and the stages block."""
    actor = _authenticated(app, attempts, ask.credential, ask.peer)
    do: Callable[..., Any] = operation.foresee if ask.dry else operation.do
    return encode(do(app, actor, ask.subject, ask.given))


def _authenticated(app: App, attempts: Attempts, credential: Credential, peer: str) -> Actor:
    """Raises Unauthenticated, TooManyAttempts, Unavailable."""
    shown = credential.text or credential.certificate
    attempts.admit(peer, shown)
    try:
        actor = app.access.identity.authenticate(credential)
    except Unauthenticated:
        attempts.failed(peer, shown)
        raise
    attempts.succeeded(shown)
    return actor


def _credential(request: Request) -> Credential:
    """What the caller shows: behind `Authorization: Bearer`, or, without that, the certificate of the connection."""
    given = request.headers.getlist("authorization")
    peer = request.scope.get("state", {}).get(PEER)
    certificate = peer.identity if peer is not None and peer.until > time.time() else ""
    if not given:
        if certificate:
            return Credential("", certificate)
        raise Unauthenticated("No key came with the request.", "send the header `Authorization: Bearer falaj_…`.")
    kind, _, text = given[0].partition(" ")
    if len(given) > 1 or kind.lower() != "bearer" or not text.strip():
        raise Unauthenticated("The request says in no way that is taken here who asks.", "one header `Authorization: Bearer …`.")
    return Credential(text.strip(), certificate)


def _peer(request: Request) -> str:
    return request.client.host if request.client is not None else ""


async def _given(request: Request, operation: Operation) -> dict[str, Any]:
    """The arguments: the query of a GET, the JSON object of a POST."""
    if not operation.changes:
        return dict(request.query_params)
    body = await request.body()
    if not body:
        return {}
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise InvalidInput("The body is not JSON.", 'send an object, as in {"reason": "approved"}.') from exc
    if not isinstance(given, dict):
        raise InvalidInput("The body must be a JSON object.", 'as in {"reason": "approved"}.')
    return given
