"""Requests that come as messages: how they are read, and how an answer or a dead letter is written."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from falaj.core.actor import Actor
from falaj.core.errors import FalajError, InvalidInput
from falaj.core.message import LONGEST_HEADER, MOST_HEADERS, Delivery, Message, is_header_name
from falaj.core.moments import from_millis, iso, moment
from falaj.inference.calls import Answered, Call, Caller, EntityCall, TensorCall
from falaj.inference.entities import read_entities, read_json
from falaj.inference.errors import TooLarge
from falaj.inference.models import Live, Serving
from falaj.inference.settings import TOLERANCE, ServerSettings
from falaj.inference.tensors import read_infer, write_infer
from falaj.inference.text import MAX_TEXT

OURS = "falaj-"
"""What headers that falaj sets begin with; those of a request are not passed on."""
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_FOR_US = 12
"""Headers that are kept free for those that falaj sets."""


@dataclass(slots=True)
class Request:
    """One message that asks for predictions."""

    delivery: Delivery
    key: str
    """The same for each delivery of the message, and for a message that its producer sent twice under one id."""
    call: Call
    is_single: bool
    """Of a call by entity: whether it came as one request, and not in a list."""
    rows: int


def key_of(source: str, delivery: Delivery) -> str:
    """What the prediction log knows a message by, as its request id: `requests[<id>]`, without an id `requests(<position>)`."""
    own = delivery.message.id
    if len(own) > MAX_TEXT // 2 or not own.isprintable():
        own = "sha256:" + hashlib.sha256(own.encode()).hexdigest()
    return f"{source}[{own}]" if own else f"{source}({delivery.position})"


def read_request(delivery: Delivery, settings: ServerSettings, serving: Serving, actor: Actor) -> Request:
    """The body is what REST takes: one request by entity, `{"requests": […]}`, or an inference request with `inputs`.

    Raises InvalidInput (or a class of it) for any other.
    """
    message, key = delivery.message, key_of(settings.stream_source, delivery)
    if len(message.value) > settings.max_body_bytes:
        raise TooLarge(f"The message is longer than {settings.max_body_bytes} bytes.", "send fewer rows in a message.")
    trace = message.headers.get("traceparent", "")
    caller = Caller(actor, key, "", time.perf_counter(), trace=trace if _TRACE.fullmatch(trace) else "")
    if b'"inputs"' in message.value:
        body = read_json(message.value)
        if isinstance(body, dict) and isinstance(body.get("inputs"), list):
            call = read_infer(message.value, name=serving.name, version=None, caller=caller)
            call.via = "stream"
            call.at = _at(call.at, delivery, settings)
            return Request(delivery, key, call, False, len(call.matrix))
    requests, is_single, _ = read_entities(message.value)
    field = serving.arms[0].model.recipe.time_field
    timed = [_timed(one, field, delivery, settings) for one in requests]
    return Request(delivery, key, EntityCall(serving.name, timed, "stream", caller), is_single, len(timed))


def _timed(request: Mapping[str, Any], field: str, delivery: Delivery, settings: ServerSettings) -> Mapping[str, Any]:
    at = _at(request.get(field), delivery, settings)
    return request if at is not None else {name: value for name, value in request.items() if name != field}


def _at(given: Any, delivery: Delivery, settings: ServerSettings) -> Any:
    """Under the wall clock a message may have waited: what it says is held against when the stream took it, and the prediction
    is of the time when it is made. Under replay it is believed."""
    if settings.clock == "replay" or given is None:
        return given
    if not isinstance(given, str):
        raise InvalidInput(f"The field 'at' must be a time, got {given!r}.", "write it as 2013-05-01T09:30:00Z.")
    taken = from_millis(delivery.at_ms)
    if delivery.at_ms > 0 and abs(moment(given) - taken) > TOLERANCE:  # a producer of old may have given no time
        raise InvalidInput(
            f"The request is for {given}, but the stream took it at {iso(taken)}.",
            'leave `at` out, or serve with clock = "replay".',
        )
    return None


def answer_to(request: Request, answered: Answered) -> Message:
    """The answer as REST gives it, under the request's key and with its headers. Its id is that of the first prediction."""
    call = request.call
    if isinstance(call, TensorCall):
        value = write_infer(answered, call)
    else:
        value = orjson.dumps(answered.rows[0] if request.is_single else {"predictions": answered.rows})
    return _message(request, value, answered.ids[0])


def answer_again(request: Request, records: Sequence[Mapping[str, Any]], serving: Serving) -> Message:
    """The same answer from what the log holds of it: made, and perhaps not sent. The records are in the order of the rows.

    Outputs of a call by tensor come from the same model again; where that is served no longer, the scores stand for them.
    """
    ids = [str(record["id"]) for record in records]
    if isinstance(request.call, EntityCall):
        rows = [_row(record, serving.wanted.threshold) for record in records]
        return _message(request, orjson.dumps(rows[0] if request.is_single else {"predictions": rows}), ids[0])
    scores = [float(record["score"]) for record in records]
    live = next((one for one in serving.arms if one.arm.digest == records[0]["digest"]), None)
    value = _scores(request.call, records[0], scores, ids) if live is None else _again(request.call, live, scores, ids)
    return _message(request, value, ids[0])


def _again(call: TensorCall, live: Live, scores: list[float], ids: list[str]) -> bytes:
    return write_infer(Answered(live, ids, scores, live.model.run(call.matrix), []), call)


def _scores(call: TensorCall, record: Mapping[str, Any], scores: list[float], ids: list[str]) -> bytes:
    body = {
        "model_name": call.name,
        "model_version": str(record["model"]).rpartition("@")[2],
        "parameters": {"arm": record["arm"], "release": record["release"]},
        "outputs": [
            {"name": "score", "datatype": "FP64", "shape": [len(scores)], "data": scores},
            {"name": "prediction_id", "datatype": "BYTES", "shape": [len(ids)], "data": ids},
        ],
    }
    return orjson.dumps(body | ({"id": call.id} if call.id else {}))


def _row(record: Mapping[str, Any], threshold: float) -> dict[str, Any]:
    """As `rows.answer_of` has it, from the record."""
    return {
        "id": record["id"],
        "score": record["score"],
        "decision": record["score"] >= threshold,
        "arm": record["arm"],
        "model": record["model"],
        "release": record["release"],
        "at": record["at"],
        "missing_views": [view for view, at in record["stored_at"].items() if at is None],
    }


def _message(request: Request, value: bytes, issued: str) -> Message:
    delivery = request.delivery
    headers = _passed_on(delivery.message.headers) | {f"{OURS}position": delivery.position}
    if delivery.message.id:
        headers[f"{OURS}request"] = _clean(delivery.message.id)
    return Message(value, _clean(delivery.message.key), headers, issued)


def dead_letter(source: str, delivery: Delivery, error: FalajError, attempts: int) -> Message:
    """The message as it came, with the reason why it was not answered. The same each time, under the same id."""
    message = delivery.message
    about = {
        "reason": error.code,
        "message": _clean(error.message)[:500],
        "attempts": str(attempts),
        "stream": source,
        "position": delivery.position,
        "taken-at": iso(from_millis(delivery.at_ms)),
    } | ({"request": _clean(message.id)} if message.id else {})
    headers = _passed_on(message.headers) | {OURS + name: text for name, text in about.items()}
    return Message(message.value, _clean(message.key), headers, f"dead:{key_of(source, delivery)}")


def shortened(letter: Message, size: int) -> Message:
    """A dead letter whose stream does not take it whole: its first bytes, and how many there were."""
    return replace(letter, value=letter.value[:size], headers={**letter.headers, f"{OURS}bytes": str(len(letter.value))})


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """Traces, correlation and whatever else the producer said; what no stream would take is mended or left out."""
    given = [(name, _clean(text)) for name, text in headers.items() if is_header_name(name) and not name.lower().startswith(OURS)]
    return dict(given[: MOST_HEADERS - _FOR_US])


def _clean(text: str) -> str:
    if text.isprintable() and len(text) <= LONGEST_HEADER // 8:
        return text
    return "".join(letter if letter.isprintable() else "?" for letter in text[: LONGEST_HEADER // 8])
