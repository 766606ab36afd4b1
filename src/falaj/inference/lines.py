"""The lines of the prediction log: what is kept of every prediction, written once and never parsed on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from falaj.core.errors import FalajError, InvalidInput
from falaj.inference.calls import TensorCall
from falaj.inference.models import Live
from falaj.inference.text import quoted


def about(endpoint: str, live: Live) -> str:
    """What all predictions of an arm have in common: the inside of a JSON object."""
    arm = live.arm
    facts: dict[str, Any] = {
        "endpoint": endpoint,
        "release": arm.release,
        "model": arm.model,
        "digest": arm.digest,
        "arm": arm.role,
        "share": arm.share,
    }
    if live.mask.is_on:
        facts["masked"] = live.mask.marker
    return orjson.dumps(facts).decode()[1:-1]


def tensor_line(
    call: TensorCall,
    scores: Sequence[float],
    *,
    issued: str,
    times: tuple[str, str],
    facts: str,
    names: tuple[str, str],
    ms: float,
    forced: bool,
) -> bytes:
    """A call by tensor. `times`: (event time, now). `names`: (unit, request id)."""
    raw = call.raw
    features = raw.decode() if raw is not None else orjson.dumps(call.matrix.ravel(), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    count = len(scores)
    kind, last = (
        ("prediction", f'"score":{scores[0]!r}')
        if count == 1
        else ("predictions", f'"rows":{count},"scores":{orjson.dumps(scores).decode()}')
    )
    trace = f',"trace":{quoted(call.caller.trace)}' if call.caller.trace else ""
    return (
        f'{{"kind":"{kind}","id":"{issued}","at":"{times[0]}","wrote":"{times[1]}",{facts},"unit":{quoted(names[0])},'
        f'"request_id":{quoted(names[1])},"via":"{call.via}","by":{quoted(call.caller.actor.name)},"request":null,'
        f'"features":{features},"stored_at":{{}},{last},"ms":{ms:.3f},"forced":{"true" if forced else "false"}{trace}}}'
    ).encode()


def failure_line(endpoint: str, live: Live, error: FalajError, *, times: tuple[str, str], whose: tuple[str, bool]) -> bytes:
    """A valid request that an arm could not answer. `times`: (event time, now). `whose`: (unit, whether the arm was forced)."""
    return line(
        {
            "kind": "failure",
            "at": times[0],
            "wrote": times[1],
            "endpoint": endpoint,
            "arm": live.role,
            "release": live.arm.release,
            "model": live.arm.model,
            "unit": whose[0],
            "forced": whose[1],
            "code": error.code,
            "message": live.mask.message(error.message[:500]),
        }
    )


def line(record: Mapping[str, Any]) -> bytes:
    """Any other record. Raises InvalidInput for what JSON cannot say."""
    try:
        return orjson.dumps(record)
    except TypeError as exc:
        raise InvalidInput(f"The request cannot be written down: {exc}.", "send plain JSON values.") from exc
