"""A forest: trees as flat arrays, whatever format they came in; checked, so that a walk through them always ends at a leaf."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput
from falaj.inference.models import wire

Ints = NDArray[np.int64]
DEEPEST = 4096
"""Levels of a tree; real ones have tens."""
INPUT, OUTPUT = "input", "probabilities"
_LINKS = {"sigmoid": "Sigmoid", "softmax": "Softmax", "identity": "Identity"}


@dataclass(frozen=True, slots=True)
class Forest:
    """Nodes of all trees in one list: x ≤ cut goes to `yes`, anything greater to `no`, a missing value where `missing` says.

    `feature` is -1 for a leaf, whose `value` counts for the target of its tree. The margin of a target is its base and the sum of
    its trees' leaves; `link` makes the answer of the margins.
    """

    columns: int
    feature: Ints
    cut: NDArray[np.float32]
    yes: Ints
    no: Ints
    missing: NDArray[np.bool_]
    """Whether a missing value goes to `yes`."""
    value: NDArray[np.float32]
    roots: Ints
    target: Ints
    """Of each tree."""
    base: tuple[float, ...]
    link: str

    @property
    def targets(self) -> int:
        return len(self.base)

    @property
    def is_leaf(self) -> NDArray[np.bool_]:
        return self.feature < 0

    def tree_of(self) -> Ints:
        """The tree of each node; nodes of a grown forest lie tree by tree."""
        return np.repeat(np.arange(len(self.roots)), np.diff(self.roots, append=len(self.feature)))

    def levels(self) -> list[Ints]:
        """The nodes from the roots down, level by level. Raises InvalidInput where two ways lead to a node or one has no end."""
        seen = np.zeros(len(self.feature), bool)
        found: list[Ints] = []
        here = self.roots
        while len(here):
            if len(found) > DEEPEST or seen[here].any() or len(distinct(here)) != len(here):
                raise InvalidInput("Two branches of the model's trees meet.", "export the model again.")
            seen[here] = True
            found.append(here)
            inner = here[self.feature[here] >= 0]
            here = np.concatenate([self.yes[inner], self.no[inner]])
        return found


def grown(forest: Forest) -> Forest:
    """The same forest with nothing but what its roots lead to, tree by tree, each root first.

    Raises InvalidInput for a child, column or target that is not there, for branches that meet, and for numbers that are none.
    """
    size, inner = len(forest.feature), forest.feature >= 0
    children = np.concatenate([forest.yes[inner], forest.no[inner], forest.roots])
    if not len(forest.roots) or children.min() < 0 or children.max() >= size:
        raise InvalidInput("A branch of the model's trees leads nowhere.", "export the model again.")
    if forest.feature.max() >= forest.columns or forest.target.min() < 0 or forest.target.max() >= forest.targets:
        raise InvalidInput(f"The model's trees read beyond its {forest.columns} columns.", "export the model again.")
    if not np.isfinite(forest.value[~inner]).all() or np.isnan(forest.cut[inner]).any() or not np.isfinite(forest.base).all():
        raise InvalidInput("The model's trees hold a number that is none.", "export the model again.")
    levels = forest.levels()
    tree = np.empty(size, np.int64)
    tree[forest.roots] = np.arange(len(forest.roots))
    for level in levels:
        below = level[forest.feature[level] >= 0]
        tree[forest.yes[below]] = tree[forest.no[below]] = tree[below]
    order = np.concatenate(levels)
    order = order[np.argsort(tree[order], kind="stable")]
    place = np.zeros(size, np.int64)
    place[order] = np.arange(len(order))
    taken = {name: getattr(forest, name)[order] for name in ("feature", "cut", "missing", "value")}
    leaf = taken["feature"] < 0
    yes, no = (np.where(leaf, 0, place[child[order]]) for child in (forest.yes, forest.no))
    return replace(forest, **taken, yes=yes, no=no, roots=place[forest.roots])


def to_onnx(forest: Forest) -> bytes:
    """The grown forest as an ONNX graph: `input` [n, columns] → `probabilities` [n, targets]."""
    tree = forest.tree_of()
    local, leaf = np.arange(len(tree)) - forest.roots[tree], forest.is_leaf
    modes = np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
    shift = np.where(leaf, 0, forest.roots[tree])
    attributes: dict[str, Any] = {
        "nodes_treeids": tree, "nodes_nodeids": local, "nodes_modes": modes,
        "nodes_featureids": np.where(leaf, 0, forest.feature),
        "nodes_values": np.where(leaf, np.float32(0), forest.cut), "nodes_truenodeids": forest.yes - shift,
        "nodes_falsenodeids": forest.no - shift, "nodes_missing_value_tracks_true": (forest.missing & ~leaf).astype(np.int64),
        "target_treeids": tree[leaf], "target_nodeids": local[leaf], "target_ids": forest.target[tree[leaf]],
        "target_weights": forest.value[leaf], "n_targets": forest.targets,
    }  # fmt: skip
    if any(forest.base):
        attributes["base_values"] = np.array(forest.base, np.float32)
    nodes = [
        wire.node("TreeEnsembleRegressor", [INPUT], ["margin"], "ai.onnx.ml", **attributes),
        wire.node(_LINKS[forest.link], ["margin"], [OUTPUT]),
    ]
    return wire.graph(nodes, (INPUT, forest.columns), (OUTPUT, forest.targets))


def link_onnx(forest: Forest) -> bytes:
    """What turns margins [n, targets] into the answer, as a graph of its own."""
    return wire.graph(
        [wire.node(_LINKS[forest.link], ["margin"], [OUTPUT])], ("margin", forest.targets), (OUTPUT, forest.targets)
    )


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Each value once, in order; numpy's own `unique` brings a module of 2 MB with it."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def floor32(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    """The greatest 32-bit floats that are not above these numbers: a 32-bit x is ≤ t exactly when it is ≤ floor32(t)."""
    with np.errstate(over="ignore"):
        near = numbers.astype(np.float32)
    return np.where(near.astype(np.float64) > numbers, beside(near, -np.inf), near)


def beside(numbers: NDArray[np.float32], towards: float) -> NDArray[np.float32]:
    """The next 32-bit floats in that direction."""
    with np.errstate(all="ignore"):
        return np.nextafter(numbers, np.float32(towards))
