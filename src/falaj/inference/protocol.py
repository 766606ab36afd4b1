"""What comes in and what goes out: the Open Inference Protocol's tensors, calls by entity, and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from falaj.core.errors import Conflict, FalajError, InvalidInput
from falaj.core.moments import from_millis, iso, millis, moment
from falaj.core.segment import PredictionId
from falaj.inference.errors import Malformed, at_place
from falaj.inference.settings import TOLERANCE

MAX_ROWS = 1024
MAX_ENTITIES = 256
MAX_LABELS = 1024
FP32_MAX = 3.4e38
MAX_TEXT = 200
"""Longest unit, request id and the like."""


_KINDS: Mapping[str, frozenset[type]] = {
    "FP32": frozenset({float, int, type(None)}),
    "FP64": frozenset({float, int, type(None)}),
    "INT64": frozenset({int}),
}
"""datatype → the JSON types that its numbers may have; null stands where a number is missing."""


@dataclass(frozen=True, slots=True)
class Infer:
    """A call by tensor. `wanted`: the outputs that were asked for, None for all."""

    id: str
    input: str
    matrix: NDArray[np.float64]
    unit: str
    at: Any
    wanted: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Label:
    id: str
    at: datetime
    value: float
    facts: Mapping[str, Any] | None


def read_json(body: bytes) -> Any:
    """Raises Malformed; NaN and Infinity are not JSON."""
    try:
        return orjson.loads(body)
    except ValueError as exc:
        raise Malformed(f"The body is not JSON: {exc}.", "null stands where a number is missing; JSON has no NaN.") from exc


def read_infer(body: bytes) -> Infer:
    """Raises Malformed for a body of another form, InvalidInput for a tensor that does not fit its own shape."""
    call = read_json(body)
    if not isinstance(call, dict) or not isinstance(call.get("inputs"), list):
        raise Malformed("The body is not an inference request: it has no list `inputs`.", _INFER_HINT)
    if len(call["inputs"]) != 1:
        raise InvalidInput(f"There must be one input, got {len(call['inputs'])}.", _INFER_HINT)
    parameters = call.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidInput("`parameters` must be an object.", 'as in {"unit": "…", "at": "2013-05-01T09:30:00Z"}.')
    name, matrix = _matrix(call["inputs"][0])
    return Infer(
        text_of(call.get("id"), "id"),
        name,
        matrix,
        unit_of(parameters.get("unit"), "parameters.unit"),
        parameters.get("at"),
        _asked(call.get("outputs")),
    )


_INFER_HINT = 'send {"inputs":[{"name":…,"shape":[n,k],"datatype":"FP32","data":[…]}]}.'


def _asked(outputs: Any) -> tuple[str, ...] | None:
    if outputs is None or outputs == []:
        return None
    if not isinstance(outputs, list) or not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in outputs):
        raise InvalidInput("`outputs` must be a list of objects with a `name`.", "leave it out for all outputs.")
    return tuple(one["name"] for one in outputs)


def _matrix(tensor: Any) -> tuple[str, NDArray[np.float64]]:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise InvalidInput("An input must be an object with a `name`.", _INFER_HINT)
    name, shape, kind, rows = str(tensor["name"])[:MAX_TEXT], tensor.get("shape"), tensor.get("datatype"), tensor.get("data")
    if not isinstance(shape, list) or len(shape) != 2 or any(type(size) is not int or size < 1 for size in shape):
        raise InvalidInput(f"The shape of {name!r} must be [rows, columns], got {str(shape)[:80]}.", _INFER_HINT)
    if shape[0] > MAX_ROWS:
        raise InvalidInput(f"One call takes at most {MAX_ROWS} rows, got {shape[0]}.", "send the rest in another call.")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InvalidInput(f"The datatype {str(kind)[:80]!r} is not taken.", f"there is: {', '.join(_KINDS)}.")
    if not isinstance(rows, list) or not rows:
        raise InvalidInput(f"The data of {name!r} must be a list of numbers.", _INFER_HINT)
    flat = _flat(name, rows, shape)
    # bool is refused with everything else that is no number: numpy would silently take "1.5" and true.
    if not set(map(type, flat)) <= _KINDS[kind]:
        odd = next(value for value in flat if type(value) not in _KINDS[kind])
        raise InvalidInput(
            f"The data of {name!r} is not {kind}: it holds {str(odd)[:40]!r}.", "send numbers, flat or row by row."
        )
    matrix = np.array(flat, dtype=np.float64).reshape(shape)
    if (np.abs(matrix) > FP32_MAX).any():
        raise InvalidInput(
            f"The data of {name!r} holds a number beyond what FP32 can carry.", "null stands where a number is missing."
        )
    return name, matrix


def _flat(name: str, rows: list[Any], shape: Sequence[int]) -> list[Any]:
    if isinstance(rows[0], list):
        if len(rows) != shape[0] or any(not isinstance(row, list) or len(row) != shape[1] for row in rows):
            raise InvalidInput(
                f"The data of {name!r} is not {shape[0]} rows of {shape[1]}.", "the lengths must be those of `shape`."
            )
        return list(chain.from_iterable(rows))
    if len(rows) != shape[0] * shape[1]:
        raise InvalidInput(f"The data of {name!r} holds {len(rows)} numbers, its shape {shape} asks for {shape[0] * shape[1]}.")
    return rows


def write_infer(
    call: Infer, outputs: Sequence[tuple[str, str, NDArray[Any]]], ids: Sequence[str], about: Mapping[str, Any]
) -> bytes:
    """The answer to a call by tensor: the model's outputs, and the ids of the predictions as a tensor of their own.

    Raises InvalidInput for an output that was asked for and does not exist.
    """
    tensors = [
        {"name": name, "datatype": kind, "shape": list(value.shape), "data": value.ravel().tolist()}
        for name, kind, value in outputs
    ]
    tensors.append({"name": "prediction_id", "datatype": "BYTES", "shape": [len(ids)], "data": list(ids)})
    if call.wanted is not None:
        by_name = {str(tensor["name"]): tensor for tensor in tensors}
        tensors = [by_name[name] for name in call.wanted]
    body = {**about, "outputs": tensors}
    if call.id:
        body["id"] = call.id
    return orjson.dumps(body)


def check_outputs(call: Infer, names: Sequence[str]) -> None:
    """Before anything is predicted: raises InvalidInput for an output that does not exist."""
    offered = (*names, "prediction_id")
    for name in call.wanted or ():
        if name not in offered:
            raise InvalidInput(f"There is no output {name!r}.", f"there is: {', '.join(offered)}.")


def read_entities(body: bytes) -> tuple[list[Mapping[str, Any]], bool, str]:
    """(requests, whether it was a single one, id of the call). Raises Malformed or InvalidInput."""
    given = read_json(body)
    if not isinstance(given, dict):
        raise Malformed("The body must be an object.", 'send one request, or {"requests":[…]}.')
    if "requests" not in given:
        return [given], True, ""
    rows = given["requests"]
    if not isinstance(rows, list) or not rows:
        raise InvalidInput("`requests` must be a list with at least one request.", 'send {"requests":[{…}]}.')
    if len(rows) > MAX_ENTITIES:
        raise InvalidInput(f"One call takes at most {MAX_ENTITIES} requests, got {len(rows)}.", "send the rest in another call.")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidInput(f"requests[{index}] must be an object, got {type(row).__name__}.", index=index)
    return rows, False, text_of(given.get("id"), "id")


def read_labels(body: bytes, key: bytes, now: datetime | None) -> list[Label]:
    """The labels of a call, each checked against the id that it is for; one bad label refuses all, and is named by its index.

    `now` is None under the replay clock. Raises Malformed, InvalidInput, or Conflict for a label from before its prediction.
    """
    given = read_json(body)
    rows = given.get("labels") if isinstance(given, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InvalidInput("`labels` must be a list with at least one label.", 'send {"labels":[{"id":…,"label":1,"at":…}]}.')
    if len(rows) > MAX_LABELS:
        raise InvalidInput(f"One call takes at most {MAX_LABELS} labels, got {len(rows)}.", "send the rest in another call.")
    found = []
    for index, row in enumerate(rows):
        try:
            found.append(_label(row, key, now))
        except FalajError as exc:
            raise at_place(exc, "labels", index) from exc
    return found


def _label(row: Any, key: bytes, now: datetime | None) -> Label:
    if not isinstance(row, dict):
        raise InvalidInput(f"A label must be an object, got {type(row).__name__}.")
    missing = [name for name in ("id", "label", "at") if name not in row]
    unknown = sorted(set(row) - {"id", "label", "at", "facts"})
    if missing or unknown:
        raise InvalidInput(
            f"A label {'has no' if missing else 'does not know'} {(missing or unknown)[0]!r}.",
            "it has `id`, `label`, `at` and may have `facts`.",
        )
    value, facts = row["label"], row.get("facts")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidInput(f"`label` must be a finite number, got {str(value)[:80]!r}.", "send 0 or 1.")
    if facts is not None and not isinstance(facts, dict):
        raise InvalidInput("`facts` must be an object.")
    if not isinstance(row["at"], str):
        raise InvalidInput(f"`at` must be a time, got {str(row['at'])[:80]!r}.", "write it as 2013-05-01T09:30:00Z.")
    if not isinstance(row["id"], str):
        raise InvalidInput("`id` must be a text.", "use the id that came with the prediction.")
    at, issued = moment(row["at"]), PredictionId.check(row["id"], key)
    if millis(at) < issued.millis:
        raise Conflict(
            "label before its prediction",
            f"the prediction was made at {iso(from_millis(issued.millis))}, the label is of {iso(at)}.",
        )
    if now is not None and at > now + TOLERANCE:
        raise InvalidInput(f"The label is of {iso(at)}, but it is {iso(now)} here.", "a label is sent once it is known.")
    return Label(row["id"], at, value, facts)


def unit_of(value: Any, field: str) -> str:
    """What the split is made on. Raises InvalidInput for anything but a text or a whole number; null is nobody."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidInput(f"The field {field!r} must be a text, got {str(value)[:80]!r}.")
    return text_of(str(value), field)


def text_of(value: Any, field: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise InvalidInput(f"The field {field!r} must be a printable text of at most {MAX_TEXT} characters.")
    return value
