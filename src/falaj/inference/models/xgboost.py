"""Models in XGBoost's own JSON or UBJSON: read here, without XGBoost, and run as any other trees.

The format is described at https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html. XGBoost compares 32-bit floats,
x < cut; x ≤ the float below is the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput
from falaj.inference.models import ubjson
from falaj.inference.models.forest import Forest, beside, grown
from falaj.inference.models.model import Program, Stored
from falaj.inference.models.onnx import of_forest

_LINKS = {
    "binary:logistic": "sigmoid", "reg:logistic": "sigmoid", "multi:softprob": "softmax", "binary:logitraw": "identity",
    "reg:squarederror": "identity", "reg:absoluteerror": "identity", "reg:pseudohubererror": "identity", "rank:ndcg": "identity",
    "rank:pairwise": "identity", "rank:map": "identity",
}  # fmt: skip


def load(data: bytes, stored: Stored) -> Program:
    """Raises InvalidInput for what is no XGBoost model, or one whose trees are not plain numbers."""
    forest = read(data)
    if stored.columns and forest.columns != stored.columns:
        raise InvalidInput(f"The booster reads {forest.columns} columns, the recipe has {stored.columns}.")
    return of_forest(forest, stored.device)


def read(data: bytes) -> Forest:
    """The booster as a forest. Raises InvalidInput."""
    try:
        # Both begin with a brace; in JSON a quotation mark or a blank follows, in UBJSON the type of a length.
        is_text = data[1:2] in (b'"', b" ", b"\n", b"\r", b"\t")
        body = json.loads(data) if is_text else ubjson.read(data)
        return _forest(body["learner"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise InvalidInput(
            f"The model is no XGBoost JSON or UBJSON: {str(exc)[:200] or type(exc).__name__}.",
            "write it with booster.save_model('model.ubj').",
        ) from exc


def _forest(learner: Mapping[str, Any]) -> Forest:
    objective = str(learner["objective"]["name"])
    if objective not in _LINKS:
        raise InvalidInput(f"The booster's objective is {objective!r}.", f"fit with one of {', '.join(_LINKS)}.")
    told, booster = learner["learner_model_param"], learner["gradient_booster"]
    name = booster["name"]
    if name not in ("gbtree", "dart"):
        raise InvalidInput(f"The booster is a {name!r}.", "fit with booster='gbtree'.")
    weights = booster["weight_drop"] if name == "dart" else None
    model = (booster["gbtree"] if name == "dart" else booster)["model"]
    trees, target = model["trees"], np.array(model["tree_info"], np.int64)
    if not len(trees) or len(target) != len(trees) or int(told.get("num_target", "1")) != 1:
        raise ValueError(f"{len(trees)} trees for {len(target)} targets")
    parts, roots, size = [], [], 0
    for place, tree in enumerate(trees):
        part = _tree(tree, size, 1.0 if weights is None else float(weights[place]))
        roots.append(size)
        size += len(part["feature"])
        parts.append(part)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    targets = max(1, int(told["num_class"]))
    base = _base(str(told["base_score"]), targets, _LINKS[objective] == "sigmoid")
    return grown(
        Forest(
            columns=int(told["num_feature"]), roots=np.array(roots), target=target, base=base, link=_LINKS[objective], **joined
        )
    )


def _base(text: str, targets: int, is_probability: bool) -> tuple[float, ...]:
    """The margins before the first tree; older versions write one number, newer ones a list."""
    found = json.loads(text) if text.startswith("[") else [float(text)]
    numbers = [float(number) for number in found] * (targets if len(found) == 1 else 1)
    if len(numbers) != targets:
        raise ValueError(f"{len(numbers)} base scores for {targets} targets")
    return tuple(math.log(number / (1 - number)) if is_probability else number for number in numbers)


def _tree(tree: Mapping[str, Any], start: int, weight: float) -> dict[str, NDArray[Any]]:
    """Its nodes as they stand, numbered from `start`; those that were pruned lead from nowhere."""
    if int(tree["tree_param"].get("size_leaf_vector", "1")) > 1:
        raise InvalidInput("The booster's leaves hold several numbers.", "fit with multi_strategy='one_output_per_tree'.")
    if len(tree.get("categories_nodes", ())) or np.any(tree.get("split_type", ())):
        raise InvalidInput("The booster splits on categories.", "fit on numbers only.")
    names = ("left_children", "right_children", "split_indices", "default_left")
    left, right, feature, default = (np.array(tree[name], np.int64) for name in names)
    cut = np.array(tree["split_conditions"], np.float32)
    if not len(left) == len(right) == len(feature) == len(default) == len(cut) > 0:
        raise ValueError("the lists of a tree have different lengths")
    leaf = left < 0
    if ((left >= len(left)) | (right >= len(left)) | (leaf != (right < 0))).any():
        raise ValueError("a child is not in its tree")
    return {
        "feature": np.where(leaf, -1, feature),
        "cut": beside(cut, -np.inf),
        "yes": np.where(leaf, 0, left + start),
        "no": np.where(leaf, 0, right + start),
        "missing": default != 0,
        "value": np.where(leaf, cut * np.float32(weight), 0).astype(np.float32),
    }
