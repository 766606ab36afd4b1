"""The server: one table of routes, each with the permission it takes; whatever is not in the table does not exist."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from falaj.core.actor import Actor
from falaj.core.errors import FalajError, InvalidInput, NotFound
from falaj.inference.auth import Keyring, demand
from falaj.inference.batch import Batcher
from falaj.inference.calls import Answered, Caller, EntityCall, TensorCall
from falaj.inference.deadlines import HEADER as DEADLINE
from falaj.inference.deadlines import deadline_of
from falaj.inference.describe import arms_of, model_config, model_metadata, model_statistics, server_metadata
from falaj.inference.entities import read_entities, read_json
from falaj.inference.errors import Malformed, NotThatMethod, failed
from falaj.inference.exchange import JSON, PEER, Answer, Asker, Request, Respond, refusal
from falaj.inference.feedback import read_labels
from falaj.inference.heads import Known
from falaj.inference.models import Live
from falaj.inference.predict import Predictor
from falaj.inference.repository import Operation
from falaj.inference.router import read_arm
from falaj.inference.settings import ServerSettings
from falaj.inference.singles import Singles
from falaj.inference.tensors import MAX_ROWS, read_infer, write_infer
from falaj.inference.tensors_mixed import Address, Wish, is_common, read_mixed, write_mixed
from falaj.inference.text import MAX_TEXT, text_of
from falaj.inference.traces import Span, Traces, trace_lines

_TEXT = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    pattern: str
    permission: str
    """One of auth.PERMISSIONS; `open` needs no key: health, and a page that shows nothing until it is given a key."""
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
    Route("GET", "/v2/models/{name}/config", "read", "config"),
    Route("GET", "/v2/models/{name}/versions/{version}/config", "read", "config"),
    Route("GET", "/v2/models/{name}/stats", "metrics", "stats"),
    Route("GET", "/v2/models/{name}/versions/{version}/stats", "metrics", "stats"),
    Route("POST", "/v2/repository/index", "read", "index"),
    Route("POST", "/v2/repository/models/{name}/load", "operate", "load"),
    Route("POST", "/v2/repository/models/{name}/unload", "operate", "unload"),
    Route("POST", "/v2/models/{name}/infer", "predict", "infer"),
    Route("POST", "/v2/models/{name}/versions/{version}/infer", "predict", "infer"),
    Route("POST", "/v1/models/{name}:predict", "predict", "predict"),
    Route("POST", "/v1/feedback", "label", "feedback"),
    Route("GET", "/metrics", "metrics", "metrics"),
    Route("GET", "/openapi.json", "read", "openapi"),
    Route("GET", "/docs", "open", "docs"),
)


_INFER = next(route for route in ROUTES if route.call == "infer")
_LATER = frozenset({"infer", "predict", "feedback"})
NOBODY = Actor("nobody", "service")
Names = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Admitted:
    """What the head of a request came to."""

    route: Route
    names: Names
    actor: Actor
    key: bytes = b""
    """What the caller showed; empty where it was not by key or token that they are known."""


class Server:
    """What the edge asks: who may come in, and what the answer is."""

    def __init__(
        self, settings: ServerSettings, keyring: Keyring, predictor: Predictor, batcher: Batcher, traces: Traces | None = None
    ) -> None:
        self.settings, self.keyring, self.predictor, self.batcher = settings, keyring, predictor, batcher
        self._traces = traces or Traces()
        predictor.is_traced = self._traces.is_on
        self._default_s = settings.timeout_ms / 1000
        is_plain = not (self._traces.is_on or settings.timeout_ms or settings.clock == "replay")
        self._singles = Singles(predictor, batcher) if is_plain else None
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
        self._look()
        # Whoever shows no key is who their certificate says.
        is_known_by_key = key or given or PEER not in headers
        actor = self.keyring.actor(key) if is_known_by_key else self.keyring.holder(headers[PEER].decode())
        demand(actor, route.permission)
        return Admitted(route, found[1], actor, key)

    def admits_still(self, opened: Any) -> bool:
        if type(opened) is not Admitted or not opened.key:
            return False
        self._look()
        try:
            # Whoever may do more or less than before is another actor.
            return self.keyring.actor(opened.key) is opened.actor
        except FalajError:
            return False

    def quick(self, known: Known, body: bytes, started: float, asker: Asker) -> bool:
        opened: Admitted = known.request.opened
        if self._singles is None or not known.is_plain or opened.route is not _INFER:
            return False
        return self._singles.take(known, body, started, asker)

    def _look(self) -> None:
        if not self._has_looked:
            # Once for all that came in this turn of the loop; a key that was taken back is refused from the next turn on.
            self.keyring.look()
            self._has_looked = True
            asyncio.get_running_loop().call_soon(self._forget)

    def _forget(self) -> None:
        self._has_looked = False

    def handle(self, request: Request, respond: Respond) -> None:
        admitted: Admitted = request.opened
        call = admitted.route.call
        try:
            later = self._later.get(call)
            if later is not None:
                if self._traces.is_on or b"traceparent" in request.headers or b"x-request-id" in request.headers:
                    respond = self._telling(request, admitted, respond)
                later(request, admitted, respond)
                return
            answer = self._now[call](request, admitted)
        except FalajError as exc:
            answer = self._refuse(exc, request.path)
        except Exception as exc:
            answer = self._refuse(failed(exc), request.path)
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
        names, caller, body = admitted.names, self._caller(request, admitted), request.body
        header_length = request.headers.get(b"inference-header-content-length")
        wish: Wish | None = None
        if is_common(body, header_length):
            call = read_infer(body, name=names["name"], version=names.get("version"), caller=caller)
        else:
            address = Address(names["name"], names.get("version"), caller, header_length)
            call, wish = read_mixed(body, address, self.predictor.serving)
        if call.parameters and "timeout" in call.parameters:
            call.caller.deadline = deadline_of(request.headers, call.parameters, request.started, self._default_s)

        def done(outcome: Answered | FalajError) -> None:
            if request.span is not None:
                _describe(request.span, call, outcome)
            if isinstance(outcome, Answered):
                written = (write_infer(outcome, call),) if wish is None else write_mixed(outcome, call, wish)
                respond(Answer(200, *written))
            else:
                respond(self._refuse(outcome, request.path))

        self.batcher.submit(call, done)

    def _predict(self, request: Request, admitted: Admitted, respond: Respond) -> None:
        rows, is_single, call_id = read_entities(request.body)
        call = EntityCall(admitted.names["name"], rows, "entity", self._caller(request, admitted, call_id))

        def done(outcome: Answered | FalajError) -> None:
            if request.span is not None:
                _describe(request.span, call, outcome)
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
        caller = Caller(admitted.actor, given or call_id, arm, request.started)
        if self._default_s or DEADLINE in headers:
            caller.deadline = deadline_of(headers, None, request.started, self._default_s)
        if request.span is not None:
            caller.span, caller.trace = request.span, request.span.context.text
        return caller

    def _telling(self, request: Request, admitted: Admitted, respond: Respond) -> Respond:
        """Tells the caller, with the answer, which span and which id its request had, and the collector how it went."""
        headers, span = (
            request.headers,
            self._traces.begin(request.headers.get(b"traceparent"), request.headers.get(b"tracestate")),
        )
        request.span = span
        more = trace_lines(span, headers.get(b"x-request-id", b"")[:MAX_TEXT])

        def told(answer: Answer) -> None:
            answer.head += more
            respond(answer)
            facts = {"http.request.method": "POST", "http.route": admitted.route.pattern}
            self._traces.end(span, request.started, time.perf_counter(), answer.status, facts)

        return told

    # --- answered at once ---

    def _live(self, request: Request, admitted: Admitted) -> Answer:
        return _json({"live": True})

    def _ready(self, request: Request, admitted: Admitted) -> Answer:
        # Also of a worker that leaves: whoever reached it is answered, and the others take the next.
        is_ready = self._is_in_service()
        return _json({"ready": is_ready}, 200 if is_ready else 503)

    def _about(self, request: Request, admitted: Admitted) -> Answer:
        return _json(server_metadata())

    def _model(self, request: Request, admitted: Admitted) -> Answer:
        return _json(model_metadata(admitted.names["name"], self._arms(admitted.names)))

    def _model_ready(self, request: Request, admitted: Admitted) -> Answer:
        self._arms(admitted.names)
        is_ready = self._is_in_service()
        return _json({"name": admitted.names["name"], "ready": is_ready}, 200 if is_ready else 503)

    def _config(self, request: Request, admitted: Admitted) -> Answer:
        return _json(model_config(admitted.names["name"], self._arms(admitted.names), MAX_ROWS))

    def _stats(self, request: Request, admitted: Admitted) -> Answer:
        found = model_statistics(admitted.names["name"], self._arms(admitted.names), self.predictor.metrics)
        return _json({"model_stats": found})

    def _index(self, request: Request, admitted: Admitted) -> Answer:
        only_ready = _object(request.body).get("ready", False)
        if not isinstance(only_ready, bool):
            raise InvalidInput("`ready` must be true or false.", 'send {} or {"ready": true}.')
        return _json(self.predictor.repository.index(self.predictor.serving, only_ready=only_ready))

    def _load(self, request: Request, admitted: Admitted) -> Answer:
        return self._operate(self.predictor.repository.load, request, admitted)

    def _unload(self, request: Request, admitted: Admitted) -> Answer:
        return self._operate(self.predictor.repository.unload, request, admitted)

    def _operate(self, do: Operation, request: Request, admitted: Admitted) -> Answer:
        parameters = _object(request.body).get("parameters", {})
        if not isinstance(parameters, dict):
            raise InvalidInput("`parameters` must be an object.", "send {}: nothing is needed.")
        do(self.predictor.serving, admitted.names["name"], parameters, admitted.actor)
        return _json({})

    def _is_in_service(self) -> bool:
        serving = self.predictor.serving
        return serving is not None and self.predictor.repository.answers(serving.name)

    def _metrics(self, request: Request, admitted: Admitted) -> Answer:
        return Answer(200, self.predictor.metrics.text().encode(), _TEXT)

    def _openapi(self, request: Request, admitted: Admitted) -> Answer:
        from falaj import __version__
        from falaj.inference.openapi import document  # few ask, and every worker would hold it

        return _json(document(ROUTES, self.settings, self.predictor.serving, __version__))

    def _docs(self, request: Request, admitted: Admitted) -> Answer:
        from falaj.inference.openapi import POLICY, page

        head = f"content-type: text/html; charset=utf-8\r\ncontent-security-policy: {POLICY}\r\n"
        return Answer(200, page(), head.encode())

    def _arms(self, names: Names) -> list[Live]:
        return arms_of(self.predictor.serving, names["name"], names.get("version"))


def wall() -> datetime:
    return datetime.now(UTC)


def _describe(span: Span, call: TensorCall | EntityCall, outcome: Answered | FalajError) -> None:
    told = span.attributes
    told["falaj.endpoint"] = call.name
    told["falaj.rows"] = len(call.matrix) if isinstance(call, TensorCall) else len(call.requests)
    if isinstance(outcome, Answered):
        told["falaj.model"] = outcome.live.arm.model
        told["falaj.version"], told["falaj.arm"] = outcome.live.version, outcome.live.role
    else:
        told["error.type"] = outcome.code


def _json(body: Any, status: int = 200) -> Answer:
    return Answer(status, orjson.dumps(body), JSON)


def _object(body: bytes) -> Mapping[str, Any]:
    """The JSON object of a body that may be left out. Raises Malformed or InvalidInput."""
    asked = read_json(body) if body else {}
    if not isinstance(asked, dict):
        raise InvalidInput("The body must be an object.", "send {}.")
    return asked


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
