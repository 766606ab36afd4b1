"""Trees in an ONNX graph whose branches lead in a circle would keep onnxruntime walking for ever: they are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from falaj.core.errors import InvalidInput
from falaj.inference.models import wire
from falaj.inference.models.ensemble import from_onnx
from falaj.inference.models.model import Stored, program
from falaj.inference.models.onnx import Graph
from tests.kits.stored import rows, stored

TREE: dict[str, Any] = {
    "nodes_treeids": [0, 0, 0, 0, 0], "nodes_nodeids": [0, 1, 2, 3, 4], "nodes_featureids": [0, 1, 0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"], "nodes_values": [0.0, 0.5, 0.0, 0.0, 0.0],
    "nodes_truenodeids": [1, 3, 0, 0, 0], "nodes_falsenodeids": [2, 4, 0, 0, 0], "target_treeids": [0, 0, 0],
    "target_nodeids": [2, 3, 4], "target_ids": [0, 0, 0], "target_weights": [1.0, 2.0, 3.0], "n_targets": 1,
}  # fmt: skip
FLAT: dict[str, Any] = {
    "nodes_featureids": [0, 1], "nodes_splits": [0.0, 0.5], "nodes_modes": [0, 0], "nodes_truenodeids": [1, 1],
    "nodes_trueleafs": [0, 1], "nodes_falsenodeids": [0, 2], "nodes_falseleafs": [1, 1], "leaf_targetids": [0, 0, 0],
    "leaf_weights": [1.0, 2.0, 3.0], "tree_roots": [0], "n_targets": 1,
}  # fmt: skip
"""The same tree as the operator of version 5 has it."""


def graph(op: str = "TreeEnsembleRegressor", **changes: Any) -> bytes:
    given = {**(FLAT if op == "TreeEnsemble" else TREE), **changes}
    if op == "TreeEnsemble":
        for name, kind in (("nodes_splits", np.float32), ("nodes_modes", np.uint8), ("leaf_weights", np.float32)):
            given[name] = onnx.numpy_helper.from_array(np.array(given[name], kind), name)
    node = helper.make_node(op, ["input"], ["found"], domain="ai.onnx.ml", **given)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width]) for name, width in (("input", 2), ("found", 1))]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 5 if op == "TreeEnsemble" else 3)]
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]), opset_imports=opsets, ir_version=10)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("op", ["TreeEnsembleRegressor", "TreeEnsemble"])
def test_a_tree_that_ends_is_opened(op: str) -> None:
    loaded = program(graph(op), Stored("onnx", 2))
    assert loaded.run(np.array([[-1, 0], [-1, 1], [1, 0]], np.float32))[0].ravel().tolist() == [2.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("op", "changes"),
    [
        ("TreeEnsembleRegressor", {"nodes_truenodeids": [1, 0, 0, 0, 0]}),
        ("TreeEnsembleRegressor", {"nodes_falsenodeids": [2, 1, 0, 0, 0]}),
        ("TreeEnsembleRegressor", {"nodes_falsenodeids": [9, 4, 0, 0, 0]}),
        ("TreeEnsembleRegressor", {"nodes_nodeids": [0, 1, 2, 3, 3]}),
        ("TreeEnsemble", {"nodes_trueleafs": [0, 0]}),
        ("TreeEnsemble", {"tree_roots": [7]}),
    ],
)
def test_a_tree_that_leads_in_a_circle_or_nowhere_is_refused(op: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        from_onnx(graph(op, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes_modes": ["BRANCH_LT", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"]},
        {"base_values": [0.5]},
        {"post_transform": "LOGISTIC"},
        {"aggregate_function": "MAX"},
        {"target_nodeids": [2, 3, 3]},
    ],
)
def test_an_ensemble_that_tables_would_not_follow_is_left_to_the_graph(changes: dict[str, Any]) -> None:
    data = graph(**changes)
    assert from_onnx(data) is None or changes.get("target_nodeids")
    assert isinstance(program(data, Stored("onnx", 2)), Graph)


def test_a_graph_without_trees_has_no_forest() -> None:
    assert from_onnx(wire.graph([wire.node("Relu", ["a"], ["b"])], ("a", 2), ("b", 2))) is None


def test_whole_numbers_are_written_as_others_read_them() -> None:
    values = [0, 1, 127, 128, 300, 1 << 20, (1 << 62) + 1]
    read = onnx.NodeProto.FromString(wire.node("Op", ["x"], ["y"], ints=values, one=-3, text="a", part=0.5, texts=["b", "c"]))
    found = {one.name: helper.get_attribute_value(one) for one in read.attribute}
    assert found == {"ints": values, "one": -3, "text": b"a", "part": 0.5, "texts": [b"b", b"c"]}


def test_what_others_wrote_is_read_packed_or_not() -> None:
    node = helper.make_node("Op", ["x"], ["y"], ints=[1, 300, 70000], floats=[0.5, 2.0], texts=["a", "b"], one=7, part=0.25)
    found = wire.attributes(node.SerializeToString())
    assert (found["ints"], found["floats"].tolist(), found["texts"], found["one"]) == (
        [1, 300, 70000],
        [0.5, 2.0],
        [b"a", b"b"],
        7,
    )
    mine = wire.attributes(wire.node("Op", ["x"], ["y"], ints=[1, 300, 70000], floats=np.array([0.5, 2.0], np.float32)))
    assert (mine["ints"], mine["floats"].tolist()) == ([1, 300, 70000], [0.5, 2.0])


def test_a_list_whose_values_are_not_in_one_place_is_read_in_order() -> None:
    nodes = [wire.node("Op", [], [], ints=[n, 300 + n], texts=["a" * n, "b"]) for n in (1, 200)]
    ints, texts = zip(*([body for number, body in wire.fields(node) if number == 5] for node in nodes), strict=True)
    wanted = (("ints", ints, [1, 301, 200, 500]), ("texts", texts, [b"a", b"b", b"a" * 200, b"b"]))
    for name, parts, values in wanted:
        body = b"".join(parts)
        assert wire.attributes(b"\x2a" + wire.varint(len(body)) + body) == {name: values}


@pytest.mark.parametrize(
    "body", [b"\x40" + b"\x80" * 10 + b"\x01", b"\x42\x0b" + b"\x80" * 10 + b"\x01", b"\x40", b"\x4a\x05abc"]
)
def test_a_list_that_goes_beyond_its_message_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"end|beyond|missing"):
        wire.attributes(b"\x2a" + wire.varint(len(body)) + body)


def test_a_message_that_ends_too_early_is_no_message() -> None:
    data = stored("onnx")
    for end in (1, 5, 100, len(data) - 1):
        with pytest.raises((ValueError, InvalidInput)):
            from_onnx(data[:end]) or list(wire.fields(data[:end]))
    assert len(rows(1)) == 1


def test_a_graph_of_64_bit_floats_runs_on_such_rows() -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 2]) for name in ("a", "b")]
    made = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "g", ends[:1], ends[1:])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    loaded = program(model.SerializeToString(), Stored("onnx", 2))
    assert (loaded.datatype, loaded.dtype, loaded.outputs[0].datatype) == ("FP64", np.float64, "FP64")
    assert loaded.run([[0.1, 0.2]])[0].tolist() == [[0.1, 0.2]]
