"""Sizes that keep a reader's head above water. An exception stands here with its reason, and goes when it is not needed."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from tests.architecture.tree import modules

LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS, MOST_PLACED, MOST_METHODS = 400, 60, 5, 3, 12

EXCEPTIONS: Mapping[str, str] = {
    # "path" or "path:Class.function": why it is better as it is
    "src/falaj/adapters/local/egress.py:_NoRedirect.redirect_request": "urllib calls it with these six",
    "src/falaj/console/charts.py:box": "a rectangle's four numbers come first, as SVG has them",
    "src/falaj/inference/http.py:Connection": "asyncio and llhttp call it by names of their own, six each",
    "src/falaj/inference/lines.py:tensor_line": "a log line's own fields, six of them keyword-only",
    "src/falaj/stages/alerts/rules.py:opened": "an alert's own fields, three of them keyword-only",
    "src/falaj/stages/features/entity.py:Entity.__new__": "an entity's own fields, four of them keyword-only",
    "src/falaj/stages/features/join.py:as_of": "a join has two sides, each with its own columns",
    "src/falaj/stages/rollouts/eprocess.py:log_factor": "the formula's own symbols",
    "src/falaj/stages/rollouts/eprocess.py:update": "the formula's own symbols",
    "src/falaj/stages/rollouts/rules.py:advance": "a pure step: everything that decides comes in by the door",
    "src/falaj/stages/training/rules.py:split": "a pure cut by time: each border is an argument",
}
ODD_NAMES = ("utils", "util", "common", "helpers", "helper", "base", "manager", "misc", "tools", "core_utils")


def too_much() -> dict[str, str]:
    found: dict[str, str] = {}
    for module in modules():
        if module.lines > LONGEST_FILE:
            found[module.place] = f"{module.lines} lines, {LONGEST_FILE} are allowed"
        for name, function in module.functions():
            length = (function.end_lineno or 0) - function.lineno + 1
            if length > LONGEST_FUNCTION:
                found[name] = f"{length} lines, {LONGEST_FUNCTION} are allowed"
            elif (count := _parameters(function)) and name.rpartition(".")[2] != "__init__":
                found[name] = count
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.endswith("Suite"):
                public = [
                    i.name
                    for i in node.body
                    if isinstance(i, ast.FunctionDef) and not i.name.startswith("_") and not _is_property(i)
                ]
                if len(public) > MOST_METHODS:
                    found[f"{module.place}:{node.name}"] = f"{len(public)} public methods, {MOST_METHODS} are allowed"
    return found


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Beside self and an action's act and subject, which every action has: five in all."""
    given = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args) if arg.arg not in ("self", "cls", "act")]
    count = len(given) + len(function.args.kwonlyargs)
    if any(isinstance(d, ast.Call) and getattr(d.func, "id", "") == "action" for d in function.decorator_list):
        count -= 1
    return f"{count} parameters, {MOST_PARAMETERS} are allowed" if count > MOST_PARAMETERS else ""


def _is_property(function: ast.FunctionDef) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in function.decorator_list)


def test_nothing_is_larger_than_a_reader_can_hold() -> None:
    unexpected = {name: why for name, why in too_much().items() if name not in EXCEPTIONS}
    assert not unexpected, unexpected


def test_no_exception_is_kept_that_is_not_needed() -> None:
    assert not set(EXCEPTIONS) - set(too_much())


def test_no_file_is_named_after_nothing() -> None:
    assert not [module.place for module in modules() if module.path.stem in ODD_NAMES or module.path.parent.name in ODD_NAMES]


def test_no_class_is_named_after_a_pattern() -> None:
    bad = ("Manager", "Handler", "Helper", "Processor", "Engine", "Base", "Impl", "Info", "Util", "Utils")
    named = [
        f"{m.place}:{n.name}" for m in modules() for n in ast.walk(m.tree) if isinstance(n, ast.ClassDef) and n.name.endswith(bad)
    ]
    assert not named


def test_every_module_opens_with_a_sentence() -> None:
    silent = []
    for module in modules():
        doc = ast.get_docstring(module.tree)
        if (module.lines and not doc) or (doc and not doc.splitlines()[0].rstrip().endswith((".", ":", "?"))):
            silent.append(module.place)
    assert not silent
