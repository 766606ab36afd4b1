"""The inventory holds every version that ever was, with who did what when, and says what is overdue."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.memory.host import MemoryHost
from falaj.core.actor import Actor
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.packs import Pack, read_pack
from falaj.stages.action import Kernel
from falaj.stages.governance.inventory import inventory, read, short, version_id
from falaj.stages.registry.demands import demands_of
from falaj.stages.registry.dossier import Description, Dossier, Foreign
from falaj.stages.rollouts.endpoints import Endpoints
from falaj.stages.rollouts.service import Rollouts
from falaj.stages.rollouts.spec import Endpoint
from tests.architecture.tree import modules
from tests.kits.evidence import case
from tests.kits.life import APPROVER, AT, MODEL, Life, life

REPORT = "sha256:" + "a" * 64
LINA, OMAR = Actor("lina", "person", ("data_scientist",)), Actor("omar", "person", ("operator",))
ENDPOINT = Ref("endpoint", "delay")
SAID = Description("tells which flights will be late", "high", "noura", responsible={"validation": "lina"})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Two versions: the first deployed and replaced by the second, whose data is a fortnight newer."""
    made = life(tmp_path_factory.mktemp("life"))
    first = made.registered("r1")
    candidate = made.candidate("r2", at=AT + timedelta(days=14))
    second = made.registry.register(APPROVER_MAKES, MODEL, candidate=candidate, decision=made.judged(candidate))
    dossier = Dossier(made.kernel)
    dossier.describe(LINA, MODEL, said=SAID)
    dossier.test(LINA, first, kind="bias", report=REPORT, passed=True, reason="good")
    made.registry.promote(APPROVER, first, reason="yes")
    places = {"delay": Endpoint("delay", "delay")}
    for days, model in ((1, first), (2, second)):
        later = Kernel(made.kernel.ledger, made.kernel.policy, lambda days=days: AT + timedelta(days=days))
        Rollouts(Endpoints(later, MemoryHost(), places, dict)).deploy(OMAR, ENDPOINT, model=model, reason="serve it")
    dossier.declare(LINA, Ref("model", "ocr"), said=Foreign("ACME", "7", "reads passports", "uae-onshore", "medium", "noura"))
    return made


APPROVER_MAKES = Actor("sami", "person", ("data_scientist",))


def rows(world: Life, *more: Event, days: float = 3) -> dict[str, Any]:
    events = [*world.kernel.ledger.events(), *more]
    return {row["model"]: row for row in inventory(read(events, AT + timedelta(days=days)))}


def tier(name: str) -> Event:
    return Event("model.tier", MODEL, APPROVER, AT, {}, (Change("tier", str(MODEL), {"tier": name, "responsible": "noura"}),))


def test_past_present_and_third_party_versions_are_all_there(world: Life) -> None:
    found = rows(world)
    assert {name: row["status"] for name, row in found.items()} == {
        "model/delay@1": "retired",
        "model/delay@2": "in production",
        "model/ocr@1": "declared",
    }
    assert found["model/delay@1"]["until"] == found["model/delay@2"]["since"]
    assert (found["model/ocr@1"]["origin"], found["model/ocr@1"]["vendor"]) == ("third party", "ACME")


def test_a_retraining_has_an_id_of_its_own_and_each_part_of_it_makes_another(world: Life) -> None:
    found = rows(world)
    assert found["model/delay@1"]["id"] != found["model/delay@2"]["id"]
    facts, record = read(world.kernel.ledger.events(), AT), dict(world.registry.get(Ref("model", "delay", "1")))
    before = version_id(facts, record)
    asset: Any = record["asset"]
    for changed in (
        {**asset, "digest": REPORT},
        {**asset, "inputs": asset["inputs"][:1]},
        {**asset, "labels": {**asset["labels"], "code": "sha256:other"}},
        {**asset, "labels": {**asset["labels"], "seed": 99}},
    ):
        assert version_id(facts, {**record, "asset": changed}) != before
    assert version_id(facts, record) == before


def test_each_step_has_its_date_its_person_and_the_validations_before_it(world: Life) -> None:
    steps = rows(world)["model/delay@1"]["steps"]
    assert [step["what"] for step in steps] == [
        "model.train", "model.evaluate", "model.register", "model.test", "model.promote", "endpoint.deploy", "endpoint.deploy"
    ]  # fmt: skip
    assert [step["step"] for step in steps][-2:] == ["deployment", "retirement"]
    assert {step["responsible"] for step in steps if step["step"] == "validation"} == {"lina"}
    assert {step["responsible"] for step in steps if step["step"] != "validation"} == {"noura"}
    assert steps[0]["validated"] == []
    assert steps[4]["validated"] == ["gate", "bias"]
    assert all(step["at"] for step in steps)


def test_a_step_that_a_program_did_is_missing_a_person_until_somebody_is_named(world: Life) -> None:
    without = [event for event in world.kernel.ledger.events() if event.verb != "model.describe"]
    row = next(row for row in inventory(read(without, AT)) if row["model"] == "model/delay@1")
    assert row["steps"][0]["responsible"] is None
    assert row["missing"] == ["tier", "purpose", "risk", "owner", "oversight", "responsible"]
    assert rows(world)["model/delay@1"]["missing"] == ["tier"]


def test_what_is_overdue_is_told_by_tier_with_how_sure_the_demand_is(world: Life) -> None:
    assert [found["what"] for found in rows(world)["model/delay@2"]["overdue"]] == ["drill of delay"]
    found = rows(world, tier("tier1"))["model/delay@2"]["overdue"]
    assert [(one["what"], one["status"]) for one in found] == [
        ("bias", "guidance"), ("validation", "assumed"), ("drill of delay", "guidance")
    ]  # fmt: skip
    assert rows(world, tier("tier1"))["model/delay@1"]["overdue"] == []


def test_a_version_in_quarantine_is_told_as_such(world: Life) -> None:
    body = {"state": "quarantined", "at": "2013-03-04T00:00:00.000Z", "by": "person:dana"}
    held = Event("model.quarantine", Ref("model", "delay", "2"), OMAR, AT, {}, (Change("standing", "delay@2", body),))
    row = rows(world, held)["model/delay@2"]
    assert (row["status"], row["since"]) == ("quarantined", "2013-03-04T00:00:00.000Z")


def test_a_drill_is_overdue_after_a_month(world: Life) -> None:
    body = {"at": "2013-03-03T00:00:00.000Z", "verdict": "allow"}
    drilled = Event("endpoint.drill", ENDPOINT, OMAR, AT, {}, (Change("drill", "delay", body),))
    assert rows(world, drilled, days=3)["model/delay@2"]["overdue"] == []
    assert [one["what"] for one in rows(world, drilled, days=40)["model/delay@2"]["overdue"]] == ["drill of delay"]


def test_a_row_of_a_table_is_short(world: Life) -> None:
    row = short(rows(world, tier("tier1"))["model/delay@2"])
    assert row["overdue"] == "bias, validation, drill of delay"
    assert all(not isinstance(value, (list, dict)) for value in row.values())


def test_nothing_removes_a_version_or_what_was_said_of_one() -> None:
    kept = re.compile(r"\.remove\(\s*\"(model|declared|test|dpia|description|drill|kill)\"")
    assert not [module.place for module in modules() if kept.search(Path(module.path).read_text("utf-8"))]


def test_the_inventory_shows_what_the_packs_demand_and_where_they_contradict_each_other(tmp_path: Path) -> None:
    place = case(tmp_path)
    head = '[pack]\nid = "{0}"\nversion = "1"\ntitle = "x"\nstatus = "assumed"\n[[value]]\npath = "kill_switch.drill.ceiling"\n'
    said = 'kind = "{0}"\nvalue = "{1}"\nstatus = "{2}"\n'
    one = read_pack(head.format("one") + said.format("ceiling", "2d", "pending"))
    two = read_pack(head.format("two") + said.format("floor", "90d", "assumed"))
    events = list(place.world.kernel.ledger.events())

    def row(*packs: Pack) -> dict[str, Any]:
        rows = inventory(read(events, AT + timedelta(days=4), demands_of(packs)))
        return next(row for row in rows if row["model"] == "model/delay@1")

    assert row()["overdue"] == []
    [owed] = row(one)["overdue"]
    assert (owed["what"], owed["status"]) == ("drill of delay", "pending")
    assert row(one)["demands"]["drill"] == {"within_s": 172800, "status": "pending", "instrument": "pack one"}
    both = row(one, two)
    assert [conflict["path"] for conflict in both["demands"]["conflicts"]] == ["kill_switch.drill.ceiling"]
    assert short(both)["conflicts"] == "kill_switch.drill.ceiling"
    assert both["demands"]["bias"]["status"] == "assumed"
