"""A clinic from visits to answers: a person is nowhere on the disk in clear, and gone from every store once the key is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from falaj.app import App, init_project, open_app
from falaj.core.actor import Actor
from falaj.core.ref import Ref
from falaj.ports.predictions import Cursor
from tests.kits.clinic import emirates_id, everything

pytestmark = pytest.mark.slow

START = datetime(2026, 3, 1, tzinfo=UTC)
AT = START + timedelta(days=60)
SERVICE, OPERATOR = Actor("worker", "service", ("service",)), Actor("noura", "person", ("operator",))
MODEL, ENDPOINT = Ref("model", "noshow"), Ref("endpoint", "noshow")
PROJECT = '''
"""Who will not come?"""
from datetime import UTC, datetime, timedelta
import numpy as np
import polars as pl
from falaj import Dataset, Endpoint, Fitted, Gate, Training, View, WindowView, count, inputs, mean, number
from tests.kits.clinic import emirates_id
from tests.kits.life import fit

START = datetime(2026, 3, 1, tzinfo=UTC)
N, PEOPLE = 4000, 150

def table():
    chance = np.random.default_rng(3)
    at = [START + timedelta(minutes=21 * n) for n in range(N)]
    who = chance.integers(0, PEOPLE, N)
    pressure = 110 + (who % 40) + chance.normal(0, 3, N)
    missed = (chance.random(N) < 1 / (1 + np.exp(-(pressure - 130) / 6))).astype(int)
    return pl.DataFrame({
        "visit": [f"v{n}" for n in range(N)], "emirates_id": [emirates_id(int(n)) for n in who], "at": at,
        "known_at": [moment + timedelta(hours=1) for moment in at], "name": [f"Patient {n} Quillfeather" for n in who],
        "pressure": pressure, "miles": chance.uniform(1, 50, N), "missed": missed,
    }, schema_overrides={"at": pl.Datetime("ms", "UTC"), "known_at": pl.Datetime("ms", "UTC")})

ROWS = table()

def visits_rows(since, until):
    rows = ROWS.filter(pl.col("known_at") <= until)
    return rows if since is None else rows.filter(pl.col("known_at") > since)

visits = Dataset("visits", "visits.odcs.yaml", visits_rows, time="at", known="known_at")
patient = View("patient", "visits", "emirates_id", ("pressure",), time="at", created="known_at")
often = WindowView("often", "visits", "emirates_id", "known_at", ("30d",), "1d", (count("visits"), mean("pressure")))
training = Training("noshow", "noshow", "visits", "missed", "known_at", inputs(patient.all(), often.all(), number("miles")), fit,
                    valid="7d", holdout="14d")
gate = Gate("noshow", auc_floor=0.55, calibration_ceiling=0.5, latency_ms=500.0)
endpoint = Endpoint("noshow", "noshow", unit="emirates_id")
'''
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: c11c
version: 1.0.0
status: active
customProperties:
  - {property: purposes, value: [care]}
schema:
  - name: visits
    properties:
      - {name: visit, logicalType: string, primaryKey: true}
      - {name: emirates_id, logicalType: string, required: true, customProperties: [{property: subject, value: true}]}
      - {name: at, logicalType: timestamp, required: true}
      - {name: known_at, logicalType: timestamp, required: true}
      - {name: name, logicalType: string, classification: personal}
      - {name: pressure, logicalType: number, classification: health}
      - {name: miles, logicalType: number}
      - {name: missed, logicalType: integer, classification: personal}
"""
WHO, OTHER = emirates_id(7), emirates_id(8)


@dataclass
class Journey:
    app: App
    folder: Path
    key: str
    candidate: Ref

    @property
    def url(self) -> str:
        return str(json.loads((self.app.state / "serving" / "noshow" / "server.json").read_text())["url"])

    def ask(self, who: str) -> Any:
        request = {"emirates_id": who, "miles": 31.25, "note": f"call {who}"}
        answer = httpx.post(
            f"{self.url}/v1/models/noshow:predict", json=request, headers={"Authorization": f"Bearer {self.key}"}, trust_env=False
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def records(self) -> list[Any]:
        return [dict(record) for _, record in self.app.predictions_of("noshow").follow(Cursor())]


@pytest.fixture
def journey(tmp_path: Path) -> Iterator[Journey]:
    folder = tmp_path
    (folder / "clinic_project.py").write_text(PROJECT)
    (folder / "visits.odcs.yaml").write_text(CONTRACT)
    given = {
        "zone": "uae-onshore",
        "purpose": "care",
        "modules": "clinic_project",
        "runner": "memory",
        "mirror": "none",
        "name": "clinic",
        "serve_port": 0,
        "serve_grpc": "off",
    }
    init_project(folder, given)
    with open_app(folder, given) as app:
        for days in (20, 40, 60):
            app.contracts.ingest(SERVICE, Ref("dataset", "visits"), until=START + timedelta(days=days))
        app.features.refresh(AT)
        candidate = app.trainer.train(SERVICE, MODEL, training="noshow", at=AT, run_id="r1")
        decision = app.gates.evaluate(SERVICE, candidate, gate=app.project.gates["noshow"])
        assert decision.allowed, decision
        model = app.registry.register(SERVICE, MODEL, candidate=candidate, decision=app.gates.decision(candidate))
        key = app.keys.create(OPERATOR, Ref("key", "booking"), roles=["caller"], kind="service")
        try:
            app.rollouts.deploy(OPERATOR, ENDPOINT, model=model, reason="first")
            yield Journey(app, folder, key, candidate)
        finally:
            app.host.stop("noshow")
    sys.modules.pop("clinic_project", None)


def test_a_person_is_served_found_and_erased_from_every_store(journey: Journey) -> None:
    """One journey, since each part of it stands on what the one before it left."""
    _asked_with_sealed_features_and_logged_sealed(journey)
    _nobody_is_named_in_any_file(journey)
    _in_every_store_and_erased_from_all_of_them_at_once(journey)
    _the_audit_trail_and_the_snapshots_still_verify(journey)


def _asked_with_sealed_features_and_logged_sealed(journey: Journey) -> None:
    one, two = journey.ask(WHO), journey.ask(OTHER)
    assert one["missing_views"] == two["missing_views"] == []
    first, second = journey.records()
    assert first["request"]["note"] == f"call {WHO}"
    assert first["features"][0] > 100, "a pressure"
    assert second["request"]["emirates_id"] == OTHER


def _nobody_is_named_in_any_file(journey: Journey) -> None:
    there = everything(journey.app.state)
    for who in (WHO, OTHER, *(emirates_id(n) for n in range(150))):
        assert who not in there
    assert "Quillfeather" not in there
    assert "visits" in there, "the search finds what lies in clear"


def _in_every_store_and_erased_from_all_of_them_at_once(journey: Journey) -> None:
    app = journey.app
    stores, vault = app.governance.sealing.stores, app.governance.sealing.vault
    found = {store.name: store.find(WHO) for store in stores}
    assert {name for name, findings in found.items() if findings} == {"snapshots", "online", "training", "predictions"}
    assert all(finding.readable for findings in found.values() for finding in findings)
    exported = [dict(row) for store in stores for row in store.export(WHO)]
    assert {row["store"] for row in exported} == {"snapshots", "online", "training", "predictions"}
    assert {row["name"] for row in exported if row["store"] == "snapshots"} == {"Patient 7 Quillfeather"}
    rows_before = app.gates.evaluate(SERVICE, journey.candidate, gate=app.project.gates["noshow"])
    assert vault.shred([vault.token(WHO)]) == 1
    for store in stores:
        store.erase(WHO)
    assert [finding for store in stores for finding in store.probe(WHO)] == []
    assert [row for store in stores for row in store.export(WHO)] == []
    assert all(finding.readable for store in stores for finding in store.find(OTHER))
    assert set(journey.ask(WHO)["missing_views"]) == {"patient", "often"}, (
        "the server reads nothing any more, from the next call on"
    )
    assert journey.ask(OTHER)["missing_views"] == []
    told = [record for record in journey.records() if record["subject"] == vault.token(WHO)]
    assert len(told) == 2
    assert all(record["erased"] for record in told)
    assert app.gates.evaluate(SERVICE, journey.candidate, gate=app.project.gates["noshow"]).allowed == rows_before.allowed
    assert WHO not in everything(app.state)


def _the_audit_trail_and_the_snapshots_still_verify(journey: Journey) -> None:
    app = journey.app
    app.audit.checkpoint(SERVICE, Ref("ledger", "local"))
    for record in journey.records():
        traced = app.trace.trace(record["id"], "noshow")
        assert not any(check.passed is False for check in traced.hops[0].checks), traced.hops[0]
        assert WHO not in str(traced)
    for asset in app.contracts.assets("visits"):
        assert app.blobs.get(asset.digest)
    assert app.contracts.frame("visits")["emirates_id"].null_count() > 0
