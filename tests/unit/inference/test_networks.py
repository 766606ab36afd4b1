"""A network in safetensors is its weights and a list of layers: it answers as numpy does, and what is unknown is refused."""

from __future__ import annotations

import json
from math import erf, sqrt
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.inference.models import Stored
from falaj.inference.models.model import program
from falaj.inference.models.safetensors import LAYERS, MOST_HEADER
from tests.kits.stored import COLUMNS, network, rows

SIZES = st.integers(1, 12)


def run(data: bytes, x: Any, columns: int = COLUMNS) -> Any:
    return program(data, Stored("safetensors", columns)).run(x)[0]


def reference(layers: list[dict[str, Any]], tensors: dict[str, Any], x: Any) -> Any:
    """The layers once more, in 64 bits, as their papers write them."""
    x = x.astype(np.float64)
    for layer in layers:
        given = {part: tensors[name].astype(np.float64) for part, name in layer.items() if isinstance(name, str) and part != "op"}
        x = _REFERENCE[layer["op"]](x, given, layer)
    return x


def _normal(x: Any, given: Any, mean: Any, var: Any, layer: Any) -> Any:
    return (x - mean) / np.sqrt(var + layer.get("eps", 1e-5)) * given["weight"] + given["bias"]


def _softmax(x: Any) -> Any:
    powers = np.exp(x - x.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


_REFERENCE: dict[str, Any] = {
    "linear": lambda x, t, _: x @ t["weight"].T + t.get("bias", 0.0),
    "layer_norm": lambda x, t, layer: _normal(x, t, x.mean(1, keepdims=True), x.var(1, keepdims=True), layer),
    "batch_norm": lambda x, t, layer: _normal(x, t, t["mean"], t["var"], layer),
    "scale": lambda x, t, _: (x - t["mean"]) / t["std"],
    "fill": lambda x, t, _: np.where(np.isnan(x), t["values"], x),
    "relu": lambda x, _t, _: np.maximum(x, 0),
    "leaky_relu": lambda x, _t, layer: np.where(x < 0, x * layer.get("slope", 0.01), x),
    "elu": lambda x, _t, layer: np.where(x < 0, layer.get("alpha", 1.0) * np.expm1(np.minimum(x, 0)), x),
    "gelu": lambda x, _t, _: x * 0.5 * (1 + np.vectorize(erf)(x / sqrt(2))),
    "silu": lambda x, _t, _: x / (1 + np.exp(-x)),
    "sigmoid": lambda x, _t, _: 1 / (1 + np.exp(-x)),
    "tanh": lambda x, _t, _: np.tanh(x),
    "softmax": lambda x, _t, _: _softmax(x),
    "dropout": lambda x, _t, _: x,
}


@st.composite
def networks(draw: st.DrawFn) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Some layers of any kind one after the other, with weights of their widths; columns, layers, tensors."""
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    columns = width = draw(SIZES)
    layers: list[dict[str, Any]] = []
    tensors: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 7))):
        op = draw(st.sampled_from(sorted(LAYERS)))
        layer: dict[str, Any] = {"op": op}
        wide = draw(SIZES) if op == "linear" else width
        for part in LAYERS[op][0]:
            if part == "bias" and op == "linear" and draw(st.booleans()):
                continue
            name = f"{number}.{part}"
            shape = (wide, width) if (op, part) == ("linear", "weight") else (wide,)
            made = chance.normal(size=shape)
            tensors[name] = (np.abs(made) + 0.5 if part in ("var", "std") else made).astype(np.float32)
            layer[part] = name
        if draw(st.booleans()):
            layer |= {name: draw(st.sampled_from([1e-5, 1e-3, 0.2])) for name in LAYERS[op][1]}
        layers.append(layer)
        width = wide
    return columns, layers, tensors


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(made=networks(), count=st.integers(1, 5))
def test_any_network_answers_as_its_formulas(made: Any, count: int) -> None:
    columns, layers, tensors = made
    x = np.random.default_rng(0).normal(size=(count, columns)).astype(np.float32)
    data = network(layers, **tensors)
    np.testing.assert_allclose(run(data, x, columns), reference(layers, tensors, x), rtol=2e-3, atol=2e-4)


def test_a_missing_number_is_filled() -> None:
    x = rows(50, missing=0.5)
    answers = run(network(), x)
    assert np.isfinite(answers).all()
    assert np.array_equal(answers, run(network(), np.nan_to_num(x)))


def test_half_precision_weights_are_read() -> None:
    layers = [{"op": "linear", "weight": "w"}]
    weight = np.array([[0.5, -2.0]], np.float16)
    assert run(network(layers, w=weight), np.ones((1, 2), np.float32), 2).tolist() == [[-1.5]]


def test_brain_floats_are_read() -> None:
    """numpy has no such type: 0x3f00 and 0xc000 are 0.5 and -2."""
    about = {"network": json.dumps({"layers": [{"op": "linear", "weight": "w"}]})}
    head = json.dumps({"__metadata__": about, "w": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}}).encode()
    data = len(head).to_bytes(8, "little") + head + bytes([0x00, 0x3F, 0x00, 0xC0])
    assert run(data, np.ones((1, 2), np.float32), 2).tolist() == [[-1.5]]


W = np.ones((2, COLUMNS), np.float32)
LINEAR = {"op": "linear", "weight": "w"}


@pytest.mark.parametrize(
    ("layers", "tensors", "why"),
    [
        ([{"op": "lambda", "code": "x"}], {}, "'lambda' is no layer"),
        ([{"op": ["relu"]}], {}, "is no layer"),
        ([{"op": "relu", "inplace": True}], {}, "relu has no 'inplace'"),
        ([LINEAR], {}, "has no tensor 'w'"),
        ([LINEAR, LINEAR], {"w": W}, r"Layer 1 of the network: The tensor 'w' is \[2, 6\], and \[-1, 2\]"),
        ([LINEAR, {"op": "layer_norm", "weight": "n", "bias": "n"}], {"w": W, "n": np.ones(3, np.float32)}, r"is \[3\]"),
        ([LINEAR], {"w": W, "rest": W}, "does not use its tensor 'rest'"),
        ([LINEAR], {"w": W * np.nan}, "a number that is none"),
        ([LINEAR], {"w": W.astype(np.int32)}, "holds I32"),
        ([{"op": "linear", "weight": 7}], {"w": W}, "has no tensor 7"),
        ([{"op": "elu", "alpha": "1"}], {}, "alpha of elu must be a number"),
        ([{"op": "scale", "mean": "v", "std": "v"}], {"v": np.zeros(COLUMNS, np.float32)}, "std of scale is 0"),
        ([{"op": "relu"}] * 257, {}, "1 to 256 layers"),
        ([], {}, "1 to 256 layers"),
        (["relu"], {}, "1 to 256 layers"),
        ("relu", {}, "1 to 256 layers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_network_is_refused(layers: Any, tensors: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        run(network(layers, **tensors), rows(1))


def test_a_network_of_another_width_than_the_recipe_s_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"Layer 0 of the network"):
        run(network(), rows(1), COLUMNS + 1)


def test_a_file_that_names_no_network_is_refused() -> None:
    for data in (safetensors.numpy.save({"w": W}), safetensors.numpy.save({"w": W}, metadata={"network": "{"})):
        with pytest.raises(InvalidInput, match="which network"):
            run(data, rows(1))


@pytest.mark.parametrize("size", [0, 1, MOST_HEADER + 1, 2**63, 2**64 - 1])
def test_a_header_of_an_impossible_size_is_refused_before_it_is_read(size: int) -> None:
    with pytest.raises(InvalidInput, match=r"header of \d+ bytes is none"):
        run(size.to_bytes(8, "little") + b"{}" * 10, rows(1))


def test_a_header_that_nests_without_end_is_refused() -> None:
    header = b'{"__metadata__":' + b"[" * 100_000
    with pytest.raises(InvalidInput):
        run(len(header).to_bytes(8, "little") + header, rows(1))
