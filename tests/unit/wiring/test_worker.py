"""A round does what it can: one duty that fails is told, and the others go on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from falaj.app import App, init_project, open_app
from falaj.core.errors import Conflict, Unavailable

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


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


WEATHER = '''
"""The weather, hour by hour."""

from datetime import UTC, datetime, timedelta

import polars as pl

from falaj import Dataset, View

START = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = pl.DataFrame(
    [
        {"origin": origin, "seen_at": START + timedelta(hours=hour), "temp": float(hour)}
        for hour in range(90)
        for origin in ("A", "B")
    ],
    schema_overrides={"seen_at": pl.Datetime("ms", "UTC")},
)


def read(since, until):
    return ROWS.filter((pl.col("seen_at") <= until) & (True if since is None else pl.col("seen_at") > since))


weather = Dataset("weather", "weather.odcs.yaml", read, "seen_at", "seen_at", every="1h")
now = View("weather_now", "weather", entity="origin", features=("temp",), time="seen_at", ttl="3h")
'''
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: weather
version: 1.0.0
status: active
schema:
  - name: weather
    properties:
      - {name: origin, logicalType: string}
      - {name: seen_at, logicalType: timestamp, required: true}
      - {name: temp, logicalType: number}
"""


def test_a_stored_value_that_somebody_changed_raises_an_alert_that_closes_after_the_repair(tmp_path: Path) -> None:
    from falaj.core.moments import millis
    from falaj.ports.online import Stored

    module = f"project_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text(WEATHER)
    (tmp_path / "weather.odcs.yaml").write_text(CONTRACT)
    settings = {"modules": module, "clock": "replay", "runner": "memory", "host": "memory", "online": "memory", "mirror": "none"}
    init_project(tmp_path, settings)
    with open_app(tmp_path, settings) as app:
        for hour in range(30):
            seen = app.worker.tick(NOW + hour * HOUR)
            assert (seen.problems, seen.open_alerts) == ([], [])
        recorded = list(app.ledger.events(verb="feature.compare"))
        assert [event.at.day for event in recorded] == [2, 3]  # one a day while all is well
        assert sum(event.facts["rows"] for event in recorded) == 18  # both entities, every three hours, one look still waiting
        at = NOW + 30 * HOUR
        app.features.refresh(at)
        app.online.put("weather_now", {"B": Stored(millis(at), (99.0,))})
        seen = app.worker.tick(at)
        (alert,) = app.alerts.all()
        assert (alert.key, alert.state, alert.severity) == ("parity|view/weather_now", "open", "warning")
        assert seen.news == ["weather_now is served otherwise than the snapshots say: temp"]
        for hour in (31, 32, 33):  # the next refresh has put what is right; three clear looks close the alert
            app.worker.tick(NOW + hour * HOUR)
        assert [one.state for one in app.alerts.all()] == ["resolved"]
        app.worker.tick(NOW + 34 * HOUR)
        assert len(list(app.ledger.events(verb="feature.compare"))) == len(recorded) + 4


TRIPS = '''
"""Trips in files, looked through each hour."""

from falaj import Dataset, files

source = files("in/*.csv", known="at", types={"at": "timestamp", "miles": "number"})
trips = Dataset("trips", "trips.odcs.yaml", source, "at", "at", every="1h", new_columns="hold")
other = Dataset("other", "trips.odcs.yaml", lambda since, until: 1 / 0, "at", "at", every="1d")
'''


def _trips(folder: Path) -> dict[str, str]:
    module = f"project_{uuid4().hex}"
    (folder / "in").mkdir()
    (folder / f"{module}.py").write_text(TRIPS)
    (folder / "trips.odcs.yaml").write_text(
        CONTRACT.replace("weather", "trips").replace("seen_at", "at").replace("temp", "miles")
    )
    settings = {"modules": module, "clock": "replay", "runner": "memory", "host": "memory", "online": "memory", "mirror": "none"}
    init_project(folder, settings)
    return settings


def test_a_source_that_is_broken_opens_an_alert_that_ends_with_the_next_good_load(tmp_path: Path) -> None:
    settings, file = _trips(tmp_path), tmp_path / "in" / "1.csv"
    texts = ("origin,at,miles\nA,2026-01-02T00:00:00Z,secret\n", "origin,at,miles\nA,2026-01-02T00:00:00Z,3\n")
    states = []
    for hour, text in ((0, texts[0]), (1, texts[0]), (2, texts[1])):
        file.write_text(text)
        with open_app(tmp_path, settings) as app:  # each round in a process of its own
            seen = app.worker.tick(NOW + hour * HOUR)
            alerts = {alert.key: alert for alert in app.alerts.all()}
            states.append((alerts["source|dataset/trips"].state, alerts["source|dataset/trips"].count))
            assert any(line.startswith("ingest dataset/trips: ") for line in seen.problems) == (hour < 2)
            assert any(line.startswith("ingest dataset/other: ") for line in seen.problems)
            assert alerts["source|dataset/other"].state == "open"
            told = str(app.alerts.all())
            assert "secret" not in told  # a value of a row
            assert "falaj dataset test trips says why" in alerts["source|dataset/trips"].title
    assert states == [("open", 1), ("open", 2), ("resolved", 2)]


def test_a_load_that_waits_for_a_person_is_a_quiet_alert_until_it_goes_on(tmp_path: Path) -> None:
    settings, file = _trips(tmp_path), tmp_path / "in" / "1.csv"
    with open_app(tmp_path, settings) as app:
        file.write_text("origin,at,miles,tip\nA,2026-01-02T00:00:00Z,3,1\n")
        seen = app.worker.tick(NOW)
        assert "trips waits: new columns: tip; name them in the contract, or set new_columns to drop or allow" in seen.news
        (alert,) = (alert for alert in app.alerts.all() if alert.key == "columns|dataset/trips")
        assert (alert.state, alert.severity) == ("open", "info")
        file.write_text("origin,at,miles\nA,2026-01-02T00:00:00Z,3\n")
        app.worker.tick(NOW + HOUR)
        assert {alert.key: alert.state for alert in app.alerts.all()}["columns|dataset/trips"] == "resolved"


def test_an_alert_of_a_refusal_ends_after_loads_that_keep_the_contract(tmp_path: Path) -> None:
    settings, file = _trips(tmp_path), tmp_path / "in" / "1.csv"
    states = []
    for hour in range(4):
        rows = "".join(f"A,{(NOW + n * HOUR):%Y-%m-%dT%H:%M:%SZ},3\n" for n in range(hour + 1))
        # The first load lacks a column.
        file.write_text("at,miles\n2026-01-02T00:00:00Z,1\n" if hour == 0 else f"origin,at,miles\n{rows}")
        with open_app(tmp_path, settings) as app:
            app.worker.tick(NOW + hour * HOUR)
            states += [alert.state for alert in app.alerts.all() if alert.key == "contract|dataset/trips"]
    assert states == ["open", "open", "open", "resolved"]


def test_a_lineage_names_files_by_their_path_in_the_project(tmp_path: Path) -> None:
    from falaj.operations.lineage import lineage_of

    settings, file = _trips(tmp_path), tmp_path / "in" / "1.csv"
    file.write_text("origin,at,miles\nA,2026-01-02T00:00:00Z,3\n")
    with open_app(tmp_path, settings) as app:
        for _ in ("before the first load", "after it"):
            assert "source/file/in/*.csv" in {node.key for node in lineage_of(app, None).nodes}
            app.worker.tick(NOW)
        assert app.contracts.assets("trips")


def test_a_champion_that_learned_from_an_erased_person_is_trained_anew_once(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    from falaj.core.codec import encode
    from falaj.core.event import Change, Event
    from falaj.core.ref import Ref
    from falaj.upkeep import WORKER

    started = []
    with app:
        app.worker.tick(NOW)
        model = Ref.parse("model/delay@1")
        records = {"model": ("delay@1", {"ref": str(model), "training": "delay", "asset": {"inputs": []}})}
        records["alias"] = ("delay@champion", {"model": str(model)})
        changes = tuple(Change(kind, key, encode(body)) for kind, (key, body) in records.items())
        with app.ledger.transaction() as tx:
            tx.append(Event("test.put", Ref("test", "x"), WORKER, NOW, {}, changes))
        app.governance.privacy.affected.mark(WORKER, model, request="r1")
        monkeypatch.setattr(app.pipelines.runner, "submit", lambda *given: started.append(given))
        monkeypatch.setattr(app.pipelines.runner, "look", lambda _run: ("running", ""))
        app.worker.tick(NOW + timedelta(days=29))
        assert started == []
        for days in (31, 32):
            app.worker.tick(NOW + timedelta(days=days))
        assert [(step, params["training"]) for _, step, params in started] == [("release", "delay")]
        assert "learned from people who were erased" in started[0][2]["reason"]
