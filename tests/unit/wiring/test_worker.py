"""A round does what it can: one duty that fails is told, and the others go on."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from falaj.app import App, init_project, open_app
from falaj.core.errors import Conflict, Unavailable

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def app(tmp_path: Path) -> App:
    # A process holds one module of a name, so each test's project has a name of its own.
    module = f"project_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text('"""Nothing is declared."""\n')
    settings = {
        "modules": module,
        "clock": "replay",
        "runner": "memory",
        "host": "memory",
        "online": "memory",
        "mirror": "none",
        "name": "worker",
    }
    init_project(tmp_path, settings)
    return open_app(tmp_path, settings)


def test_a_round_of_an_empty_project_has_no_problems(app: App) -> None:
    with app:
        seen = app.worker.tick(NOW)
    assert (seen.problems, seen.running, seen.rollouts) == ([], 0, [])


def test_a_duty_that_fails_is_told_and_the_others_go_on(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*_: object) -> None:
        raise Unavailable("the store is gone")

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with app:
        monkeypatch.setattr(app.features, "refresh", dead)
        monkeypatch.setattr(app.pipelines, "watch", broken)
        seen = app.worker.tick(NOW)
        assert [problem.partition(":")[0] for problem in seen.problems] == ["refresh", "watch_runs"]
        assert "the store is gone" in seen.problems[0]
        assert "a bug, ZeroDivisionError" in seen.problems[1]
        assert app.ledger.checkpoints()[-1].size > 1


def test_time_only_moves_forward(app: App) -> None:
    with app:
        app.worker.tick(NOW)
        with pytest.raises(Conflict, match="lies before"):
            app.worker.tick(datetime(2026, 1, 1, tzinfo=UTC))


def test_the_replay_clock_goes_on_where_the_ledger_stands(app: App) -> None:
    with app:
        app.worker.tick(NOW)
        folder, settings = app.settings.folder, {name: value.value for name, value in app.settings.values.items()}
    with open_app(folder, settings) as later:
        assert later.clock() == NOW
