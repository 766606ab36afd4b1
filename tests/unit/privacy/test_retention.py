from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.core.errors import NotFound, Unavailable
from falaj.core.ref import Ref
from falaj.inference.log import PredictionLog
from falaj.inference.seals import Sealer
from falaj.stages.privacy import retention as work
from falaj.stages.privacy.names import BLOBLESS, HOLDING, Names
from falaj.stages.privacy.periods import bound
from falaj.stages.privacy.retention import Retention
from falaj.stages.privacy.shelves import DatasetShelf, ExportShelf, ModelShelf, PredictionShelf
from falaj.stages.privacy.terms import Term
from falaj.stages.serving.service import Serving
from tests.architecture.tree import modules
from tests.kits.privacy import APPROVER, DAY, DPO, OPERATOR, WORKER, House

YEAR = 365 * DAY
SHORT = (
    Term("dataset_snapshot", "tenant", None, bound("1y"), "tenant"),
    Term("model_version", "tenant", None, bound("1y"), "tenant"),
)


def retention(house: House, *terms: Term) -> Retention:
    every = (*house.terms, *terms)

    def log_of(_endpoint: str) -> SegmentPredictions:
        return SegmentPredictions(house.folder / "segments")

    removers = (
        work.DatasetRemover(house.kernel, house.blobs, DatasetShelf(house.ledger, house.blobs), every),
        work.ModelRemover(house.kernel, house.blobs, ModelShelf(house.ledger, house.blobs), every),
        work.PredictionRemover(house.kernel, house.blobs, PredictionShelf(house.ledger, log_of), every),
        work.ExportRemover(house.kernel, house.blobs, ExportShelf(house.ledger, house.blobs), every),
    )
    return Retention(house.kernel, house.blobs, removers, every)


def states(found: Retention) -> dict[str, str]:
    return {str(ruling.item.ref): ruling.state for ruling in found.plan()}


def serve(house: House, model: str) -> None:
    """As a deployment leaves it: a release, and an alias that points there."""
    ref = Ref.parse(model)
    house.put("release", f"{ref.name}@1", {"ref": f"release/{ref.name}@1", "model": model, "at": house.now})
    house.put("alias", f"{ref.name}@champion", {"model": model})


def test_what_is_past_its_ceiling_is_due_and_the_rest_is_kept(house: House) -> None:
    house.snapshot("dataset/trips@1")
    house.snapshot("quarantine/trips@1")
    house.now += 2 * YEAR
    house.snapshot("quarantine/trips@2")
    assert states(retention(house)) == {
        "dataset/trips@1": "kept",
        "quarantine/trips@1": "due",
        "quarantine/trips@2": "kept",
    }
    assert states(retention(house, *SHORT))["dataset/trips@1"] == "due"


def test_a_plan_changes_nothing(house: House) -> None:
    digest = house.snapshot("quarantine/trips@1").digest
    house.now += 2 * YEAR
    before = len(house.events())
    retention(house).plan()
    assert len(house.events()) == before
    assert house.blobs.has(digest)


def test_what_is_due_goes_with_an_event_of_its_own_and_its_record_stays(house: House) -> None:
    asset = house.snapshot("quarantine/trips@1")
    house.now += 2 * YEAR
    done = retention(house).carry_out(WORKER)
    assert done.removed == ("quarantine/trips@1",)
    assert not house.blobs.has(asset.digest)
    [event] = house.events("dataset.expire")
    assert (str(event.subject), event.facts["verdict"], event.facts["digests"]) == ("quarantine/trips@1", "allow", [asset.digest])
    assert house.ledger.get("asset", "quarantine/trips@1") is not None
    assert house.ledger.get("expired", "quarantine/trips@1")["state"] == "removed"
    assert [event.verb for event in house.events("retention.")] == ["retention.apply"]
    assert states(retention(house)) == {}
    assert retention(house).carry_out(WORKER).removed == ()


def test_a_blob_that_something_kept_names_too_stays(house: House) -> None:
    shared = b"the same rows"
    digest = house.snapshot("quarantine/trips@1", shared).digest
    house.snapshot("dataset/trips@9", shared)
    house.now += 2 * YEAR
    assert retention(house).carry_out(WORKER).removed == ("quarantine/trips@1",)
    assert house.blobs.get(digest) == shared
    assert house.events("dataset.expire")[0].facts["kept_for_others"] == 1
    house.now += YEAR
    assert retention(house, *SHORT).carry_out(WORKER).removed == ("dataset/trips@9",)
    assert not house.blobs.has(digest)


def test_the_contract_by_which_rows_were_judged_stays_when_they_go(house: House) -> None:
    contract, profile = house.blobs.put(b"contract"), house.blobs.put(b"profile")
    house.snapshot("quarantine/trips@1", contract=contract, profile=profile)
    house.now += 2 * YEAR
    retention(house).carry_out(WORKER)
    assert (house.blobs.has(contract), house.blobs.has(profile)) == (True, False)


def test_every_part_of_a_large_snapshot_goes(house: House) -> None:
    parts = [house.blobs.put(part) for part in (b"one", b"two")]
    whole = orjson.dumps({"form": "falaj.snapshot/1", "parts": [{"digest": digest} for digest in parts]})
    digest = house.snapshot("quarantine/trips@1", whole, parts=2).digest
    house.now += 2 * YEAR
    retention(house).carry_out(WORKER)
    assert not [each for each in (*parts, digest) if house.blobs.has(each)]


def test_a_snapshot_that_a_living_model_learned_from_stays(house: House) -> None:
    house.snapshot("dataset/trips@1")
    house.model("model/delay@1", "dataset/trips@1")
    serve(house, "model/delay@1")
    house.now += 20 * YEAR
    found = retention(house, *SHORT)
    assert states(found)["dataset/trips@1"] == "floor"
    done = found.carry_out(WORKER)
    assert done.removed == ()
    assert "waits for life_of_model" in done.refused["dataset/trips@1"]


def test_five_years_after_its_last_model_was_replaced_a_snapshot_may_go(house: House) -> None:
    house.snapshot("dataset/trips@1")
    house.model("model/delay@1", "dataset/trips@1")
    serve(house, "model/delay@1")
    house.model("model/delay@2")
    body = {"ref": "release/delay@1", "model": "model/delay@1", "at": house.now, "outcome_at": house.now + YEAR}
    house.put("release", "delay@1", body)
    house.put("alias", "delay@champion", {"model": "model/delay@2"})
    house.now += 5 * YEAR
    assert states(retention(house, *SHORT))["dataset/trips@1"] == "floor"
    house.now += YEAR + 5 * DAY
    assert states(retention(house, *SHORT))["dataset/trips@1"] == "due"


def test_a_version_that_ever_served_is_never_removed(house: House) -> None:
    weights = house.model("model/delay@1").digest
    serve(house, "model/delay@1")
    house.model("model/delay@2")
    house.put("alias", "delay@champion", {"model": "model/delay@2"})
    house.now += 500 * YEAR
    found = retention(house, *SHORT)
    assert states(found)["model/delay@1"] == "floor"
    done = found.carry_out(DPO)
    assert "forever" in done.refused["model/delay@1"]
    assert house.blobs.has(weights)
    decision = work.ModelRemover(house.kernel, house.blobs, ModelShelf(house.ledger, house.blobs), (*house.terms, *SHORT)).expire(
        DPO, Ref.parse("model/delay@1"), names=Names(house.ledger, house.blobs)
    )
    assert decision.verdict == "deny"
    assert house.blobs.has(weights)


def test_a_version_that_never_served_goes_with_its_candidate_and_serves_no_more(house: House) -> None:
    asset = house.model("model/delay@2")
    house.now += 2 * YEAR
    found = retention(house, *SHORT)
    assert states(found) == {"candidate/delay@run-2": "in use", "model/delay@2": "due"}
    assert found.carry_out(WORKER).removed == ("model/delay@2",)
    assert house.blobs.has(asset.digest)  # the candidate names it too
    assert house.ledger.get("standing", "delay@2")["state"] == "expired"
    assert found.carry_out(WORKER).removed == ("candidate/delay@run-2",)
    assert not house.blobs.has(asset.digest)


def test_health_data_stays_whatever_the_tenant_wishes_and_the_conflict_is_told(house: House) -> None:
    house.snapshot("dataset/visits@1", column_classes=["health"])
    house.now += 50 * YEAR
    [ruling] = retention(house, *SHORT).plan()
    assert (ruling.state, ruling.decision.verdict) == ("floor", "deny")
    assert "waits for last_procedure by health-ae:health_record [unverified, Federal Law 2/2019 Art 20]" in ruling.decision.reason


def test_a_hold_stops_what_is_due_and_its_end_lets_it_go(house: House) -> None:
    house.snapshot("quarantine/trips@1")
    house.now += 2 * YEAR
    hold = Ref("hold", "case")
    house.holds.place(DPO, hold, scope="dataset/trips", reason="case", until=house.now + YEAR)
    assert states(retention(house)) == {"quarantine/trips@1": "held"}
    assert retention(house).carry_out(DPO).removed == ()
    for actor in (DPO, APPROVER):
        house.holds.release(actor, hold, reason="settled")
    assert retention(house).carry_out(DPO).removed == ("quarantine/trips@1",)


def test_a_hold_that_comes_between_the_plan_and_the_removing_counts(house: House) -> None:
    digest = house.snapshot("quarantine/trips@1").digest
    house.now += 2 * YEAR
    found = retention(house)
    plan = found.plan()
    assert plan[0].decision.allowed
    house.holds.place(DPO, Ref("hold", "case"), scope="all", reason="case", until=house.now + YEAR)
    decision = found.removers[0].expire(WORKER, plan[0].item.ref, names=Names(house.ledger, house.blobs))
    assert decision.verdict == "deny"
    assert house.blobs.has(digest)
    assert house.ledger.get("expired", "quarantine/trips@1") is None


def test_a_reference_that_comes_between_counts(house: House) -> None:
    digest = house.snapshot("quarantine/trips@1", b"rows").digest
    house.now += 2 * YEAR
    found, names = retention(house), Names(house.ledger, house.blobs)
    house.snapshot("dataset/trips@5", b"rows")
    assert found.removers[0].expire(WORKER, Ref.parse("quarantine/trips@1"), names=names).allowed
    assert house.blobs.has(digest)


def test_a_granted_waiver_lets_go_earlier_and_only_while_it_counts(house: House) -> None:
    floor = Term("dataset_snapshot", "law", bound("10y"), bound("1y"), "enacted", "law")
    house.waivers.terms = (*house.terms, floor)
    house.snapshot("dataset/trips@1")
    house.now += 3 * YEAR
    found = retention(house, floor)
    assert states(found) == {"dataset/trips@1": "floor"}
    name = Ref("waiver", "w1")
    house.waivers.ask(OPERATOR, name, name="dataset_snapshot", floor="2y", reason="x", until=house.now + 10 * DAY)
    house.waivers.grant(DPO, name, reason="x")
    assert states(found) == {"dataset/trips@1": "floor"}
    house.waivers.grant(APPROVER, name, reason="x")
    assert states(found) == {"dataset/trips@1": "due"}
    house.now += 10 * DAY
    assert states(found) == {"dataset/trips@1": "floor"}
    assert found.carry_out(WORKER).removed == ()


class Failing:
    """Blobs that cannot delete at first, as a disk that is away."""

    def __init__(self, blobs: Any) -> None:
        self.blobs, self.is_away = blobs, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.blobs, name)

    def delete(self, digest: str) -> bool:
        if self.is_away:
            raise Unavailable("the disk is away")
        return bool(self.blobs.delete(digest))


def test_what_a_failure_left_over_the_next_round_removes(house: House) -> None:
    asset = house.snapshot("quarantine/trips@1")
    house.now += 2 * YEAR
    house.blobs = Failing(house.blobs)
    with pytest.raises(Unavailable):
        retention(house).carry_out(WORKER)
    assert house.blobs.has(asset.digest)
    assert house.ledger.get("expired", "quarantine/trips@1")["state"] == "removing"
    house.blobs.is_away = False
    done = retention(house).carry_out(WORKER)
    assert (done.removed, done.left_over) == ((), 1)
    assert not house.blobs.has(asset.digest)
    assert house.ledger.get("expired", "quarantine/trips@1")["state"] == "removed"


@pytest.mark.parametrize("scope", ["all", "dataset/trips", "quarantine/trips@1"])
def test_what_a_failure_left_over_stays_while_a_hold_that_came_since_holds_it(house: House, scope: str) -> None:
    asset = house.snapshot("quarantine/trips@1")
    house.now += 2 * YEAR
    house.blobs = Failing(house.blobs)
    with pytest.raises(Unavailable):
        retention(house).carry_out(WORKER)
    house.blobs.is_away = False
    hold = Ref("hold", "case")
    house.holds.place(DPO, hold, scope=scope, reason="case", until=house.now + YEAR)
    retention(house).carry_out(WORKER)
    assert house.blobs.has(asset.digest)
    for actor in (DPO, APPROVER):
        house.holds.release(actor, hold, reason="settled")
    retention(house).carry_out(WORKER)
    assert not house.blobs.has(asset.digest)


def test_more_digests_than_an_event_holds_are_kept_as_a_list(house: House) -> None:
    parts = [house.blobs.put(str(number).encode()) for number in range(900)]
    house.snapshot("quarantine/trips@1", orjson.dumps({"parts": [{"digest": digest} for digest in parts]}), parts=900)
    house.now += 2 * YEAR
    assert retention(house).carry_out(WORKER).removed == ("quarantine/trips@1",)
    assert not [digest for digest in parts if house.blobs.has(digest)]
    [event] = house.events("dataset.expire")
    assert len(orjson.loads(house.blobs.get(event.facts["list"]))) == 901
    assert max(map(len, house.ledger.leaves())) < 64 << 10


@pytest.fixture
def sealed(house: House) -> Iterator[SegmentPredictions]:
    folder, now = house.folder / "segments", [1.0]
    log = PredictionLog(folder, clock=lambda: now[0])
    sealer = Sealer(folder, "delay", idle_s=1.0, clock=lambda: now[0])
    for number in range(2):
        log.append(lambda _s, _r, number=number: [orjson.dumps({"kind": "label", "at": "2026-01-15T12:00:00Z", "n": number})])  # type: ignore[misc]
        now[0] += 10
        sealer.look()
    yield SegmentPredictions(folder)
    log.close()
    sealer.close()


def test_a_segment_of_the_prediction_log_goes_after_five_years_and_its_seal_stays(
    house: House, sealed: SegmentPredictions
) -> None:
    Serving(house.kernel, lambda _: sealed).seal(WORKER, Ref("endpoint", "delay"), seals=sealed.seals()[:1])
    found = retention(house)
    assert states(found) == {"predictions/delay@000000": "floor"}
    house.now += YEAR
    assert states(found) == {"predictions/delay@000000": "kept"}
    house.now += 4 * YEAR + 5 * DAY
    assert states(found) == {"predictions/delay@000000": "due"}
    assert found.carry_out(WORKER).removed == ("predictions/delay@000000",)
    with pytest.raises(NotFound):
        sealed.lines(0)
    assert sealed.lines(1)  # the ledger has no seal of it yet
    assert len(sealed.seals()) == 2
    assert house.ledger.get("seal", "delay/000000") is not None
    assert states(found) == {}


def test_what_is_not_there_cannot_be_removed(house: House) -> None:
    with pytest.raises(NotFound):
        retention(house).removers[0].expire(DPO, Ref.parse("dataset/nothing@1"), names=Names(house.ledger, house.blobs))


def test_every_kind_of_record_is_known_to_name_blobs_or_not() -> None:
    """A new kind of record has to be put into one of the two lists, or retention could remove what it names."""
    written = {
        kind
        for module in modules()
        for kind in re.findall(r"(?:draft|tx)\.put\(\s*\"([a-z_]+)\"", module.path.read_text("utf-8"))
    }
    assert written - set(HOLDING) - BLOBLESS == set()
    assert not set(HOLDING) & BLOBLESS


def test_nobody_but_retention_and_erasure_deletes_a_blob() -> None:
    allowed = ("falaj.stages.privacy", "falaj.adapters", "falaj.testing")
    wrong = [
        module.name
        for module in modules()
        if re.search(r"blobs\.delete\(|\.drop\(\s*int\(", module.path.read_text("utf-8")) and not module.name.startswith(allowed)
    ]
    assert not wrong


def test_the_table_shows_every_value_with_status_and_instrument(house: House) -> None:
    shown = retention(house, Term("consumer_data", "tenant", None, bound("1y", "relationship_end"), "tenant")).show()
    assert {row["status"] for row in shown["terms"]} >= {"enacted", "assumed", "tenant"}
    assert any("consumer_data" in line and "it is kept" in line for line in shown["conflicts"])


def test_a_round_ends_where_it_is_told_to(house: House) -> None:
    for number in range(5):
        house.snapshot(f"quarantine/trips@{number + 1}")
    house.now += 2 * YEAR
    assert len(retention(house).carry_out(WORKER, most=2).removed) == 2
    assert len(retention(house).carry_out(WORKER).removed) == 3


def test_what_two_snapshots_share_stays_while_one_of_them_is_kept(house: House) -> None:
    from falaj.core.codec import canonical

    parts = [house.blobs.put(text.encode()) for text in ("monday", "tuesday", "wednesday")]

    def listed(*digests: str) -> bytes:
        return canonical(
            {"form": "falaj.parts/1", "rows": 3, "columns": {}, "parts": [{"digest": d, "rows": 1} for d in digests]}
        )

    house.snapshot("dataset/trips@1", listed(*parts[:2]), parts=2)
    house.now += YEAR
    house.snapshot("dataset/trips@2", listed(*parts[1:]), parts=2)
    house.now += 10 * DAY
    assert retention(house, *SHORT).carry_out(WORKER).removed == ("dataset/trips@1",)
    assert [house.blobs.has(digest) for digest in parts] == [False, True, True]


def test_what_policy_keeps_does_not_keep_the_rest_of_the_round_from_going(house: House) -> None:
    from dataclasses import replace as changed

    from falaj.adapters.cedar.policies import Source
    from falaj.adapters.cedar.policy import CedarPolicy
    from falaj.adapters.local.policy import GROUPS, ROLES
    from falaj.packs import load

    sources = [Source(pack.id, pack.policies) for pack in load("ae-baseline,health-ae")]
    house.kernel = changed(
        house.kernel, policy=CedarPolicy(roles=ROLES, groups=GROUPS, sources=sources, place=("uae-onshore", "care"))
    )
    house.snapshot("dataset/trips@1", classes=["health"])
    house.snapshot("quarantine/visits@1")
    house.now += 60 * YEAR
    found = retention(house)
    for remover in found.removers:  # only what the house itself wants gone: of the laws it is policy that keeps the rows
        remover.terms = (*SHORT, Term("quarantine", "tenant", None, bound("1y"), "tenant"))
    found.terms = found.removers[0].terms
    done = found.carry_out(WORKER)
    assert done.removed == ("quarantine/visits@1",)
    assert "HEALTH-KEEP" in done.refused["dataset/trips@1"]


@pytest.mark.parametrize("word", ["health", "Health", " HEALTH ", "phi", "Bank_Confidential", "bank confidential"])
def test_a_law_keeps_what_it_is_about_however_the_contract_writes_it(house: House, word: str) -> None:
    house.snapshot("dataset/trips@1", classification=word)
    house.snapshot("dataset/trips@2", column_classes=[word])
    house.now += 2 * YEAR
    assert states(retention(house, *SHORT)) == {"dataset/trips@1": "floor", "dataset/trips@2": "floor"}


def test_what_was_derived_of_health_data_is_kept_as_long_unless_its_contract_says_what_it_holds(house: House) -> None:
    house.snapshot("dataset/visits@1", classification="health")
    derived(house, "dataset/days@1", "dataset/visits@1")
    derived(house, "dataset/weeks@1", "dataset/days@1")
    derived(house, "dataset/counts@1", "dataset/weeks@1", classification="internal")
    house.now += 2 * YEAR
    found = states(retention(house, *SHORT))
    assert [found[f"dataset/{name}@1"] for name in ("visits", "days", "weeks", "counts")] == ["floor", "floor", "floor", "due"]


def derived(house: House, ref: str, *inputs: str, **labels: str) -> None:
    house.snapshot(ref, **labels)
    body = house.ledger.get("asset", ref)
    house.put("asset", ref, {**body, "inputs": list(inputs)})
