"""What stands against a version, or removed rows of a dataset, is respected where models are promoted and data is read."""

from __future__ import annotations

import pytest

from falaj.core.actor import Actor
from falaj.core.codec import encode
from falaj.core.errors import Conflict
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.stages.privacy.affected import Affected
from falaj.stages.rollouts.endpoints import passed
from tests.kits.life import APPROVER, AT, SERVICE, Life, life

DPO = Actor("hessa", "person", ("dpo",))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Life:
    return life(tmp_path_factory.mktemp("life"))


def test_a_version_in_quarantine_is_neither_promoted_nor_served_until_it_is_justified(world: Life) -> None:
    model = world.registered("run-1")
    affected, ledger = Affected(world.kernel), world.kernel.ledger
    affected.quarantine(APPROVER, model, reason="unlawful training")
    decision = world.registry.promote(APPROVER, model, reason="x")
    assert (decision.verdict, [check.name for check in decision.failed]) == ("deny", ["standing"])
    assert world.registry.champion("delay") is None
    with pytest.raises(Conflict, match="is quarantined"):
        passed(ledger, model)
    affected.justify(DPO, model, reason="the board decided")
    assert passed(ledger, model)
    assert world.registry.promote(APPROVER, model, reason="x").allowed


def test_rows_that_retention_removed_are_not_there_in_a_process_that_had_read_them(world: Life) -> None:
    before = world.contracts.frame("trips").height
    first, second = world.contracts.assets("trips")
    gone = {"ref": str(first.ref), "at": encode(AT), "by": "x", "rows": 0, "state": "removed"}
    with world.kernel.ledger.transaction() as tx:
        tx.append(Event("dataset.expire", first.ref, SERVICE, AT, {}, (Change("expired", str(first.ref), gone),)))
    assert world.contracts.assets("trips") == [second]
    assert 0 < world.contracts.frame("trips").height < before
    with world.kernel.ledger.transaction() as tx:
        tx.append(Event("test.undo", Ref("test", "x"), SERVICE, AT, {}, (Change("expired", str(first.ref), None),)))
    assert world.contracts.frame("trips").height == before


def test_the_record_of_processing_names_what_learned_from_a_dataset(world: Life) -> None:
    from falaj.stages.privacy.record import record_of
    from falaj.stages.privacy.terms import shipped

    model = world.registered("run-2")
    found = {entry["dataset"]: entry for entry in record_of(world.kernel.ledger, shipped())}
    assert str(model) in found["trips"]["models"]
    assert str(model) in found["sky"]["models"]
    assert found["trips"]["snapshots"] == 2
    assert found["trips"]["endpoints"] == []
