"""Whatever goes wrong in a clinic, nobody's name comes into what can never be taken back: leaves, records, checkpoints, logs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest

from falaj.api.routes import build_api
from falaj.app import SETUP, App, init_project, open_app
from falaj.core.errors import FalajError
from falaj.core.ref import Ref
from falaj.operations import OPERATIONS
from falaj.worker import Worker
from tests.journeys.test_erasure import CONTRACT
from tests.kits.clinic import emirates_id, everything
from tests.kits.privacy import DPO, OPERATOR, WORKER

pytestmark = pytest.mark.slow

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WHO, NAME = emirates_id(7), "Quillfeather"
TELLS = (WHO, NAME, WHO.replace("-", ""), "131.0625")
"""The person's number, also without its strokes, their name, and what a doctor measured."""
PROJECT = '''
"""Who will not come? Everything fails that can, and quotes a row as it does."""
from datetime import UTC, datetime, timedelta
import polars as pl
from falaj import Dataset, Fitted, Gate, Training, View, inputs, number
from tests.kits.clinic import emirates_id

START = datetime(2026, 3, 1, tzinfo=UTC)
N = 1500
MOOD = {"source": ""}

def table():
    at = [START + timedelta(minutes=5 * n) for n in range(N)]
    who = [n % 20 for n in range(N)]
    return pl.DataFrame({
        "visit": [f"v{n}" for n in range(N)], "emirates_id": [emirates_id(n) for n in who], "at": at,
        "known_at": [moment + timedelta(hours=1) for moment in at], "name": [f"Patient {n} Quillfeather" for n in who],
        "pressure": [131.0625 for n in who], "miles": [float(n) for n in who], "missed": [n % 2 for n in who],
    }, schema_overrides={"at": pl.Datetime("ms", "UTC"), "known_at": pl.Datetime("ms", "UTC")})

def rows(since, until):
    if MOOD["source"] == "broken":
        raise ValueError(f"could not convert string to float: '{emirates_id(7)} Quillfeather'")
    found = table().filter(pl.col("known_at") <= until)
    if MOOD["source"] == "odd":  # a type that is no number, and a row twice, and a person without a number
        found = pl.concat([found, found.head(3)]).with_columns(
            pl.when(pl.col("visit") == "v7").then(pl.lit("Quillfeather, 784")).otherwise("emirates_id").alias("emirates_id"))
    return found if since is None else found.filter(pl.col("known_at") > since)

visits = Dataset("visits", "visits.odcs.yaml", rows, time="at", known="known_at", every="1d")
patient = View("patient", "visits", "emirates_id", ("pressure",), time="at", created="known_at")

def fit(*args, **given):
    raise ValueError(f"could not convert string to float: '{emirates_id(7)} Quillfeather'")

training = Training("noshow", "noshow", "visits", "missed", "known_at", inputs(patient.all(), number("miles")), fit,
                    valid="1d", holdout="1d")
gate = Gate("noshow", auc_floor=0.55)
'''
STRICT = CONTRACT.replace(
    "required: true, customProperties",
    "required: true, logicalTypeOptions: {pattern: '^784-[0-9]{4}-[0-9]{7}-[0-9]$'}, customProperties",
)


@dataclass
class Place:
    app: App
    folder: Path
    module: Any

    def do(self, noun: str, verb: str, subject: str | None = None, *, actor: Any = DPO, **given: Any) -> Any:
        operation = next(o for o in OPERATIONS if (o.noun, o.verb) == (noun, verb))
        return operation.do(self.app, actor, subject, given)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    folder = tmp_path / "clinic"
    folder.mkdir()
    name = f"clinic_{uuid4().hex[:12]}"
    (folder / f"{name}.py").write_text(PROJECT)
    (folder / "visits.odcs.yaml").write_text(STRICT)
    given = {
        "modules": name, "name": "clinic", "runner": "memory", "host": "memory", "mirror": "none", "clock": "replay",
        "policy": "roles", "replay_from": "2026-03-01T00:00:00Z",
    }  # fmt: skip
    init_project(folder, given)
    with open_app(folder, given) as app:
        app.contracts.ingest(WORKER, Ref("dataset", "visits"), until=START + DAY)
        yield Place(app, folder, sys.modules[name])


def told(app: App) -> Iterator[tuple[str, str]]:
    """Every leaf, record and checkpoint, and everything that is beside them in the state folder."""
    for seq, leaf in enumerate(app.ledger.leaves()):
        yield f"leaf {seq}", leaf.decode()
        for change in json.loads(leaf)["changes"]:
            yield f"record {change['kind']}", json.dumps(app.ledger.get(change["kind"], change["key"]), ensure_ascii=False)
    for checkpoint in app.ledger.checkpoints():
        yield f"checkpoint {checkpoint.size}", checkpoint.note
    yield "the state folder", everything(app.state)


def test_nothing_of_a_person_is_in_the_ledger_or_in_a_log_whatever_fails(
    place: Place, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    app, worker = place.app, Worker(place.app)
    caplog.set_level(logging.DEBUG)
    worker.tick(START + 2 * DAY)
    place.module.MOOD["source"] = "odd"
    worker.tick(START + 3 * DAY)
    place.module.MOOD["source"] = "broken"
    said = worker.tick(START + 4 * DAY).to_dict()
    assert any("visits" in problem for problem in said["problems"])
    place.module.MOOD["source"] = ""
    worker.tick(START + 5 * DAY)
    at = "2026-03-06T00:00:00Z"
    app.pipelines.start(OPERATOR, Ref("run", "r1"), step="release", params={"training": "noshow", "at": at})
    worker.tick(START + 5 * DAY + timedelta(hours=1))
    assert app.pipelines.get("r1").state == "failed"
    failure = app.pipelines.get("r1").failure or ""
    assert failure.startswith("ValueError"), "the training was reached"
    assert any(body["key"] == "source|dataset/visits" for _, body in app.ledger.find("alert")), "the source was heard"
    for actor in (OPERATOR, DPO):
        for verb, given in (
            ("find", {}), ("export", {}), ("consent", {"purpose": "care", "version": "1", "evidence": "file/1"}),
            ("restrict", {"reason": "asked"}), ("unrestrict", {"reason": "asked"}), ("erase", {"identity": "ticket/7"}),
        ):  # fmt: skip
            with suppress(FalajError):
                place.do("subject", verb, actor=actor, person=WHO, **given)
    key = app.keys.create(SETUP, Ref("key", "saif"), roles=["operator"], kind="person")
    api = build_api(app, hosts=("testserver",))

    async def call(path: str, body: Any) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://testserver") as client:
            return await client.post(path, json=body, headers={"authorization": f"Bearer {key}"})

    for body in ({"person": WHO}, {"person": WHO, "identity": WHO}, {"person": {"id": WHO}}, [WHO]):
        assert anyio.run(call, "/v1/subject:erase", body).status_code in (403, 422)
    app.audit.checkpoint(WORKER, Ref("ledger", "local"))
    found = sorted({(where, tell) for where, text in told(app) for tell in TELLS if tell in text})
    assert found == []
    logged = "\n".join(record.getMessage() + str(record.exc_text or "") for record in caplog.records)
    out, err = capfd.readouterr()
    assert [tell for tell in TELLS if tell in logged + out + err + json.dumps(said)] == []
    assert "clinic" in everything(app.state), "the search finds what lies in clear"


def test_the_search_would_find_a_name(place: Place) -> None:
    place.app.keys.create(SETUP, Ref("key", "quillfeather"), roles=["caller"], kind="person")
    assert any("quillfeather" in text for where, text in told(place.app) if where.startswith("leaf"))
    assert any("quillfeather" in text for where, text in told(place.app) if where == "record key")
