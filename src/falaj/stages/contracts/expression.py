"""Row expressions: the comparisons of columns that a contract may state, read from text into a tree, never evaluated as code."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from falaj.core.errors import InvalidInput
from falaj.core.wording import a

_COMPARE: Mapping[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_ARITHMETIC: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "%"}
_PARTS: Mapping[str, tuple[str, ...]] = {"month": ("timestamp", "date"), "hour": ("timestamp",), "abs": ("number", "integer")}
"""Functions of one argument, each with the kinds that it takes: `month` and `hour` count in UTC."""
_LONGEST = 300
_HINT = "write comparisons of columns and numbers, such as `a <= b + 5` or `a is not null or b is null`."


@dataclass(frozen=True, slots=True)
class Node:
    """`op` is `column`, `value`, a comparison, an arithmetic sign, a function, `and`, `or`, `is null` or `is not null`."""

    op: str
    kind: str
    """`number`, `string`, `timestamp`, `date`, `boolean` for what it yields; `truth` for a comparison."""
    parts: tuple[Node, ...] = ()
    value: Any = None


def read(text: str, columns: Mapping[str, str]) -> Node:
    """The tree of an expression over `columns` (name → kind). Python's grammar, cut down.

    Raises InvalidInput for anything but comparisons of columns, numbers and texts, joined by `and` and `or`.
    """
    if len(text) > _LONGEST:
        raise InvalidInput(f"The expression is {len(text)} characters long; {_LONGEST} are allowed.", _HINT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise InvalidInput(f"The expression {text!r} cannot be read.", _HINT) from exc
    node = _node(tree, columns)
    if node.kind != "truth":
        raise InvalidInput(f"The expression {text!r} compares nothing.", _HINT)
    return node


def _node(tree: ast.expr, columns: Mapping[str, str]) -> Node:
    if isinstance(tree, ast.Name):
        if tree.id not in columns:
            raise InvalidInput(
                f"The expression names {tree.id!r}, which is no column.", f"there is: {', '.join(sorted(columns)[:20])}."
            )
        return Node("column", columns[tree.id], value=tree.id)
    if isinstance(tree, ast.Constant):
        return _constant(tree.value)
    if isinstance(tree, ast.Call):
        return _call(tree, columns)
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        return Node("-", "number", (Node("value", "number", value=0), _number(tree.operand, columns)))
    if isinstance(tree, ast.BinOp) and type(tree.op) in _ARITHMETIC:
        return Node(_ARITHMETIC[type(tree.op)], "number", (_number(tree.left, columns), _number(tree.right, columns)))
    if isinstance(tree, ast.BoolOp):
        parts = tuple(_node(value, columns) for value in tree.values)
        if any(part.kind != "truth" for part in parts):
            raise InvalidInput("The expression joins something that is not a comparison with `and` or `or`.", _HINT)
        return Node("and" if isinstance(tree.op, ast.And) else "or", "truth", parts)
    if isinstance(tree, ast.Compare):
        return _comparison(tree, columns)
    raise InvalidInput(f"The expression uses {type(tree).__name__}, which contracts do not have.", _HINT)


def _call(tree: ast.Call, columns: Mapping[str, str]) -> Node:
    name = tree.func.id if isinstance(tree.func, ast.Name) else ""
    if name not in _PARTS or len(tree.args) != 1 or tree.keywords:
        raise InvalidInput(
            "The expression calls something that contracts do not have.", f"there is: {', '.join(_PARTS)}, with one argument."
        )
    inner = _node(tree.args[0], columns)
    if inner.kind not in _PARTS[name]:
        raise InvalidInput(
            f"The expression takes the {name} of {a(inner.kind)}.", f"{name} takes {' or '.join(map(a, _PARTS[name]))}."
        )
    return Node(name, "number", (inner,))


def _constant(value: object) -> Node:
    if isinstance(value, str):
        return Node("value", "string", value=value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInput(f"The expression holds {value!r}, which is neither a number nor a text.", _HINT)
    if abs(value) > 2**53 or not math.isfinite(value):
        raise InvalidInput(f"The number {value} in the expression is too large to compare exactly.", _HINT)
    return Node("value", "number", value=value)


def _number(tree: ast.expr, columns: Mapping[str, str]) -> Node:
    node = _node(tree, columns)
    if node.kind not in ("number", "integer"):
        raise InvalidInput(f"The expression calculates with {a(node.kind)}; only numbers can be calculated with.", _HINT)
    return node


def _comparison(tree: ast.Compare, columns: Mapping[str, str]) -> Node:
    if isinstance(tree.ops[0], (ast.Is, ast.IsNot)):
        right = tree.comparators[0]
        if len(tree.ops) > 1 or not (isinstance(right, ast.Name) and right.id == "null") or not isinstance(tree.left, ast.Name):
            raise InvalidInput("`is` can only be followed by `null` or `not null`, after a column.", _HINT)
        return Node("is null" if isinstance(tree.ops[0], ast.Is) else "is not null", "truth", (_node(tree.left, columns),))
    sides = [_node(side, columns) for side in (tree.left, *tree.comparators)]
    found = []
    for op, left, right_side in zip(tree.ops, sides, sides[1:], strict=False):
        kinds = {("number" if side.kind == "integer" else side.kind) for side in (left, right_side)}
        if type(op) not in _COMPARE or len(kinds) != 1 or "truth" in kinds:
            raise InvalidInput(f"The expression compares {a(left.kind)} with {a(right_side.kind)}.", _HINT)
        found.append(Node(_COMPARE[type(op)], "truth", (left, right_side)))
    return found[0] if len(found) == 1 else Node("and", "truth", tuple(found))
