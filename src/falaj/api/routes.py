"""Every operation as a route; what the table does not name does not exist."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from falaj.api.guards import LOOPBACK, Guards, on_exception, on_falaj_error, on_http_exception
from falaj.api.near import hint_for, with_colon
from falaj.core.codec import encode
from falaj.core.errors import Bug, FalajError, InvalidInput, NotFound, Unauthenticated
from falaj.operations import OPERATIONS, Operation
from falaj.stages.doors import Door, refuse_unbound

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.core.actor import Actor


class Reference(Convertor[str]):
    """A subject in a path, `delay@7` or `model/delay@7`: everything up to the colon before the verb."""

    regex = "(?:[^/:]+/)?[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("ref", Reference())


def build_api(app: App, *, hosts: Collection[str] = LOOPBACK, known: Collection[str] | None = None) -> Starlette:
    """The ASGI application. `known`: the verbs that policy knows, as far as it cannot say itself; raises Bug where a route
    asks for none of them."""
    known = known or getattr(app.kernel.policy, "verbs", None)
    refuse_twins(OPERATIONS)
    routes = [Route("/health", _health, methods=["GET"]), *(_route(app, operation) for operation in OPERATIONS)]
    refuse_unbound(doors_of(routes), known)
    api = Starlette(
        routes=routes,
        exception_handlers={FalajError: on_falaj_error, HTTPException: on_http_exception, Exception: on_exception},
    )
    api.add_middleware(Guards, hosts=hosts)
    return api


def doors_of(routes: Iterable[BaseRoute]) -> Iterator[Door]:
    """What the application really answers to, with what its endpoint says that it asks of policy. A part that is mounted, and
    would answer for itself, is bound to nothing."""
    for route in routes:
        rights = tuple(getattr(getattr(route, "endpoint", None), "rights", ()))
        path = str(getattr(route, "path", type(route).__name__)).replace("{subject:ref}", "{subject}")
        for method in sorted((getattr(route, "methods", None) or {"ANY"}) - {"HEAD"}):
            yield Door("route", f"{method} {path}", rights)


def refuse_twins(operations: Sequence[Operation]) -> None:
    """No control plane starts with two operations in one place: one of them would never be reached."""
    places: dict[tuple[str, str], str] = {}
    for operation in operations:
        other = places.setdefault((operation.method, operation.path), operation.name)
        if other != operation.name:
            raise Bug(f"{operation.name} and {other} share the route {operation.path}.", "mend falaj.operations.")


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _route(app: App, operation: Operation) -> Route:
    async def endpoint(request: Request) -> Response:
        if with_colon(request.url.path):  # a subject may hold a slash, so the route fits; what was meant is another
            raise NotFound(f"There is nothing at {request.url.path}.", hint_for(request.url.path))
        text = _bearer(request)
        given = await _given(request, operation)
        subject = request.path_params.get("subject")
        dry = given.pop("dry_run", False) in (True, "true")
        answered = await run_in_threadpool(_answer, app, operation, _Ask(text, subject, given, dry))
        return JSONResponse(answered)

    endpoint.rights = operation.needs  # type: ignore[attr-defined]  # what `doors_of` reads, and a test
    path = operation.path.replace("{subject}", "{subject:ref}")
    return Route(path, endpoint, methods=[operation.method], name=operation.name)


class _Ask:
    """What a request asks for, read off the wire."""

    def __init__(self, key: str, subject: str | None, given: dict[str, Any], dry: bool) -> None:
        self.key = key
        self.subject = subject
        self.given = given
        self.dry = dry


def _answer(app: App, operation: Operation, ask: _Ask) -> Any:
    """Runs in a thread: the ledger, the host and the stages block."""
    actor: Actor = app.keys.authenticate(ask.key)
    do: Callable[..., Any] = operation.foresee if ask.dry else operation.do
    return encode(do(app, actor, ask.subject, ask.given))


def _bearer(request: Request) -> str:
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not text:
        raise Unauthenticated("No key came with the request.", "send the header `Authorization: Bearer falaj_…`.")
    return text.strip()


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
