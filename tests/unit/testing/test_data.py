"""The pytest plugin, on a small real project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.contracts.conftest import CONTRACT

pytest_plugins = ["pytester"]

PROJECT = """
from datetime import UTC, datetime, timedelta
import polars as pl
from falaj.stages.contracts.spec import Dataset

def source(since, until):
    at = [datetime(2013, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(10)]
    rows = pl.DataFrame(
        {"id": [f"t{n}" for n in range(10)], "at": at, "known_at": at, "miles": [MILES] * 10, "seats": [1] * 10, "zone": "east"}
    )
    return rows.filter(pl.col("known_at") <= until)

trips = Dataset("trips", "trips.odcs.yaml", source, time="at", known="known_at")
"""


def project(folder: Path, miles: str = "5.0", contract: str = CONTRACT) -> Path:
    where = folder / "shop"
    where.mkdir()
    (where / "project.py").write_text(PROJECT.replace("MILES", miles))
    (where / "trips.odcs.yaml").write_text(contract)
    return where


def run(pytester: pytest.Pytester, *words: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "falaj.testing.data", "-p", "no:cacheprovider", *words)


@pytest.mark.slow
def test_each_check_is_a_test_of_its_own(pytester: pytest.Pytester) -> None:
    where = project(pytester.path)
    found = run(pytester, "--falaj-project", str(where), "-v")
    found.assert_outcomes(passed=14)
    found.stdout.fnmatch_lines(["*miles >= 0 PASSED*", "*known after it happened PASSED*"])
    assert not (where / ".falaj").exists()


@pytest.mark.slow
def test_a_failed_check_says_what_is_wanted_how_many_and_which_rows(pytester: pytest.Pytester) -> None:
    where = project(pytester.path, "-1.0 if until.year < 2014 else 5.0")
    found = run(pytester, "--falaj-project", str(where), "--falaj-until", "2013-01-01T02:30:00Z")
    found.assert_outcomes(passed=13, failed=1)
    found.stdout.fnmatch_lines(["trips: miles >= 0", "  wanted  >= 0", "  seen    3 of 3 rows: _row 0, 1, 2"])


@pytest.mark.slow
def test_only_what_is_new_is_judged_where_that_is_asked_for(pytester: pytest.Pytester) -> None:
    where = project(pytester.path, "-1.0 if since is None else 5.0")
    for words in (["init"], ["dataset", "ingest", "trips", "--until", "2013-01-01T02:30:00Z"]):
        subprocess.run([sys.executable, "-m", "falaj", *words], cwd=where, check=True, capture_output=True)
    run(pytester, "--falaj-project", str(where)).assert_outcomes(passed=13, failed=1)
    found = run(pytester, "--falaj-project", str(where), "--falaj-new")
    found.assert_outcomes(passed=14)
    found = run(pytester, "--falaj-project", str(where), "--falaj-new", "--falaj-until", "2013-01-01T02:30:00Z")
    found.assert_outcomes(skipped=14)


@pytest.mark.slow
def test_a_broken_source_or_contract_fails_with_its_reason(pytester: pytest.Pytester) -> None:
    where = project(pytester.path, "1 / 0")
    found = run(pytester, "--falaj-project", str(where), "-k", "key")
    found.assert_outcomes(failed=1, deselected=13)
    found.stdout.fnmatch_lines(["*division by zero*"])
    (where / "trips.odcs.yaml").write_text(CONTRACT.replace("maximum: 500", "maximun: 500"))
    found = run(pytester, "--falaj-project", str(where))
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["*'maximun', which falaj does not enforce*"])


@pytest.mark.slow
def test_an_unknown_dataset_or_time_is_a_wrong_use(pytester: pytest.Pytester) -> None:
    where = project(pytester.path)
    for words in (["--falaj-dataset", "trip"], ["--falaj-until", "soon"]):
        assert run(pytester, "--falaj-project", str(where), *words).ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.slow
def test_without_a_project_the_plugin_does_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(): pass")
    run(pytester).assert_outcomes(passed=1)
