"""The tree ensembles in an ONNX graph: checked, because onnxruntime walks in circles where branches do, and read as a forest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from falaj.core.errors import InvalidInput
from falaj.inference.models import wire
from falaj.inference.models.forest import DEEPEST, Forest, Ints, distinct, grown

_OLD, _NEW = (b"TreeEnsembleRegressor", b"TreeEnsembleClassifier"), b"TreeEnsemble"
_END = -1
"""In place of a child: a way ends here."""


def from_onnx(data: bytes) -> Forest | None:
    """The forest in a graph that is one tree ensemble, with or without a sigmoid behind it; None for any other graph.

    Raises InvalidInput for a tree, in whatever graph, whose branches lead nowhere or in a circle.
    """
    nodes: list[bytes] = []
    weights = 0
    try:
        for number, model in wire.fields(data):
            for kind, body in wire.fields(model) if number == 7 else ():
                nodes += [body] if kind == 1 else []
                weights += kind == 5
        ops = [_op(one) for one in nodes]
        found = [wire.attributes(one) if op in (*_OLD, _NEW) else {} for op, one in zip(ops, nodes, strict=True)]
        for op, attributes in zip(ops, found, strict=True):
            if attributes:
                _walk(*(_new_branches if op == _NEW else _old_branches)(attributes))
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as exc:
        raise InvalidInput(f"The trees of the graph cannot be read: {exc!r}.", "export it again.") from exc
    if ops not in ([_OLD[0]], [_OLD[0], b"Sigmoid"]) or weights:
        return None
    try:
        return _ensemble(found[0], "sigmoid" if len(ops) > 1 else "identity")
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, InvalidInput):
        return None  # numbered or built in a way that only onnxruntime has to understand


def _op(found: bytes) -> bytes:
    return next((body for number, body in wire.fields(found) if number == 4), b"")


def _old_branches(found: Mapping[str, Any]) -> tuple[Ints, Ints]:
    """For each node its two children; none below a leaf."""
    trees, numbers = found["nodes_treeids"], found["nodes_nodeids"]
    places = {pair: place for place, pair in enumerate(zip(trees, numbers, strict=True))}
    if len(places) < len(trees):
        raise ValueError("two nodes have one number")
    leaf = [mode == b"LEAF" for mode in found["nodes_modes"]]

    def children(side: Sequence[int]) -> Ints:
        told = zip(trees, side, leaf, strict=True)
        return np.array([_END if last else places[tree, child] for tree, child, last in told])

    return children(found["nodes_truenodeids"]), children(found["nodes_falsenodeids"])


def _new_branches(found: Mapping[str, Any]) -> tuple[Ints, Ints]:
    """The same of the operator of version 5, whose children are places in the list of nodes, or of leaves."""

    def children(side: str) -> Ints:
        child, last = (np.array(found[f"nodes_{side}{what}"]) for what in ("nodeids", "leafs"))
        return np.where(last != 0, _END, child)

    yes, no = children("true"), children("false")
    if not all(0 <= root < len(yes) for root in found["tree_roots"]):
        raise ValueError("a root is not there")
    return yes, no


def _walk(yes: Ints, no: Ints) -> None:
    """Raises InvalidInput unless every way ends, from whichever node onnxruntime takes for a root."""
    here = np.arange(len(yes))
    for _ in range(DEEPEST):
        here = distinct(here[here != _END])
        if not len(here):
            return
        if here[0] < 0 or here[-1] >= len(yes):
            raise InvalidInput("A branch of the model's trees leads nowhere.", "export the model again.")
        here = np.concatenate([yes[here], no[here]])
    raise InvalidInput("A way through the model's trees has no end.", "export the model again.")


def _ensemble(found: Any, link: str) -> Forest | None:
    plain = {"n_targets": 1, "aggregate_function": b"SUM", "post_transform": b"NONE"}
    if any(found.get(name, usual) != usual for name, usual in plain.items()):
        return None
    modes = found["nodes_modes"]
    if set(modes) - {b"BRANCH_LEQ", b"LEAF"} or found.get("base_values") is not None or any(found["target_ids"]):
        return None
    trees = np.array(found["nodes_treeids"])
    numbers = np.array(found["nodes_nodeids"])
    starts = np.flatnonzero(np.diff(trees, prepend=-1))
    if (numbers != np.arange(len(trees)) - np.repeat(starts, np.diff(starts, append=len(trees)))).any():
        return None  # numbered in another way than node by node
    if (trees[starts] != np.arange(len(starts))).any():
        return None
    leaf = np.array([mode == b"LEAF" for mode in modes])
    shift = starts[trees]
    value = np.zeros(len(trees), np.float32)
    value[starts[np.array(found["target_treeids"])] + np.array(found["target_nodeids"])] = found["target_weights"]
    missing = np.array(found.get("nodes_missing_value_tracks_true", [0] * len(trees)), bool)
    feature = np.where(leaf, -1, np.array(found["nodes_featureids"]))
    forest = Forest(
        int(feature.max(initial=0)) + 1, feature, found["nodes_values"], np.where(leaf, 0, shift + found["nodes_truenodeids"]),
        np.where(leaf, 0, shift + found["nodes_falsenodeids"]), missing, value, starts, np.zeros(len(starts), np.int64),
        (0.0,), link,
    )  # fmt: skip
    return grown(forest)
