"""A project whose records somebody has changed by hand, on either ledger, and one whose ledger a team shares."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pg8000 import native

from falaj.adapters.postgres.tables import quoted, schema_of

pytestmark = pytest.mark.slow
_NAMES = itertools.count()


class Project:
    """A project in a folder, used from the command line as a person uses it."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder, self.url = folder, url
        self.name = f"journey-{os.getpid()}-{next(_NAMES)}"
        folder.mkdir()
        (folder / "project.py").write_text('"""Declares nothing."""\n')
        (folder / "url").write_text(url)
        more = f'ledger = "postgresql"\nledger_url = "file:{folder}/url"\n' if url else ""
        (folder / "falaj.toml").write_text(f'name = "{self.name}"\n{more}')

    def do(self, *words: str, code: int = 0) -> Any:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FALAJ_")}
        done = subprocess.run(
            [sys.executable, "-m", "falaj", *words, "--json"], cwd=self.folder, env=environment, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout or done.stderr)

    def edit(self, statement: str) -> None:
        if not self.url:
            with contextlib.closing(sqlite3.connect(self.folder / ".falaj" / "ledger.db")) as connection:
                connection.executescript(statement)
            return
        port = int(self.url.rpartition(":")[2].partition("/")[0])
        with contextlib.closing(native.Connection("falaj", host="127.0.0.1", port=port, database="postgres")) as link:
            link.run(f"set search_path to {quoted(schema_of(self.name))}")
            link.run(statement)


@pytest.fixture(params=["sqlite", "postgresql"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    url = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else ""
    made = Project(tmp_path / "project", url)
    made.do("init")
    made.do("key", "create", "amal", "--roles", "data_scientist")
    return made


def checks(decision: Any) -> dict[str, Any]:
    return {check["name"]: check for check in decision["checks"]}


@pytest.mark.parametrize(
    "statement", ["delete from records", "drop table records", "update records set body = cast('{}' as blob)"]
)
def test_records_that_were_changed_by_hand_are_found_and_made_again(project: Project, statement: str) -> None:
    before = project.do("key", "list")
    assert project.do("audit", "verify")["verdict"] == "allow"
    project.edit(statement.replace("blob", "bytea") if project.url else statement)

    verdict = project.do("audit", "verify", code=1)
    assert verdict["verdict"] == "deny"
    assert [name for name, check in checks(verdict).items() if check["passed"] is False] == ["records"]

    found = project.do("audit", "rebuild")
    assert (found["records"], found["mended"]) == (2, 2)
    assert project.do("audit", "verify")["verdict"] == "allow"
    assert project.do("key", "list") == before
    event = project.do("audit", "history")[-1]
    assert (event["verb"], event["actor"]) == ("audit.rebuild", "person:operator")
    assert {name: event["facts"][name] for name in ("mended", "records")} == {"mended": 2, "records": 2}
    assert project.do("audit", "rebuild")["mended"] == 0


def test_who_audits_may_not_rebuild(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    key = project.do("key", "create", "omar", "--roles", "auditor")["key"]
    done = subprocess.run(
        [sys.executable, "-m", "falaj", "audit", "rebuild", "--json"], cwd=project.folder, capture_output=True, text=True,
        env={**os.environ, "FALAJ_API_KEY": key}, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr


def test_a_second_project_does_not_take_over_the_ledger_of_the_first(postgresql_url: str, tmp_path: Path) -> None:
    first = Project(tmp_path / "first", postgresql_url)
    first.do("init")
    second = Project(tmp_path / "second", postgresql_url)
    (second.folder / "falaj.toml").write_text((first.folder / "falaj.toml").read_text())
    told = second.do("init", code=4)
    assert "already" in told["error"]["message"]
    assert not (second.folder / ".falaj").exists()


def test_a_machine_with_the_keys_of_the_first_shares_its_ledger(postgresql_url: str, tmp_path: Path) -> None:
    first = Project(tmp_path / "first", postgresql_url)
    first.do("init")
    second = Project(tmp_path / "second", postgresql_url)
    (second.folder / "falaj.toml").write_text((first.folder / "falaj.toml").read_text())
    (second.folder / ".falaj").mkdir(mode=0o700)
    subprocess.run(["cp", "-a", str(first.folder / ".falaj" / "keys"), str(second.folder / ".falaj" / "keys")], check=True)
    second.do("key", "create", "amal", "--roles", "auditor")
    assert [key["name"] for key in first.do("key", "list")] == sorted(["operator", "amal"], key=_order(first))
    assert second.do("audit", "verify")["verdict"] == first.do("audit", "verify")["verdict"] == "allow"


def _order(project: Project) -> Callable[[str], str]:
    """Keys are listed by their ids, which are random."""
    ids = {key["name"]: key["id"] for key in project.do("key", "list")}
    return lambda name: ids[name]


@pytest.mark.parametrize(
    ("setting", "words"), [("", "needs an address"), ("postgresql://falaj:hush@example.org/db", "reference")]
)
def test_an_address_that_is_missing_or_shows_its_password_is_refused(tmp_path: Path, setting: str, words: str) -> None:
    project = Project(tmp_path / "project")
    (project.folder / "falaj.toml").write_text(f'ledger = "postgresql"\nledger_url = "{setting}"\n')
    told = project.do("init", code=2)
    assert words in told["error"]["message"]
    assert "hush" not in json.dumps(told)
