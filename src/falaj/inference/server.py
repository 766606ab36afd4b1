"""The server: one table of routes, each with the permission it takes; whatever is not in the table does not exist."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from falaj.core.actor import Actor
from falaj.core.errors import Bug, FalajError, InvalidInput, NotFound, Unavailable
from falaj.inference.auth import Keyring, demand
from falaj.inference.errors import RETRY_AFTER_S, Malformed, TooLarge, body_of
from falaj.inference.models import Live
from falaj.inference.predict import ROLES, Caller, Predictor
from falaj.inference.protocol import read_entities, read_infer, read_labels, text_of
from falaj.inference.settings import ServerSettings

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_WANTED = frozenset(
    {
        b"authorization",
        b"x-falaj-key",
        b"x-falaj-arm",
        b"x-request-id",
        b"content-length",
        b"content-encoding",
        b"inference-header-content-length",
    }
)


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    pattern: str
    permission: str
    """One of auth.PERMISSIONS; `open` needs no key and is for health alone."""
    call: str
    """The method of Server that answers."""


ROUTES = (
    Route("GET", "/v2/health/live", "open", "live"),
    Route("GET", "/v2/health/ready", "open", "ready"),
    Route("GET", "/v2", "read", "about"),
    Route("GET", "/v2/models/{name}", "read", "model"),
    Route("GET", "/v2/models/{name}/versions/{version}", "read", "model"),
    Route("GET", "/v2/models/{name}/ready", "read", "model_ready"),
    Route("GET", "/v2/models/{name}/versions/{version}/ready", "read", "model_ready"),
    Route("POST", "/v2/models/{name}/infer", "predict", "infer"),
    Route("POST", "/v2/models/{name}/versions/{version}/infer", "predict", "infer"),
    Route("POST", "/v1/models/{name}:predict", "predict", "predict"),
    Route("POST", "/v1/feedback", "label", "feedback"),
    Route("GET", "/metrics", "metrics", "metrics"),
    Route("GET", "/openapi.json", "read", "openapi"),
)


@dataclass(slots=True)
class Request:
    """What a route is given: the names in its path, the headers that matter, who asks, and the body."""

    names: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    actor: Actor
    body: bytes
    started: float

    def caller(self, call_id: str = "") -> Caller:
        """Raises InvalidInput for a header that says nothing usable."""
        arm = self.headers.get(b"x-falaj-arm", b"").decode("latin-1")
        if arm and arm not in ROLES:
            raise InvalidInput(f"The header X-Falaj-Arm says {arm[:40]!r}.", f"there is: {', '.join(ROLES)}.")
        given = text_of(self.headers.get(b"x-request-id", b"").decode("latin-1"), "X-Request-Id")
        return Caller(self.actor, given or call_id, arm, self.started)


Answer = tuple[int, tuple[bytes, bytes], bytes]
NOBODY = Actor("nobody", "service")


class Server:
    """An ASGI application. `after` is awaited between the append to the log and the answer; it makes `sync = "always"` wait."""

    def __init__(
        self, settings: ServerSettings, keyring: Keyring, predictor: Predictor, after: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.settings, self.keyring, self.predictor = settings, keyring, predictor
        self._after = after
        self._calls: dict[str, Callable[[Request], Answer]] = {route.call: getattr(self, "_" + route.call) for route in ROUTES}
        self._found: dict[tuple[str, str], tuple[Route, Mapping[str, str]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        path = scope["path"]
        is_read = False
        extra: tuple[tuple[bytes, bytes], ...] = ()
        try:
            route, names = self._find(scope["method"], path)
            headers = {name: value for name, value in scope["headers"] if name in _WANTED}
            actor = self._authorize(route, headers)
            body = await self._read(headers, receive) if route.method == "POST" else b""
            is_read = True
            status, kind, data = self._calls[route.call](Request(names, headers, actor, body, started))
            if self._after is not None and route.method == "POST":
                await self._after()
        except FalajError as exc:
            status, kind, data, extra = self._refuse(exc, path)
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            status, kind, data, extra = self._refuse(
                Bug(f"The server failed: {type(exc).__name__}: {str(exc)[:200]}", "report it with server.log."), path
            )
        # A body that was not read to its end would be taken for the next request.
        closing = () if is_read or scope["method"] == "GET" else ((b"connection", b"close"),)
        length = (b"content-length", str(len(data)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [kind, length, *extra, *closing]})
        await send({"type": "http.response.body", "body": data})

    # --- the door ---

    def _find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        key = (method, path)
        found = self._found.get(key)
        if found is not None:
            return found
        parts = path.split("/")
        for route in ROUTES:
            names = _match(route, method, parts)
            if names is not None:
                if len(self._found) < 256:
                    self._found[key] = (route, names)
                return route, names
        raise NotFound(f"There is no route {method[:10]} {path[:120]}.", "GET /openapi.json lists them.")

    def _authorize(self, route: Route, headers: Mapping[bytes, bytes]) -> Actor:
        if route.permission == "open":
            return NOBODY
        given = headers.get(b"authorization", b"")
        key = given[7:].strip() if given[:7].lower() == b"bearer " else headers.get(b"x-falaj-key", b"")
        self.keyring.look()
        actor = self.keyring.actor(key)
        demand(actor, route.permission)
        return actor

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        limit = self.settings.max_body_bytes
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            raise TooLarge(f"The body is longer than {limit} bytes.", "send fewer rows in a call.")
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise Malformed("The body is compressed, which is not taken here.", "send it as it is.")
        if b"inference-header-content-length" in headers:
            raise Malformed("The binary tensor extension is not taken here.", "send the tensor as JSON.")
        message = await receive()
        body = bytes(message.get("body", b""))
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
            if len(body) > limit:
                break
        if message["type"] == "http.disconnect":
            raise Malformed("The caller went away.")
        if len(body) > limit:
            raise TooLarge(f"The body is longer than {limit} bytes.", "send fewer rows in a call.")
        return body

    def _refuse(self, error: FalajError, path: str) -> tuple[int, tuple[bytes, bytes], bytes, tuple[tuple[bytes, bytes], ...]]:
        self.predictor.metrics.refused(error.code)
        extra: tuple[tuple[bytes, bytes], ...] = ()
        if isinstance(error, Unavailable):
            extra = ((b"retry-after", str(RETRY_AFTER_S).encode()),)
        elif error.http_status == 401:
            extra = ((b"www-authenticate", b"Bearer"),)
        return error.http_status, _JSON, orjson.dumps(body_of(error, path)), extra

    # --- the routes ---

    def _live(self, request: Request) -> Answer:
        return _json({"live": True})

    def _ready(self, request: Request) -> Answer:
        is_ready = self.predictor.serving is not None
        return _json({"ready": is_ready}, 200 if is_ready else 503)

    def _about(self, request: Request) -> Answer:
        from falaj import __version__

        return _json({"name": "falaj", "version": __version__, "extensions": []})

    def _model(self, request: Request) -> Answer:
        name, arms = self._arms(request)
        model = arms[0].model
        outputs = [{"name": o.name, "datatype": o.datatype, "shape": list(o.shape)} for o in model.outputs]
        return _json(
            {
                "name": name,
                "versions": sorted({live.version for live in arms}),
                "platform": "onnx_onnxv1",
                "inputs": [
                    {
                        "name": model.input,
                        "datatype": model.datatype,
                        "shape": [-1, model.width],
                        "parameters": {"columns": ",".join(model.recipe.names)},
                    }
                ],
                "outputs": [*outputs, {"name": "prediction_id", "datatype": "BYTES", "shape": [-1]}],
            }
        )

    def _model_ready(self, request: Request) -> Answer:
        self._arms(request)
        return _json({"name": request.names["name"], "ready": True})

    def _infer(self, request: Request) -> Answer:
        caller, call = request.caller(), read_infer(request.body)
        return 200, _JSON, self.predictor.by_tensor(request.names["name"], request.names.get("version"), call, caller)

    def _predict(self, request: Request) -> Answer:
        rows, is_single, call_id = read_entities(request.body)
        answers = self.predictor.by_entity(request.names["name"], rows, request.caller(call_id))
        return _json(answers[0] if is_single else {"predictions": answers})

    def _feedback(self, request: Request) -> Answer:
        now = None if self.settings.clock == "replay" else self.predictor.now()
        labels = read_labels(request.body, self.predictor.log.key, now)
        self.predictor.label(labels, request.actor)
        return _json({"accepted": len(labels)})

    def _metrics(self, request: Request) -> Answer:
        serving = self.predictor.serving
        revision = serving.wanted.revision if serving is not None else 0
        text = self.predictor.metrics.text(log_bytes=self.predictor.log.bytes, ready=serving is not None, revision=revision)
        return 200, _TEXT, text.encode()

    def _openapi(self, request: Request) -> Answer:
        return 200, _JSON, _openapi()

    def _arms(self, request: Request) -> tuple[str, list[Live]]:
        serving = self.predictor.serving
        name, version = request.names["name"], request.names.get("version")
        if serving is None:
            raise Unavailable("No model is served here yet.", "falaj status says why.")
        if name != serving.name:
            raise NotFound.named("model", name, [serving.name])
        arms = [live for live in serving.arms if version in (None, live.version)]
        if not arms:
            raise NotFound.named("version", str(version), [live.version for live in serving.arms])
        return name, arms


def wall() -> datetime:
    return datetime.now(UTC)


def _json(body: Any, status: int = 200) -> Answer:
    return status, _JSON, orjson.dumps(body)


def _match(route: Route, method: str, parts: list[str]) -> dict[str, str] | None:
    """The names in the path, or None where it is another route's."""
    wanted = route.pattern.split("/")
    if route.method != method or len(wanted) != len(parts):
        return None
    names: dict[str, str] = {}
    for want, part in zip(wanted, parts, strict=True):
        if not want.startswith("{"):
            if want != part:
                return None
            continue
        name, _, verb = want[1:].partition("}")
        if not part.endswith(verb) or len(part) == len(verb):
            return None
        names[name] = part[: len(part) - len(verb)]
    return names


@functools.cache
def _openapi() -> bytes:
    """The routes, small: names, permissions and the one error shape; the tensors are the Open Inference Protocol's own."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        security: list[Any] = [] if route.permission == "open" else [{"key": []}]
        operation = {
            "operationId": route.call,
            "security": security,
            "x-permission": route.permission,
            "responses": {"200": {"description": "OK"}},
        }
        names = [part[1:].partition("}")[0] for part in route.pattern.split("/") if part.startswith("{")]
        if names:
            operation["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
            ]
        paths.setdefault(route.pattern, {})[route.method.lower()] = operation
    schemes = {"key": {"type": "http", "scheme": "bearer"}}
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "falaj inference", "version": "1"},
            "paths": paths,
            "components": {"securitySchemes": schemes},
        }
    )
