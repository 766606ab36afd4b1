"""The description of the server in OpenAPI 3.1, made from its table of routes: every body, answer, error, header and limit."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from falaj.inference.entities import MAX_ENTITIES
from falaj.inference.feedback import MAX_LABELS
from falaj.inference.models import Serving
from falaj.inference.schemas import AT, Schema, ref, schemas
from falaj.inference.settings import ServerSettings
from falaj.inference.tensors import MAX_ROWS


class Described(Protocol):
    """A route of the server."""

    @property
    def method(self) -> str: ...
    @property
    def pattern(self) -> str: ...
    @property
    def permission(self) -> str: ...
    @property
    def call(self) -> str: ...


@dataclass(frozen=True)
class Operation:
    """What the call of a route does. `body` and `answer` name schemas; `answer` may also be `text` or `page`.

    `errors`: statuses that this call may answer with beyond those of every request.
    """

    summary: str
    answer: str
    body: str = ""
    errors: tuple[int, ...] = ()
    headers: tuple[str, ...] = ()
    says: str = ""
    answers: Mapping[int, str] = field(default_factory=dict)
    is_optional: bool = False
    """Whether the body may be left out."""


_CALLER = ("X-Falaj-Arm", "X-Request-Id", "X-Request-Timeout-Ms", "traceparent")
OPERATIONS: Mapping[str, Operation] = {
    "live": Operation("Whether the process is there", "Live"),
    "ready": Operation("Whether a model answers", "Ready", answers={503: "Ready"}),
    "about": Operation("The server and what it can do", "Server"),
    "model": Operation("The model, its input and its outputs", "Model", errors=(404, 503)),
    "model_ready": Operation("Whether this model answers", "ModelReady", errors=(404,), answers={503: "NotReady"}),
    "config": Operation("What of Triton's model configuration means something here", "Config", errors=(404, 503)),
    "stats": Operation("Requests, rows and their time, for each arm", "Statistics", errors=(404, 503)),
    "index": Operation("The models that are loaded", "Index", "IndexRequest", (422,), is_optional=True),
    "load": Operation(
        "Take the model back into service",
        "Done",
        "OperationRequest",
        (404, 422),
        (),
        "Which models there are is the registry's to say; this undoes `unload`.",
        is_optional=True,
    ),
    "unload": Operation(
        "Take the model out of service",
        "Done",
        "OperationRequest",
        (404, 422),
        (),
        "It stays loaded; every worker refuses to answer from it until it is taken back, and both are logged.",
        is_optional=True,
    ),
    "infer": Operation(
        "Predict from a matrix of features",
        "InferResponse",
        "InferRequest",
        (404, 422, 500, 504),
        _CALLER,
        f"By the Open Inference Protocol, at most {MAX_ROWS:,} rows, as JSON or as bytes (the binary extension). The ids of the "
        "predictions come back as the output `prediction_id`; every prediction is in the log before its answer leaves.",
    ),
    "predict": Operation(
        "Predict for entities, whose features are looked up",
        "PredictResponse",
        "PredictRequest",
        (404, 422, 500, 504),
        _CALLER,
        f"One request, or up to {MAX_ENTITIES} at once under `requests`.",
    ),
    "feedback": Operation(
        "Say what really happened",
        "Accepted",
        "Labels",
        (409, 422),
        (),
        f"At most {MAX_LABELS:,} labels at once, all or none. The last label of a prediction counts.",
    ),
    "metrics": Operation("Counters in the Prometheus text format", "text"),
    "openapi": Operation("This description", "Description"),
    "docs": Operation("A page that shows this description", "page"),
}
_TENSOR: Mapping[str, Any] = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [700, 1, None, 5]}
_EXAMPLES: Mapping[str, Any] = {
    "InferRequest": {"inputs": [_TENSOR], "parameters": {"unit": "UA-1545", "at": AT}},
    "Labels": {"labels": [{"id": "p0-0-13e5f6d51c0-f5f1f5009848d887", "label": 1, "at": "2013-05-01T12:00:00Z"}]},
}
_HEADERS: Mapping[str, tuple[str, Schema]] = {
    "X-Falaj-Arm": ("The arm that has to answer; takes the permission `force`, and counts in no statistics.", {"type": "string"}),
    "X-Request-Id": (
        "The same id again is the same request asked again: the first prediction counts.",
        {"type": "string", "maxLength": 200},
    ),
    "X-Request-Timeout-Ms": (
        "After so many milliseconds nobody waits for the answer any more.",
        {"type": "integer", "minimum": 1},
    ),
    "traceparent": ("W3C Trace Context.", {"type": "string"}),
}
_ERRORS: Mapping[int, str] = {
    400: "The request is not HTTP, or its body not the JSON that was asked for.",
    401: "No key, an unknown one, or one that was revoked.",
    403: "The key's roles may not do this; the hint names those that may.",
    404: "There is no such model, version, input or route.",
    405: "The route does not take this method.",
    408: "The request took too long to arrive.",
    409: "The label is from before its prediction.",
    413: "The body is longer than {max_body_bytes:,} bytes.",
    422: "A value is missing, of the wrong type, or beyond its limits; the message names it.",
    429: "Too many connections or waiting requests; come back after Retry-After.",
    431: "The headers are longer than {max_header_bytes:,} bytes.",
    500: "The model failed, or falaj is wrong.",
    503: "No model is served yet, or the prediction log cannot be written; come back after Retry-After.",
    504: "The caller's deadline passed before the answer was there.",
}
_EVERY, _KEYED, _BODY = (400, 405, 408, 429, 431), (401, 403), (413, 503)


def document(
    routes: Iterable[Described], settings: ServerSettings, serving: Serving | None = None, version: str = ""
) -> dict[str, Any]:
    """The description. `serving`: the model that answers now, whose names and fields it then gives exactly."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.pattern, {})[route.method.lower()] = _operation(route, settings, serving)
    components = {
        "schemas": {**schemas(serving, settings.clock), "Description": {"type": "object"}},
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "A key, or a token where tokens are accepted."},
            "key": {"type": "apiKey", "in": "header", "name": "X-Falaj-Key"},
        },
    }
    title = f"falaj endpoint {settings.endpoint}"
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version or "0", "description": _about(settings)},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": components,
    }


def _about(settings: ServerSettings) -> str:
    return (
        "Predictions by the Open Inference Protocol and by entity. Only the health routes answer a request without a key. "
        f"Bodies hold at most {settings.max_body_bytes:,} bytes, headers {settings.max_header_bytes:,}; a request has to "
        f"arrive within {settings.request_timeout_s:g} s. At most {settings.max_connections:,} connections and "
        f"{settings.max_waiting:,} waiting requests."
    )


def _operation(route: Described, settings: ServerSettings, serving: Serving | None) -> dict[str, Any]:
    about = OPERATIONS[route.call]
    is_open = route.permission == "open"
    names = [part[1:].partition("}")[0] for part in route.pattern.split("/") if part.startswith("{")]
    made: dict[str, Any] = {
        "operationId": "_".join((route.call, *(["version"] if "version" in names else []))),
        "summary": about.summary,
        "security": [] if is_open else [{"bearer": []}, {"key": []}],
        "x-permission": route.permission,
        "parameters": [*(_in_path(name, serving) for name in names), *map(_header, about.headers)],
        "responses": _responses(route, about, settings),
    }
    if about.says:
        made["description"] = about.says
    if about.body:
        content: dict[str, Any] = {"schema": ref(about.body)}
        example = _example(about.body, serving, settings.clock)
        if example is not None:
            content["example"] = example
        made["requestBody"] = {"required": not about.is_optional, "content": {"application/json": content}}
    return made


def _in_path(name: str, serving: Serving | None) -> dict[str, Any]:
    schema: Schema = {"type": "string"}
    if serving is not None:
        known = [serving.name] if name == "name" else sorted({live.version for live in serving.arms})
        schema["examples"] = known
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _header(name: str) -> dict[str, Any]:
    says, schema = _HEADERS[name]
    return {"name": name, "in": "header", "required": False, "description": says, "schema": schema}


def _responses(route: Described, about: Operation, settings: ServerSettings) -> dict[str, Any]:
    kinds = {"text": "text/plain; version=0.0.4; charset=utf-8", "page": "text/html; charset=utf-8"}
    kind = kinds.get(about.answer, "application/json")
    schema: Schema = {"type": "string"} if about.answer in kinds else ref(about.answer)
    found: dict[str, Any] = {"200": {"description": "OK", "content": {kind: {"schema": schema}}}}
    shape = "ProtocolError" if route.pattern == "/v2" or route.pattern.startswith("/v2/") else "Error"
    statuses = {*_EVERY, *about.errors, *(_KEYED if route.permission != "open" else ()), *(_BODY if about.body else ())}
    statuses |= {404} if "{" in route.pattern else set()
    for status in sorted(statuses):
        found[str(status)] = _error(status, shape, settings)
    for status, name in about.answers.items():
        found[str(status)] = {"description": "Not yet", "content": {"application/json": {"schema": ref(name)}}}
    return found


def _error(status: int, shape: str, settings: ServerSettings) -> dict[str, Any]:
    says = _ERRORS[status].format(max_body_bytes=settings.max_body_bytes, max_header_bytes=settings.max_header_bytes)
    made: dict[str, Any] = {"description": says, "content": {"application/json": {"schema": ref(shape)}}}
    if status in (429, 503):
        made["headers"] = {"Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer"}}}
    if status == 401:
        made["headers"] = {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}}
    return made


def _example(name: str, serving: Serving | None, clock: str) -> Any:
    """A request that the model that is served would take."""
    if serving is None or name == "Labels":
        return _EXAMPLES.get(name)
    model = serving.arms[0].model
    if name == "InferRequest":
        shape, data = [1, model.width], [round(0.25 * n, 2) for n in range(model.width)]
        tensor = {"name": model.input, "shape": shape, "datatype": model.datatype, "data": data}
        return {"inputs": [tensor], "parameters": {"unit": "unit-1", **({"at": AT} if clock == "replay" else {})}}
    if name == "PredictRequest":
        fields, needed = (schemas(serving, clock)["EntityRequest"][part] for part in ("properties", "required"))
        return {name: _value(schema) for name, schema in fields.items() if name in needed or name == serving.wanted.unit}
    return None


def _value(schema: Schema) -> Any:
    """One value that a field's schema allows."""
    inner = schema.get("allOf", [schema])
    kinds = [set(one["type"]) if isinstance(one["type"], list) else {one["type"]} for one in inner]
    common = set.intersection(*kinds)
    if any(one.get("format") == "date-time" for one in inner):
        return AT
    return next((value for kind, value in (("string", "a"), ("number", 1), ("integer", 1)) if kind in common), None)


_PAGE = Path(__file__).with_name("docs.html").read_text("utf-8")


def _hash_of(tag: str) -> str:
    inner = _PAGE.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    return b64encode(sha256(inner.encode()).digest()).decode()


POLICY = (
    f"default-src 'none'; style-src 'sha256-{_hash_of('style')}'; script-src 'sha256-{_hash_of('script')}'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the page: its own two pieces, and this server; nothing from anywhere else."""


def page() -> bytes:
    """The page that shows the description: it holds nothing itself, asks for a key, and fetches /openapi.json with it."""
    return _PAGE.encode()
