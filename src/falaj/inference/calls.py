"""What is asked of a model and what comes back, whichever way it came: REST, gRPC or a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.core.actor import Actor
from falaj.inference.models import Live
from falaj.inference.traces import Span

Matrix = NDArray[np.float32] | NDArray[np.float64]


@dataclass(slots=True)
class Caller:
    """Who asks, under which id, and which arm they insist on, if any."""

    actor: Actor
    request_id: str
    arm: str
    """Empty, or the role that the caller insists on, which takes the permission `force`."""
    started: float
    """Seconds of time.perf_counter when the request was read."""
    deadline: float = 0.0
    """The same clock: from then on nobody waits for the answer. 0: no deadline."""
    trace: str = ""
    """The request's traceparent (W3C Trace Context), as it is logged."""
    span: Span | None = None
    """What the predictor tells of its stages, where somebody records the request."""


@dataclass(slots=True)
class TensorCall:
    """One matrix by the Open Inference Protocol."""

    name: str
    version: str | None
    input: str
    matrix: Matrix
    """(rows, columns)"""
    unit: str
    at: Any
    wanted: tuple[str, ...] | None
    """The outputs that were asked for; None for all."""
    id: str
    via: str
    """`v2`, `grpc` or `stream`."""
    caller: Caller
    raw: bytes | None = None
    """The JSON text of the matrix as one flat array without a line break, where it came so: it need not be written again."""
    parameters: Mapping[str, Any] | None = None
    """Whatever else the request said of itself."""


@dataclass(slots=True)
class EntityCall:
    """Requests by entity: the features are looked up."""

    name: str
    requests: Sequence[Mapping[str, Any]]
    via: str
    """`entity` or `stream`."""
    caller: Caller


Call = TensorCall | EntityCall


@dataclass(slots=True)
class Answered:
    """What the log holds of a call by now."""

    live: Live
    ids: list[str]
    """One a row."""
    scores: Sequence[float]
    outputs: Sequence[NDArray[Any]]
    """Of a call by tensor: the model's outputs, rows of this call only."""
    rows: list[dict[str, Any]]
    """Of a call by entity: one answer each, as REST gives it."""
