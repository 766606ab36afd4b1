"""The audit trail as a project has it: its settings, its duties, its commands."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from falaj.app import App, init_project, open_app
from falaj.cli.main import main
from falaj.core.errors import InvalidInput, Unavailable
from falaj.core.moments import moment
from falaj.core.ref import Ref
from falaj.upkeep import DUTIES, LEDGER, WORKER, alive
from tests.kits.audited import Auditor, broken
from tests.kits.witness import running_witness
from tests.unit.core.test_cosignature import WITNESSES

DAY = timedelta(days=1)


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    # A process holds one module of a name, so each test's project has a name of its own.
    module = f"project_{uuid4().hex}"
    (folder / f"{module}.py").write_text('"""Nothing is declared."""\n')
    return {
        "modules": module, "runner": "memory", "host": "memory", "online": "memory", "mirror": "none", "name": "trail", **more,
    }  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    given = settings(tmp_path)
    init_project(tmp_path, given)
    return tmp_path, given


def duty(app: App, name: str) -> list[str]:
    now = app.kernel.now()
    return [line for one in DUTIES if one.name == name for line in one.do(app, now)]


def verbs(app: App) -> list[str]:
    return [event.verb for event in app.ledger.events()]


def test_under_the_wall_clock_a_system_beats_from_its_start_to_its_end(project: tuple[Path, dict[str, Any]]) -> None:
    with open_app(*project) as app:
        with alive(app):
            duty(app, "beat")
        beats = [event.facts["state"] for event in app.ledger.events(verb="audit.beat")]
        assert beats == ["up", "on", "down"]
        assert app.audit.verify().verdict == "allow"


def test_a_start_that_fails_in_between_leaves_no_orderly_end(project: tuple[Path, dict[str, Any]]) -> None:
    with open_app(*project) as app:
        with pytest.raises(ZeroDivisionError), alive(app):
            raise ZeroDivisionError
        assert [event.facts["state"] for event in app.ledger.events(verb="audit.beat")] == ["up"]


def test_under_the_replay_clock_a_beat_comes_with_the_daily_checkpoint(tmp_path: Path) -> None:
    given = settings(tmp_path, clock="replay", replay_from="2026-01-01T00:00:00Z")
    init_project(tmp_path, given)
    with open_app(tmp_path, given) as app, alive(app):
        for hour in range(73):
            app.worker.tick(datetime(2026, 1, 2, tzinfo=UTC) + timedelta(hours=hour))
        assert verbs(app).count("audit.beat") == verbs(app).count("audit.checkpoint") == 4
        assert app.audit.verify().verdict == "allow"
        app.clock.tell(datetime(2026, 1, 9, tzinfo=UTC))
        assert app.audit.verify(max_age=99 * DAY).verdict == "allow"  # the caller tells the time, and promised nobody any


@pytest.mark.parametrize(
    "wrong",
    [
        {"witnesses": "nonsense"},
        {"witnesses": f"{WITNESSES[2]} http://w.example"},
        {"witnesses": f"{WITNESSES[2]} https://w.example, {WITNESSES[2]} https://w2.example"},
        {"witnesses": f"{WITNESSES[2]} https://w.example", "witness_quorum": 2},
        {"witness_quorum": 1},
        {"witness_wait": "soon"},
    ],
)
def test_witnesses_that_cannot_be_asked_are_refused_with_the_reason(
    project: tuple[Path, dict[str, Any]], wrong: dict[str, Any]
) -> None:
    folder, given = project
    with open_app(folder, given | wrong) as app, pytest.raises(InvalidInput):
        app.audit.verify()


def test_without_witnesses_the_duty_has_nothing_to_do(project: tuple[Path, dict[str, Any]]) -> None:
    with open_app(*project) as app:
        before = verbs(app)
        assert duty(app, "witness") == []
        assert verbs(app) == before


@pytest.mark.slow
def test_a_witness_that_stays_away_is_told_once_and_the_end_of_it_too(
    project: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, given = project
    with open_app(folder, given) as app:
        vkey = app.ledger.vkey  # type: ignore[attr-defined]
    with running_witness(tmp_path / "w", [vkey]) as witness:
        pass  # it has gone again
    given |= {"witnesses": witness.setting, "witness_wait": "1ms"}
    with open_app(folder, given) as app:
        (line,) = duty(app, "witness")
        assert "does not answer" in line
        assert duty(app, "witness") == []
        alert = app.alerts.open_for("witness|ledger/local")
        assert alert is not None
        assert app.audit.verify().verdict == "hold"
    with ExitStack() as both:
        witness = both.enter_context(running_witness(tmp_path / "w", [vkey]))
        app = both.enter_context(open_app(folder, given | {"witnesses": witness.setting, "witness_wait": "1h"}))
        for _ in range(5):
            duty(app, "checkpoint")
            duty(app, "witness")
        assert app.alerts.open_for("witness|ledger/local") is None
        assert app.audit.verify(ask=True).verdict == "allow"


@pytest.mark.slow
def test_where_witnesses_are_required_only_the_trails_own_upkeep_goes_on_without_them(
    project: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, given = project
    with open_app(folder, given) as app:
        vkey = app.ledger.vkey  # type: ignore[attr-defined]
    with running_witness(tmp_path / "w", [vkey]) as witness:
        given |= {"witnesses": witness.setting, "witness_required": True, "witness_wait": "1h"}
        with open_app(folder, given) as app:
            app.keys.create(
                WORKER.__class__("root", "system", ("operator",)), Ref("key", "eve"), roles=["auditor"], kind="person"
            )
            duty(app, "witness")
    with open_app(folder, given | {"witness_wait": "1ms"}) as app:
        with pytest.raises(Unavailable, match="Nothing is written"):
            app.keys.create(
                WORKER.__class__("root", "system", ("operator",)), Ref("key", "bob"), roles=["auditor"], kind="person"
            )
        app.audit.beat(WORKER, LEDGER)


@pytest.fixture
def told(project: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command of the project: its exit code and what it printed."""
    monkeypatch.delenv("FALAJ_API_KEY", raising=False)
    folder, given = project

    def run(*words: str) -> tuple[int, str]:
        flags = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
        code = main([*words, "--project", str(folder), *flags])
        return code, capsys.readouterr().out

    return run


@pytest.mark.slow
def test_what_the_commands_print_is_what_an_auditor_needs(told: Any, tmp_path: Path) -> None:
    auditor = Auditor(tmp_path / "auditor")
    assert told("audit", "verifier") == (0, (auditor.folder / "verify.py").read_text())
    vkey = json.loads(told("audit", "key", "--json")[1])["vkey"]
    code, before = told("audit", "checkpoint", "--json")
    told("audit", "rotate")
    code, proof = told("audit", "prove", "0")
    rotations = auditor.file("rotations", told("audit", "rotations")[1])
    asked = ["--vkey", vkey]
    code, report = auditor.run("proof", auditor.file("0.tlog-proof", proof), *asked, "--rotations", rotations)
    assert (code, broken(report), report["event"]["verb"]) == (0, set(), "key.create")
    done = json.loads(told("audit", "export", "--json")[1])
    remembered = auditor.file("remembered", json.loads(before)["note"])
    code, report = auditor.run("bundle", done["place"], *asked, "--remember", remembered)
    assert (code, broken(report)) == (0, set())
    assert Path(done["place"]).is_relative_to(tmp_path)


def test_following_ends_where_it_was_told_to_and_prints_one_line_an_event(told: Any) -> None:
    told("audit", "checkpoint")
    code, said = told("audit", "follow", "--limit", "2")
    lines = [json.loads(line) for line in said.splitlines()]
    assert (code, [line["seq"] for line in lines]) == (0, [0, 1])
    code, said = told("audit", "follow", "--after", "0", "--limit", "1")
    assert [json.loads(line)["seq"] for line in said.splitlines()] == [1]
    assert moment(lines[0]["at"]) <= moment(lines[1]["at"])


@pytest.mark.slow
def test_following_shows_what_another_process_writes(project: tuple[Path, dict[str, Any]]) -> None:
    folder, given = project
    flags = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    argv = [sys.executable, "-m", "falaj", "audit", "follow", "--after", "0", "--limit", "2", "--project", str(folder), *flags]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        with open_app(folder, given) as app:
            app.audit.checkpoint(WORKER, LEDGER)
            app.audit.checkpoint(WORKER, LEDGER)
        said, _ = process.communicate(timeout=60)
    assert [json.loads(line)["verb"] for line in said.splitlines()] == ["audit.checkpoint"] * 2
    assert process.returncode == 0


def test_only_who_may_read_the_audit_follows(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, made = told("key", "create", "eve", "--roles", "data_scientist", "--json")
    monkeypatch.setenv("FALAJ_API_KEY", json.loads(made)["key"])
    assert told("audit", "follow", "--limit", "1")[0] == 5
    assert told("audit", "rotate")[0] == 5
