"""Only what its gates allowed gets a version; a version is signed; a name points where somebody decided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from falaj.adapters.local.signing import open_envelope
from falaj.core.actor import Actor
from falaj.core.codec import decode
from falaj.core.decision import Check
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.inference.models import MANIFEST_TYPE, Model
from falaj.stages.registry.service import PAYLOAD_TYPE
from tests.kits.life import APPROVER, MODEL, RECIPE, SERVICE, Life, life


@pytest.fixture
def world(tmp_path: Path) -> Life:
    return life(tmp_path)


def versions(world: Life, count: int) -> list[Ref]:
    found = [world.registered(f"r{number}") for number in range(1, count + 1)]
    for version in found:
        assert world.registry.promote(APPROVER, version, reason="yes").allowed
    return found


def test_versions_count_from_one_and_the_same_run_stays_one_version(world: Life) -> None:
    first = world.registered("r1")
    assert str(first) == "model/delay@1"
    assert str(world.registered("r2")) == "model/delay@2"
    candidate = Ref("candidate", "delay", "r1")
    again = world.registry.register(SERVICE, MODEL, candidate=candidate, decision=world.gates.decision(candidate))
    assert again == first
    assert [body["ref"] for body in world.registry.listing("delay")] == ["model/delay@1", "model/delay@2"]


def test_the_manifest_is_signed_and_is_all_that_a_server_needs(world: Life) -> None:
    version = world.registered("r1")
    record = world.registry.get(version)
    payload = json.loads(open_envelope(record["manifest"], world.key.public_key, PAYLOAD_TYPE))
    assert PAYLOAD_TYPE == MANIFEST_TYPE
    assert payload == world.registry.manifest(version)
    assert payload["model"] == str(version)
    assert decode(Recipe, payload["recipe"]) == RECIPE or payload["recipe"]["time_field"] == "at"
    data = world.blobs.get(payload["digest"])
    assert payload["size"] == len(data)
    served = Model(data, decode(Recipe, payload["recipe"]), payload["places"])
    sealed = [[1.0, 20.0, 0.0, 8.0]]
    assert 0 < served.scores(served.run(sealed))[0] < 1
    assert payload["inputs"] == {"name": served.input, "dtype": served.datatype, "columns": served.width}
    assert payload["output"] in {output.name for output in served.outputs}


def test_what_no_gate_allowed_gets_no_version(world: Life) -> None:
    candidate = world.candidate("r-blind", "blind")
    decision = world.judged(candidate)
    assert decision.verdict == "deny"
    with pytest.raises(Conflict, match="says deny"):
        world.registry.register(SERVICE, MODEL, candidate=candidate, decision=decision)
    assert world.registry.listing() == []


def test_a_decision_that_somebody_made_up_counts_for_nothing(world: Life) -> None:
    candidate = world.candidate("r-blind", "blind")
    real = world.judged(candidate)
    made_up = replace(real, verdict="allow", checks=(Check("trust", "me", "yes", True),))
    with pytest.raises(Conflict):
        world.registry.register(SERVICE, MODEL, candidate=candidate, decision=made_up)
    other = world.candidate("r-good")
    with pytest.raises(Conflict):
        world.registry.register(SERVICE, MODEL, candidate=candidate, decision=world.judged(other))


def test_an_alias_has_a_decision_behind_it(world: Life) -> None:
    (version,) = versions(world, 1)
    alias = world.kernel.ledger.get("alias", "delay@champion")
    assert alias is not None
    assert alias["model"] == str(version)
    assert alias["by"] == str(APPROVER)
    assert world.kernel.ledger.get("decision", str(alias["decision"])) is not None
    assert world.registry.champion("delay") == version
    assert world.registry.resolve("delay@champion") == world.registry.resolve("model/delay@1") == version


def test_promotion_needs_a_role_that_may(world: Life) -> None:
    version = world.registered("r1")
    with pytest.raises(Denied):
        world.registry.promote(Actor("sam", roles=("data_scientist",)), version, reason="mine")
    assert world.registry.champion("delay") is None


def test_rollback_goes_to_the_champion_before_and_never_forward_again(world: Life) -> None:
    first, second, third = versions(world, 3)
    assert world.registry.rollback(APPROVER, MODEL, reason="worse") == second
    assert world.registry.rollback(APPROVER, MODEL, reason="still worse") == first
    with pytest.raises(Conflict, match="nothing to go back to"):
        world.registry.rollback(APPROVER, MODEL, reason="once more")
    assert world.registry.champion("delay") == first
    assert str(third) == "model/delay@3"


def test_a_promotion_after_a_rollback_can_be_rolled_back_to_where_it_came_from(world: Life) -> None:
    first, _second = versions(world, 2)
    world.registry.rollback(APPROVER, MODEL, reason="worse")
    third = world.registered("r3")
    world.registry.promote(APPROVER, third, reason="better")
    assert world.registry.rollback(APPROVER, MODEL, reason="no") == first


def test_what_is_not_there_is_named(world: Life) -> None:
    with pytest.raises(Conflict, match="nothing to go back to"):
        world.registry.rollback(APPROVER, MODEL, reason="why not")
    with pytest.raises(NotFound):
        world.registry.get(Ref("model", "delay", "9"))
    with pytest.raises(NotFound):
        world.registry.resolve("delay@champion")
    version = world.registered("r1")
    with pytest.raises(InvalidInput):
        world.registry.promote(APPROVER, version, alias="Not A Name", reason="x")


def test_the_mirror_follows_and_its_silence_changes_nothing(world: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = versions(world, 1)
    assert ("delay", "1") in world.mirror.models
    assert world.mirror.aliases["delay", "champion"] == "1"

    def down(*_args: object, **_kwargs: object) -> None:
        raise Unavailable("asleep")

    monkeypatch.setattr(world.mirror, "record_model", down)
    monkeypatch.setattr(world.mirror, "record_alias", down)
    second = world.registered("r2")
    assert world.registry.promote(APPROVER, second, reason="yes").allowed
    assert world.registry.champion("delay") == second != first
