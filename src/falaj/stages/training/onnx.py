"""Turns a fitted model into ONNX, exactly: the same float32 input takes the same branch in both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from falaj.core.errors import Bug, InvalidInput, MissingDependency
from falaj.stages.training.spec import Fitted

OPSET = 15
INPUT, OUTPUT = "input", "probabilities"
_KEPT = ("BRANCH_LEQ", "BRANCH_LT")


def to_onnx(fitted: Fitted, columns: int) -> bytes:
    """ONNX bytes: `input` float32 [n, columns] → `probabilities` float32 [n, 2]. Raises InvalidInput for a kind that has no way there."""
    if fitted.kind != "lightgbm":
        raise InvalidInput(f"A {fitted.kind!r} model cannot become ONNX here.", "fit a LightGBM Booster: kind='lightgbm'.")
    try:
        import onnx
        from onnxmltools.convert import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType
    except ImportError as exc:
        raise MissingDependency.of("Conversion to ONNX", exc.name or "onnxmltools", "train") from exc
    shape = [(INPUT, FloatTensorType([None, columns]))]
    model = convert_lightgbm(fitted.native, initial_types=shape, zipmap=False, target_opset=OPSET)
    _floor_thresholds(model, fitted.native.dump_model())
    # The label is score ≥ ½, which nobody asks for: the endpoint has a threshold of its own.
    kept = [output for output in model.graph.output if output.name == OUTPUT]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    model.doc_string, model.producer_name, model.graph.name = "", "falaj", "model"
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _floor_thresholds(model: Any, dumped: Mapping[str, Any]) -> None:
    """LightGBM compares with float64 thresholds, ONNX with float32: rounded up, a float32 input between the two would change sides.

    For a float32 x, x ≤ t exactly when x ≤ the greatest float32 that is not above t. So each threshold is rounded down, node
    by node; the converter numbers the nodes of a tree in the order in which it meets them, yes-branch first.
    """
    node = next(node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier")
    parts = {attribute.name: attribute for attribute in node.attribute}
    values, modes = parts["nodes_values"].floats, parts["nodes_modes"].strings
    trees, features = parts["nodes_treeids"].ints, parts["nodes_featureids"].ints
    by_tree: dict[int, list[int]] = {}
    for place, mode in enumerate(modes):
        if mode.decode() in _KEPT:
            by_tree.setdefault(trees[place], []).append(place)
    # A threshold beyond float32 stands for "only what is missing": rounded down it is the greatest float32.
    with np.errstate(over="ignore"):
        _write_down(values, features, by_tree, dumped)


def _write_down(values: Any, features: Any, by_tree: Mapping[int, list[int]], dumped: Mapping[str, Any]) -> None:
    for number, tree in enumerate(dumped["tree_info"]):
        exact: dict[tuple[int, float], float] = {}
        for feature, threshold in _thresholds(tree["tree_structure"]):
            key = (feature, float(np.float32(threshold)))
            exact[key] = min(threshold, exact.get(key, threshold))
        for place in by_tree.get(number, ()):
            known = exact.get((features[place], float(np.float32(values[place]))))
            if known is None:
                raise Bug(f"Tree {number} of the ONNX model has a threshold that the booster does not know.")
            rounded = np.float32(known)
            values[place] = float(rounded if float(rounded) <= known else np.nextafter(rounded, np.float32(-np.inf)))


def _thresholds(node: Mapping[str, Any]) -> Iterator[tuple[int, float]]:
    stack = [node]
    while stack:
        at = stack.pop()
        if "split_feature" in at:
            if at["decision_type"] != "<=":
                raise InvalidInput("The booster splits on categories, which ONNX compares in another way.", "fit on numbers only.")
            yield int(at["split_feature"]), float(at["threshold"])
            stack += [at["left_child"], at["right_child"]]


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
    return opened.run([OUTPUT], {INPUT: x})[0][:, 1]
