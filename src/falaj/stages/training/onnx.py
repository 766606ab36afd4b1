"""Turns a fitted model into ONNX, exactly: the same float32 input takes the same branches in both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from falaj.core.errors import InvalidInput, MissingDependency
from falaj.stages.training.spec import Fitted

OPSET, ML_OPSET, IR = 15, 3, 8
INPUT, OUTPUT = "input", "probabilities"
ZERO = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold."""


def to_onnx(fitted: Fitted, columns: int) -> bytes:
    """ONNX bytes: `input` float32 [n, columns] → `probabilities` float32 [n, 1], the probability of 1.

    The same model always gives the same bytes. Raises InvalidInput for a model that ONNX would not follow exactly.
    """
    if fitted.kind != "lightgbm":
        raise InvalidInput(f"A {fitted.kind!r} model cannot become ONNX here.", "fit a LightGBM Booster: kind='lightgbm'.")
    try:
        import onnx
        from onnx import helper
    except ImportError as exc:
        raise MissingDependency.of("Conversion to ONNX", exc.name or "onnx", "train") from exc
    dumped = fitted.native.dump_model()
    _check_kind(dumped, columns)
    nodes = _Nodes()
    for number, tree in enumerate(dumped["tree_info"]):
        nodes.add(number, tree["tree_structure"])
    trees = nodes.attributes()
    graph = helper.make_graph(
        [
            helper.make_node("TreeEnsembleRegressor", [INPUT], ["margin"], domain="ai.onnx.ml", n_targets=1, **trees),
            helper.make_node("Sigmoid", ["margin"], [OUTPUT]),
        ],
        "model",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="falaj")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def floor32(threshold: float) -> float:
    """The greatest float32 that is not above the threshold.

    LightGBM compares with 64-bit thresholds, ONNX with 32-bit ones; rounded up, an input between the two would change sides.
    A float32 x is ≤ t exactly when it is ≤ floor32(t).
    """
    with np.errstate(over="ignore"):
        near = np.float32(threshold)
    return float(near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf)))


def _cut(threshold: float) -> float:
    """Where ONNX has to cut. LightGBM takes every input within ±1e-35 for 0 before it compares: all of them go one way."""
    if abs(threshold) > ZERO:
        return floor32(threshold)
    return ZERO if threshold >= 0 else float(np.nextafter(np.float32(-ZERO), np.float32(-np.inf)))


@dataclass(slots=True)
class _Nodes:
    """The nodes of all trees in the flat form of ONNX: inner nodes and leaves in one list, each tree's root first."""

    rows: list[tuple[int, int, str, int, float, int, int, int]] = field(default_factory=list)
    """tree, node, mode, feature, threshold, yes-node, no-node, whether a missing value goes to yes."""
    leaves: list[tuple[int, int, float]] = field(default_factory=list)
    """tree, node, value."""

    def add(self, tree: int, root: Mapping[str, Any]) -> None:
        for node, here, yes, no in _numbered(root):
            if yes:
                cut = _cut(float(here["threshold"]))
                self.rows.append((tree, node, "BRANCH_LEQ", int(here["split_feature"]), cut, yes, no, _missing_is_yes(here)))
            else:
                self.rows.append((tree, node, "LEAF", 0, 0.0, 0, 0, 0))
                self.leaves.append((tree, node, float(here["leaf_value"])))

    def attributes(self) -> dict[str, list[Any]]:
        trees, nodes, modes, features, values, yes, no, missing = (list(part) for part in zip(*self.rows, strict=True))
        of_leaf, at_leaf, weights = (list(part) for part in zip(*self.leaves, strict=True))
        return {
            "nodes_treeids": trees, "nodes_nodeids": nodes, "nodes_modes": modes, "nodes_featureids": features,
            "nodes_values": values, "nodes_truenodeids": yes, "nodes_falsenodeids": no,
            "nodes_missing_value_tracks_true": missing, "target_treeids": of_leaf, "target_nodeids": at_leaf,
            "target_ids": [0] * len(weights), "target_weights": weights,
        }  # fmt: skip


def _numbered(root: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any], int, int]]:
    """(number, node, number of its yes-child, of its no-child), children 0 for a leaf; breadth first."""
    waiting, last = [root], 0
    for node, here in enumerate(waiting):  # grows while it is walked
        if "split_feature" in here:
            _check_split(here)
            waiting += [here["left_child"], here["right_child"]]
            last += 2
            yield node, here, last - 1, last
        elif "leaf_coeff" in here:
            raise InvalidInput(
                "The booster has linear models in its leaves, which ONNX does not know.", "fit with linear_tree=False."
            )
        else:
            yield node, here, 0, 0


def _missing_is_yes(split: Mapping[str, Any]) -> int:
    """Where the booster saw no missing value while it was fitted, it takes one for 0."""
    return int(split["default_left"] if split["missing_type"] == "NaN" else split["threshold"] >= 0)


def _check_kind(dumped: Mapping[str, Any], columns: int) -> None:
    if dumped.get("objective") != "binary sigmoid:1":
        raise InvalidInput(
            f"The booster's objective is {dumped.get('objective')!r}.", "fit with objective='binary' and sigmoid=1."
        )
    if dumped.get("average_output"):
        raise InvalidInput("The booster averages its trees.", "fit with boosting='gbdt' or 'dart'.")
    if int(dumped["max_feature_idx"]) + 1 != columns:
        raise InvalidInput(f"The booster reads {int(dumped['max_feature_idx']) + 1} columns, the recipe has {columns}.")


def _check_split(split: Mapping[str, Any]) -> None:
    if split["decision_type"] != "<=":
        raise InvalidInput("The booster splits on categories, which ONNX compares in another way.", "fit on numbers only.")
    if split["missing_type"] == "Zero":
        raise InvalidInput("The booster takes 0 for a missing value, which ONNX cannot.", "fit with zero_as_missing=False.")


def session(model: bytes) -> Any:
    """An onnxruntime session with one thread, as the inference server opens it."""
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingDependency.of("Running an ONNX model", "onnxruntime", "serve") from exc
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def score(opened: Any, x: Any) -> Any:
    """The probability of 1 for each row, float32 [n]."""
    return opened.run([OUTPUT], {INPUT: x})[0][:, -1]
