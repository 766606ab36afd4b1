"""Gates measure for themselves, compare on the same rows, and leave their decision in the ledger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from falaj.adapters.memory.blobs import MemoryBlobs
from falaj.core.codec import decode
from falaj.core.decision import Check, Decision
from falaj.core.errors import NotFound
from falaj.core.ref import Ref
from tests.kits.life import APPROVER, GATE, SERVICE, Life, life


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """One champion, and its candidate."""
    world = life(tmp_path_factory.mktemp("life"))
    version = world.registered("r1")
    world.registry.promote(APPROVER, version, reason="first")
    return world


def named(decision: Decision) -> dict[str, Check]:
    return {check.name: check for check in decision.checks}


def test_a_good_first_model_passes_and_the_ledger_keeps_why(tmp_path: Path) -> None:
    world = life(tmp_path)
    candidate = world.candidate("r1")
    decision = world.judged(candidate)
    assert decision.allowed, decision.reason
    assert world.gates.decision(candidate) == decision
    found = named(decision)
    assert {"contract:trips", "contract:sky", "roc_auc", "slices:zone", "onnx_parity", "latency_p99", "size"} <= set(found)
    assert "roc_auc_vs_champion" not in found


def test_a_model_that_sees_nothing_is_denied_and_named(world: Life) -> None:
    decision = world.judged(world.candidate("r-blind", "blind"))
    assert decision.verdict == "deny"
    assert {"roc_auc", "roc_auc_vs_champion"} <= {check.name for check in decision.failed}


def test_the_champion_is_scored_with_its_own_recipe_on_the_same_rows(world: Life) -> None:
    """Both recipes differ; the same model again loses nothing against itself."""
    found = named(world.judged(world.candidate("r-same")))
    assert found["roc_auc_vs_champion"].seen.startswith("0.0000 [0.0000, 0.0000]")
    assert named(world.judged(world.candidate("r-other", "blind"))) != found


def test_too_strict_a_floor_denies_one_in_reach_holds(world: Life) -> None:
    candidate = world.candidate("r-floor")
    area = float(named(world.judged(candidate))["roc_auc"].seen.split()[0])
    assert world.judged(candidate, replace(GATE, auc_floor=area)).verdict == "hold"
    assert world.judged(candidate, replace(GATE, auc_floor=0.99)).verdict == "deny"


def test_a_slow_or_large_model_is_denied(world: Life) -> None:
    candidate = world.candidate("r-slow")
    decision = world.judged(candidate, replace(GATE, latency_ms=1e-6, size_mb=1e-6))
    assert {check.name for check in decision.failed} == {"latency_p99", "size"}


def test_a_model_without_its_native_form_has_no_parity(world: Life) -> None:
    candidate = world.candidate("r-bare")
    asset = world.gates.asset(candidate)
    with world.kernel.ledger.transaction() as tx:
        from falaj.core.codec import encode
        from falaj.core.event import Change, Event

        bare = replace(asset, labels={**asset.labels, "native": None})
        tx.append(Event("test", candidate, SERVICE, world.kernel.now(), {}, (Change("asset", str(candidate), encode(bare)),)))
    assert named(world.judged(candidate))["onnx_parity"].passed is False


def test_a_file_that_is_not_the_one_that_was_trained_is_refused(world: Life) -> None:
    candidate = world.candidate("r-bytes")
    asset = world.gates.asset(candidate)
    world.gates.blobs = MemoryBlobs()
    try:
        with pytest.raises(NotFound):
            world.judged(candidate)
    finally:
        world.gates.blobs = world.blobs
    assert asset.digest


def test_an_unjudged_candidate_has_no_decision(world: Life) -> None:
    with pytest.raises(NotFound, match="No gate has judged"):
        world.gates.decision(Ref("candidate", "delay", "r-none"))
    with pytest.raises(NotFound):
        world.gates.asset(Ref("candidate", "delay", "r-none"))


def test_a_decision_reads_back_from_the_ledger_as_it_was(world: Life) -> None:
    decision = world.judged(world.candidate("r-read"))
    body = world.kernel.ledger.get("decision", f"{decision.subject}|gate")
    assert decode(Decision, body) == decision
