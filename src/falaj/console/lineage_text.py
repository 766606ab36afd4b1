"""Lineage as a tree of text: what was asked about, then what stands above it and below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from rich.tree import Tree

from falaj.stages.governance.graph import Edge, Lineage, Node

MOST = 400
"""Lines; a longer tree is for --json or for a picture."""


def render(found: Lineage) -> Tree:
    """Each thing once with all that is behind it; met again, it is only named."""
    nodes = {node.key: node for node in found.nodes}
    top = Tree(Text(found.about, style="bold"), guide_style="dim")
    starts = [key for key in found.starts if key in nodes]
    left = [MOST]
    for way, told in (("up", "comes from"), ("down", "goes into")):
        if found.direction not in (way, "both"):
            continue
        near = _near(found.edges, way)
        branch = top.add(Text(told, style="dim"))
        if starts == [found.about] or [key.lower() for key in starts] == [found.about.lower()]:
            _grow(branch, starts[0], (near, nodes), {starts[0]}, left)
            if not branch.children:
                branch.add(Text("nothing that is known here", style="dim"))
            continue
        if found.about != "all":
            _group(branch, starts, (near, nodes), left)
            continue
        seen: set[str] = set()
        for start in _outermost(starts, found.edges, way):
            seen.add(start)
            _grow(branch.add(_label(nodes[start], None)), start, (near, nodes), seen, left)
    if left[0] <= 0:
        top.add(Text(f"… more than {MOST} lines; --json has all of it", style="dim"))
    return top


def _group(
    branch: Tree, starts: Sequence[str], known: tuple[Mapping[str, list[tuple[str, Edge]]], Mapping[str, Node]], left: list[int]
) -> None:
    """The columns of one thing: of each what lies outside of it, and none that nothing lies behind."""
    near, nodes = known
    own, seen = set(starts), set[str]()
    outside = {key: [(other, edge) for other, edge in ways if other not in own] for key, ways in near.items()}
    for start in starts:
        if outside.get(start):
            _grow(branch.add(_label(nodes[start], None)), start, (outside, nodes), seen, left)
    if not branch.children:
        branch.add(Text("nothing that is known here", style="dim"))


def _near(edges: Sequence[Edge], way: str) -> Mapping[str, list[tuple[str, Edge]]]:
    near: dict[str, list[tuple[str, Edge]]] = {}
    for edge in edges:
        here, there = (edge.below, edge.above) if way == "up" else (edge.above, edge.below)
        near.setdefault(here, []).append((there, edge))
    return near


def _outermost(starts: Sequence[str], edges: Sequence[Edge], way: str) -> list[str]:
    """Of the whole project, the tree begins where nothing lies further the other way."""
    inner = {edge.above if way == "up" else edge.below for edge in edges}
    return [key for key in starts if key not in inner] or list(starts)


def _grow(
    branch: Tree,
    key: str,
    known: tuple[Mapping[str, list[tuple[str, Edge]]], Mapping[str, Node]],
    seen: set[str],
    left: list[int],
) -> None:
    near, nodes = known
    together: dict[str, list[Edge]] = {}
    for other, edge in near.get(key, ()):
        together.setdefault(other, []).append(edge)
    for other, edges in together.items():
        left[0] -= 1
        if left[0] < 0:
            return
        label = _label(nodes[other], edges)
        if other in seen and near.get(other):
            branch.add(label.append("  (as above)", style="dim"))
            continue
        seen.add(other)
        _grow(branch.add(label), other, known, seen, left)


def _label(node: Node, edges: Sequence[Edge] | None) -> Text:
    name = f"{node.group}: {node.title}" if node.kind in ("rows", "any") else node.key
    label = Text(name)
    told = dict.fromkeys(filter(None, (text for edge in edges or () for text in (edge.kind, edge.note))))
    if told:
        label.append("  " + ", ".join(told), style="dim")
    return label
