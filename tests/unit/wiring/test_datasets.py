"""A project's dataset from the terminal's side: reports, quarantine, replays, differences, and promises that are watched."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from falaj.app import SETUP, App, init_project, open_app
from falaj.core.errors import InvalidInput
from falaj.operations import OPERATIONS

DAY = datetime(2026, 1, 1, tzinfo=UTC)
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: 5b1c
version: 1.0.0
status: active
slaProperties:
  - {property: latency, value: 2, unit: h}
  - {property: volume, value: 4, unit: rows}
schema:
  - name: trips
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: at, logicalType: timestamp, required: true}
      - {name: known_at, logicalType: timestamp, required: true}
      - {name: miles, logicalType: number, logicalTypeOptions: {minimum: 0}}
"""
PROJECT = '''
"""Trips of which every fifth is broken."""
from datetime import UTC, datetime, timedelta
import polars as pl
import falaj

ROWS = {"each": 5}

def source(since, until):
    first = datetime(2026, 1, 1, tzinfo=UTC) if since is None else since
    hours = int((until - first).total_seconds() // 3600)
    at = [first + timedelta(hours=n + 1) for n in range(hours) for _ in range(ROWS["each"])]
    number = [int(moment.timestamp()) * 10 + n % ROWS["each"] for n, moment in enumerate(at)]
    times = {"at": pl.Datetime("ms", "UTC"), "known_at": pl.Datetime("ms", "UTC")}
    miles = [-1.0 if n % 5 == 4 else 1.0 for n in range(len(at))]
    return pl.DataFrame({"id": number, "at": at, "known_at": at, "miles": miles}, schema_overrides=times)

trips = falaj.Dataset("trips", "trips.odcs.yaml", source, time="at", known="known_at", every="1h")
'''


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    module = f"project_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text(PROJECT)
    (tmp_path / "trips.odcs.yaml").write_text(CONTRACT)
    settings = {
        "modules": module, "clock": "replay", "runner": "memory", "host": "memory", "online": "memory", "mirror": "none",
        "name": "data", "replay_from": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    init_project(tmp_path, settings)
    with open_app(tmp_path, settings) as app:
        yield app


def do(app: App, verb: str, subject: str, **given: Any) -> Any:
    operation = next(o for o in OPERATIONS if o.name == f"dataset.{verb}")
    return operation.do(app, SETUP, subject, given)


def test_a_bad_row_is_looked_up_mended_in_a_file_and_replayed_once(app: App) -> None:
    do(app, "ingest", "trips", until="2026-01-01T02:00:00Z")
    shown = do(app, "quarantine", "trips", limit=1)
    assert shown["rows"] == 2
    assert shown["shown"][0]["_wanted"] == {"miles >= 0": ">= 0"}
    assert do(app, "report", "trips@1")["findings"][0]["rows"] == [4, 9]
    (app.settings.folder / "mended.csv").write_text("_version,_row,miles\n1,4,2.5\n")
    decision = do(app, "replay", "trips", file="mended.csv")
    assert decision.reason == "1 row mended, 0 still broken"
    assert do(app, "replay", "trips", file="mended.csv").reason == "nothing to mend"
    assert do(app, "quarantine", "trips", waiting=True)["rows"] == 1
    given = {"rows": [{"_version": 1, "_row": 9, "miles": 3}]}
    assert do(app, "replay", "trips", rows=given).allowed
    assert do(app, "diff", "trips@1", to="2")["rows"]["added"] == 1
    assert do(app, "diff", "trips@1", to="3", state=True)["rows"]["after"] == 10


def test_mended_rows_that_are_no_table_are_refused(app: App) -> None:
    do(app, "ingest", "trips", until="2026-01-01T02:00:00Z")
    for given in ({"rows": 3}, {"rows": [1, 2]}, {"rows": [{"_version": "one", "_row": 1}]}):
        with pytest.raises(InvalidInput):
            do(app, "replay", "trips", rows=given)
    with pytest.raises(InvalidInput, match="outside the project"):
        do(app, "replay", "trips", file="../../etc/rows.csv")


def test_a_promise_that_is_broken_opens_an_alert_and_resolves_it_when_kept_again(app: App) -> None:
    app.worker.tick(DAY + timedelta(hours=1))
    assert not app.worker.tick(DAY + timedelta(hours=2)).open_alerts
    rows = app.contracts.source("trips")._function.__globals__["ROWS"]  # type: ignore[attr-defined]
    rows["each"] = 3
    seen = app.worker.tick(DAY + timedelta(hours=3))
    assert any("trips does not keep its promises: volume: wanted >= 4 rows a load, got 3 rows" in line for line in seen.news)
    assert seen.open_alerts
    rows["each"] = 5
    for hours in range(4, 12):
        seen = app.worker.tick(DAY + timedelta(hours=hours))
    assert not seen.open_alerts
    verdicts = [event.facts["verdict"] for event in app.ledger.events(verb="dataset.watch")]
    assert verdicts == [], "the loads had told already"
    assert app.contracts.look("trips")["promises"]["verdict"] == "allow"
