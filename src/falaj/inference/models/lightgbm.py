"""Models in LightGBM's own text: read here, without LightGBM, and run as any other trees.

The format is that of `Booster.save_model`, version 3 or 4 (GBDT::SaveModelToString and Tree::ToString in LightGBM's sources).
LightGBM trusts the text, and a wrong one ends its process; this reader refuses what it does not understand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput
from falaj.inference.models.forest import Forest, floor32, grown
from falaj.inference.models.model import Program, Stored
from falaj.inference.models.onnx import of_forest

ZERO = np.float32(1e-35)
"""kZeroThreshold: whatever lies closer to 0 is 0 before it is compared."""
_LINKS = {
    "binary": "sigmoid", "cross_entropy": "sigmoid", "multiclass": "softmax", "regression": "identity",
    "regression_l1": "identity", "huber": "identity", "fair": "identity", "quantile": "identity", "mape": "identity",
    "lambdarank": "identity",
}  # fmt: skip
_CATEGORY, _LEFT, _ZERO_IS_MISSING, _NAN_IS_MISSING = 1, 2, 4, 8
"""Bits of `decision_type`."""
_MOST = 2**31
"""No file has as many columns or nodes."""


def load(data: bytes, stored: Stored) -> Program:
    """Raises InvalidInput for what is no LightGBM text, or a model that 32-bit trees would not follow exactly."""
    forest = read(data)
    if stored.columns and forest.columns != stored.columns:
        raise InvalidInput(f"The booster reads {forest.columns} columns, the recipe has {stored.columns}.")
    return of_forest(forest, stored.device)


def read(data: bytes) -> Forest:
    """The booster as a forest. Raises InvalidInput."""
    try:
        head, *trees = list(_sections(data.decode("utf-8")))
        return _forest(head, trees)
    except (ValueError, KeyError, IndexError, OverflowError) as exc:
        raise InvalidInput(f"The model is no LightGBM text: {str(exc)[:200]}.", "write it with booster.save_model().") from exc


def _sections(text: str) -> Iterator[dict[str, str]]:
    """The head, then each tree, as name → value; what follows the trees is about training."""
    body, end, _ = text.partition("\nend of trees")
    if not body.startswith("tree\n") or not end:
        raise ValueError("it does not begin with 'tree' or has no 'end of trees'")
    for part in body.split("\nTree="):
        lines = (line.partition("=") for line in part.splitlines() if line)
        yield {name: value for name, _, value in lines}


def _forest(head: Mapping[str, str], trees: list[dict[str, str]]) -> Forest:
    per_round, columns = int(head["num_tree_per_iteration"]), int(head["max_feature_idx"]) + 1
    link = _link(head)
    if not trees or per_round < 1 or len(trees) % per_round or columns < 1:
        raise ValueError(f"{len(trees)} trees are no rounds of {per_round}")
    parts, roots, size = [], [], 0
    for tree in trees:
        part = _tree(tree, size)
        roots.append(size)
        size += len(part["feature"])
        parts.append(part)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    target = np.arange(len(trees)) % per_round
    base = (0.0,) * per_round
    return grown(Forest(columns=columns, roots=np.array(roots), target=target, base=base, link=link, **joined))


def _link(head: Mapping[str, str]) -> str:
    name, *given = head.get("objective", "none").split()
    if name not in _LINKS or any(word == "sqrt" or (word.startswith("sigmoid:") and word != "sigmoid:1") for word in given):
        raise InvalidInput(
            f"The booster's objective is {head.get('objective', 'none')!r}.", f"fit with one of {', '.join(_LINKS)}, sigmoid=1."
        )
    if "average_output" in head:
        raise InvalidInput("The booster averages its trees.", "fit with boosting='gbdt' or 'dart'.")
    return _LINKS[name]


def _tree(tree: Mapping[str, str], start: int) -> dict[str, NDArray[Any]]:
    """Its inner nodes, then its leaves, numbered from `start`."""
    leaves = int(tree["num_leaves"])
    if int(tree.get("num_cat", "0")):
        raise InvalidInput("The booster splits on categories.", "fit on numbers only, or export it to ONNX yourself.")
    if int(tree.get("is_linear", "0")):
        raise InvalidInput("The booster has linear models in its leaves.", "fit with linear_tree=False.")
    inner = leaves - 1
    names = ("split_feature", "decision_type", "left_child", "right_child")
    feature, kinds, yes, no = (_whole(tree[name], inner) if inner else np.zeros(0, np.int64) for name in names)
    cut = _numbers(tree["threshold"], inner) if inner else np.zeros(0)
    if (kinds & (_CATEGORY | _ZERO_IS_MISSING)).any():
        raise InvalidInput("The booster splits on categories or takes 0 for a missing value.", "fit with zero_as_missing=False.")
    # Where it saw no missing value while it was fitted, it takes one for 0.
    missing = np.where(kinds & _NAN_IS_MISSING, (kinds & _LEFT) > 0, cut >= 0)
    left, right = (start + np.where(child < 0, inner - 1 - child, child) for child in (yes, no))
    nothing = np.zeros(leaves)
    return {
        "feature": np.append(feature, np.full(leaves, -1)),
        "cut": np.append(_cuts(cut), nothing).astype(np.float32),
        "yes": np.append(left, nothing).astype(np.int64),
        "no": np.append(right, nothing).astype(np.int64),
        "missing": np.append(missing, nothing).astype(bool),
        "value": np.append(np.zeros(inner), _values(tree["leaf_value"], leaves)).astype(np.float32),
    }


def _numbers(text: str, count: int) -> NDArray[np.float64]:
    found = np.array([float(word) for word in text.split()])
    if len(found) != count or np.isnan(found).any():
        raise ValueError(f"{len(found)} numbers where there are {count}, or one that is none")
    return found


def _values(text: str, count: int) -> NDArray[np.float64]:
    found = _numbers(text, count)
    if (np.abs(found) > np.finfo(np.float32).max).any():
        raise ValueError("a leaf with more than FP32 can carry")
    return found


def _whole(text: str, count: int) -> NDArray[np.int64]:
    found = _numbers(text, count)
    if (np.abs(found) > _MOST).any() or (found != np.trunc(found)).any():
        raise ValueError("a number that must be whole and is not, or is too large")
    return found.astype(np.int64)


def _cuts(cut: NDArray[np.float64]) -> NDArray[np.float32]:
    below = np.nextafter(np.float32(-ZERO), np.float32(-math.inf))
    near = np.where(cut >= 0, ZERO, below).astype(np.float32)
    return np.where(np.abs(cut) > float(ZERO), floor32(cut), near)
