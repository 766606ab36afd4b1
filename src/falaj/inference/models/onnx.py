"""Models in ONNX: run by onnxruntime, and where the graph is one tree ensemble, large batches by its tables."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.core.errors import Bug, InvalidInput
from falaj.inference.models.ensemble import from_onnx
from falaj.inference.models.forest import Forest, link_onnx, to_onnx
from falaj.inference.models.model import Output, Program, Stored
from falaj.inference.models.sessions import HERE, Device, open_session
from falaj.inference.models.tables import Tables, tables

_TYPES = {"tensor(float)": ("FP32", np.float32), "tensor(double)": ("FP64", np.float64)}
_OUT = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(int64)": "INT64",
    "tensor(int32)": "INT32",
    "tensor(bool)": "BOOL",
}
TRIED = (8, 16, 32, 64)
"""Rows from which the tables may be faster; which of these it is, is measured when a model is loaded."""
_ROUNDS, _AHEAD = 5, 0.9


def load(data: bytes, stored: Stored) -> Program:
    """Raises InvalidInput for a graph that takes or gives anything but one matrix of numbers, or whose trees do not end;
    Unavailable without its device."""
    graph, forest = Graph(data, stored.device), from_onnx(data)
    return faster(graph, forest) if graph.dtype is np.float32 and stored.device.is_cpu else graph


def of_forest(forest: Forest, device: Device) -> Program:
    """A grown forest as a program. Raises InvalidInput for a device without trees."""
    if not device.is_cpu:
        raise InvalidInput(f"Trees do not run on {device.provider!r}.", 'set serve_provider = "cpu".')
    return faster(Graph(to_onnx(forest)), forest)


class Graph:
    """An onnxruntime session as a program."""

    def __init__(self, data: bytes, device: Device = HERE) -> None:
        session = open_session(data, device)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or inputs[0].type not in _TYPES:
            raise InvalidInput(
                "The model must take one matrix of floats.", "export it with a single float input of shape [None, columns]."
            )
        unknown = [output.name for output in outputs if output.type not in _OUT]
        if unknown:
            raise InvalidInput(f"The model's output {unknown[0]!r} is not a tensor of numbers.", "export it with zipmap=False.")
        self.input = inputs[0].name
        self.datatype, self.dtype = _TYPES[inputs[0].type]
        self.outputs = tuple(Output(o.name, _OUT[o.type], _shape(o.shape)) for o in outputs)
        self._names = [output.name for output in outputs]
        self._session = session
        # The public `run` looks through all inputs each time, a fifth of a single row, and then calls this one.
        self._run = getattr(session, "_sess", session).run

    def run(self, rows: Any) -> list[NDArray[Any]]:
        """Every output for a matrix of rows. Raises Bug where the model fails."""
        try:
            found: list[NDArray[Any]] = self._run(self._names, {self.input: np.ascontiguousarray(rows, self.dtype)}, None)
        except Exception as exc:  # onnxruntime has no root of its own for what a graph may raise
            raise Bug(f"The model failed: {str(exc)[:200]}.", "falaj rollback takes the version before.") from exc
        return found


class Trees:
    """A tree ensemble: few rows walk through the graph, many are looked up. Both give the same numbers, to the bit."""

    def __init__(self, graph: Graph, forest: Forest, looked: Tables, least: int) -> None:
        self.input, self.datatype, self.dtype, self.outputs = graph.input, graph.datatype, graph.dtype, graph.outputs
        self.least = least
        self._columns = _width(graph)
        self._graph, self._looked = graph, looked
        self._link = Graph(link_onnx(forest)).run if forest.link != "identity" else None

    def run(self, rows: Any) -> list[NDArray[Any]]:
        """As the graph."""
        if len(rows) < self.least:
            return self._graph.run(rows)
        matrix = np.asarray(rows, self.dtype)
        if matrix.ndim != 2 or matrix.shape[1] != self._columns:
            return self._graph.run(matrix)  # which refuses it in its own words
        margins = self._looked.margins(matrix)
        return self._link(margins) if self._link is not None else [margins]


def faster(graph: Graph, forest: Forest | None) -> Program:
    """The graph, or both it and its tables, where these were seen to be faster on this machine."""
    looked = tables(forest) if forest is not None and len(graph.outputs) == 1 and _width(graph) >= forest.columns else None
    if forest is None or looked is None:
        return graph
    trees = Trees(graph, forest, looked, 1)
    cuts = forest.cut[~forest.is_leaf]
    for count in TRIED:
        asked = [_unlike(cuts, (count, _width(graph)), number) for number in range(_ROUNDS)]
        if not all(np.array_equal(trees.run(rows)[0], graph.run(rows)[0], equal_nan=True) for rows in asked):
            return graph  # another onnxruntime, which adds in another order
        if _seconds(trees.run, asked) < _AHEAD * _seconds(graph.run, asked):
            trees.least = count
            return trees
    return graph


def _unlike(cuts: NDArray[np.float32], shape: tuple[int, int], number: int) -> NDArray[np.float32]:
    """Rows of real cuts, in no order (Knuth's multiplicative hash): rows that all go the same way would show too little."""
    places = np.arange(number * shape[0] * shape[1], (number + 1) * shape[0] * shape[1]) * 2654435761 >> 7
    rows: NDArray[np.float32] = cuts[places % len(cuts)].reshape(shape)
    return rows


def _seconds(run: Callable[[Any], Any], asked: list[NDArray[np.float32]]) -> float:
    """Of the fastest round."""
    best = float("inf")
    for rows in asked:
        started = time.perf_counter()
        run(rows)
        best = min(best, time.perf_counter() - started)
    return best


def _width(graph: Graph) -> int:
    shape = graph._session.get_inputs()[0].shape
    return shape[-1] if len(shape) == 2 and isinstance(shape[-1], int) else -1


def _shape(given: Any) -> tuple[int, ...]:
    """Rows first, of whatever number; -1 for any other size that is not fixed."""
    return tuple(size if isinstance(size, int) else -1 for size in ([-1, *given[1:]] if given else [-1]))
