"""What goes in and what comes out, as JSON Schema (2020-12): the general form, and the exact one of the model that is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from falaj.core.recipe import Recipe, key_fields
from falaj.inference.entities import MAX_ENTITIES
from falaj.inference.feedback import MAX_LABELS
from falaj.inference.models import Model, Serving
from falaj.inference.tensors import MAX_ROWS
from falaj.inference.text import MAX_TEXT

Schema = dict[str, Any]
CODES = ("invalid_input", "not_found", "conflict", "denied", "unauthenticated", "unavailable", "bug")
COLUMN_TYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
)  # fmt: skip
AT = "2013-05-01T09:30:00Z"
_TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339, with a time zone."}
_ID: Schema = {"type": "string", "maxLength": MAX_TEXT, "description": "Printable characters."}
_UNIT: Schema = {
    "type": ["string", "integer", "null"],
    "maxLength": MAX_TEXT,
    "description": "What the split between arms is made on: the same unit keeps its arm.",
}
_SCALAR: Schema = {"type": ["string", "number", "boolean", "null"]}
_ROLE: Schema = {"type": "string", "description": "The arm that answered."}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def an_object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, *, open_: bool = False) -> Schema:
    """`open_`: other fields may be there, and are passed over."""
    made: Schema = {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}
    return made if open_ else {**made, "additionalProperties": False}


def error_schemas() -> dict[str, Schema]:
    inner: dict[str, Schema] = {
        "code": {"enum": list(CODES), "description": "What to do next: mend it, name another, ask for it, come back later."},
        "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
    }
    more: dict[str, Schema] = {
        "hint": {"type": "string", "description": "The next action."},
        "facts": {"type": "object", "description": "What the message is about."},
    }
    said: Schema = {"type": "string", "minLength": 1}
    return {
        "Error": an_object({"error": an_object({**inner, "message": said}, more)}),
        "ProtocolError": an_object(
            {"error": {**said, "description": "What is wrong; a text, as the protocol has it."}, **inner}, more
        ),
    }


def schemas(serving: Serving | None, clock: str = "wall") -> dict[str, Schema]:
    """Every schema by its name. `serving`: what is served now; its input, outputs and request fields are then given exactly.

    `clock`: under `replay` a request has to say when it happens.
    """
    return {
        **error_schemas(),
        "Live": an_object({"live": {"const": True}}),
        "Ready": an_object({"ready": {"type": "boolean"}}),
        "Server": an_object(
            {
                "name": {"const": "falaj"},
                "version": {"type": "string"},
                "extensions": {"type": "array", "items": {"type": "string"}},
            }
        ),
        "ModelReady": an_object({"name": {"type": "string"}, "ready": {"type": "boolean"}}),
        "NotReady": {"anyOf": [ref("ModelReady"), ref("ProtocolError")]},
        "TensorAbout": an_object(
            {
                "name": {"type": "string"},
                "datatype": {"type": "string"},
                "shape": {"type": "array", "items": {"type": "integer"}},
            },
            {"parameters": {"type": "object"}},
        ),
        "Model": an_object(
            {
                "name": {"type": "string"},
                "versions": {"type": "array", "items": {"type": "string"}},
                "platform": {"type": "string"},
                "inputs": {"type": "array", "items": ref("TensorAbout")},
                "outputs": {"type": "array", "items": ref("TensorAbout")},
            },
            open_=True,
        ),
        **_repository(),
        **_tensors(serving, clock),
        **_entities(serving, clock),
        **_labels(),
    }


def _repository() -> dict[str, Schema]:
    text: Schema = {"type": "string"}
    sizes = an_object({"name": text, "data_type": text, "dims": {"type": "array", "items": {"type": "integer"}}})
    tally = an_object({"count": {"type": "integer", "minimum": 0}}, {"ns": {"type": "integer", "minimum": 0}})
    statistics = an_object(
        {
            "name": text,
            "version": text,
            "inference_count": {"type": "integer", "minimum": 0},
            "execution_count": {"type": "integer", "minimum": 0},
            "inference_stats": an_object({"success": tally, "fail": tally}),
        },
        open_=True,
    )
    indexed = an_object({"name": text, "version": text, "state": {"enum": ["READY", "UNAVAILABLE"]}, "reason": text})
    return {
        "Config": an_object(
            {
                "name": text,
                "platform": text,
                "backend": text,
                "max_batch_size": {"type": "integer"},
                "input": {"type": "array", "items": sizes},
                "output": {"type": "array", "items": sizes},
            },
            open_=True,
        ),
        "Statistics": an_object({"model_stats": {"type": "array", "items": statistics}}),
        "IndexRequest": an_object({}, {"ready": {"type": "boolean", "description": "Only what answers."}}, open_=True),
        "Index": {"type": "array", "items": indexed},
        "OperationRequest": an_object({}, {"parameters": an_object({}, {"unload_dependents": {"type": "boolean"}})}, open_=True),
        "Done": an_object({}),
    }


def _tensors(serving: Serving | None, clock: str) -> dict[str, Schema]:
    model = serving.arms[0].model if serving is not None else None
    names = [*(output.name for output in model.outputs), "prediction_id"] if model is not None else None
    asked = an_object({"name": {"enum": names} if names else {"type": "string"}}, open_=True)
    parameters = an_object(*_with_time({"unit": _UNIT}, "at", clock), open_=True)
    inputs: Schema = {
        "type": "array",
        "minItems": 1,
        "maxItems": model.width if model is not None else MAX_ROWS,
        "items": {"anyOf": [ref("InputTensor"), ref("ColumnTensor")]},
        "description": "One matrix, or each column of the model as a tensor of its own, in any order.",
    }
    needed: dict[str, Schema] = {"inputs": inputs}
    optional: dict[str, Schema] = {
        "id": {**_ID, "type": ["string", "null"]},
        "outputs": {"type": ["array", "null"], "items": asked},
    }
    if clock == "replay":
        needed["parameters"] = parameters
    else:
        optional["parameters"] = {**parameters, "type": ["object", "null"]}
    return {**_inputs(model), "InferRequest": an_object(needed, optional, open_=True), **_outputs()}


def _inputs(model: Model | None) -> dict[str, Schema]:
    width: Schema = {"const": model.width} if model is not None else {"type": "integer", "minimum": 1}
    rows: Schema = {"type": "integer", "minimum": 1, "maximum": MAX_ROWS}
    number: Schema = {"type": ["number", "null"], "description": "null stands where a number is missing."}
    data: Schema = {
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [number, {"type": "array", "items": number}]},
        "description": "rows × columns numbers, flat or row by row; of INT64 whole numbers only.",
    }
    matrix: dict[str, Schema] = {
        "name": {"const": model.input} if model is not None else {"type": "string"},
        "shape": _shape(rows, width, says="[rows, columns]"),
        "datatype": {"enum": ["FP32", "FP64", "INT64"]},
        "data": data,
    }
    column: dict[str, Schema] = {
        "name": {"enum": list(model.recipe.names)} if model is not None else {"type": "string"},
        "shape": {"anyOf": [_shape(rows, says="[rows]"), _shape(rows, {"const": 1}, says="[rows, 1]")]},
        "datatype": {"enum": list(COLUMN_TYPES)},
        "data": {"type": "array", "minItems": 1},
    }
    more: dict[str, Schema] = {"parameters": {"type": ["object", "null"]}}
    return {"InputTensor": an_object(matrix, more, open_=True), "ColumnTensor": an_object(column, more, open_=True)}


def _outputs() -> dict[str, Schema]:
    tensor: dict[str, Schema] = {
        "name": {"type": "string"},
        "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "data": {"type": "array", "items": _SCALAR},
    }
    answer: dict[str, Schema] = {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "parameters": an_object({"arm": _ROLE, "release": {"type": "string"}}, open_=True),
        "outputs": {"type": "array", "items": ref("OutputTensor")},
    }
    return {
        "OutputTensor": an_object(tensor, {"parameters": {"type": "object"}}),
        "InferResponse": an_object(answer, {"id": _ID}),
    }


def _shape(*sizes: Schema, says: str) -> Schema:
    count = len(sizes)
    return {
        "type": "array",
        "prefixItems": list(sizes),
        "items": False,
        "minItems": count,
        "maxItems": count,
        "description": says,
    }


def _entities(serving: Serving | None, clock: str) -> dict[str, Schema]:
    one = _request(serving, clock) if serving is not None else {"type": "object"}
    several = an_object(
        {"requests": {"type": "array", "items": ref("EntityRequest"), "minItems": 1, "maxItems": MAX_ENTITIES}},
        {"id": {**_ID, "type": ["string", "null"]}},
        open_=True,
    )
    prediction = an_object(
        {
            "id": {"type": "string", "description": "Send it back with the label."},
            "score": {"type": "number"},
            "decision": {"type": "boolean", "description": "score ≥ threshold"},
            "arm": _ROLE,
            "model": {"type": "string"},
            "release": {"type": "string"},
            "at": _TIME,
            "missing_views": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Views without a fresh row for the entity; their features counted as missing.",
            },
        },
        open_=True,
    )
    return {
        "EntityRequest": one,
        "EntityRequests": several,
        "PredictRequest": {"anyOf": [ref("EntityRequest"), ref("EntityRequests")]},
        "Prediction": prediction,
        "Predictions": an_object({"predictions": {"type": "array", "items": ref("Prediction"), "minItems": 1}}),
        "PredictResponse": {"oneOf": [ref("Prediction"), ref("Predictions")]},
    }


def _request(serving: Serving, clock: str) -> Schema:
    """The fields that the recipes of all arms read."""
    fields: dict[str, list[Schema]] = {}
    needed: dict[str, None] = {}
    for live in serving.arms:
        recipe = live.model.recipe
        for name, schema in _fields(recipe):
            known = fields.setdefault(name, [])
            if schema not in known:
                known.append(schema)
            needed[name] = None
        required, optional = _with_time({}, recipe.time_field, clock)
        fields.setdefault(recipe.time_field, list({**required, **optional}.values()))
        needed.update(dict.fromkeys(required))
    if serving.wanted.unit:
        fields.setdefault(serving.wanted.unit, []).append(_UNIT)
    made = {name: found[0] if len(found) == 1 else {"allOf": found} for name, found in fields.items()}
    return {"type": "object", "properties": made, "required": list(needed)}


def _with_time(optional: dict[str, Schema], name: str, clock: str) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """(required, optional) fields: the wall clock is the server's own, under the other one the request tells the time."""
    if clock == "replay":
        return {name: _TIME}, optional
    return {}, {**optional, name: {**_TIME, "type": ["string", "null"], "description": "At most 5 s from the server's clock."}}


def _fields(recipe: Recipe) -> list[tuple[str, Schema]]:
    key: Schema = {"type": ["string", "integer", "boolean", "null"], "description": "An entity's key; null is nobody."}
    found = [(name, key) for fields in recipe.views.values() for name in key_fields(fields)]
    for column in recipe.columns:
        for operand in column.operands:
            if operand.kind == "request" and operand.name != recipe.time_field:
                found.append((operand.name, dict(_SCALAR) if column.op == "category" else {"type": ["number", "null"]}))
    return found


def _labels() -> dict[str, Schema]:
    said: dict[str, Schema] = {
        "label": {"type": ["number", "null"], "description": "What really happened: 0 or 1, or a number; null withdraws it."},
        "at": {**_TIME, "description": "When it was known; not before the prediction."},
    }
    facts: Schema = {"type": ["object", "null"]}
    moment: Schema = {**_TIME, "type": ["string", "null"]}
    none: Schema = {"type": "null"}
    of_id = an_object(
        {"id": {"type": "string", "description": "The id of the prediction."}, **said},
        {"facts": facts, "unit": none, "since": none, "until": none},
    )
    of_unit = an_object(
        {"unit": {"type": ["string", "integer"], "maxLength": MAX_TEXT}, **said},
        {
            "facts": facts,
            "id": none,
            "since": {**moment, "description": "All predictions from then on, and not only the latest."},
            "until": {**moment, "description": "All predictions up to then."},
        },
    )
    labels: Schema = {
        "type": "array",
        "items": {"anyOf": [ref("Label"), ref("UnitLabel")]},
        "minItems": 1,
        "maxItems": MAX_LABELS,
    }
    return {
        "Label": {**of_id, "description": "Of one prediction."},
        "UnitLabel": {**of_unit, "description": "Of a unit: of its latest prediction until `at`, or of all in a window."},
        "Labels": an_object({"labels": labels}, open_=True),
        "Accepted": an_object({"accepted": {"type": "integer", "minimum": 1}}),
    }
