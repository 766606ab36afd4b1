"""A project's declarations are found by what they are."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.project import code_digest, load_project

DECLARED = """
from falaj.stages.contracts.spec import Dataset
from falaj.stages.features.spec import View

rows = Dataset({name!r}, contract="rows.odcs.yaml", source=lambda since, until: None, time="at", known="at")
now = View("now", dataset={name!r}, entity="id", features=("a",), time="at", ttl="1h")
"""


@pytest.fixture(autouse=True)
def _clean_modules() -> Iterator[None]:
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith(("project", "second", "alpha", "beta")):
            del sys.modules[name]


def test_declarations_are_collected_by_their_type(tmp_path: Path) -> None:
    (tmp_path / "project_a.py").write_text(DECLARED.format(name="rows"))
    project = load_project(tmp_path, "project_a")
    assert list(project.datasets) == ["rows"]
    assert list(project.views) == ["now"]
    with pytest.raises(NotFound, match="row") as caught:
        project.one("datasets", "row")
    assert "'rows'" in caught.value.hint


def test_a_module_that_does_not_import_says_why(tmp_path: Path) -> None:
    (tmp_path / "project_b.py").write_text("import not_there_at_all")
    with pytest.raises(InvalidInput, match="not_there_at_all"):
        load_project(tmp_path, "project_b")


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"project_c\.py"):
        load_project(tmp_path, "project_c")


def test_two_declarations_of_one_name_are_a_conflict(tmp_path: Path) -> None:
    (tmp_path / "project_d.py").write_text(DECLARED.format(name="rows"))
    (tmp_path / "second_d.py").write_text(DECLARED.format(name="rows"))
    with pytest.raises(Conflict, match="rows"):
        load_project(tmp_path, "project_d, second_d")


def test_the_code_digest_changes_with_any_file_and_ignores_state(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text("a = 1")
    before = code_digest(tmp_path)
    (tmp_path / ".falaj").mkdir()
    (tmp_path / ".falaj" / "x.py").write_text("state")
    assert code_digest(tmp_path) == before
    (tmp_path / "project.py").write_text("a = 2")
    assert code_digest(tmp_path) != before
