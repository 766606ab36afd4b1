"""Networks in safetensors: weights, and the layers as data beside them; made into a graph here, and run by onnxruntime.

The file's metadata holds the layers under `network`, as JSON: `{"layers": [{"op": "linear", "weight": "0.weight", "bias":
"0.bias"}, {"op": "relu"}, …]}`. Nothing in it is code, and a layer that is not in the table below is refused.
The format is described at https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput, MissingDependency
from falaj.inference.models import wire
from falaj.inference.models.forest import INPUT, OUTPUT
from falaj.inference.models.model import Program, Stored
from falaj.inference.models.onnx import Graph

MOST_HEADER, MOST_LAYERS, WIDEST = 1 << 20, 256, 1 << 16
"""Bytes of the header, layers, columns of a layer."""
_READ = "write it with safetensors.torch.save(weights, metadata={'network': json})."
LAYERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # op: the tensors and the numbers that it may have; the linear bias alone may be missing, and so may numbers
    "linear": (("weight", "bias"), ()),
    "layer_norm": (("weight", "bias"), ("eps",)),
    "batch_norm": (("weight", "bias", "mean", "var"), ("eps",)),
    "scale": (("mean", "std"), ()),
    "fill": (("values",), ()),
    "relu": ((), ()),
    "leaky_relu": ((), ("slope",)),
    "elu": ((), ("alpha",)),
    "gelu": ((), ()),
    "silu": ((), ()),
    "sigmoid": ((), ()),
    "tanh": ((), ()),
    "softmax": ((), ()),
    "dropout": ((), ("p",)),
}
"""`scale` is (x - mean) / std, `fill` puts its values where a number is missing, `dropout` does nothing when a model answers."""
_PLAIN = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def load(data: bytes, stored: Stored) -> Program:
    """Raises InvalidInput for what is no such file, a layer that is unknown, or shapes that do not fit each other."""
    return Graph(to_onnx(data, stored.columns), stored.device)


def to_onnx(data: bytes, columns: int) -> bytes:
    """The network as an ONNX graph, `input` [n, columns] → `probabilities` [n, outputs]. Raises InvalidInput."""
    layers = _layers(data)
    drawn = _Drawn(_tensors(data), columns)
    for number, layer in enumerate(layers):
        try:
            drawn.add(layer)
        except InvalidInput as exc:
            raise InvalidInput(f"Layer {number} of the network: {exc.message}", exc.hint) from exc
    if drawn.unused():
        raise InvalidInput(f"The network does not use its tensor {drawn.unused()[0]!r}.", "name it in a layer, or leave it out.")
    drawn.draw("Identity", output=OUTPUT)
    return wire.graph(drawn.nodes, (INPUT, columns), (OUTPUT, drawn.width), drawn.weights)


def _layers(data: bytes) -> list[Mapping[str, Any]]:
    """What the header says of the layers; the header's size is looked at before anything reads it."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(MOST_HEADER, len(data) - 8):
        raise InvalidInput(f"The file's header of {size} bytes is none.", f"at most {MOST_HEADER} are read; {_READ}")
    try:
        layers = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["network"])["layers"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise InvalidInput("The file does not say which network its weights belong to.", _READ) from exc
    if not isinstance(layers, list) or not 1 <= len(layers) <= MOST_LAYERS or not all(isinstance(one, dict) for one in layers):
        raise InvalidInput(f"The network must be a list of 1 to {MOST_LAYERS} layers.", _READ)
    return layers


def _tensors(data: bytes) -> dict[str, NDArray[np.float32]]:
    try:
        import safetensors
    except ImportError as exc:
        raise MissingDependency.of("Models in safetensors", "safetensors", "safetensors") from exc
    try:
        found = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except Exception as exc:  # a class of its own that the library does not always export
        raise InvalidInput(f"The file is no safetensors: {str(exc)[:200]}.", _READ) from exc
    return {name: _floats(name, told) for name, told in found}


def _floats(name: str, told: Mapping[str, Any]) -> NDArray[np.float32]:
    kind, data = told["dtype"], bytes(told["data"])
    if kind == "BF16":  # the upper half of a 32-bit float
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    elif kind in ("F32", "F16"):
        values = np.frombuffer(data, "<f4" if kind == "F32" else "<f2").astype(np.float32)
    else:
        raise InvalidInput(f"The tensor {name!r} holds {kind}.", "save 32-bit or 16-bit floats.")
    if not np.isfinite(values).all():
        raise InvalidInput(f"The tensor {name!r} holds a number that is none.", "look at the training: it has diverged.")
    return values.reshape(told["shape"])


@dataclass
class _Drawn:
    """The graph so far: `width` columns leave its last node."""

    tensors: Mapping[str, NDArray[np.float32]]
    width: int
    nodes: list[bytes] = field(default_factory=list)
    weights: list[bytes] = field(default_factory=list)
    _at: str = INPUT
    _used: set[str] = field(default_factory=set)

    def add(self, layer: Mapping[str, Any]) -> None:
        op = layer.get("op")
        if not isinstance(op, str) or op not in LAYERS:
            raise InvalidInput(f"{op!r} is no layer that is known here.", f"there is: {', '.join(LAYERS)}.")
        names, numbers = LAYERS[op]
        unknown = set(layer) - {"op", *names, *numbers}
        if unknown:
            raise InvalidInput(f"{op} has no {sorted(unknown)[0]!r}.", f"it has: {', '.join((*names, *numbers)) or 'nothing'}.")
        for name in numbers:
            if name in layer and (isinstance(layer[name], bool) or not isinstance(layer[name], int | float)):
                raise InvalidInput(f"The {name} of {op} must be a number, got {layer[name]!r}.")
        if op in _PLAIN:
            self.draw(_PLAIN[op])
        elif op != "dropout":
            getattr(self, f"_{op}")(layer)

    def draw(self, op: str, *more: str, output: str = "", **attributes: Any) -> str:
        """A node after the last one; returns what it gives."""
        output = output or f"h{len(self.nodes)}"
        self.nodes.append(wire.node(op, [self._at, *more], [output], **attributes))
        self._at = output
        return output

    def unused(self) -> list[str]:
        return sorted(set(self.tensors) - self._used)

    def _tensor(self, layer: Mapping[str, Any], part: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The tensor that the layer names for this part; -1 in the shape is any size."""
        name = layer.get(part)
        if not isinstance(name, str) or name not in self.tensors:
            raise InvalidInput(
                f"The file has no tensor {name!r} for the {part} of {layer['op']}.", f"it has: {', '.join(self.tensors)}."
            )
        found = self.tensors[name]
        if found.ndim != len(shape) or any(want not in (-1, size) for want, size in zip(shape, found.shape, strict=True)):
            raise InvalidInput(
                f"The tensor {name!r} is {list(found.shape)}, and {list(shape)} is needed there.", "-1 is any size."
            )
        self._used.add(name)
        return found

    def _constant(self, values: NDArray[np.float32] | float) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(wire.tensor(name, np.asarray(values, np.float32)))
        return name

    def _columns(self, layer: Mapping[str, Any], *parts: str) -> list[NDArray[np.float32]]:
        return [self._tensor(layer, part, (self.width,)) for part in parts]

    def _linear(self, layer: Mapping[str, Any]) -> None:
        weight = self._tensor(layer, "weight", (-1, self.width))
        if not 1 <= len(weight) <= WIDEST:
            raise InvalidInput(f"A layer gives {len(weight)} columns.", f"1 to {WIDEST} are possible.")
        self.width = len(weight)
        bias = self._tensor(layer, "bias", (self.width,)) if "bias" in layer else np.zeros(self.width, np.float32)
        self.draw("Gemm", self._constant(weight), self._constant(bias), transB=1)

    def _layer_norm(self, layer: Mapping[str, Any]) -> None:
        weight, bias = self._columns(layer, "weight", "bias")
        self.draw("LayerNormalization", self._constant(weight), self._constant(bias), axis=-1, epsilon=_eps(layer))

    def _batch_norm(self, layer: Mapping[str, Any]) -> None:
        """What it learned is fixed when it answers: one product and one sum a column."""
        weight, bias, mean, var = (part.astype(np.float64) for part in self._columns(layer, "weight", "bias", "mean", "var"))
        if (var < 0).any():
            raise InvalidInput("The var of batch_norm is below 0.")
        factor = weight / np.sqrt(var + _eps(layer))
        self.draw("Mul", self._constant(factor.astype(np.float32)))
        self.draw("Add", self._constant((bias - mean * factor).astype(np.float32)))

    def _scale(self, layer: Mapping[str, Any]) -> None:
        mean, std = self._columns(layer, "mean", "std")
        if (std == 0).any():
            raise InvalidInput("The std of scale is 0.", "leave a column out that never changes.")
        self.draw("Sub", self._constant(mean))
        self.draw("Div", self._constant(std))

    def _fill(self, layer: Mapping[str, Any]) -> None:
        (values,) = self._columns(layer, "values")
        given = self._at
        missing = self.draw("IsNaN")
        self._at = missing
        self.draw("Where", self._constant(values), given)

    def _leaky_relu(self, layer: Mapping[str, Any]) -> None:
        self.draw("LeakyRelu", alpha=float(layer.get("slope", 0.01)))

    def _elu(self, layer: Mapping[str, Any]) -> None:
        self.draw("Elu", alpha=float(layer.get("alpha", 1.0)))

    def _gelu(self, _layer: Mapping[str, Any]) -> None:
        """x · Φ(x), the exact form (Hendrycks and Gimpel, 2016)."""
        given = self._at
        self.draw("Div", self._constant(np.sqrt(2.0)))
        self.draw("Erf")
        self.draw("Add", self._constant(1.0))
        self.draw("Mul", given)
        self.draw("Mul", self._constant(0.5))

    def _silu(self, _layer: Mapping[str, Any]) -> None:
        given = self._at
        self.draw("Sigmoid")
        self.draw("Mul", given)

    def _softmax(self, _layer: Mapping[str, Any]) -> None:
        self.draw("Softmax", axis=-1)


def _eps(layer: Mapping[str, Any]) -> float:
    eps = float(layer.get("eps", 1e-5))
    if not 0 <= eps < 1:
        raise InvalidInput(f"The eps of {layer['op']} is {eps}.", "it is a little more than 0, as 1e-05.")
    return eps
