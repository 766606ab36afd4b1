"""The server: one table of routes, each with the permission it takes; whatever is not in the table does not exist."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from falaj.core.actor import Actor
from falaj.core.errors import Bug, FalajError, NotFound, Unavailable
from falaj.inference.auth import Keyring, demand
from falaj.inference.batch import Batcher
from falaj.inference.calls import Answered, Caller, EntityCall
from falaj.inference.entities import read_entities
from falaj.inference.errors import Malformed, NotThatMethod
from falaj.inference.feedback import read_labels
from falaj.inference.http import JSON, Answer, Request, Respond, refusal
from falaj.inference.models import Live
from falaj.inference.predict import Predictor
from falaj.inference.router import read_arm
from falaj.inference.settings import ServerSettings
from falaj.inference.tensors import read_infer, write_infer
from falaj.inference.text import text_of

_TEXT = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"


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


_LATER = frozenset({"infer", "predict", "feedback"})
NOBODY = Actor("nobody", "service")
Names = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Admitted:
    """What the head of a request came to."""

    route: Route
    names: Names
    actor: Actor


class Server:
    """What the edge asks: who may come in, and what the answer is."""

    def __init__(self, settings: ServerSettings, keyring: Keyring, predictor: Predictor, batcher: Batcher) -> None:
        self.settings, self.keyring, self.predictor, self.batcher = settings, keyring, predictor, batcher
        self.is_leaving = False
        """Whether it only answers what it has taken on."""
        self._now: dict[str, Callable[[Request, Admitted], Answer]] = {
            route.call: getattr(self, "_" + route.call) for route in ROUTES if route.call not in _LATER
        }
        self._later: dict[str, Callable[[Request, Admitted, Respond], None]] = {
            "infer": self._infer, "predict": self._predict, "feedback": self._feedback
        }  # fmt: skip
        self._has_looked = False
        self._found: dict[tuple[bytes, str], tuple[Route, Names]] = {}

    def admit(self, method: bytes, path: str, headers: Mapping[bytes, bytes]) -> Admitted:
        """Raises NotFound, NotThatMethod, Unauthenticated, Denied or Malformed."""
        found = self._found.get((method, path)) or self._find(method, path)
        route = found[0]
        if b"content-encoding" in headers and headers[b"content-encoding"] != b"identity":
            raise Malformed("The body is compressed, which is not taken here.", "send it as it is.")
        if route.permission == "open":
            return Admitted(route, found[1], NOBODY)
        given = headers.get(b"authorization", b"")
        key = given[7:].strip() if given[:7].lower() == b"bearer " else headers.get(b"x-falaj-key", b"")
        self.keyring.look()
        if not self._has_looked:
            # Once for all that came in this turn of the loop; a key that was taken back is refused from the next turn on.
            self.keyring.look()
            self._has_looked = True
            asyncio.get_running_loop().call_soon(self._forget)
        actor = self.keyring.actor(key)
        demand(actor, route.permission)
        return Admitted(route, found[1], actor)

    def _forget(self) -> None:
        self._has_looked = False

    def handle(self, request: Request, respond: Respond) -> None:
        admitted: Admitted = request.opened
        call = admitted.route.call
        try:
            later = self._later.get(call)
            if later is not None:
                later(request, admitted, respond)
                return
            answer = self._now[call](request, admitted)
        except FalajError as exc:
            answer = self._refuse(exc, request.path)
        except Exception as exc:
            problem = Bug(f"The server failed: {type(exc).__name__}: {str(exc)[:200]}", "report it with server.log.")
            answer = self._refuse(problem, request.path)
        respond(answer)

    def refused(self, error: FalajError) -> None:
        self.predictor.metrics.refused(error.code)

    def _refuse(self, error: FalajError, path: str) -> Answer:
        self.refused(error)
        return refusal(error, path)

    def _find(self, method: bytes, path: str) -> tuple[Route, Names]:
        name = "GET" if method == b"HEAD" else method.decode("latin-1")
        parts, others = path.split("/"), []
        for route in ROUTES:
            names = _match(route, parts)
            if names is None:
                continue
            if route.method == name:
                if len(self._found) < 256:
                    self._found[method, path] = (route, names)
                return route, names
            others.append(route.method)
        if others:
            allowed = ", ".join(sorted(set(others)))
            raise NotThatMethod(f"The route {path[:120]} does not take {name[:10]}.", f"it takes {allowed}.", allow=allowed)
        raise NotFound(f"There is no route {name[:10]} {path[:120]}.", "GET /openapi.json lists them.")

    # --- answered once the batch is through ---

    def _infer(self, request: Request, admitted: Admitted, respond: Respond) -> None:
        if b"inference-header-content-length" in request.headers:
            raise Malformed("The binary tensor extension is not taken here.", "send the tensor as JSON.")
        names = admitted.names
        call = read_infer(request.body, name=names["name"], version=names.get("version"), caller=self._caller(request, admitted))

        def done(outcome: Answered | FalajError) -> None:
            if isinstance(outcome, Answered):
                respond(Answer(200, write_infer(outcome, call)))
            else:
                respond(self._refuse(outcome, request.path))

        self.batcher.submit(call, done)

    def _predict(self, request: Request, admitted: Admitted, respond: Respond) -> None:
        rows, is_single, call_id = read_entities(request.body)
        call = EntityCall(admitted.names["name"], rows, "entity", self._caller(request, admitted, call_id))

        def done(outcome: Answered | FalajError) -> None:
            if isinstance(outcome, Answered):
                respond(_json(outcome.rows[0] if is_single else {"predictions": outcome.rows}))
            else:
                respond(self._refuse(outcome, request.path))

        self.batcher.submit(call, done)

    def _feedback(self, request: Request, admitted: Admitted, respond: Respond) -> None:
        now = None if self.settings.clock == "replay" else self.predictor.now()
        labels = read_labels(request.body, self.predictor.log.key, now)
        self.predictor.label(labels, admitted.actor)

        def done(problem: FalajError | None) -> None:
            respond(_json({"accepted": len(labels)}) if problem is None else self._refuse(problem, request.path))

        self.batcher.settle(done)

    def _caller(self, request: Request, admitted: Admitted, call_id: str = "") -> Caller:
        """Raises InvalidInput for a header that says nothing usable."""
        headers = request.headers
        arm = read_arm(headers[b"x-falaj-arm"].decode("latin-1")) if b"x-falaj-arm" in headers else ""
        given = text_of(headers[b"x-request-id"].decode("latin-1"), "X-Request-Id") if b"x-request-id" in headers else ""
        return Caller(admitted.actor, given or call_id, arm, request.started)

    # --- answered at once ---

    def _live(self, request: Request, admitted: Admitted) -> Answer:
        return _json({"live": True})

    def _ready(self, request: Request, admitted: Admitted) -> Answer:
        is_ready = self.predictor.serving is not None and not self.is_leaving
        return _json({"ready": is_ready}, 200 if is_ready else 503)

    def _about(self, request: Request, admitted: Admitted) -> Answer:
        from falaj import __version__

        return _json({"name": "falaj", "version": __version__, "extensions": []})

    def _model(self, request: Request, admitted: Admitted) -> Answer:
        name, arms = self._arms(admitted.names)
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

    def _model_ready(self, request: Request, admitted: Admitted) -> Answer:
        self._arms(admitted.names)
        return _json({"name": admitted.names["name"], "ready": True})

    def _metrics(self, request: Request, admitted: Admitted) -> Answer:
        return Answer(200, self.predictor.metrics.text().encode(), _TEXT)

    def _openapi(self, request: Request, admitted: Admitted) -> Answer:
        return Answer(200, _openapi())

    def _arms(self, names: Names) -> tuple[str, list[Live]]:
        serving = self.predictor.serving
        name, version = names["name"], names.get("version")
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
    return Answer(status, orjson.dumps(body), JSON)


def _match(route: Route, parts: list[str]) -> dict[str, str] | None:
    """The names in the path, or None where it is another route's."""
    wanted = route.pattern.split("/")
    if len(wanted) != len(parts):
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
