"""Every class of attack is tried by a test that exists, and every advisory belongs to a class."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT
from tests.security.classes import CLASSES

HERE = Path(__file__).parent


def tried() -> dict[str, list[str]]:
    """class → the tests of this folder that try it."""
    found: dict[str, list[str]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "attack":
                        (name,) = mark.args
                        assert isinstance(name, ast.Constant)
                        found.setdefault(str(name.value), []).append(node.name)
    return found


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_tried(name: str) -> None:
    assert tried().get(name) or CLASSES[name].elsewhere


@pytest.mark.parametrize("place", sorted(place for one in CLASSES.values() for place in one.elsewhere))
def test_what_is_tried_elsewhere_is_there(place: str) -> None:
    path, _, name = place.partition("::")
    tests = {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)}
    assert name in tests if name else tests


def test_the_guide_lists_every_class_with_its_advisories() -> None:
    page = (ROOT / "docs" / "guides" / "security.md").read_text()
    for name, one in CLASSES.items():
        assert f"| {name} | {one.control} | {', '.join(cve.removeprefix('CVE-') for cve in one.cves) or '–'} |" in page
