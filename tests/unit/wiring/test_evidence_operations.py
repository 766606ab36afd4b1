"""Inventory, history, state at a time, kill switch and archives, asked for by name as the command line and the HTTP API do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from falaj.app import App, init_project, open_app
from falaj.core.actor import Actor
from falaj.core.codec import canonical
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.operations import OPERATIONS
from falaj.stages.registry.service import PAYLOAD_TYPE
from falaj.upkeep import WORKER

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DAY = timedelta(days=1)
AMAL, NOURA = Actor("amal", roles=("operator",)), Actor("noura", roles=("approver",))
LINA, SAMI = Actor("lina", roles=("data_scientist",)), Actor("sami", roles=("auditor",))
BY_NAME = {operation.name: operation for operation in OPERATIONS}
REPORT = "sha256:" + "a" * 64
PROJECT = """'''One endpoint.'''

from falaj import Endpoint

delay = Endpoint("delay", "delay")
"""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    module = f"project_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text(PROJECT)
    settings = {
        "modules": module, "clock": "replay", "replay_from": "2026-01-02T00:00:00Z", "runner": "memory", "host": "memory",
        "online": "memory", "mirror": "none", "name": "evidence",
    }  # fmt: skip
    init_project(tmp_path, settings)
    with open_app(tmp_path, settings) as found:
        for version in "12":
            register(found, version)
        do(found, "endpoint.deploy", "delay", model="delay@1", reason="the first")
        yield found


def register(app: App, version: str) -> None:
    ref = Ref("model", "delay", version)
    asset = {"digest": f"sha256:{version * 64}", "labels": {"recipe": "r"}, "inputs": []}
    manifest = app.registry.sign(canonical({"model": str(ref), "digest": asset["digest"]}), PAYLOAD_TYPE)
    body = {
        "ref": str(ref), "asset": asset, "manifest": manifest, "gate": "allow", "candidate": f"candidate/delay@r{version}",
        "run": f"r{version}", "by": "service:runner", "created_at": "2026-01-02T00:00:00.000Z", "authors": ["lina"],
    }  # fmt: skip
    with app.ledger.transaction() as tx:
        tx.append(Event("model.register", ref, WORKER, app.kernel.now(), {}, (Change("model", f"delay@{version}", body),)))


def do(app: App, what: str, subject: str | None = None, by: Actor = AMAL, /, **given: Any) -> Any:
    return BY_NAME[what].do(app, by, subject, given)


def test_the_inventory_by_words_as_a_terminal_and_as_json_write_them(app: App) -> None:
    do(app, "model.describe", "delay", LINA, purpose="late flights", risk="high", owner="noura", responsible="validation=lina")
    do(app, "model.declare", "ocr", LINA, vendor="ACME", version="7", purpose="passports", where="uae-onshore", risk="low",
       owner="noura")  # fmt: skip
    rows = {row["model"]: row for row in do(app, "model.inventory", None, SAMI)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "model/delay@1": "in production", "model/delay@2": "in development", "model/ocr@1": "declared"
    }  # fmt: skip
    assert (rows["model/delay@1"]["owner"], rows["model/delay@1"]["overdue"]) == ("noura", "drill of delay")
    assert [row["model"] for row in do(app, "model.inventory", overdue=True)] == ["model/delay@1"]
    [detailed] = do(app, "model.inventory", name="ocr", details="true")
    assert detailed["steps"][0]["responsible"] == "noura"
    with pytest.raises(InvalidInput, match="names nobody"):
        do(app, "model.describe", "delay", LINA, purpose="x", risk="low", owner="noura", responsible="validation")


def test_a_model_with_a_tier_is_deployed_only_with_its_test(app: App) -> None:
    do(app, "model.tier", "delay", NOURA, tier="tier2", responsible="noura")
    do(app, "model.approve", "delay@2", NOURA, reason="good")
    with pytest.raises(Conflict, match="bias"):
        do(app, "endpoint.deploy", "delay", model="delay@2", reason="next")
    assert not do(app, "model.promote", "delay@2", NOURA, reason="next").allowed
    assert do(app, "model.test", "delay@2", LINA, kind="bias", report=REPORT, reason="even").allowed
    assert do(app, "model.promote", "delay@2", NOURA, reason="next").allowed
    do(app, "endpoint.deploy", "delay", model="delay@2", reason="next")
    with pytest.raises(Denied):
        do(app, "model.dpia", "delay@2", LINA, digest=REPORT)


def test_who_served_when_is_told_by_words(app: App) -> None:
    app.worker.tick(NOW + DAY)
    do(app, "endpoint.deploy", "delay", model="delay@2", reason="next")
    before = do(app, "status.show", None, SAMI, at="2026-01-02T12:00:00Z")
    after = do(app, "status.show", None, SAMI, at=NOW + 2 * DAY)
    assert [one["serving"][0]["model"] for one in before["endpoints"]] == ["model/delay@1"]
    [arm] = after["endpoints"][0]["serving"]
    assert (arm["model"], arm["weights"], arm["by"]) == ("model/delay@2", "sha256:" + "2" * 64, "person:amal")
    assert do(app, "status.show", at="2025-01-01T00:00:00Z")["endpoints"] == []
    rows = [(row["what"], row["model"]) for row in do(app, "model.history", "delay") if row["what"].startswith("answers")]
    assert rows == [("answers", "model/delay@1"), ("answers no more", "model/delay@1"), ("answers", "model/delay@2")]
    with pytest.raises(NotFound):
        do(app, "model.history", "nothing")


def test_a_kill_stays_through_the_workers_rounds_until_another_person_revives(app: App) -> None:
    told = do(app, "endpoint.kill", "delay", NOURA, reason="it harms people")
    assert told["out_of_use"]
    assert "problem" not in told
    app.worker.tick(NOW + DAY)
    assert app.host.wanted["delay"].killed["by"] == "noura"  # type: ignore[attr-defined]  # the host in memory
    assert do(app, "status.show")["out_of_use"] == ["delay"]
    assert {row["model"]: row["status"] for row in do(app, "model.inventory")}["model/delay@1"] == "out of use"
    for nobody in (WORKER, LINA):
        with pytest.raises(Denied):
            do(app, "endpoint.revive", "delay", nobody, reason="I am sure")
    assert not do(app, "endpoint.revive", "delay", NOURA, reason="I am sure").allowed
    assert do(app, "endpoint.revive", "delay", AMAL, reason="looked at it").allowed
    assert not app.host.wanted["delay"].killed  # type: ignore[attr-defined]


def test_a_drill_of_what_has_no_server_says_so_and_counts_as_none(app: App) -> None:
    decision = do(app, "endpoint.drill", "delay")
    assert decision.verdict == "deny"
    assert "no server to ask" in decision.reason
    assert "drill of delay" in do(app, "model.inventory")[0]["overdue"]


def test_an_overdue_drill_is_an_alert_where_a_tier_is_set_and_ends_with_a_good_one(app: App) -> None:
    def alerts() -> list[tuple[str, str]]:
        return [(str(alert.ref), alert.state) for alert in app.alerts.all() if alert.key == "kill-switch|endpoint/delay"]

    app.worker.tick(NOW + DAY)
    assert alerts() == []
    do(app, "model.tier", "delay", NOURA, tier="tier2", responsible="noura")
    assert any("falaj endpoint drill delay" in line for line in app.worker.tick(NOW + 2 * DAY).news)
    assert [state for _, state in alerts()] == ["open"]
    do(app, "endpoint.drill", "delay", confirm="delay")
    app.worker.tick(NOW + 3 * DAY)
    assert [state for _, state in alerts()] == ["resolved"]


def test_an_archive_lies_in_the_exports_and_its_digest_in_the_ledger(app: App) -> None:
    made = do(app, "evidence.make", "delay@1", SAMI)
    assert Path(made.path).parent == app.state / "exports"
    [event] = app.ledger.events(verb="evidence.make")
    assert event.facts["archive"] == made.digest
    with pytest.raises(Denied):
        do(app, "evidence.make", "delay@1", LINA)


def test_what_a_dry_run_of_a_kill_foresees_is_no_kill(app: App) -> None:
    foreseen = BY_NAME["endpoint.kill"].foresee(app, AMAL, "delay", {"reason": "x"})
    assert json.dumps(foreseen["would_record"], default=str).count("endpoint.kill") == 1
    assert not app.host.wanted["delay"].killed  # type: ignore[attr-defined]
