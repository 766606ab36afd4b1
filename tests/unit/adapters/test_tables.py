from __future__ import annotations

from pathlib import Path

import pytest

from falaj.adapters.postgres.tables import grants, quoted, schema_of

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "ledger.md"


def test_the_guide_shows_the_rights_that_falaj_asks_for() -> None:
    shown = GUIDE.read_text("utf-8").partition("```sql\n")[2].partition("```")[0]
    assert shown.splitlines() == [statement + ";" for statement in grants("delays", "falaj_app")]


@pytest.mark.parametrize("project", ["delays", "it's", 'a "b"', "é" * 200, "x" * 57, "x" * 58, "a\0b", "Delays"])
def test_each_project_has_a_schema_of_its_own_whose_name_postgresql_takes_whole(project: str) -> None:
    names = {schema_of(one) for one in (project, project + "x", "other")}
    assert len(names) == 3
    assert all(len(name.encode()) <= 63 and "\0" not in name for name in names)


def test_a_name_in_a_statement_cannot_end_its_quotes() -> None:
    assert quoted('a"; drop schema x; --') == '"a""; drop schema x; --"'
