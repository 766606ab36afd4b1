"""Which files of a project may be read as contracts: no others, whatever their name says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from falaj.core.errors import FalajError, InvalidInput, NotFound
from falaj.stages.contracts.files import contract_bytes, inside


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "a/../../x", "/", "/etc/passwd", "~/x/../..", ".git/config", "a/.b/c", "\0", "x" * 5000]
)
def test_other_places_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        contract_bytes(tmp_path, name)


def test_a_link_that_leads_out_is_refused_and_one_that_stays_is_followed(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "secret.odcs.yaml").write_text("x")
    (project / "a.odcs.yaml").write_text("a")
    (project / "out.odcs.yaml").symlink_to(tmp_path / "secret.odcs.yaml")
    (project / "up").symlink_to(tmp_path)
    (project / "loop.odcs.yaml").symlink_to(project / "loop.odcs.yaml")
    (project / "same.odcs.yaml").symlink_to(project / "a.odcs.yaml")
    assert contract_bytes(project, "same.odcs.yaml") == contract_bytes(project, str(project / "a.odcs.yaml")) == b"a"
    for name in ("out.odcs.yaml", "up/secret.odcs.yaml"):
        with pytest.raises(InvalidInput, match="outside"):
            contract_bytes(project, name)
    with pytest.raises(FalajError):
        contract_bytes(project, "loop.odcs.yaml")


def test_only_contract_files_and_what_a_dataset_declares(tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text("x")
    (tmp_path / "folder.odcs.yaml").mkdir()
    with pytest.raises(InvalidInput, match="no contract file"):
        contract_bytes(tmp_path, "plain.yaml")
    assert contract_bytes(tmp_path, "plain.yaml", frozenset({"plain.yaml"})) == b"x"
    for name in ("none.odcs.yaml", "folder.odcs.yaml"):
        with pytest.raises(NotFound):
            contract_bytes(tmp_path, name)


@given(st.text(max_size=30) | st.text("./ab~\\", max_size=30))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_named_lies_inside_or_is_refused(tmp_path: Path, name: str) -> None:
    try:
        found = inside(tmp_path, name)
    except InvalidInput:
        return
    assert found.is_relative_to(tmp_path.resolve())
    assert found != tmp_path.resolve()
