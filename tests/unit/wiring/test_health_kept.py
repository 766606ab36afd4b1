"""A project with health data under the pack of the health laws: no snapshot of it goes, whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from falaj.app import App, init_project, open_app
from falaj.core.errors import Denied
from falaj.core.ref import Ref
from falaj.stages.privacy.names import Names
from tests.kits.clinic import CONTRACT
from tests.kits.privacy import DPO, OPERATOR, WORKER

NOW = datetime(2026, 3, 2, tzinfo=UTC)
VISITS, PLAIN = Ref("dataset", "visits", "1"), Ref("dataset", "plain", "1")
PROJECT = '''
"""A clinic's visits, with and without what the doctors found."""
import falaj
from tests.kits.clinic import visits

def source(since, until):
    return visits(200)

def plain(since, until):
    return visits(200).drop("pressure", "smokes")

with_health = falaj.Dataset("visits", "visits.odcs.yaml", source, time="at", known="known_at", every="1d")
without = falaj.Dataset("plain", "plain.odcs.yaml", plain, time="at", known="known_at", every="1d")
'''


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    module = f"project_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text(PROJECT)
    contract = CONTRACT.replace("customProperties:\n", "customProperties:\n  - {property: purposes, value: [care]}\n", 1)
    (tmp_path / "visits.odcs.yaml").write_text(contract)
    lines = [line for line in contract.splitlines() if "classification: health" not in line]
    (tmp_path / "plain.odcs.yaml").write_text("\n".join(lines).replace("name: visits", "name: plain") + "\n")
    settings = {
        "modules": module, "name": "clinic", "clock": "replay", "runner": "memory", "host": "memory", "mirror": "none",
        "replay_from": "2026-03-02T00:00:00Z", "zone": "uae-onshore", "purpose": "care", "packs": "ae-baseline,health-ae",
    }  # fmt: skip
    init_project(tmp_path, settings)
    with open_app(tmp_path, settings) as app:
        for ref in (VISITS, PLAIN):
            app.contracts.ingest(OPERATOR, ref.bare, until=NOW)
        yield app


def test_a_snapshot_with_health_data_is_removed_by_nobody_and_the_attempt_is_recorded(app: App) -> None:
    assert "health" in app.kernel.rule(OPERATOR, "dataset.read", VISITS).labels["classes"]
    remover, names = app.governance.privacy.retention.removers[0], Names(app.ledger, app.blobs)
    for actor in (DPO, WORKER):
        with pytest.raises(Denied, match="no snapshot of it is removed as a whole") as caught:
            remover.expire(actor, VISITS, names=names)
        assert caught.value.facts["policies"] == ["HEALTH-KEEP"]
    events = list(app.ledger.events(verb="policy.deny", subject=VISITS))
    assert [event.facts["policy"]["by"] for event in events] == [["HEALTH-KEEP"]] * 2
    assert app.ledger.find("expired") == []


def test_what_holds_none_is_for_retention_to_judge(app: App) -> None:
    judged = app.governance.privacy.retention.removers[0].expire(DPO, PLAIN, names=Names(app.ledger, app.blobs))
    assert judged.rule == "retention"


def test_a_model_that_learned_from_it_is_no_health_record(app: App) -> None:
    """Or a candidate whose time is over would stop each round of retention."""
    app.kernel.ask(DPO, "model.expire", Ref("candidate", "risk", "r1"), {"classes": ["health"]})
    with pytest.raises(Denied):
        app.kernel.ask(DPO, "dataset.expire", Ref("quarantine", "visits", "1"), {"classes": ["health"]})
