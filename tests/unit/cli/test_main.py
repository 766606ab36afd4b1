from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from falaj.cli.main import exit_code, main
from falaj.core.decision import Decision
from falaj.core.ref import Ref

SETTINGS = ["--set", "host=memory", "--set", "online=memory", "--set", "mirror=none", "--set", "runner=memory"]


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FALAJ_API_KEY", raising=False)
    monkeypatch.delenv("FALAJ_PROJECT", raising=False)


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    (tmp_path / "project.py").write_text('"""Declares nothing."""\n')
    assert main(["init", "--project", str(tmp_path), *SETTINGS]) == 0
    capsys.readouterr()
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], project: Path, *words: str) -> tuple[int, Any, str]:
    code = main([*words, "--json", "--project", str(project), *SETTINGS])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out.strip() else None, err


def test_the_first_key_is_shown_once_and_a_second_init_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = ask(capsys, tmp_path, "init")
    assert (code, said["key"][:6]) == (0, "falaj_")
    code, _, err = ask(capsys, tmp_path, "init")
    assert (code, json.loads(err)["error"]["code"]) == (4, "conflict")


def test_a_dry_init_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, tmp_path, "init", "--dry-run")[0] == 0
    assert not list(tmp_path.iterdir())


def test_an_error_is_one_line_and_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--project", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["error[not_found]", "Hint"]


def test_without_a_key_nobody_is_let_in(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / ".falaj" / "keys" / "operator.key").unlink()
    assert ask(capsys, project, "status")[0] == 6


def test_another_key_has_other_rights(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, made, _ = ask(capsys, project, "key", "create", "eve", "--roles", "auditor")
    monkeypatch.setenv("FALAJ_API_KEY", made["key"])
    assert ask(capsys, project, "key", "list")[0] == 0
    code, _, err = ask(capsys, project, "key", "create", "eve2", "--roles", "operator")
    assert (code, json.loads(err)["error"]["code"]) == (5, "denied")


def test_a_dry_run_leaves_no_event(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = ask(capsys, project, "audit", "history", "--of", "key/eve")[1]
    code, said, _ = ask(capsys, project, "key", "create", "eve", "--roles", "auditor", "--dry-run")
    assert (code, said["policy"][0]["verdict"]) == (0, "allow")
    assert ask(capsys, project, "audit", "history", "--of", "key/eve")[1] == before == []


def test_the_audit_of_a_new_project_is_clean(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, project, "audit", "checkpoint")
    code, said, _ = ask(capsys, project, "audit", "verify")
    assert (code, said["verdict"]) == (0, "allow")


def test_a_proof_names_its_event_and_a_signed_checkpoint(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = ask(capsys, project, "audit", "prove", "0", "--form", "parts")
    assert (code, said["index"], json.loads(said["leaf"])["verb"]) == (0, 0, "key.create")


def test_settings_say_where_they_come_from(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "falaj.toml").write_text('zone = "difc"\n')
    monkeypatch.setenv("FALAJ_TICK", "9")
    origins = {row["setting"]: row["origin"] for row in ask(capsys, project, "config", "show")[1]}
    assert origins["zone"] == str(project / "falaj.toml")
    assert (origins["tick"], origins["host"], origins["api_port"]) == ("environment FALAJ_TICK", "flag", "default")


def test_the_doctor_sees_a_key_that_others_can_read(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {c["name"]: c["passed"] for c in ask(capsys, project, "doctor")[1]["checks"]}["state folder"] is True
    (project / ".falaj" / "keys" / "pepper").chmod(0o644)
    code, said, _ = ask(capsys, project, "doctor")
    found = {check["name"]: check for check in said["checks"]}["state folder"]
    assert (code, found["passed"]) == (1, False)
    assert found["wanted"].startswith("chmod 600 ")


def test_people_get_tables(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["key", "list"], ["status"], ["audit", "verify"], ["run", "list"]):
        main([*words, "--project", str(project), *SETTINGS])
    out = capsys.readouterr().out
    assert "operator" in out
    assert "passed" in out
    assert "none" in out


def test_the_report_is_one_page_and_its_summary_one_screen(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = project / "out" / "report.html"
    code, said, _ = ask(capsys, project, "report", "write", "--to", str(page))
    assert (code, said) == (0, {"report": str(page)})
    assert page.read_text().startswith("<!doctype html>")
    assert ask(capsys, project, "report", "summary")[0] == 0
    assert main(["report", "summary", "--project", str(project), *SETTINGS]) == 0
    assert "data" in capsys.readouterr().out


def test_a_report_needs_the_right_to_read_the_ledger(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, made, _ = ask(capsys, project, "key", "create", "eve", "--roles", "data_scientist")
    monkeypatch.setenv("FALAJ_API_KEY", made["key"])
    assert ask(capsys, project, "report", "write", "--to", str(project / "x.html"))[0] == 5
    assert not (project / "x.html").exists()


@pytest.mark.parametrize(("verdict", "code"), [("allow", 0), ("deny", 1), ("hold", 9)])
def test_a_verdict_has_its_own_exit_code(verdict: Any, code: int) -> None:
    assert exit_code(Decision(Ref("model", "delay"), "gate", verdict)) == code


def test_what_nobody_foresaw_is_a_bug(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("falaj.cli.main.who", lambda _app: 1 / 0)
    code, _, err = ask(capsys, project, "status")
    assert (code, json.loads(err)["error"]["code"]) == (70, "bug")
    with pytest.raises(ZeroDivisionError):
        main(["status", "--debug", "--project", str(project), *SETTINGS])
